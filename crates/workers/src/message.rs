//! Messages as the mailbox holds them: a post, an ask, or a closure, each one allocation.
//!
//! An ask is shared by the mailbox and by the [`Reply`](crate::Reply): payload, kind and reply slot are one object,
//! seen by the engine as a [`Ticket`], by the handler as itself, and by the reply as an [`Answer`].

use std::any::{Any, type_name};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pytoweb_engine::{Failure, Message, Outcome, ReplyState, Single, Slot, Ticket};

use crate::current;
use crate::dispatch::{Ended, Table};
use crate::error::{AskError, TypeMismatch, panic_text};
use crate::kinds::{KindId, lock};

/// Somebody's value, whose destructor may panic: that must not end the engine's thread that happens to run it.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value. `None` after the first time.
    pub(crate) const fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if mem::needs_drop::<T>()
            && let Some(value) = self.0.take()
        {
            // The panic hook has reported it, and there is nobody else to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
        }
    }
}

/// The payload of a message, moved out once.
pub(crate) struct Payload<T>(Mutex<Kept<T>>);

impl<T> Payload<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self(Mutex::new(Kept::new(data)))
    }

    pub(crate) fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }
}

/// How a message finds its handler.
pub(crate) enum Target {
    /// The handler was known when it was sent.
    Known(KindId),
    /// It was not: it is looked up when the message is handled.
    Named(Box<str>),
    /// The message is its own handler.
    Itself(&'static str),
}

/// A message of any type.
pub(crate) trait Parcel: Any + Send + Sync {
    fn target(&self) -> &Target;

    fn as_any(&self) -> &dyn Any;

    /// Runs a message that is its own handler.
    fn run(self: Arc<Self>, table: &Table) -> Ended;

    /// How its types differ from those of the handler of `kind`.
    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch;

    /// Settles the reply with `error`, if there is one to settle. Says whether anybody can see it.
    fn settle_error(&self, error: AskError) -> bool;

    /// Publishes what was settled. True: threads are to be woken.
    fn publish(&self) -> bool;

    /// Settles and publishes a reply that will not come, and lets go of the payload.
    fn abandon(&self, failure: Failure);

    fn state(&self) -> Option<&ReplyState>;

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>>;
}

/// What the mailbox holds.
pub(crate) struct Envelope(pub(crate) Arc<dyn Parcel>);

impl Message for Envelope {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.0.state()?;
        self.0.clone().into_ticket()
    }

    fn state(&self) -> Option<&ReplyState> {
        self.0.state()
    }
}

/// A message that nobody waits for.
pub(crate) struct Post<T> {
    pub(crate) target: Target,
    pub(crate) payload: Payload<T>,
}

impl<T: Send + 'static> Parcel for Post<T> {
    fn target(&self) -> &Target {
        &self.target
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(self: Arc<Self>, table: &Table) -> Ended {
        table.unknown(self)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<T>(kind, payload)
    }

    fn settle_error(&self, _: AskError) -> bool {
        true
    }

    fn publish(&self) -> bool {
        false
    }

    fn abandon(&self, _: Failure) {}

    fn state(&self) -> Option<&ReplyState> {
        None
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        None
    }
}

/// A reply slot, and whether the worker's own value is in it, which then remains to be published.
pub(crate) struct Settling<R> {
    slot: Slot<Result<Kept<R>, AskError>, Single>,
    settled: AtomicBool,
}

impl<R: Send + 'static> Settling<R> {
    pub(crate) fn new() -> Self {
        Self {
            slot: Slot::new(),
            settled: AtomicBool::new(false),
        }
    }

    pub(crate) fn settle(&self, value: Result<R, AskError>) -> bool {
        let settled = self.slot.settle(Ok(value.map(Kept::new)));
        // ORDERING: Relaxed, read by the same thread, in `publish`.
        self.settled.store(settled, Ordering::Relaxed);
        settled
    }

    pub(crate) fn publish(&self) -> bool {
        // ORDERING: Relaxed, see `settle`.
        self.settled.load(Ordering::Relaxed) && self.slot.publish()
    }

    pub(crate) fn abandon(&self, failure: Failure) {
        // Taken out of the mailbox, or never in it.
        let _ = self.slot.fail(false, failure) || self.slot.fail(true, failure);
    }

    pub(crate) fn take(&self) -> Option<Result<R, AskError>> {
        match self.slot.take()? {
            Ok(Ok(mut value)) => value.take().map(Ok),
            Ok(Err(error)) => Some(Err(error)),
            Err(failure) => Some(Err(failure.into())),
        }
    }
}

/// What a [`Reply`](crate::Reply) holds, whatever was sent.
pub(crate) trait Answer<R>: Ticket {
    fn take(&self) -> Option<Result<R, AskError>>;

    /// Lets go of a payload that nobody will handle.
    fn discard(&self);
}

/// A message with a reply.
pub(crate) struct Ask<T, R> {
    pub(crate) target: Target,
    pub(crate) payload: Payload<T>,
    pub(crate) reply: Settling<R>,
}

impl<T: Send + 'static, R: Send + 'static> Ticket for Ask<T, R> {
    fn state(&self) -> &ReplyState {
        self.reply.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.reply.slot.fail(queued, failure)
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
    fn target(&self) -> &Target {
        &self.target
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(self: Arc<Self>, table: &Table) -> Ended {
        table.unknown(self)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        if payload == type_name::<T>() {
            TypeMismatch::reply::<R>(kind, reply)
        } else {
            TypeMismatch::payload::<T>(kind, payload)
        }
    }

    fn settle_error(&self, error: AskError) -> bool {
        self.reply.settle(Err(error))
    }

    fn publish(&self) -> bool {
        self.reply.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.reply.abandon(failure);
        if failure != Failure::Cancelled {
            self.discard();
        }
    }

    fn state(&self) -> Option<&ReplyState> {
        Some(self.reply.slot.state())
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        Some(self)
    }
}

/// A closure to run, and the reply it gives.
pub(crate) struct Task<F, R> {
    pub(crate) target: Target,
    pub(crate) closure: Payload<F>,
    pub(crate) reply: Settling<R>,
}

impl<F: Send + 'static, R: Send + 'static> Ticket for Task<F, R> {
    fn state(&self) -> &ReplyState {
        self.reply.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.reply.slot.fail(queued, failure)
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
    fn target(&self) -> &Target {
        &self.target
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(self: Arc<Self>, table: &Table) -> Ended {
        let Some(closure) = self.closure.take() else {
            return table.unknown(self);
        };
        let (parcel, result) = current::during(self, || {
            catch_unwind(AssertUnwindSafe(closure))
                .map_err(|panic| AskError::Panicked(panic_text(&*panic)))
        });
        let outcome = if result.is_ok() {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        let settled = parcel
            .as_any()
            .downcast_ref::<Self>()
            .is_some_and(|task| task.reply.settle(result));
        Ended::new(parcel, outcome, settled)
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<F>(kind, payload)
    }

    fn settle_error(&self, error: AskError) -> bool {
        self.reply.settle(Err(error))
    }

    fn publish(&self) -> bool {
        self.reply.publish()
    }

    fn abandon(&self, failure: Failure) {
        self.reply.abandon(failure);
        if failure != Failure::Cancelled {
            self.discard();
        }
    }

    fn state(&self) -> Option<&ReplyState> {
        Some(self.reply.slot.state())
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        Some(self)
    }
}
