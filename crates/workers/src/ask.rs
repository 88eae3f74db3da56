//! Asks: a message with the reply to it.
//!
//! An ask is shared by the mailbox and by the [`Reply`](crate::Reply): payload, way to the handler and reply slot are one
//! object, seen by the engine as a [`Ticket`], by the handler as an [`Ask`], and by the reply as a [`TypedTicket`].

use std::any::{Any, type_name};
use std::sync::Arc;

use pytoweb_engine::{Failure, ReplyState, Single, Slot, Ticket};

use crate::error::{AskError, TypeMismatch};
use crate::kept::Kept;
use crate::kind_id::KindId;
use crate::message::{AnyMessage, Ended, Envelope, FailureCause, Route, repost};
use crate::payload_cell::PayloadCell;

/// A typed reply slot.
pub(crate) struct Replying<R>(pub(crate) Slot<Result<Kept<R>, FailureCause>, Single>);

impl<R: Send + 'static> Replying<R> {
    pub(crate) fn new() -> Self {
        Self(Slot::new())
    }

    pub(crate) fn state(&self) -> &ReplyState {
        self.0.state()
    }

    pub(crate) fn settle(&self, value: Result<R, FailureCause>) -> bool {
        self.0.settle(Ok(value.map(Kept::new)))
    }

    pub(crate) fn abandon(&self, failure: Failure) {
        // Taken out of the mailbox, or never in it.
        let _ = self.0.fail(false, failure) || self.0.fail(true, failure);
    }

    pub(crate) fn take(&self) -> Option<Result<R, AskError>> {
        match self.0.take()? {
            Ok(Ok(mut value)) => value.take().map(Ok),
            Ok(Err(mut error)) => error.take().map(|error| Err(*error)),
            Err(failure) => Some(Err(failure.into())),
        }
    }
}

/// What a [`Reply`](crate::Reply) holds, whatever was sent.
pub(crate) trait TypedTicket<R>: Ticket {
    fn take(&self) -> Option<Result<R, AskError>>;

    /// Lets go of a payload that no handler will get.
    fn discard(&self);
}

/// The payload and the reply of a message: what its handler sees of it.
pub(crate) struct Ask<T, R> {
    pub(crate) payload: PayloadCell<T>,
    pub(crate) reply: Replying<R>,
}

impl<T: 'static, R: 'static> Ask<T, R> {
    /// The message in `envelope`, if it is an ask of these types.
    pub(crate) fn within(envelope: &Envelope) -> Option<&Self> {
        envelope.message()?.as_any().downcast_ref()
    }
}

/// How an ask of these types comes to its handler.
pub(crate) trait AskRoute<T, R>: Send + Sync + 'static {
    /// Whether its payload is of use to another handler.
    const IS_DATA: bool = true;

    fn route(&self) -> Route<'_>;

    /// See [`AnyMessage::run`].
    fn run(&self, _ask: &Ask<T, R>, _envelope: &Envelope) -> Option<Ended> {
        None
    }
}

/// To a handler that was known when it was sent.
impl<T, R> AskRoute<T, R> for KindId {
    fn route(&self) -> Route<'_> {
        Route::Known(*self)
    }
}

/// To one that is looked up when it is handled.
impl<T, R> AskRoute<T, R> for Box<str> {
    fn route(&self) -> Route<'_> {
        Route::Named(self)
    }
}

/// A message with a reply. No larger than need be: most of what a message costs is memory.
pub(crate) struct AskMessage<W, T, R> {
    route: W,
    pub(crate) ask: Ask<T, R>,
}

impl<W, T: Send + 'static, R: Send + 'static> AskMessage<W, T, R> {
    pub(crate) fn new(route: W, data: T) -> Self {
        let ask = Ask {
            payload: PayloadCell::new(data),
            reply: Replying::new(),
        };
        Self { route, ask }
    }

    /// The payload of one that was refused.
    pub(crate) fn take_back(&self) -> T {
        let data = self.ask.payload.take();
        data.expect("a refused message is as it was sent")
    }
}

impl<W: AskRoute<T, R>, T: Send + 'static, R: Send + 'static> Ticket for AskMessage<W, T, R> {
    fn state(&self) -> &ReplyState {
        self.ask.reply.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.ask.reply.0.fail(queued, failure)
    }
}

impl<W: AskRoute<T, R>, T: Send + 'static, R: Send + 'static> TypedTicket<R>
    for AskMessage<W, T, R>
{
    fn take(&self) -> Option<Result<R, AskError>> {
        self.ask.reply.take()
    }

    fn discard(&self) {
        drop(self.ask.payload.take().map(Kept::new));
    }
}

impl<W: AskRoute<T, R>, T: Send + 'static, R: Send + 'static> AnyMessage for AskMessage<W, T, R> {
    fn repost(&self, kind: &str) -> Option<Arc<dyn AnyMessage>> {
        W::IS_DATA.then(|| repost(&self.ask.payload, kind))?
    }

    fn route(&self) -> Route<'_> {
        self.route.route()
    }

    fn as_any(&self) -> &dyn Any {
        &self.ask
    }

    fn run(&self, envelope: &Envelope) -> Option<Ended> {
        self.route.run(&self.ask, envelope)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        if payload == type_name::<T>() {
            TypeMismatch::reply::<R>(kind, reply)
        } else {
            TypeMismatch::payload::<T>(kind, payload)
        }
    }

    fn settle_error(&self, error: FailureCause) -> bool {
        self.ask.reply.settle(Err(error))
    }

    fn publish(&self) -> bool {
        self.ask.reply.0.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.ask.reply.abandon(failure);
        if failure != Failure::Cancelled {
            self.discard();
        }
    }

    fn state(&self) -> Option<&ReplyState> {
        Some(self.ask.reply.state())
    }

    fn bytes(&self) -> usize {
        size_of::<T>()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_of_small_values_is_one_small_allocation() {
        // 96 bytes with the two counts of its `Arc` and the allocator's header.
        assert!(size_of::<AskMessage<KindId, u64, u64>>() <= 72);
    }
}
