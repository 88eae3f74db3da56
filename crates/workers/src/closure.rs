//! Closures as messages, each of which is its own handler.

use std::any::Any;
use std::sync::Arc;

use pytoweb_engine::{Failure, Outcome, ReplyState, Ticket, contained};

use crate::ask::{Replying, TypedTicket};
use crate::error::{AskError, TypeMismatch};
use crate::kept::Kept;
use crate::message::{AnyMessage, Ended, Envelope, FailureCause, Route};
use crate::noted;
use crate::payload_cell::PayloadCell;

/// A closure to run, and the reply it gives.
pub(crate) struct Closure<F, R> {
    /// What its kind is called.
    pub(crate) name: &'static str,
    pub(crate) closure: PayloadCell<F>,
    pub(crate) reply: Replying<R>,
}

impl<F: Send + 'static, R: Send + 'static> Ticket for Closure<F, R> {
    fn state(&self) -> &ReplyState {
        self.reply.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.reply.0.fail(queued, failure)
    }
}

impl<F: Send + 'static, R: Send + 'static> TypedTicket<R> for Closure<F, R> {
    fn take(&self) -> Option<Result<R, AskError>> {
        self.reply.take()
    }

    fn discard(&self) {
        drop(self.closure.take().map(Kept::new));
    }
}

impl<F, R> AnyMessage for Closure<F, R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    fn route(&self) -> Route<'_> {
        Route::Itself(self.name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(&self, envelope: &Envelope) -> Option<Ended> {
        let closure = self.closure.take()?;
        let result = noted::during(envelope, || {
            contained(closure).map_err(|panic| AskError::Panicked(panic.into_text()).into())
        });
        let outcome = if result.is_ok() {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        Some(Ended::of(outcome, self.reply.settle(result)))
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<F>(kind, payload)
    }

    fn settle_error(&self, error: FailureCause) -> bool {
        self.reply.settle(Err(error))
    }

    fn publish(&self) -> bool {
        self.reply.0.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.reply.abandon(failure);
        if failure != Failure::Cancelled {
            self.discard();
        }
    }

    fn state(&self) -> Option<&ReplyState> {
        Some(self.reply.state())
    }

    fn bytes(&self) -> usize {
        size_of::<F>()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        Some(self)
    }
}
