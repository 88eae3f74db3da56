//! The current message of a handler of batches: all of them.

use std::any::Any;
use std::sync::{Arc, Mutex};

use pytoweb_engine::{Failure, ReplyState, Ticket};

use crate::attempts::Attempts;
use crate::error::TypeMismatch;
use crate::message::{AnyMessage, Envelope, FailureCause, Route};

/// The messages of a batch, as their handler sees them. In no mailbox.
struct Company {
    kind: String,
    /// `None`: one of them lies in its envelope, so no caller waits for it, and it is never cancelled.
    messages: Option<Vec<Arc<dyn AnyMessage>>>,
}

/// A message that stands for all of `envelopes`, of one kind.
pub(crate) fn company(kind: String, envelopes: &[&mut Envelope]) -> Envelope {
    let messages = envelopes.iter().map(|envelope| envelope.message().cloned());
    let messages = messages.collect();
    Envelope::of(Arc::new(Company { kind, messages }))
}

impl AnyMessage for Company {
    fn route(&self) -> Route<'_> {
        Route::Named(&self.kind)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<()>(kind, payload)
    }

    fn settle_error(&self, _: FailureCause) -> bool {
        true
    }

    fn publish(&self) -> bool {
        false
    }

    fn abandon(&self, _: Failure) {}

    fn state(&self) -> Option<&ReplyState> {
        None
    }

    fn is_cancel_requested(&self) -> bool {
        let messages = self.messages.as_ref();
        messages.is_some_and(|all| all.iter().all(|message| message.is_cancel_requested()))
    }

    fn attempts(&self) -> Option<&Mutex<Attempts>> {
        self.messages.as_ref()?.first()?.attempts()
    }

    fn bytes(&self) -> usize {
        0
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        None
    }
}
