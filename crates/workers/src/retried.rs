//! A message that has failed and is tried again.
//!
//! It is the message that it was, in a wrapping that keeps count: to any handler it is the ask or the post inside, so one
//! that was registered between two attempts gets it as well.

use std::any::Any;
use std::sync::{Arc, Mutex};

use pytoweb_engine::{Failure, ReplyState, Ticket};

use crate::attempts::Attempts;
use crate::error::TypeMismatch;
use crate::message::{AnyMessage, Envelope, FailureCause, Route};

/// A message after its first attempt, with its payload.
struct Retried {
    message: Arc<dyn AnyMessage>,
    attempts: Mutex<Attempts>,
}

/// The attempts of the message in `envelope`, which is shared; counted from now on, where they were not yet.
pub(crate) fn attempts_of(envelope: &mut Envelope) -> Option<&Mutex<Attempts>> {
    let message = envelope.message_mut()?;
    if message.attempts().is_none() {
        *message = Arc::new(Retried {
            message: message.clone(),
            attempts: Mutex::default(),
        });
    }
    message.attempts()
}

impl AnyMessage for Retried {
    fn route(&self) -> Route<'_> {
        self.message.route()
    }

    fn as_any(&self) -> &dyn Any {
        self.message.as_any()
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        self.message.mismatch(kind, payload, reply)
    }

    fn settle_error(&self, error: FailureCause) -> bool {
        self.message.settle_error(error)
    }

    fn publish(&self) -> bool {
        self.message.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.message.abandon(failure);
    }

    fn state(&self) -> Option<&ReplyState> {
        self.message.state()
    }

    fn attempts(&self) -> Option<&Mutex<Attempts>> {
        Some(&self.attempts)
    }

    fn repost(&self, kind: &str) -> Option<Arc<dyn AnyMessage>> {
        self.message.repost(kind)
    }

    fn bytes(&self) -> usize {
        self.message.bytes()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        self.message.clone().into_ticket()
    }
}
