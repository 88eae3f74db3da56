//! Code of users on the engine's threads: what it unwinds with ends here.
//!
//! A pool's thread runs other people's messages next, so nothing that a handler, a callback, a waker, a hook or a
//! destructor does may end it. A turn is caught as a whole (`handler/turn.rs`), and so is the life of a thread
//! (`pool/inner.rs`); what would leave something undone when it unwinds (other callbacks, other messages to abandon) is
//! caught one by one.

use std::any::Any;
use std::fmt;
use std::mem;

/// A panic that was caught.
///
/// The panic hook has reported it, and its payload is gone: a payload is a user's value too, and may panic again when
/// it is dropped.
pub struct Panic {
    text: String,
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.text).finish()
    }
}

impl Panic {
    /// What the panic said.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    #[cold]
    fn of(payload: Box<dyn Any + Send>) -> Self {
        let text = match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => {
                let text = payload.downcast_ref::<&str>().copied();
                let text = text.unwrap_or("a panic without text").to_owned();
                let_go(payload);
                text
            }
        };
        Self { text }
    }
}

/// Drops what a panic carried, which may panic in turn. The payload of that panic is leaked: it could go on for ever.
fn let_go(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch(|| drop(payload)) {
        mem::forget(another);
    }
}

#[cfg(not(pytoweb_loom))]
fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    // The code leaves shared state as a handler that returns early might: that is its owner's to know.
    catch_unwind(AssertUnwindSafe(code))
}

/// In a model every panic is the model's own, and has to end it.
#[cfg(pytoweb_loom)]
fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    Ok(code())
}

/// Runs code of the user's; its panic ends here, with everything that the panic carries.
///
/// # Errors
/// [`Panic`], when the code unwound.
#[inline]
pub fn contained<R>(code: impl FnOnce() -> R) -> Result<R, Panic> {
    catch(code).map_err(Panic::of)
}

/// Drops each of `items`, whatever the destructors of the others do.
pub(crate) fn drop_each<T>(items: impl IntoIterator<Item = T>) {
    for item in items {
        let _ = contained(|| drop(item));
    }
}
