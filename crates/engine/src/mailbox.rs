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
//! - **Removal in place.** A cancelled or expired message counts as gone at once; its entry stays as a tombstone
//!   until the worker comes by, or until tombstones outnumber the living, and then all are swept.
//! - **Tokens.** A worker is in its pool's run queue, or being run, `active` times, at most `limit` (1 for a worker,
//!   the pool's size for the pool's own mailbox). A post that finds fewer hands out a token; a turn that finds both
//!   buffers empty gives it back under the inbox lock, so no message is left without somebody to run it.
//! - **Blocked senders** wait on the outbox lock, where the worker sees them each time it takes a message.
//!
//! Messages are never dropped under a lock: a destructor may be anybody's code. They are handed back as
//! [`Leftover`]s.

use std::collections::VecDeque;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, Timestamp};
use crate::message::{DropReason, Failure, Message, Outcome, Ticket};
use crate::policy::Overflow;
use crate::stats::{Counters, Timings};
use crate::sync::{Condvar, Mutex, MutexGuard, look_while_yielding};

/// Buffers larger than this many entries are given back to the allocator before the worker's thread sleeps: an idle
/// worker keeps at most 2 KiB or so of them.
const KEEP_ENTRIES: usize = 32;
/// Under load one message in this many is timed, so that reading the clock stays a few per cent of a message.
const SAMPLE_UNDER_LOAD: u32 = 16;
/// Room that a sender waits for, for a moment, once the mailbox was full: some hundred microseconds of quick messages.
const AMPLE_ROOM: usize = 1024;
/// Handlers at least this slow on average are timed every time: three clock readings are below 1 % of them.
const TIME_ALWAYS_ABOVE: Duration = Duration::from_micros(10);

/// A message that will not be run, and why; for the handler to tell whoever waits.
pub(crate) type Leftover<M> = (M, Failure);

/// Called when there is room, or nothing to wait for any more.
pub(crate) type RoomCallback = Box<dyn FnOnce() + Send>;

/// A queued message.
pub(crate) struct Entry<M> {
    pub(crate) message: M,
    /// When it was posted, for the messages that are timed.
    pub(crate) posted_at: Option<Timestamp>,
}

/// Whether the worker may run, and whether senders may post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Not started: posts queue.
    Paused,
    /// Started.
    Open,
    /// Stopped: posts are refused.
    Closed,
}

/// What is to happen with the queued messages of a mailbox that closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Run,
    Fail(Failure),
}

struct Inbox<M> {
    queue: VecDeque<Entry<M>>,
    gate: Gate,
    /// Messages that ever entered the queue.
    pushed: u64,
    /// `Outbox::gone` when somebody last held both locks.
    gone_seen: u64,
    dropped_newest: u64,
    rejected: u64,
    active: usize,
    limit: usize,
    /// Turns that gave their token back and have yet to publish what they ended.
    publishing: usize,
    /// One message in this many is timed; how many are still to pass.
    sample_every: u32,
    until_sample: u32,
    /// Threads that wait for the mailbox to settle.
    watchers: usize,
}

struct Outbox<M> {
    batch: VecDeque<Entry<M>>,
    /// Messages that ever left the queue, for any reason.
    gone: u64,
    /// Entries of either buffer that are gone already.
    tombstones: usize,
    /// The counters that change when messages leave; the others are filled in by `counters`.
    counts: Counters,
    /// Tickets of the messages that run.
    running: Vec<Arc<dyn Ticket>>,
    /// Senders that wait for room, and how many of them were notified and have not woken yet.
    blocked: usize,
    notified: usize,
    room_callbacks: Vec<RoomCallback>,
    busy: Duration,
    timings: Option<Box<Timings>>,
    /// Moving average of the run times that were taken.
    average_run: Duration,
}

/// Keeps the two locks on cache lines of their own: senders write one, the worker the other.
#[repr(align(64))]
struct Padded<T>(T);

pub(crate) struct Mailbox<M> {
    capacity: usize,
    overflow: Overflow,
    outbox: Padded<Mutex<Outbox<M>>>,
    room: Condvar,
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

/// A post that went in, or was dropped by the policy.
pub(crate) struct Posted<M> {
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    pub(crate) leftovers: Vec<Leftover<M>>,
}

/// A post that did not go in; the message comes back.
#[derive(Debug)]
pub(crate) enum Refused<M> {
    Full(M),
    Closed(M),
}

/// How a message ended that was taken.
pub(crate) struct Finished<'a, M> {
    pub(crate) message: &'a M,
    pub(crate) outcome: Outcome,
    /// Wait and run time, where they were taken.
    pub(crate) timed: Option<(Duration, Duration)>,
}

/// What [`Mailbox::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A message to run. The token is kept.
    Next,
    /// The budget is used up and there is more. The token is kept.
    More,
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
    /// Held until the locks are released: it may be the last reference to the message.
    _ended: Option<Arc<dyn Ticket>>,
}

/// Whether a blocked sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    Closed,
    TimedOut,
}

/// What [`Mailbox::wait_settled`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing queued, nothing running.
    Idle,
    /// The same, and closed for good.
    Ended,
}

impl<M: Message> Inbox<M> {
    fn room(&self, capacity: usize) -> usize {
        let queued = usize::try_from(self.pushed - self.gone_seen).unwrap_or(usize::MAX);
        capacity.saturating_sub(queued)
    }

    #[inline]
    fn push(&mut self, message: M, clock: &dyn Clock) {
        self.until_sample -= 1;
        let posted_at = (self.until_sample == 0).then(|| {
            self.until_sample = self.sample_every;
            clock.now()
        });
        self.queue.push_back(Entry { message, posted_at });
        self.pushed += 1;
    }

    /// Hands out tokens for up to `messages` messages.
    fn activate(&mut self, messages: usize) -> usize {
        if self.gate == Gate::Paused {
            return 0;
        }
        let tokens = self.limit.saturating_sub(self.active).min(messages);
        self.active += tokens;
        tokens
    }

    fn is_settled(&self, until: Settled) -> bool {
        // With no token out the outbox is empty too: a token is only given back when both buffers are, or while
        // others are still out.
        self.active == 0
            && self.publishing == 0
            && self.queue.is_empty()
            && (until == Settled::Idle || self.gate == Gate::Closed)
    }
}

impl<M: Message> Outbox<M> {
    /// Takes the oldest living message out of the batch, claimed; tombstones on the way are cleared.
    #[inline]
    fn pop_batch(&mut self, leftovers: &mut Vec<Leftover<M>>) -> Option<Entry<M>> {
        pop_living(
            &mut self.batch,
            &mut self.gone,
            &mut self.tombstones,
            leftovers,
        )
    }

    /// The same from the batch and then from the inbox.
    fn pop_any(
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

    /// One more message may go in: whether a blocked sender is to be notified.
    fn offer_room(&mut self) -> bool {
        let wake = self.blocked > self.notified;
        self.notified += usize::from(wake);
        wake
    }

    fn finish(&mut self, finished: &Finished<'_, M>) -> Option<Arc<dyn Ticket>> {
        self.counts.count(finished.outcome);
        self.counts.running -= 1;
        if let Some((wait, run)) = finished.timed {
            let timings = self.timings.get_or_insert_with(|| Box::new(Timings::new()));
            timings.wait.record(wait);
            timings.run.record(run);
            self.average_run = (self.average_run * 3 + run) / 4;
        }
        let state = finished.message.state()?;
        let index = self
            .running
            .iter()
            .position(|ticket| ptr::eq(ticket.state(), state))?;
        Some(self.running.swap_remove(index))
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

/// The fate of a message that was removed while it was queued.
fn buried<M: Message>(message: M) -> Leftover<M> {
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

impl<M: Message> Mailbox<M> {
    /// An empty mailbox. `limit` is how many of its messages may run at the same time.
    pub(crate) fn new(capacity: usize, overflow: Overflow, limit: usize, gate: Gate) -> Self {
        Self {
            capacity,
            overflow,
            outbox: Padded(Mutex::new(Outbox {
                batch: VecDeque::new(),
                gone: 0,
                tombstones: 0,
                counts: Counters::default(),
                running: Vec::new(),
                blocked: 0,
                notified: 0,
                room_callbacks: Vec::new(),
                busy: Duration::ZERO,
                timings: None,
                average_run: TIME_ALWAYS_ABOVE,
            })),
            room: Condvar::new(),
            inbox: Padded(Mutex::new(Inbox {
                queue: VecDeque::new(),
                gate,
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

    /// Posts if there is room for sure, as far as this side knows; else the message comes back, for
    /// [`Mailbox::post_exactly`]. Returns the tokens handed out.
    #[inline]
    pub(crate) fn post_fast(&self, message: M, clock: &dyn Clock) -> Result<usize, M> {
        let mut inbox = self.inbox.0.lock();
        if inbox.gate == Gate::Closed || inbox.room(self.capacity) == 0 {
            return Err(message);
        }
        inbox.push(message, clock);
        Ok(inbox.activate(1))
    }

    /// Posts without waiting. A refusal under `Block` is not counted: the sender may wait and try again.
    #[cfg(any(test, pytoweb_loom))]
    pub(crate) fn try_post(&self, message: M, clock: &dyn Clock) -> Result<Posted<M>, Refused<M>> {
        match self.post_fast(message, clock) {
            Ok(activate) => Ok(Posted {
                activate,
                leftovers: Vec::new(),
            }),
            Err(message) => self.post_exactly(message, clock),
        }
    }

    /// Posts as many as fit at once, front first, and takes them out of `messages`; drops by the policy count as
    /// posted. Stops at the first refusal.
    pub(crate) fn try_post_many(
        &self,
        messages: &mut VecDeque<M>,
        clock: &dyn Clock,
    ) -> (Posted<M>, Option<Gate>) {
        let mut all = Posted {
            activate: 0,
            leftovers: Vec::new(),
        };
        while !messages.is_empty() {
            let mut inbox = self.inbox.0.lock();
            let fit = if inbox.gate == Gate::Closed {
                0
            } else {
                inbox.room(self.capacity).min(messages.len())
            };
            for message in messages.drain(..fit) {
                inbox.push(message, clock);
            }
            all.activate += inbox.activate(fit);
            drop(inbox);
            let Some(message) = messages.pop_front() else {
                break;
            };
            match self.post_exactly(message, clock) {
                Ok(posted) => {
                    all.activate += posted.activate;
                    all.leftovers.extend(posted.leftovers);
                }
                Err(Refused::Full(message)) => {
                    messages.push_front(message);
                    return (all, Some(Gate::Open));
                }
                Err(Refused::Closed(message)) => {
                    messages.push_front(message);
                    return (all, Some(Gate::Closed));
                }
            }
        }
        (all, None)
    }

    /// Posts under both locks, where the count is exact and the policy applies. A refusal under `Block` is not counted:
    /// the sender may wait and try again.
    #[cold]
    pub(crate) fn post_exactly(
        &self,
        message: M,
        clock: &dyn Clock,
    ) -> Result<Posted<M>, Refused<M>> {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        inbox.gone_seen = outbox.gone;
        let mut leftovers = Vec::new();
        if inbox.gate == Gate::Closed {
            return Err(Refused::Closed(message));
        }
        if inbox.room(self.capacity) == 0 {
            match self.overflow {
                Overflow::Block => return Err(Refused::Full(message)),
                Overflow::Reject => {
                    inbox.rejected += 1;
                    return Err(Refused::Full(message));
                }
                Overflow::DropNewest => {
                    // Nobody else has seen it; claimed like all that leave, so that its reply settles alike.
                    message.claim();
                    inbox.dropped_newest += 1;
                    leftovers.push((message, Failure::Dropped(DropReason::Newest)));
                    return Ok(Posted {
                        activate: 0,
                        leftovers,
                    });
                }
                Overflow::DropOldest => {
                    if let Some(entry) = outbox.pop_any(&mut inbox, &mut leftovers) {
                        outbox.counts.dropped_oldest += 1;
                        leftovers.push((entry.message, Failure::Dropped(DropReason::Oldest)));
                    }
                    inbox.gone_seen = outbox.gone;
                }
            }
        }
        inbox.push(message, clock);
        Ok(Posted {
            activate: inbox.activate(1),
            leftovers,
        })
    }

    /// Counts posts that a sender gave up because there was no room.
    pub(crate) fn count_rejected(&self, posts: usize) {
        self.inbox.0.lock().rejected += posts as u64;
    }

    /// Gives a mailbox that looks full a moment to make room for more than one message. A sender that went on at the
    /// first would meet the worker at its lock for each message from then on.
    pub(crate) fn dally(&self) {
        let ample = self.capacity.div_ceil(2).min(AMPLE_ROOM);
        look_while_yielding(|| {
            let outbox = self.outbox.0.lock();
            let mut inbox = self.inbox.0.lock();
            inbox.gone_seen = outbox.gone;
            (inbox.gate == Gate::Closed || inbox.room(self.capacity) >= ample).then_some(())
        });
    }

    /// Blocks until there is room, the mailbox closes, or `until` passes. After `Yes` the caller must post at once:
    /// it may have been woken in the place of another sender.
    pub(crate) fn wait_for_room(&self, until: Option<Instant>) -> Room {
        let mut outbox = self.outbox.0.lock();
        loop {
            if let Some(room) = self.room_now(&outbox) {
                return room;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Room::TimedOut;
            }
            outbox.blocked += 1;
            (outbox, _) = self.room.wait(outbox, left);
            outbox.blocked -= 1;
            outbox.notified = outbox.notified.saturating_sub(1).min(outbox.blocked);
        }
    }

    /// Calls `callback` once there may be room, or nothing to wait for: here and now if so.
    pub(crate) fn on_room(&self, callback: RoomCallback) {
        let mut outbox = self.outbox.0.lock();
        if self.room_now(&outbox).is_none() {
            outbox.room_callbacks.push(callback);
            return;
        }
        drop(outbox);
        callback();
    }

    fn room_now(&self, outbox: &MutexGuard<'_, Outbox<M>>) -> Option<Room> {
        let mut inbox = self.inbox.0.lock();
        inbox.gone_seen = outbox.gone;
        if inbox.gate == Gate::Closed {
            Some(Room::Closed)
        } else if inbox.room(self.capacity) > 0 {
            Some(Room::Yes)
        } else {
            None
        }
    }

    /// Counts the message that just ended, if any, and puts the next one into `next`.
    ///
    /// `may_run`: whether the turn's budget allows another one.
    #[inline]
    pub(crate) fn take(
        &self,
        finished: Option<&Finished<'_, M>>,
        may_run: bool,
        next: &mut Option<Entry<M>>,
    ) -> Take<M> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        let _ended = finished.and_then(|finished| outbox.finish(finished));
        loop {
            if may_run {
                *next = outbox.pop_batch(&mut leftovers);
                if let Some(entry) = next {
                    outbox.counts.running += 1;
                    outbox.running.extend(entry.message.ticket());
                    self.release_with_room(outbox);
                    return Take {
                        found: Found::Next,
                        leftovers,
                        roomy: false,
                        publishing: false,
                        _ended,
                    };
                }
            } else if !outbox.batch.is_empty() {
                return Take {
                    found: Found::More,
                    leftovers,
                    roomy: false,
                    publishing: false,
                    _ended,
                };
            }
            let mut inbox = self.inbox.0.lock();
            inbox.gone_seen = outbox.gone;
            if inbox.queue.is_empty() || inbox.active > inbox.limit {
                let publishing = finished.is_some() || !leftovers.is_empty();
                inbox.publishing += usize::from(publishing);
                self.give_back(&mut inbox);
                return Take {
                    found: Found::Idle,
                    leftovers,
                    roomy: outbox.batch.capacity().max(inbox.queue.capacity()) > KEEP_ENTRIES,
                    publishing,
                    _ended,
                };
            }
            if !may_run {
                return Take {
                    found: Found::More,
                    leftovers,
                    roomy: false,
                    publishing: false,
                    _ended,
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

    /// Lets go of the outbox and tells senders that there is room for one more.
    fn release_with_room(&self, mut outbox: MutexGuard<'_, Outbox<M>>) {
        let wake = outbox.offer_room();
        let callbacks = std::mem::take(&mut outbox.room_callbacks);
        drop(outbox);
        if wake {
            self.room.notify_one();
        }
        for callback in callbacks {
            callback();
        }
    }

    /// Counts a message that ended outside a turn (its handler was suspended). The token is kept.
    pub(crate) fn finish_suspended(&self, finished: &Finished<'_, M>) {
        let ticket = self.outbox.0.lock().finish(finished);
        drop(ticket);
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

    /// Refuses posts from now on. What is queued is run, or comes back as leftovers; a mailbox that was never opened
    /// has nobody to run it, so there it always comes back.
    pub(crate) fn close(&self, rest: Rest) -> Vec<Leftover<M>> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        let rest = if inbox.gate == Gate::Paused && rest == Rest::Run {
            Rest::Fail(Failure::Stopped)
        } else {
            rest
        };
        inbox.gate = Gate::Closed;
        if let Rest::Fail(failure) = rest {
            while let Some(entry) = outbox.pop_any(&mut inbox, &mut leftovers) {
                if failure == Failure::Cancelled {
                    outbox.counts.cancelled += 1;
                } else {
                    outbox.counts.failed += 1;
                }
                leftovers.push((entry.message, failure));
            }
            inbox.gone_seen = outbox.gone;
        }
        let callbacks = std::mem::take(&mut outbox.room_callbacks);
        outbox.notified = outbox.blocked;
        drop(inbox);
        drop(outbox);
        self.room.notify_all();
        self.settled.notify_all();
        for callback in callbacks {
            callback();
        }
        leftovers
    }

    /// Claims queued messages for removal because they were cancelled or expired. Those that are not queued any more
    /// are taken out of `tickets`; for the rest the caller settles the replies.
    pub(crate) fn remove(
        &self,
        tickets: &mut Vec<Arc<dyn Ticket>>,
        expired: bool,
    ) -> Vec<Leftover<M>> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        tickets.retain(|ticket| ticket.state().claim_removed(expired));
        let removed = tickets.len();
        outbox.gone += removed as u64;
        outbox.tombstones += removed;
        if expired {
            outbox.counts.expired += removed as u64;
        } else {
            outbox.counts.cancelled += removed as u64;
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
        drop(inbox);
        outbox.notified = outbox.blocked;
        let callbacks = std::mem::take(&mut outbox.room_callbacks);
        drop(outbox);
        self.room.notify_all();
        for callback in callbacks {
            callback();
        }
        leftovers
    }

    /// The tickets of the messages that run.
    pub(crate) fn running(&self) -> Vec<Arc<dyn Ticket>> {
        self.outbox.0.lock().running.clone()
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
