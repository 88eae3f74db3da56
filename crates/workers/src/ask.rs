//! Asks: a message with the reply to it.
//!
//! An ask is shared by the mailbox and by the [`Reply`](crate::Reply): payload, kind and reply slot are one object,
//! seen by the engine as a [`Ticket`], by the handler as itself, and by the reply as a [`TypedTicket`].

use std::any::{Any, type_name};
use std::sync::Arc;

use pytoweb_engine::{Failure, ReplyState, Single, Slot, Ticket};

use crate::error::{AskError, TypeMismatch};
use crate::kept::Kept;
use crate::kind_id::KindId;
use crate::message::{AnyMessage, Envelope, FailureCause, Route, repost};
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

/// A message with a reply, to a handler that was known when it was sent. No larger than need be: most of what a
/// message costs is memory.
pub(crate) struct Ask<T, R> {
    pub(crate) kind: KindId,
    pub(crate) payload: PayloadCell<T>,
    pub(crate) reply: Replying<R>,
}

impl<T: 'static, R: 'static> Ask<T, R> {
    /// The message in `envelope`, if it is an ask of these types.
    pub(crate) fn within(envelope: &Envelope) -> Option<&Self> {
        envelope.message()?.as_any().downcast_ref()
    }
}

impl<T: Send + 'static, R: Send + 'static> Ticket for Ask<T, R> {
    fn state(&self) -> &ReplyState {
        self.reply.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.reply.0.fail(queued, failure)
    }
}

impl<T: Send + 'static, R: Send + 'static> TypedTicket<R> for Ask<T, R> {
    fn take(&self) -> Option<Result<R, AskError>> {
        self.reply.take()
    }

    fn discard(&self) {
        drop(self.payload.take().map(Kept::new));
    }
}

impl<T: Send + 'static, R: Send + 'static> AnyMessage for Ask<T, R> {
    fn repost(&self, kind: &str) -> Option<Arc<dyn AnyMessage>> {
        repost(&self.payload, kind)
    }

    fn route(&self) -> Route<'_> {
        Route::Known(self.kind)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        if payload == type_name::<T>() {
            TypeMismatch::reply::<R>(kind, reply)
        } else {
            TypeMismatch::payload::<T>(kind, payload)
        }
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
        size_of::<T>()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        Some(self)
    }
}

/// An ask whose handler is looked up when it is handled.
pub(crate) struct NamedAsk<T, R> {
    pub(crate) name: Box<str>,
    /// Its own kind means nothing.
    pub(crate) ask: Ask<T, R>,
}

impl<T: Send + 'static, R: Send + 'static> Ticket for NamedAsk<T, R> {
    fn state(&self) -> &ReplyState {
        Ticket::state(&self.ask)
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.ask.fail(queued, failure)
    }
}

impl<T: Send + 'static, R: Send + 'static> TypedTicket<R> for NamedAsk<T, R> {
    fn take(&self) -> Option<Result<R, AskError>> {
        self.ask.take()
    }

    fn discard(&self) {
        self.ask.discard();
    }
}

impl<T: Send + 'static, R: Send + 'static> AnyMessage for NamedAsk<T, R> {
    fn repost(&self, kind: &str) -> Option<Arc<dyn AnyMessage>> {
        self.ask.repost(kind)
    }

    fn route(&self) -> Route<'_> {
        Route::Named(&self.name)
    }

    /// To the handler it is the ask.
    fn as_any(&self) -> &dyn Any {
        &self.ask
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        self.ask.mismatch(kind, payload, reply)
    }

    fn settle_error(&self, error: FailureCause) -> bool {
        self.ask.settle_error(error)
    }

    fn publish(&self) -> bool {
        self.ask.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.ask.abandon(failure);
    }

    fn state(&self) -> Option<&ReplyState> {
        AnyMessage::state(&self.ask)
    }

    fn bytes(&self) -> usize {
        self.ask.bytes()
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
        assert!(size_of::<Ask<u64, u64>>() <= 72);
    }
}
