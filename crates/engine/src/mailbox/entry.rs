//! A message on its way through the mailbox, and what the parts of the mailbox say to each other about it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::message::{Message, Ticket};
use crate::outcome::{Failure, Outcome};
use crate::reply::ReplyState;

/// A message that will not be run, and why; for the handler to settle its reply.
pub(crate) type Leftover<M> = (M, Failure);

/// A queued message.
pub(crate) struct Entry<M> {
    pub(crate) message: M,
    /// When it was posted, for the messages that are timed.
    pub(crate) posted_at: Option<Timestamp>,
}

/// One of the places in which a carrier runs messages, by a number of the carrier's.
pub(crate) type Spot = u32;

/// A message that was taken, with those that run together with it.
pub(crate) struct Bundle<M> {
    pub(crate) first: Entry<M>,
    pub(crate) others: Vec<Entry<M>>,
    /// Where the message before it of its key ran.
    pub(crate) spot: Option<Spot>,
}

impl<M> Bundle<M> {
    pub(crate) const fn len(&self) -> usize {
        1 + self.others.len()
    }
}

/// How long a message waited and ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) wait: Duration,
    pub(crate) run: Duration,
    /// How many messages ran together in that time, itself included.
    pub(crate) together: usize,
}

/// What each of so many messages took of a time in which they ran together.
pub(super) fn share(run: Duration, together: usize) -> Duration {
    run / u32::try_from(together.max(1)).unwrap_or(u32::MAX)
}

/// How a message ended that was taken.
pub(crate) struct Finished<'a, M> {
    pub(crate) message: &'a M,
    pub(crate) outcome: Outcome,
    /// Wait and run time, where they were taken.
    pub(crate) timed: Option<&'a Times>,
}

/// Tells the ticket of a running message from the others, when the message itself may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TicketKey(NonNull<()>);

impl TicketKey {
    pub(crate) fn of(ticket: &Arc<dyn Ticket>) -> Self {
        Self(NonNull::from(&**ticket).cast())
    }
}

/// Compares deadlines with the clock, which is read once, and only if there is a deadline.
pub(super) struct Punctual<'a> {
    clock: &'a dyn Clock,
    now: Option<Timestamp>,
}

impl<'a> Punctual<'a> {
    pub(super) const fn new(clock: &'a dyn Clock) -> Self {
        Self { clock, now: None }
    }

    pub(super) fn now(&mut self) -> Timestamp {
        *self.now.get_or_insert_with(|| self.clock.now())
    }

    /// Claims a message whose deadline has passed, as expired.
    #[inline]
    pub(super) fn expires(&mut self, message: &impl Message) -> bool {
        let Some(state) = message.state() else {
            return false;
        };
        state.is_overdue(|| *self.now.get_or_insert_with(|| self.clock.now()))
            && state.claim_removed(true)
    }
}

/// The fate of a message that was cancelled or has expired while it was queued.
pub(super) fn buried<M: Message>(message: M) -> Leftover<M> {
    let expired = message.state().is_some_and(ReplyState::is_expired);
    (
        message,
        if expired {
            Failure::Expired
        } else {
            Failure::Cancelled
        },
    )
}
