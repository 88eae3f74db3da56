//! The outbox: the worker's side of a mailbox, with the messages that are queued, run and gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use super::parked::Line;
use super::running::Running;
use crate::clock::{Clock, Timestamp};
use crate::message::{Failure, Message, Outcome, Ticket};
use crate::stats::{Counters, Timings};

/// A message that will not be run, and why; for the handler to tell whoever waits.
pub(crate) type Leftover<M> = (M, Failure);

/// A queued message.
pub(crate) struct Entry<M> {
    pub(crate) message: M,
    /// When it was posted, for the messages that are timed.
    pub(crate) posted_at: Option<Timestamp>,
}

/// How a message ended that was taken.
pub(crate) struct Finished<'a, M> {
    pub(crate) message: &'a M,
    pub(crate) outcome: Outcome,
    /// Wait and run time, where they were taken.
    pub(crate) timed: Option<(Duration, Duration)>,
}

/// Compares deadlines with the clock, which is read once, and only if there is a deadline.
pub(super) struct Punctual<'a> {
    clock: &'a dyn Clock,
    now: Option<Timestamp>,
    /// Messages that had expired. Each of them made room.
    pub(super) expired: usize,
}

impl<'a> Punctual<'a> {
    pub(super) const fn new(clock: &'a dyn Clock) -> Self {
        Self {
            clock,
            now: None,
            expired: 0,
        }
    }

    /// Claims a message whose deadline has passed, as expired.
    #[inline]
    fn expires(&mut self, message: &impl Message) -> bool {
        let Some(state) = message.state() else {
            return false;
        };
        state.is_overdue(|| *self.now.get_or_insert_with(|| self.clock.now()))
            && state.claim_removed(true)
    }
}

/// Tells the ticket of a running message from the others, when the message itself may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TicketKey(*const ());

impl TicketKey {
    pub(crate) fn of(ticket: &Arc<dyn Ticket>) -> Self {
        Self(Arc::as_ptr(ticket).cast())
    }
}

pub(super) struct Outbox<M> {
    pub(super) batch: VecDeque<Entry<M>>,
    /// Messages that ever left the queue, for any reason.
    pub(super) gone: u64,
    /// Messages that were handed over behind the first one of their batch: claimed, and not gone.
    pub(super) ahead: usize,
    /// Threads that look through what was taken back, and tokens that are used once they are through.
    pub(super) held: usize,
    pub(super) parked: usize,
    /// Threads that have taken messages and have yet to hand them over.
    pub(super) handing: usize,
    /// Entries of either buffer that are gone already.
    pub(super) tombstones: usize,
    /// The counters that change when messages leave; the others are filled in by `Mailbox::snapshot`.
    pub(super) counts: Counters,
    /// Tickets of the messages that run.
    pub(super) running: Running,
    /// Posts that wait for a place.
    pub(super) line: Line<M>,
    pub(super) busy: Duration,
    pub(super) timings: Option<Box<Timings>>,
    /// Moving average of the run times that were taken.
    pub(super) average_run: Duration,
}

impl<M: Message> Outbox<M> {
    /// Takes the oldest living message out of the batch, claimed; tombstones on the way are cleared.
    #[inline]
    pub(super) fn pop_batch(&mut self, leftovers: &mut Vec<Leftover<M>>) -> Option<Entry<M>> {
        pop_living(
            &mut self.batch,
            &mut self.gone,
            &mut self.tombstones,
            leftovers,
        )
    }

    /// The same to run it: one whose deadline has passed expires in its place, as `punctual` counts, and there is none.
    #[inline]
    pub(super) fn pop_to_run(
        &mut self,
        punctual: &mut Punctual<'_>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Option<Entry<M>> {
        while let Some(entry) = self.batch.front() {
            if punctual.expires(&entry.message) {
                self.gone += 1;
                self.counts.expired += 1;
                punctual.expired += 1;
                leftovers.extend(self.batch.pop_front().map(|entry| buried(entry.message)));
                return None;
            }
            if entry.message.claim() {
                self.gone += 1;
                return self.batch.pop_front();
            }
            self.tombstones -= 1;
            leftovers.extend(self.batch.pop_front().map(|entry| buried(entry.message)));
        }
        None
    }

    /// The same, past all those that expire.
    pub(super) fn pop_unexpired(
        &mut self,
        punctual: &mut Punctual<'_>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Option<Entry<M>> {
        loop {
            let before = punctual.expired;
            let entry = self.pop_to_run(punctual, leftovers);
            if entry.is_some() || punctual.expired == before {
                return entry;
            }
        }
    }

    /// The oldest living message from the batch and then from the inbox.
    pub(super) fn pop_any(
        &mut self,
        inbox: &mut Inbox<M>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Option<Entry<M>> {
        self.pop_batch(leftovers).or_else(|| {
            pop_living(
                &mut inbox.queue,
                &mut self.gone,
                &mut self.tombstones,
                leftovers,
            )
        })
    }

    /// The next one that is ahead counts as running, if there is one.
    pub(super) fn move_up(&mut self) {
        if self.ahead > 0 {
            self.ahead -= 1;
            self.gone += 1;
            self.counts.running += 1;
        }
    }

    pub(super) fn finish(&mut self, finished: &Finished<'_, M>) -> Option<Arc<dyn Ticket>> {
        self.counts.count(finished.outcome);
        self.counts.running -= 1;
        if let Some((wait, run)) = finished.timed {
            let timings = self.timings.get_or_insert_with(|| Box::new(Timings::new()));
            timings.wait.record(wait);
            timings.run.record(run);
            self.average_run = (self.average_run * 3 + run) / 4;
        }
        self.forget_running(finished.message)
    }

    /// Counts a message whose handler unwound, and takes its ticket from those that run; to be dropped outside the
    /// lock.
    pub(super) fn finish_unwound(&mut self, key: Option<TicketKey>) -> Option<Arc<dyn Ticket>> {
        let ticket = key.and_then(|key| self.running.remove_lost(key));
        let expired = ticket
            .as_ref()
            .is_some_and(|ticket| ticket.state().is_expired());
        self.counts.count(if expired {
            Outcome::Expired
        } else {
            Outcome::Failed
        });
        self.counts.running -= 1;
        ticket
    }

    /// Takes the ticket of `message` from those that run; to be dropped outside the lock.
    pub(super) fn forget_running(&mut self, message: &M) -> Option<Arc<dyn Ticket>> {
        self.running.remove(message.state()?)
    }

    /// The same for messages that come back, the youngest first.
    pub(super) fn forget_youngest(&mut self, message: &M) -> Option<Arc<dyn Ticket>> {
        self.running.remove_youngest(message.state()?)
    }
}

/// Takes the oldest living entry out of `from`, claimed; tombstones on the way are cleared.
#[inline]
fn pop_living<M: Message>(
    from: &mut VecDeque<Entry<M>>,
    gone: &mut u64,
    tombstones: &mut usize,
    leftovers: &mut Vec<Leftover<M>>,
) -> Option<Entry<M>> {
    while let Some(entry) = from.front() {
        if entry.message.claim() {
            *gone += 1;
            return from.pop_front();
        }
        *tombstones -= 1;
        leftovers.extend(from.pop_front().map(|entry| buried(entry.message)));
    }
    None
}

/// The fate of a message that was cancelled or has expired while it was queued.
pub(super) fn buried<M: Message>(message: M) -> Leftover<M> {
    let expired = message
        .state()
        .is_some_and(crate::reply::ReplyState::is_expired);
    (
        message,
        if expired {
            Failure::Expired
        } else {
            Failure::Cancelled
        },
    )
}
