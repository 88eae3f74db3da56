//! The message that is handled on this thread, noted where it lies.
//!
//! A note that held the message would cost two steps on its count, or moving it there and back.
#![expect(
    unsafe_code,
    reason = "a reference whose lifetime is the body of a function"
)]

use std::cell::Cell;
use std::ptr::NonNull;

use crate::message::Envelope;

thread_local! {
    static MESSAGE: Cell<Option<NonNull<Envelope>>> = const { Cell::new(None) };
}

/// Puts the message of the outer handler back, also when the inner one unwinds.
struct Outer(Option<NonNull<Envelope>>);

impl Drop for Outer {
    fn drop(&mut self) {
        MESSAGE.set(self.0);
    }
}

/// Runs `body` while `envelope` is the current message.
#[inline]
pub(crate) fn during<R>(envelope: &Envelope, body: impl FnOnce() -> R) -> R {
    let _outer = Outer(MESSAGE.replace(Some(NonNull::from(envelope))));
    body()
}

/// Gives `look` the current message; `None` outside of a handler.
pub(crate) fn with<R>(look: impl FnOnce(&Envelope) -> R) -> Option<R> {
    let envelope = MESSAGE.get()?;
    // SAFETY: noted by `during` on this thread, which borrows the message for as long as the note stands: it takes the
    // note back before it returns or unwinds. `look` returns no reference to it, because it takes one of any lifetime.
    Some(look(unsafe { envelope.as_ref() }))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::inline::Small;
    use crate::kind_id::KindId;

    fn message() -> Envelope {
        Envelope::Small(Small::new(KindId::NONE, ()).expect("it is small"))
    }

    fn current() -> Option<*const Envelope> {
        with(std::ptr::from_ref)
    }

    #[test]
    fn the_outer_message_is_current_again_after_the_inner_one() {
        let (first, second) = (message(), message());
        assert_eq!(current(), None);
        during(&first, || {
            assert_eq!(current(), Some(std::ptr::from_ref(&first)));
            during(&second, || {
                assert_eq!(current(), Some(std::ptr::from_ref(&second)));
            });
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                during(&second, || panic!("on purpose"))
            }));
            assert!(unwound.is_err());
            assert_eq!(current(), Some(std::ptr::from_ref(&first)));
        });
        assert_eq!(current(), None);
    }
}
