//! Messages as the mailbox holds them: a small post in place; another post, an ask, or a closure, each one allocation,
//! which is an [`AnyMessage`].

use std::any::Any;
use std::sync::{Arc, Mutex};

use pytoweb_engine::{Failure, Message, Outcome, Plan, ReplyState, Ticket};

use crate::attempts::Attempts;
use crate::error::{AskError, BoxError, TypeMismatch};
use crate::inline::Small;
use crate::kept::Kept;
use crate::kind_id::KindId;
use crate::payload_cell::PayloadCell;
use crate::retry::Retry;
use crate::sent::Sent;

/// Why a message failed: a handler's own error, maybe. Boxed, because most replies are none.
pub(crate) type FailureCause = Kept<Box<AskError>>;

impl From<AskError> for FailureCause {
    fn from(error: AskError) -> Self {
        Self::new(Box::new(error))
    }
}

/// What a sender says of the attempts of one message. Its handler's errors are boxed for it.
pub(crate) type OwnRetry = Retry<BoxError>;

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

/// How a message ended that was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// So, and the reply is the handler's.
    Settled(Outcome),
    /// The reply is that of a deadline or a stop, which was first.
    Late,
    /// Not yet: it failed and is to be tried again, as its [`Attempts`] say.
    Again,
}

impl Ended {
    /// `settled`: whether the reply is the handler's.
    #[inline]
    pub(crate) const fn of(outcome: Outcome, settled: bool) -> Self {
        if settled {
            Self::Settled(outcome)
        } else {
            Self::Late
        }
    }
}

/// A message of any type.
pub(crate) trait AnyMessage: Any + Send + Sync {
    fn route(&self) -> Route<'_>;

    fn as_any(&self) -> &dyn Any;

    /// Runs a message that is its own handler, and lies in `envelope`. `None`: it is none, or has run.
    fn run(&self, _envelope: &Envelope) -> Option<Ended> {
        None
    }

    /// How its types differ from those of the handler of `kind`.
    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch;

    /// Settles the reply with `error`, if there is one. False: another thread has settled it.
    fn settle_error(&self, error: FailureCause) -> bool;

    /// Publishes what was settled. True: threads are to be woken.
    fn publish(&self) -> bool;

    /// Settles and publishes a reply that will not come, and lets go of the payload.
    fn abandon(&self, failure: Failure);

    fn state(&self) -> Option<&ReplyState>;

    /// Whether its handler should give up: its caller does not wait for it any more.
    fn is_cancel_requested(&self) -> bool {
        self.state().is_some_and(ReplyState::is_cancel_requested)
    }

    /// What came of the attempts before this one; `None` in the first.
    fn attempts(&self) -> Option<&Mutex<Attempts>> {
        None
    }

    /// The payload, moved into a post to the handlers of `kind`. `None`: it was moved out, or is none.
    fn repost(&self, _kind: &str) -> Option<Arc<dyn AnyMessage>> {
        None
    }

    /// The size of the payload's type.
    fn bytes(&self) -> usize;

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>>;
}

/// What the mailbox holds.
pub(crate) enum Envelope {
    /// A post whose payload lies in it.
    Small(Small),
    Allocated(Arc<dyn AnyMessage>),
    /// One of the others, which asks more of the mailbox.
    Planned(Box<Planned>),
}

/// A message with what it asks of its mailbox.
pub(crate) struct Planned {
    pub(crate) plan: Option<Plan>,
    pub(crate) bytes: usize,
    /// How often it is tried, where its sender says so.
    pub(crate) retry: Option<Box<OwnRetry>>,
    /// Where it was sent, for its span.
    #[cfg_attr(
        not(feature = "tracing"),
        expect(dead_code, reason = "nothing is in it then")
    )]
    pub(crate) sent: Sent,
    /// No planned one itself.
    pub(crate) envelope: Envelope,
}

impl Envelope {
    pub(crate) fn of(message: Arc<dyn AnyMessage>) -> Self {
        Self::Allocated(message)
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
        let payload = PayloadCell::new(data);
        Self::Allocated(Arc::new(Post { target, payload }))
    }

    /// The payload of such a message, once.
    pub(crate) fn unpost<T: 'static>(&mut self) -> Option<T> {
        match self {
            Self::Small(small) => small.take(),
            Self::Allocated(message) => {
                let post = message.as_any().downcast_ref::<Post<T>>()?;
                post.payload.take()
            }
            Self::Planned(planned) => planned.envelope.unpost(),
        }
    }

    pub(crate) fn route(&self) -> Route<'_> {
        match self {
            Self::Small(small) => Route::Known(small.kind),
            Self::Allocated(message) => message.route(),
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
            Self::Allocated(message) => message.mismatch(kind, payload, reply),
            Self::Planned(planned) => planned.envelope.mismatch(kind, payload, reply),
        }
    }

    /// Settles the reply with `error`, if there is one. False: another thread has settled it.
    pub(crate) fn settle_error(&self, error: FailureCause) -> bool {
        match self {
            Self::Small(_) => true,
            Self::Allocated(message) => message.settle_error(error),
            Self::Planned(planned) => planned.envelope.settle_error(error),
        }
    }

    /// The message without its plan.
    pub(crate) fn into_message(self) -> Option<Arc<dyn AnyMessage>> {
        match self {
            Self::Small(_) => None,
            Self::Allocated(message) => Some(message),
            Self::Planned(planned) => planned.envelope.into_message(),
        }
    }

    /// What came of the attempts before this one; `None` in the first.
    pub(crate) fn attempts(&self) -> Option<&Mutex<Attempts>> {
        self.message()?.attempts()
    }

    /// How often it is tried, where its sender says so.
    pub(crate) fn own_retry(&self) -> Option<&OwnRetry> {
        match self {
            Self::Planned(planned) => planned.retry.as_deref(),
            Self::Small(_) | Self::Allocated(_) => None,
        }
    }

    /// Puts `data`, which was moved out of a post to `kind`, back into one that can be shared.
    pub(crate) fn restore<T: Send + 'static>(&mut self, kind: KindId, data: T) {
        let target = Target::Known(kind);
        let payload = PayloadCell::new(data);
        let post = Self::Allocated(Arc::new(Post { target, payload }));
        match self {
            Self::Planned(planned) => planned.envelope = post,
            // A message asks the same of its mailbox at all times.
            Self::Small(small) if small.plan().is_some() => {
                *self = Self::Planned(Box::new(Planned {
                    plan: small.plan().cloned(),
                    bytes: small.bytes(),
                    retry: None,
                    sent: Sent::default(),
                    envelope: post,
                }));
            }
            other => *other = post,
        }
    }

    /// The same message, with where it was sent.
    #[cfg(feature = "tracing")]
    pub(crate) fn sent_as(self, sent: Sent) -> Self {
        match self {
            Self::Planned(mut planned) => {
                planned.sent = sent;
                Self::Planned(planned)
            }
            envelope => Self::Planned(Box::new(Planned {
                plan: envelope.plan().cloned(),
                bytes: envelope.bytes(),
                retry: None,
                sent,
                envelope,
            })),
        }
    }

    /// Where it was sent, if that is known.
    #[cfg(feature = "tracing")]
    pub(crate) fn sent(&self) -> Option<&Sent> {
        match self {
            Self::Planned(planned) => Some(&planned.sent),
            _ => None,
        }
    }

    /// What it shares with others.
    pub(crate) fn message(&self) -> Option<&Arc<dyn AnyMessage>> {
        match self {
            Self::Small(_) => None,
            Self::Allocated(message) => Some(message),
            Self::Planned(planned) => planned.envelope.message(),
        }
    }

    /// The same, to put another in its place.
    pub(crate) fn message_mut(&mut self) -> Option<&mut Arc<dyn AnyMessage>> {
        match self {
            Self::Small(_) => None,
            Self::Allocated(message) => Some(message),
            Self::Planned(planned) => planned.envelope.message_mut(),
        }
    }
}

impl Message for Envelope {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        match self {
            Self::Allocated(message) if message.state().is_some() => message.clone().into_ticket(),
            Self::Planned(planned) => planned.envelope.ticket(),
            _ => None,
        }
    }

    #[inline]
    fn state(&self) -> Option<&ReplyState> {
        match self {
            Self::Small(_) => None,
            Self::Allocated(message) => message.state(),
            Self::Planned(planned) => planned.envelope.state(),
        }
    }

    #[inline]
    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Small(small) => small.plan(),
            Self::Allocated(_) => None,
            Self::Planned(planned) => planned.plan.as_ref(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Small(small) => small.bytes(),
            Self::Allocated(message) => message.bytes(),
            Self::Planned(planned) => planned.bytes,
        }
    }
}

/// Has the payload of `from` in a post to the handlers of `kind`.
pub(crate) fn repost<T: Send + 'static>(
    from: &PayloadCell<T>,
    kind: &str,
) -> Option<Arc<dyn AnyMessage>> {
    let payload = PayloadCell::new(from.take()?);
    let target = Target::Named(kind.into());
    Some(Arc::new(Post { target, payload }))
}

/// A message that no caller waits for, and that does not lie in its envelope.
pub(crate) struct Post<T> {
    pub(crate) target: Target,
    pub(crate) payload: PayloadCell<T>,
}

impl<T: 'static> Post<T> {
    /// The message in `envelope`, if it is one of these that does not lie in place.
    pub(crate) fn within(envelope: &Envelope) -> Option<&Self> {
        envelope.message()?.as_any().downcast_ref()
    }
}

impl<T: Send + 'static> AnyMessage for Post<T> {
    fn repost(&self, kind: &str) -> Option<Arc<dyn AnyMessage>> {
        repost(&self.payload, kind)
    }

    fn route(&self) -> Route<'_> {
        match &self.target {
            Target::Known(id) => Route::Known(*id),
            Target::Named(name) => Route::Named(name),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<T>(kind, payload)
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

    fn bytes(&self) -> usize {
        size_of::<T>()
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        None
    }
}

/// A message whose reply another thread has settled (a deadline, a stop) while its handler ran.
pub(crate) struct Late(pub(crate) Arc<dyn AnyMessage>);

impl AnyMessage for Late {
    fn attempts(&self) -> Option<&Mutex<Attempts>> {
        self.0.attempts()
    }

    fn repost(&self, kind: &str) -> Option<Arc<dyn AnyMessage>> {
        self.0.repost(kind)
    }

    fn route(&self) -> Route<'_> {
        self.0.route()
    }

    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }

    fn mismatch(&self, kind: &str, payload: &'static str, reply: &'static str) -> TypeMismatch {
        self.0.mismatch(kind, payload, reply)
    }

    fn settle_error(&self, _: FailureCause) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_of_a_small_value_is_small() {
        assert!(size_of::<Post<u64>>() <= 40);
        // As a post with three words of payload.
        assert!(size_of::<Envelope>() == 40);
    }
}
