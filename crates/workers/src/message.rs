//! Messages as the mailbox holds them: a small post in place; another post, an ask, or a closure, each one allocation.
//!
//! An ask is shared by the mailbox and by the [`Reply`](crate::Reply): payload, kind and reply slot are one object,
//! seen by the engine as a [`Ticket`], by the handler as itself, and by the reply as an [`Answer`].

use std::any::{Any, type_name};
use std::sync::Arc;

use pytoweb_engine::{
    Failure, Message, Outcome, Plan, ReplyState, Single, Slot, Ticket, contained,
};

use crate::dispatch::{Ended, Table};
use crate::error::{AskError, TypeMismatch};
use crate::inline::Small;
use crate::kept::Kept;
use crate::kinds::KindId;
use crate::noted;
use crate::payload::Payload;

/// Why a message failed: a handler's own error, maybe. Boxed, because most replies are none.
pub(crate) type Cause = Kept<Box<AskError>>;

impl From<AskError> for Cause {
    fn from(error: AskError) -> Self {
        Self::new(Box::new(error))
    }
}

/// Where a sender found the handler of a message.
pub(crate) enum Target {
    Known(KindId),
    /// There was none: it is looked up when the message is handled.
    Named(Box<str>),
}

/// How a message finds its handler.
pub(crate) enum Route<'a> {
    Known(KindId),
    Named(&'a str),
    /// The message is its own handler, of this name.
    Itself(&'static str),
}

/// A message of any type.
pub(crate) trait Parcel: Any + Send + Sync {
    fn route(&self) -> Route<'_>;

    fn as_any(&self) -> &dyn Any;

    /// Runs a message that is its own handler, and lies in `envelope`.
    fn run(&self, table: &Table, envelope: &Envelope) -> Ended;

    /// How its types differ from those of the handler of `kind`.
    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch;

    /// Settles the reply with `error`, if there is one. False: another thread has settled it.
    fn settle_error(&self, error: Cause) -> bool;

    /// Publishes what was settled. True: threads are to be woken.
    fn publish(&self) -> bool;

    /// Settles and publishes a reply that will not come, and lets go of the payload.
    fn abandon(&self, failure: Failure);

    fn state(&self) -> Option<&ReplyState>;

    /// The size of the payload's type.
    fn bytes(&self) -> usize;

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>>;
}

/// What the mailbox holds.
pub(crate) enum Envelope {
    /// A post whose payload lies in it.
    Small(Small),
    Shared(Arc<dyn Parcel>),
    /// One of the others, which asks more of the mailbox.
    Planned(Box<Planned>),
}

/// A message with what it asks of its mailbox.
pub(crate) struct Planned {
    pub(crate) plan: Option<Plan>,
    pub(crate) bytes: usize,
    /// No planned one itself.
    pub(crate) envelope: Envelope,
}

impl Envelope {
    pub(crate) fn of(parcel: Arc<dyn Parcel>) -> Self {
        Self::Shared(parcel)
    }

    /// A message that no caller waits for.
    #[inline]
    pub(crate) fn post<T: Send + 'static>(target: Target, data: T) -> Self {
        let (target, data) = match target {
            Target::Known(kind) => match Small::new(kind, data) {
                Ok(small) => return Self::Small(small),
                Err(data) => (Target::Known(kind), data),
            },
            named => (named, data),
        };
        let payload = Payload::new(data);
        Self::Shared(Arc::new(Post { target, payload }))
    }

    /// The payload of such a message, once.
    pub(crate) fn unpost<T: 'static>(&mut self) -> Option<T> {
        match self {
            Self::Small(small) => small.take(),
            Self::Shared(parcel) => {
                let post = parcel.as_any().downcast_ref::<Post<T>>()?;
                post.payload.take()
            }
            Self::Planned(planned) => planned.envelope.unpost(),
        }
    }

    /// The message as an ask of these types, if it is one.
    pub(crate) fn as_ask<T: 'static, R: 'static>(&self) -> Option<&Ask<T, R>> {
        match self {
            Self::Small(_) => None,
            Self::Shared(parcel) => parcel.as_any().downcast_ref(),
            Self::Planned(planned) => planned.envelope.as_ask(),
        }
    }

    pub(crate) fn route(&self) -> Route<'_> {
        match self {
            Self::Small(small) => Route::Known(small.kind),
            Self::Shared(parcel) => parcel.route(),
            Self::Planned(planned) => planned.envelope.route(),
        }
    }

    /// How its types differ from those of the handler of `kind`.
    pub(crate) fn mismatch(
        &self,
        kind: &str,
        payload: &'static str,
        reply: &'static str,
    ) -> TypeMismatch {
        match self {
            Self::Small(small) => TypeMismatch::of_payload(kind, payload, small.type_name()),
            Self::Shared(parcel) => parcel.mismatch(kind, payload, reply),
            Self::Planned(planned) => planned.envelope.mismatch(kind, payload, reply),
        }
    }

    /// Settles the reply with `error`, if there is one. False: another thread has settled it.
    pub(crate) fn settle_error(&self, error: Cause) -> bool {
        match self {
            Self::Small(_) => true,
            Self::Shared(parcel) => parcel.settle_error(error),
            Self::Planned(planned) => planned.envelope.settle_error(error),
        }
    }

    /// The message without its plan.
    pub(crate) fn into_parcel(self) -> Option<Arc<dyn Parcel>> {
        match self {
            Self::Small(_) => None,
            Self::Shared(parcel) => Some(parcel),
            Self::Planned(planned) => planned.envelope.into_parcel(),
        }
    }

    /// What it shares with others.
    pub(crate) fn parcel(&self) -> Option<&Arc<dyn Parcel>> {
        match self {
            Self::Small(_) => None,
            Self::Shared(parcel) => Some(parcel),
            Self::Planned(planned) => planned.envelope.parcel(),
        }
    }

    /// The same, to put another in its place.
    pub(crate) fn parcel_mut(&mut self) -> Option<&mut Arc<dyn Parcel>> {
        match self {
            Self::Small(_) => None,
            Self::Shared(parcel) => Some(parcel),
            Self::Planned(planned) => planned.envelope.parcel_mut(),
        }
    }
}

impl Message for Envelope {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        match self {
            Self::Shared(parcel) if parcel.state().is_some() => parcel.clone().into_ticket(),
            Self::Planned(planned) => planned.envelope.ticket(),
            _ => None,
        }
    }

    #[inline]
    fn state(&self) -> Option<&ReplyState> {
        match self {
            Self::Small(_) => None,
            Self::Shared(parcel) => parcel.state(),
            Self::Planned(planned) => planned.envelope.state(),
        }
    }

    #[inline]
    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Small(small) => small.plan(),
            Self::Shared(_) => None,
            Self::Planned(planned) => planned.plan.as_ref(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Small(small) => small.bytes(),
            Self::Shared(parcel) => parcel.bytes(),
            Self::Planned(planned) => planned.bytes,
        }
    }
}

/// A message that no caller waits for, and that does not lie in its envelope.
pub(crate) struct Post<T> {
    pub(crate) target: Target,
    pub(crate) payload: Payload<T>,
}

impl<T: Send + 'static> Parcel for Post<T> {
    fn route(&self) -> Route<'_> {
        match &self.target {
            Target::Known(id) => Route::Known(*id),
            Target::Named(name) => Route::Named(name),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(&self, table: &Table, envelope: &Envelope) -> Ended {
        table.unknown(envelope)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<T>(kind, payload)
    }

    fn settle_error(&self, _: Cause) -> bool {
        true
    }

    fn publish(&self) -> bool {
        false
    }

    fn abandon(&self, _: Failure) {}

    fn state(&self) -> Option<&ReplyState> {
        None
    }

    fn bytes(&self) -> usize {
        size_of::<T>()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        None
    }
}

/// A message whose reply another thread has settled (a deadline, a stop) while its handler ran.
pub(crate) struct Late(pub(crate) Arc<dyn Parcel>);

impl Parcel for Late {
    fn route(&self) -> Route<'_> {
        self.0.route()
    }

    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }

    fn run(&self, table: &Table, envelope: &Envelope) -> Ended {
        table.unknown(envelope)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        self.0.mismatch(kind, payload, reply)
    }

    fn settle_error(&self, _: Cause) -> bool {
        false
    }

    fn publish(&self) -> bool {
        false
    }

    fn abandon(&self, _: Failure) {}

    fn state(&self) -> Option<&ReplyState> {
        self.0.state()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        self.0.clone().into_ticket()
    }
}

/// A typed reply slot.
pub(crate) struct Replying<R>(Slot<Result<Kept<R>, Cause>, Single>);

impl<R: Send + 'static> Replying<R> {
    pub(crate) fn new() -> Self {
        Self(Slot::new())
    }

    fn state(&self) -> &ReplyState {
        self.0.state()
    }

    pub(crate) fn settle(&self, value: Result<R, Cause>) -> bool {
        self.0.settle(Ok(value.map(Kept::new)))
    }

    fn abandon(&self, failure: Failure) {
        // Taken out of the mailbox, or never in it.
        let _ = self.0.fail(false, failure) || self.0.fail(true, failure);
    }

    fn take(&self) -> Option<Result<R, AskError>> {
        match self.0.take()? {
            Ok(Ok(mut value)) => value.take().map(Ok),
            Ok(Err(mut error)) => error.take().map(|error| Err(*error)),
            Err(failure) => Some(Err(failure.into())),
        }
    }
}

/// What a [`Reply`](crate::Reply) holds, whatever was sent.
pub(crate) trait Answer<R>: Ticket {
    fn take(&self) -> Option<Result<R, AskError>>;

    /// Lets go of a payload that no handler will get.
    fn discard(&self);
}

/// A message with a reply, to a handler that was known when it was sent. No larger than need be: most of what a
/// message costs is memory.
pub(crate) struct Ask<T, R> {
    pub(crate) kind: KindId,
    pub(crate) payload: Payload<T>,
    pub(crate) reply: Replying<R>,
}

impl<T: Send + 'static, R: Send + 'static> Ticket for Ask<T, R> {
    fn state(&self) -> &ReplyState {
        self.reply.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.reply.0.fail(queued, failure)
    }
}

impl<T: Send + 'static, R: Send + 'static> Answer<R> for Ask<T, R> {
    fn take(&self) -> Option<Result<R, AskError>> {
        self.reply.take()
    }

    fn discard(&self) {
        drop(self.payload.take().map(Kept::new));
    }
}

impl<T: Send + 'static, R: Send + 'static> Parcel for Ask<T, R> {
    fn route(&self) -> Route<'_> {
        Route::Known(self.kind)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(&self, table: &Table, envelope: &Envelope) -> Ended {
        table.unknown(envelope)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        if payload == type_name::<T>() {
            TypeMismatch::reply::<R>(kind, reply)
        } else {
            TypeMismatch::payload::<T>(kind, payload)
        }
    }

    fn settle_error(&self, error: Cause) -> bool {
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

impl<T: Send + 'static, R: Send + 'static> Answer<R> for NamedAsk<T, R> {
    fn take(&self) -> Option<Result<R, AskError>> {
        self.ask.take()
    }

    fn discard(&self) {
        self.ask.discard();
    }
}

impl<T: Send + 'static, R: Send + 'static> Parcel for NamedAsk<T, R> {
    fn route(&self) -> Route<'_> {
        Route::Named(&self.name)
    }

    /// To the handler it is the ask.
    fn as_any(&self) -> &dyn Any {
        &self.ask
    }

    fn run(&self, table: &Table, envelope: &Envelope) -> Ended {
        table.unknown(envelope)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        self.ask.mismatch(kind, payload, reply)
    }

    fn settle_error(&self, error: Cause) -> bool {
        self.ask.settle_error(error)
    }

    fn publish(&self) -> bool {
        self.ask.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.ask.abandon(failure);
    }

    fn state(&self) -> Option<&ReplyState> {
        Parcel::state(&self.ask)
    }

    fn bytes(&self) -> usize {
        self.ask.bytes()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        Some(self)
    }
}

/// A closure to run, and the reply it gives.
pub(crate) struct Task<F, R> {
    /// What its kind is called.
    pub(crate) name: &'static str,
    pub(crate) closure: Payload<F>,
    pub(crate) reply: Replying<R>,
}

impl<F: Send + 'static, R: Send + 'static> Ticket for Task<F, R> {
    fn state(&self) -> &ReplyState {
        self.reply.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.reply.0.fail(queued, failure)
    }
}

impl<F: Send + 'static, R: Send + 'static> Answer<R> for Task<F, R> {
    fn take(&self) -> Option<Result<R, AskError>> {
        self.reply.take()
    }

    fn discard(&self) {
        drop(self.closure.take().map(Kept::new));
    }
}

impl<F, R> Parcel for Task<F, R>
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

    fn run(&self, table: &Table, envelope: &Envelope) -> Ended {
        let Some(closure) = self.closure.take() else {
            return table.unknown(envelope);
        };
        let result = noted::during(envelope, || {
            contained(closure).map_err(|panic| AskError::Panicked(panic.into_text()).into())
        });
        let outcome = if result.is_ok() {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        Ended {
            outcome,
            settled: self.reply.settle(result),
        }
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<F>(kind, payload)
    }

    fn settle_error(&self, error: Cause) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_of_small_values_is_one_small_allocation() {
        // 96 bytes with the two counts of its `Arc` and the allocator's header.
        assert!(size_of::<Ask<u64, u64>>() <= 72);
        assert!(size_of::<Post<u64>>() <= 40);
        // As a post with three words of payload.
        assert!(size_of::<Envelope>() == 40);
    }
}
