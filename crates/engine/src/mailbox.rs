//! One worker's bounded inbox, exact to the message, with two locks that rarely meet.
//!
//! Senders push into the *inbox* under its lock. The worker pops from the *outbox* under another; when that is empty
//! it takes both locks and swaps the two buffers. A sender and the worker so contend once a batch, not once a
//! message. Lock order: outbox, then inbox.
//!
//! Everything else follows from what is kept under which lock:
//! - **Exact capacity.** `pushed` counts what entered (inbox), `gone` what left (outbox). A sender compares with the
//!   `gone` it saw last; only when that says *full* it takes both locks and looks again.
//! - **Claiming.** Whoever takes a message out (to run, drop, cancel or fail it) claims it under the outbox lock, so
//!   each message has one fate and one counter.
//! - **Deadlines.** A thread that takes a message to run it looks at its deadline first, and if that has passed the message
//!   expires instead: the deadline thread may be late.
//! - **Removal in place.** A cancelled or expired message counts as gone at once; its entry stays as a tombstone
//!   until the worker comes by, or until tombstones outnumber the living, and then all are swept.
//! - **Tokens.** A worker is in its pool's run queue, or being run, `active` times, at most `limit` (1 for a worker,
//!   the pool's size for the pool's own mailbox). A post that finds fewer hands out a token; a turn that finds both
//!   buffers empty gives it back under the inbox lock, so no message is left without somebody to run it.
//! - **Parked posts.** A sender that waits for a place leaves its message in a line under the outbox lock, and the thread
//!   that frees a place moves the first one in: see `mailbox/parked.rs`.
//!
//! Messages are never dropped under a lock: a destructor may be anybody's code. They are handed back as
//! [`Leftover`]s.

#[path = "mailbox/ahead.rs"]
mod ahead;
#[path = "mailbox/inbox.rs"]
mod inbox;
#[path = "mailbox/outbox.rs"]
mod outbox;
#[path = "mailbox/parked.rs"]
mod parked;
#[path = "mailbox/post.rs"]
mod post;
#[path = "mailbox/room.rs"]
mod room;
#[path = "mailbox/running.rs"]
mod running;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::message::{Failure, Message, Ticket};
use crate::policy::Overflow;
use crate::stats::{Counters, Timings};
use crate::sync::{Condvar, Mutex};

pub(crate) use inbox::{Gate, Settled};
pub(crate) use outbox::{Entry, Finished, Leftover, TicketKey};
pub(crate) use parked::{Entered, News, Parking, Place, Told};
pub(crate) use post::{Posted, Refused};

use inbox::Inbox;
use outbox::{Outbox, Punctual, buried};
use parked::Line;
use running::Running;

/// Buffers larger than this many entries are given back to the allocator before the worker's thread sleeps: an idle
/// worker keeps at most 2 KiB or so of them.
const KEEP_ENTRIES: usize = 32;
/// Under load one message in this many is timed, so that reading the clock stays a few per cent of a message.
const SAMPLE_UNDER_LOAD: u32 = 16;
/// Handlers at least this slow on average are timed every time: three clock readings are below 1 % of them.
const TIME_ALWAYS_ABOVE: Duration = Duration::from_micros(10);

/// What is to happen with the queued messages of a mailbox that closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Run,
    Fail(Failure),
}

/// Keeps the two locks on cache lines of their own: senders write one, the worker the other.
#[repr(align(64))]
struct Padded<T>(T);

pub(crate) struct Mailbox<M> {
    capacity: usize,
    overflow: Overflow,
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

/// What [`Mailbox::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A message to run. The token is kept.
    Next,
    /// The budget is used up and there is more. The token is kept.
    More,
    /// A message whose deadline has passed, among what is to be abandoned. The token is kept: look again.
    Expired,
    /// The message that runs when all others are over. The token is kept.
    Last,
    /// Nothing to do. The token was given back.
    Idle,
}

/// What [`Mailbox::take`] found, and what is to be done after its locks are released.
pub(crate) struct Take<M> {
    pub(crate) found: Found,
    pub(crate) leftovers: Vec<Leftover<M>>,
    /// `Idle`, and the mailbox holds large buffers: see [`Mailbox::shrink`].
    pub(crate) roomy: bool,
    /// `Idle`, and the mailbox has not settled before [`Mailbox::published`] is called.
    pub(crate) publishing: bool,
    /// Parked posts that went in.
    pub(crate) told: Told<M>,
    /// `Next`: of the message that runs, where it has a ticket.
    pub(crate) key: Option<TicketKey>,
    /// Held until the locks are released: it may be the last reference to the message.
    _ended: Option<Arc<dyn Ticket>>,
}

impl<M> Take<M> {
    const fn of(found: Found, leftovers: Vec<Leftover<M>>) -> Self {
        Self {
            found,
            leftovers,
            roomy: false,
            publishing: false,
            told: Told::nothing(),
            key: None,
            _ended: None,
        }
    }
}

/// What became of the messages of a mailbox that was closed or emptied.
pub(crate) struct Swept<M> {
    pub(crate) leftovers: Vec<Leftover<M>>,
    pub(crate) told: Told<M>,
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    /// The last message of a mailbox that was never opened.
    pub(crate) never_runs: Option<M>,
    /// That of one that has had its last message already.
    pub(crate) unused: Option<M>,
}

/// What [`Mailbox::remove`] did.
pub(crate) struct Removal<M> {
    /// The tickets of the messages that it claimed: the caller settles their replies.
    pub(crate) removed: Vec<Arc<dyn Ticket>>,
    /// Those of messages that were not queued.
    pub(crate) elsewhere: Vec<Arc<dyn Ticket>>,
    pub(crate) leftovers: Vec<Leftover<M>>,
    pub(crate) told: Told<M>,
}

impl<M: Message> Mailbox<M> {
    /// An empty mailbox. `limit` is how many of its messages may run at the same time.
    pub(crate) fn new(capacity: usize, overflow: Overflow, limit: usize, gate: Gate) -> Self {
        Self {
            capacity,
            overflow,
            outbox: Padded(Mutex::new(Outbox {
                batch: VecDeque::new(),
                gone: 0,
                ahead: 0,
                held: 0,
                parked: 0,
                handing: 0,
                tombstones: 0,
                counts: Counters::default(),
                running: Running::default(),
                line: Line::new(),
                busy: Duration::ZERO,
                timings: None,
                average_run: TIME_ALWAYS_ABOVE,
            })),
            handed: Condvar::new(),
            inbox: Padded(Mutex::new(Inbox {
                queue: VecDeque::new(),
                gate,
                failing: None,
                last: None,
                pushed: 0,
                gone_seen: 0,
                dropped_newest: 0,
                rejected: 0,
                active: 0,
                limit,
                publishing: 0,
                sample_every: 1,
                until_sample: 1,
                watchers: 0,
            })),
            settled: Condvar::new(),
        }
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) const fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// Counts the message that just ended, if any, and puts the next one into `next`.
    ///
    /// `may_run`: whether the turn's budget allows another one.
    ///
    /// One that has expired ends the call: what becomes of it may take long, and the next one's deadline counts when
    /// that begins.
    #[inline]
    pub(crate) fn take(
        &self,
        finished: Option<&Finished<'_, M>>,
        may_run: bool,
        next: &mut Option<Entry<M>>,
        clock: &dyn Clock,
    ) -> Take<M> {
        let mut leftovers = Vec::new();
        let mut punctual = Punctual::new(clock);
        let mut outbox = self.outbox.0.lock();
        let _ended = finished.and_then(|finished| outbox.finish(finished));
        loop {
            if may_run {
                *next = outbox.pop_to_run(&mut punctual, &mut leftovers);
                if let Some(entry) = next {
                    outbox.counts.running += 1;
                    let ticket = entry.message.ticket();
                    let key = ticket.as_ref().map(TicketKey::of);
                    outbox.running.add(ticket);
                    return Take {
                        key,
                        told: self.release_admitting(outbox),
                        _ended,
                        ..Take::of(Found::Next, leftovers)
                    };
                }
                if punctual.expired > 0 {
                    return Take {
                        told: self.release_admitting(outbox),
                        _ended,
                        ..Take::of(Found::Expired, leftovers)
                    };
                }
            } else if !outbox.batch.is_empty() {
                return Take {
                    _ended,
                    ..Take::of(Found::More, leftovers)
                };
            }
            let mut inbox = self.inbox.0.lock();
            inbox.gone_seen = outbox.gone;
            if inbox.queue.is_empty() || inbox.active > inbox.limit {
                if let Some(last) = inbox.take_last() {
                    *next = Some(last);
                    return Take {
                        _ended,
                        ..Take::of(Found::Last, leftovers)
                    };
                }
                let publishing = finished.is_some() || !leftovers.is_empty();
                inbox.publishing += usize::from(publishing);
                self.give_back(&mut inbox);
                return Take {
                    found: Found::Idle,
                    leftovers,
                    roomy: outbox.batch.capacity().max(inbox.queue.capacity()) > KEEP_ENTRIES,
                    publishing,
                    told: Told::nothing(),
                    key: None,
                    _ended,
                };
            }
            if !may_run {
                return Take {
                    _ended,
                    ..Take::of(Found::More, leftovers)
                };
            }
            std::mem::swap(&mut outbox.batch, &mut inbox.queue);
            inbox.sample_every = if outbox.average_run >= TIME_ALWAYS_ABOVE {
                1
            } else {
                SAMPLE_UNDER_LOAD
            };
            inbox.until_sample = inbox.until_sample.min(inbox.sample_every);
        }
    }

    /// Gives large buffers back to the allocator, if there is nothing to do. For a thread that is about to sleep: one
    /// that finds work again in a moment would only have them made anew.
    pub(crate) fn shrink(&self) {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        if inbox.active == 0 {
            for buffer in [&mut outbox.batch, &mut inbox.queue] {
                if buffer.capacity() > KEEP_ENTRIES && buffer.is_empty() {
                    *buffer = VecDeque::new();
                }
            }
        }
    }

    /// What a turn ended before it gave its token back is published: whoever waits for the mailbox to settle finds
    /// the replies standing.
    pub(crate) fn published(&self) {
        let mut inbox = self.inbox.0.lock();
        inbox.publishing -= 1;
        if inbox.watchers > 0 && inbox.publishing == 0 {
            self.settled.notify_all();
        }
    }

    fn give_back(&self, inbox: &mut Inbox<M>) {
        inbox.active -= 1;
        if inbox.active > 0 {
            return;
        }
        if inbox.watchers > 0 {
            self.settled.notify_all();
        }
    }

    /// Counts a message that ended outside a turn (its handler was suspended). The token is kept.
    pub(crate) fn finish_suspended(&self, finished: &Finished<'_, M>) {
        let ticket = self.outbox.0.lock().finish(finished);
        drop(ticket);
    }

    /// Counts a message whose turn has unwound. Returns its ticket; the token is kept.
    pub(crate) fn finish_unwound(&self, key: Option<TicketKey>) -> Option<Arc<dyn Ticket>> {
        self.outbox.0.lock().finish_unwound(key)
    }

    /// Adds time that a pool thread spent on this mailbox.
    pub(crate) fn add_busy(&self, time: Duration) {
        self.outbox.0.lock().busy += time;
    }

    /// Starts handing out tokens. Returns how many to enter into the run queue; `None` if it is closed.
    pub(crate) fn open(&self) -> Option<usize> {
        let mut inbox = self.inbox.0.lock();
        match inbox.gate {
            Gate::Closed => return None,
            Gate::Open => return Some(0),
            Gate::Paused => inbox.gate = Gate::Open,
        }
        let queued = inbox.queue.len();
        Some(inbox.activate(queued))
    }

    /// Takes out what is queued, to be failed by the caller, and stays open.
    pub(crate) fn fail_queued(&self, failure: Failure) -> Swept<M> {
        self.sweep(|_| Some(failure))
    }

    /// Refuses posts from now on, those that are parked included. What is queued is run, or comes back as leftovers; a
    /// mailbox that was never opened has nobody to run it, so there it always comes back. `last` runs when all others are
    /// over, if it `runs` at all; else it comes back.
    pub(crate) fn close(&self, rest: Rest, last: Option<M>, runs: bool) -> Swept<M> {
        let (mut last, mut never_runs) = (last, None);
        let mut activate = 0;
        let mut swept = self.sweep(|inbox| {
            let rest = if inbox.gate == Gate::Paused && rest == Rest::Run {
                Rest::Fail(Failure::Stopped)
            } else {
                rest
            };
            match inbox.gate {
                Gate::Open if runs => {
                    inbox.last = last.take();
                    if inbox.last.is_some() && inbox.active == 0 {
                        activate = inbox.activate(1);
                    }
                }
                Gate::Open | Gate::Paused => never_runs = last.take(),
                Gate::Closed => {}
            }
            inbox.gate = Gate::Closed;
            let Rest::Fail(failure) = rest else {
                return None;
            };
            inbox.failing = Some(failure);
            Some(failure)
        });
        swept.activate = activate;
        swept.never_runs = never_runs;
        swept.unused = last;
        swept
    }

    /// Takes out what is queued, if `decide` says how it fails.
    fn sweep(&self, decide: impl FnOnce(&mut Inbox<M>) -> Option<Failure>) -> Swept<M> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        if let Some(failure) = decide(&mut inbox) {
            while let Some(entry) = outbox.pop_any(&mut inbox, &mut leftovers) {
                outbox.counts.count_failure(failure);
                leftovers.push((entry.message, failure));
            }
        }
        let told = self.admit(&mut outbox, &mut inbox);
        drop(inbox);
        drop(outbox);
        self.settled.notify_all();
        Swept {
            leftovers,
            told,
            activate: 0,
            never_runs: None,
            unused: None,
        }
    }

    /// Claims queued messages for removal because they were cancelled or expired.
    pub(crate) fn remove(&self, tickets: Vec<Arc<dyn Ticket>>, expired: bool) -> Removal<M> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        // In one go: as many may have been queued as the mailbox holds.
        let (removed, elsewhere): (Vec<_>, Vec<_>) = tickets
            .into_iter()
            .partition(|ticket| ticket.state().claim_removed(expired));
        if removed.is_empty() {
            return Removal {
                removed,
                elsewhere,
                leftovers,
                told: Told::nothing(),
            };
        }
        outbox.gone += removed.len() as u64;
        outbox.tombstones += removed.len();
        if expired {
            outbox.counts.expired += removed.len() as u64;
        } else {
            outbox.counts.cancelled += removed.len() as u64;
        }
        let mut inbox = self.inbox.0.lock();
        inbox.gone_seen = outbox.gone;
        if outbox.tombstones * 2 > outbox.batch.len() + inbox.queue.len() {
            for buffer in [&mut outbox.batch, &mut inbox.queue] {
                let entries = std::mem::take(buffer);
                for entry in entries {
                    if entry
                        .message
                        .state()
                        .is_none_or(crate::reply::ReplyState::is_queued)
                    {
                        buffer.push_back(entry);
                    } else {
                        leftovers.push(buried(entry.message));
                    }
                }
            }
            outbox.tombstones = 0;
        }
        if inbox.is_settled(Settled::Idle) && inbox.watchers > 0 {
            self.settled.notify_all();
        }
        Removal {
            removed,
            elsewhere,
            leftovers,
            told: self.admit(&mut outbox, &mut inbox),
        }
    }

    /// The tickets of the messages that run.
    pub(crate) fn running(&self) -> Vec<Arc<dyn Ticket>> {
        self.outbox.0.lock().running.iter().cloned().collect()
    }

    /// Allows one message more (or one less) to run at the same time, because the thread of one only waits.
    /// Returns how many tokens to enter into the run queue.
    pub(crate) fn lend(&self, more: bool) -> usize {
        let mut inbox = self.inbox.0.lock();
        if more {
            inbox.limit += 1;
            let queued = inbox.queue.len();
            // The outbox may hold some as well; a token that finds nothing is given back.
            inbox.activate(queued.max(1))
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

    /// The counters at one instant, with the time spent and the timings.
    pub(crate) fn snapshot(&self) -> (Counters, Duration, Option<Box<Timings>>) {
        let outbox = self.outbox.0.lock();
        let inbox = self.inbox.0.lock();
        let counters = Counters {
            posted: inbox.pushed + inbox.dropped_newest,
            dropped_newest: inbox.dropped_newest,
            rejected: inbox.rejected,
            queued: inbox.pushed - outbox.gone,
            ..outbox.counts
        };
        (counters, outbox.busy, outbox.timings.clone())
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "mailbox/tests.rs"]
mod tests;
