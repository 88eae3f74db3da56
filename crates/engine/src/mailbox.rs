//! One worker's bounded inbox, exact to the message, with two locks that rarely meet.
//!
//! Senders push into the *inbox* under its lock. The worker pops from the *outbox* under another; when that is empty
//! it takes both locks and swaps the two buffers. A sender and the worker so contend once a batch, not once a
//! message. Lock order: outbox, then inbox.
//!
//! What lies under which lock, and where the rules about it stand:
//!
//! | part | lock | holds |
//! |---|---|---|
//! | `admission` | inbox | how many entered, and what becomes of one too many |
//! | `inbox` | inbox | what senders have pushed since, the gate, and the tokens |
//! | `door` | inbox | whether the worker is to look at what was pushed, in the order by plans; it sees that without a lock |
//! | `order`, `planned` | outbox | which message goes next; tombstones of those that are gone |
//! | `accounts` | outbox | what left and what became of it: the only place that adds and subtracts |
//! | `parked` | outbox | posts that wait for a place |
//!
//! `post`, `take`, `ahead` and `removal` are the operations on them: what senders, turns, backends in other processes, and
//! cancels, deadlines and stops do. The queues of both sides are rings of `queue`, which says how a message is moved.
//!
//! - **Claiming.** The thread that takes a message out (to run, drop, cancel or fail it) claims it under the outbox lock, so
//!   each message has one fate and one counter.
//! - **Deadlines.** A thread that takes a message to run it looks at its deadline first, and if that has passed the message
//!   expires instead: the deadline thread may be late.
//! - **Removal in place.** A cancelled or expired message counts as gone at once; its entry stays as a tombstone.
//! - **Tokens.** A worker is in its pool's run queue, or being run, `active` times, at most `limit` (1 for a worker,
//!   the pool's size for the pool's own mailbox). A post that finds fewer hands out a token; a turn that finds both
//!   buffers empty gives it back under the inbox lock, so no message is left that no thread will run.
//!
//! Messages are never dropped under a lock: a destructor is the user's code. They are handed back as [`Leftover`]s.

#[path = "mailbox/accounts.rs"]
mod accounts;
#[path = "mailbox/admission.rs"]
mod admission;
#[path = "mailbox/again.rs"]
mod again;
#[path = "mailbox/ahead.rs"]
mod ahead;
#[path = "mailbox/claimed.rs"]
mod claimed;
#[path = "mailbox/door.rs"]
mod door;
#[path = "mailbox/entry.rs"]
mod entry;
#[path = "mailbox/found.rs"]
mod found;
#[path = "mailbox/inbox.rs"]
mod inbox;
#[path = "mailbox/line.rs"]
mod line;
#[path = "mailbox/order.rs"]
mod order;
#[path = "mailbox/outbox.rs"]
mod outbox;
#[path = "mailbox/parked.rs"]
mod parked;
#[path = "mailbox/planned.rs"]
mod planned;
#[path = "mailbox/post.rs"]
mod post;
#[path = "mailbox/queue.rs"]
mod queue;
#[path = "mailbox/removal.rs"]
mod removal;
#[path = "mailbox/room.rs"]
mod room;
#[path = "mailbox/running.rs"]
mod running;
#[path = "mailbox/shedding.rs"]
mod shedding;
#[path = "mailbox/take.rs"]
mod take;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, Timestamp};
use crate::key::Key;
use crate::load::Busy;
use crate::message::{Message, Ticket};
use crate::plan::Meter;
use crate::policy::Overflow;
use crate::stats::{Counters, Timings};
use crate::sync::{Condvar, Mutex};

pub(crate) use again::Whence;
pub(crate) use entry::{Bundle, Entry, Finished, Leftover, Spot, TicketKey, Times};
pub(crate) use inbox::{Gate, Settled};
pub(crate) use line::{Entered, LinePlace, News, Told};
pub(crate) use outbox::AlarmHold;
pub(crate) use parked::Parking;
pub(crate) use post::{Posted, Refused};
pub(crate) use queue::Tray;
pub(crate) use removal::{Removal, Rest, Swept};
pub use shedding::Shed;
pub(crate) use take::{Next, Take, TakeResult};

use accounts::Worked;
use admission::Admission;
use inbox::Inbox;
use outbox::Outbox;
use shedding::Shedding;

/// Keeps the two locks on cache lines of their own: senders write one, the worker the other.
#[repr(align(64))]
struct Padded<T>(T);

/// What a mailbox is bounded by besides its capacity.
#[derive(Default)]
pub(crate) struct Limits {
    /// What every message is counted against as it begins.
    pub(crate) meter: Option<Meter>,
    pub(crate) bytes: Option<u64>,
    pub(crate) shed: Option<Shed>,
}

/// What is known of a mailbox at one instant.
pub(crate) struct MailboxSnapshot {
    pub(crate) now: Timestamp,
    pub(crate) gate: Gate,
    /// It is closed, and all its messages are over.
    pub(crate) ended: bool,
    pub(crate) counters: Counters,
    pub(crate) busy: Duration,
    pub(crate) recently: Busy,
    /// Since when there is work without a break, or since when there is none; `None`: there never was.
    pub(crate) since: Option<Timestamp>,
    /// When the message was posted that has waited longest.
    pub(crate) oldest: Option<Timestamp>,
    /// How long messages are refused by now, for the wait of the oldest one.
    pub(crate) shedding_for: Option<Duration>,
    /// When a post found no place first, since it was last half empty.
    pub(crate) full_since: Option<Timestamp>,
}

pub(crate) struct Mailbox<M> {
    capacity: usize,
    overflow: Overflow,
    weighs: bool,
    outbox: Padded<Mutex<Outbox<M>>>,
    handed: Condvar,
    inbox: Padded<Mutex<Inbox<M>>>,
    settled: Condvar,
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}

impl<M: Message> Mailbox<M> {
    /// An empty mailbox. `limit` is how many of its messages may run at the same time.
    pub(crate) fn new(
        capacity: usize,
        overflow: Overflow,
        limit: usize,
        gate: Gate,
        limits: Limits,
    ) -> Self {
        Self {
            capacity,
            overflow,
            weighs: limits.bytes.is_some(),
            outbox: Padded(Mutex::new(Outbox::new(
                limits.meter,
                limits.bytes.is_some(),
            ))),
            handed: Condvar::new(),
            inbox: Padded(Mutex::new(Inbox::new(
                Admission::new(capacity, limits.bytes, overflow),
                limit,
                gate,
                limits.shed.map(Shedding::new),
            ))),
            settled: Condvar::new(),
        }
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) const fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// Counts a message that ended outside a turn (its handler was suspended). The token is kept.
    pub(crate) fn finish_suspended(&self, finished: &Finished<'_, M>) {
        let ticket = self.outbox.0.lock().end(finished);
        drop(ticket);
    }

    /// Counts messages that ran together with another one. Returns the parked posts that went in for them.
    pub(crate) fn finish_together<'a>(
        &self,
        finished: impl Iterator<Item = Finished<'a, M>>,
    ) -> Told<M> {
        let mut outbox = self.outbox.0.lock();
        let tickets = finished
            .map(|finished| outbox.end(&finished))
            .collect::<Vec<_>>();
        let told = self.release_admitting(outbox);
        drop(tickets);
        told
    }

    /// Counts a message whose turn has unwound. Returns its ticket; the token is kept.
    pub(crate) fn finish_unwound(
        &self,
        key: Option<TicketKey>,
        lane: Option<&Key>,
        bytes: u64,
    ) -> Option<Arc<dyn Ticket>> {
        self.outbox.0.lock().end_unwound(key, lane, bytes)
    }

    /// A turn that began then, and ran so many messages, has ended.
    pub(crate) fn end_turn(&self, began: Timestamp, messages: usize, clock: &dyn Clock) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let now = clock.now();
        self.outbox.0.lock().accounts.end_turn(began, messages, now);
    }

    /// Starts handing out tokens. Returns how many to enter into the run queue; `None` if it is closed.
    pub(crate) fn open(&self) -> Option<usize> {
        // Both: messages with plans are in the order already.
        let outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        match inbox.gate {
            Gate::Closed => return None,
            Gate::Open => return Some(0),
            Gate::Paused => inbox.gate = Gate::Open,
        }
        // One at least, to look at what sleeps.
        let queued = (outbox.order.len() + inbox.queue.len()).max(inbox.admission.queued().min(1));
        Some(inbox.activate(queued))
    }

    /// The bytes of a message, where they count.
    pub(crate) fn weight(&self, message: &M) -> u64 {
        if self.weighs {
            message.bytes() as u64
        } else {
            0
        }
    }

    /// Whether messages are asked for their bytes.
    pub(crate) const fn weighs(&self) -> bool {
        self.weighs
    }

    /// The tickets of the messages that run.
    pub(crate) fn running(&self) -> Vec<Arc<dyn Ticket>> {
        self.outbox.0.lock().accounts.tickets().cloned().collect()
    }

    /// Allows one message more (or one less) to run at the same time, because the thread of one only waits.
    /// Returns how many tokens to enter into the run queue.
    pub(crate) fn lend(&self, more: bool) -> usize {
        // Both, so that a token is handed out where there is an entry for it, and only there.
        let outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        if more {
            inbox.limit += 1;
            let queued = outbox.order.len() + inbox.queue.len();
            inbox.activate(queued)
        } else {
            inbox.limit -= 1;
            0
        }
    }

    /// Blocks until the mailbox has settled, or `until` passes. Says whether it has.
    pub(crate) fn wait_settled(&self, settled: Settled, until: Option<Instant>) -> bool {
        let mut inbox = self.inbox.0.lock();
        inbox.watchers += 1;
        let reached = loop {
            if inbox.is_settled(settled) {
                break true;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break false;
            }
            (inbox, _) = self.settled.wait(inbox, left);
        };
        inbox.watchers -= 1;
        reached
    }

    pub(crate) fn is_settled(&self, settled: Settled) -> bool {
        self.inbox.0.lock().is_settled(settled)
    }

    pub(crate) fn gate(&self) -> (Gate, bool) {
        let inbox = self.inbox.0.lock();
        (inbox.gate, inbox.is_settled(Settled::Ended))
    }

    /// What is known of it at one instant. `carries`: messages that are with another process run there.
    pub(crate) fn snapshot(&self, clock: &dyn Clock, carries: bool) -> MailboxSnapshot {
        let outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        let now = clock.now();
        inbox.admission.see(&outbox.accounts);
        let shedding = inbox.shedding.as_ref();
        let shedding_for = shedding
            .and_then(|shedding| shedding.refuses_for(outbox.order.oldest(&inbox.queue), now));
        let (admission, accounts) = (&inbox.admission, &outbox.accounts);
        let Worked {
            busy,
            recently,
            since,
        } = accounts.worked(now, carries);
        let counters = Counters {
            posted: admission.entered() + admission.dropped_newest(),
            dropped_newest: admission.dropped_newest(),
            rejected: admission.rejected(),
            shed: admission.shed(),
            queued: admission.entered() - accounts.gone(),
            bytes: admission.bytes_entered() - accounts.bytes_gone(),
            ..*accounts.counts()
        };
        MailboxSnapshot {
            now,
            gate: inbox.gate,
            ended: inbox.is_settled(Settled::Ended),
            counters,
            busy,
            recently,
            since,
            oldest: outbox.oldest(&inbox),
            shedding_for,
            full_since: admission.full_since(),
        }
    }

    /// Has the times of messages left to the handler, which keeps them.
    pub(crate) fn leave_times(self) -> Self {
        self.outbox.0.lock().accounts.leave_times();
        self
    }

    /// See [`Worker::carried_for`](crate::Worker::carried_for).
    pub(crate) fn carried_for(&self, clock: &dyn Clock) -> Option<Duration> {
        let since = self.outbox.0.lock().accounts.carried_since()?;
        Some(clock.now().since(since))
    }

    /// How long messages waited and ran.
    pub(crate) fn timings(&self) -> Option<Box<Timings>> {
        self.outbox.0.lock().accounts.timings()
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "mailbox/tests.rs"]
mod tests;
