//! Closures as messages, each of which is its own handler.

use pytoweb_engine::{Outcome, contained};

use crate::ask::{Ask, AskRoute};
use crate::error::AskError;
use crate::message::{Ended, Envelope, Route};
use crate::noted;

/// The way of a closure, which is the payload of its message; with the name of its kind.
pub(crate) struct Itself(pub(crate) &'static str);

impl<F, R> AskRoute<F, R> for Itself
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    const IS_DATA: bool = false;

    fn route(&self) -> Route<'_> {
        Route::Itself(self.0)
    }

    fn run(&self, ask: &Ask<F, R>, envelope: &Envelope) -> Option<Ended> {
        let closure = ask.payload.take()?;
        let result = noted::during(envelope, || {
            contained(closure).map_err(|panic| AskError::Panicked(panic.into_text()).into())
        });
        let outcome = if result.is_ok() {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        Some(Ended::of(outcome, ask.reply.settle(result)))
    }
}
