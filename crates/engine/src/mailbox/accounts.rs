//! Accounts: what became of the messages that entered, and the only place that adds and subtracts.
//!
//! A message is *queued* until it leaves, and *running* until it ends. One that was handed over behind another is *ahead*:
//! it left the queue, and still takes a place of the mailbox and counts as queued. At every moment at which the outbox is
//! not locked, what entered is queued, running, or in one of the counters.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Finished, TicketKey, Times, share};
use super::running::Running;
use crate::clock::{Clock, Timestamp};
use crate::load::{Busy, Load};
use crate::message::{Message, Ticket};
use crate::outcome::{DropReason, Failure, Outcome};
use crate::stats::{Counters, Timings};

/// Handlers at least this slow on average are timed every time: three clock readings are below 1 % of them.
const TIME_ALWAYS_ABOVE: Duration = Duration::from_micros(10);

/// When threads, or another process, worked on the messages.
#[derive(Default)]
pub(super) struct WorkTimes {
    busy_nanos: u64,
    load: Load,
    /// When the turn began that is under way, and the others of a mailbox that has several.
    turn: Option<Timestamp>,
    turns: Vec<Timestamp>,
    /// When the messages began that run elsewhere, as far as that is known.
    carried_since: Option<Timestamp>,
    /// Time of such messages that is not in `load` yet.
    carried_nanos: u64,
    /// When work began after there was none, and when it last ended.
    busy_since: Option<Timestamp>,
    idle_since: Option<Timestamp>,
}

/// Time of messages that run elsewhere goes into the load once it is that long, or the clock is read anyway.
const CARRIED_LEAST_NANOS: u64 = 1_000_000;

impl WorkTimes {
    /// Whether a turn is under way.
    const fn has_turns(&self) -> bool {
        self.turn.is_some() || !self.turns.is_empty()
    }

    #[inline]
    fn begin_turn(&mut self, now: Timestamp, runs: bool) {
        if !runs && !self.has_turns() {
            self.busy_since = Some(now);
        }
        if self.turn.is_none() {
            self.turn = Some(now);
        } else {
            self.turns.push(now);
        }
    }

    #[inline]
    fn end_turn(&mut self, began: Timestamp, now: Timestamp) {
        if self.turn == Some(began) {
            self.turn = None;
        } else if let Some(place) = self.turns.iter().position(|turn| *turn == began) {
            self.turns.swap_remove(place);
        }
        let nanos = now.nanos().saturating_sub(began.nanos());
        self.busy_nanos += nanos;
        self.record(nanos, now);
        self.idle_since = Some(now);
    }

    #[inline]
    fn record(&mut self, nanos: u64, until: Timestamp) {
        self.load.record(nanos, until);
    }
}

/// What is known of the work up to a moment.
pub(super) struct Worked {
    pub(super) busy: Duration,
    pub(super) recently: Busy,
    /// Since when there is work without a break, or since when there is none.
    pub(super) since: Option<Timestamp>,
}

pub(super) struct Accounts {
    /// Messages that ever left the queue, for any reason.
    gone: u64,
    /// Whether messages are asked for their bytes.
    weighs: bool,
    /// The bytes of messages that are over, and of those that run or are ahead.
    bytes_gone: u64,
    bytes_running: u64,
    /// Messages that were handed over behind the first one of their batch: claimed, and not gone.
    ahead: usize,
    /// When the first message of the batch was posted that was handed over last.
    handed_since: Option<Timestamp>,
    /// The counters that change when messages leave; the others are filled in by `Mailbox::snapshot`.
    counts: Counters,
    running: Running,
    work: WorkTimes,
    timings: Option<Box<Timings>>,
    /// The handler keeps them.
    times_are_kept: bool,
    /// Moving average of the run times that were taken.
    average_run: Duration,
}

impl Accounts {
    pub(super) fn new(weighs: bool) -> Self {
        Self {
            gone: 0,
            weighs,
            bytes_gone: 0,
            bytes_running: 0,
            ahead: 0,
            handed_since: None,
            counts: Counters::default(),
            running: Running::default(),
            work: WorkTimes::default(),
            timings: None,
            times_are_kept: false,
            average_run: TIME_ALWAYS_ABOVE,
        }
    }

    /// Messages that ever left the queue.
    #[inline]
    pub(super) const fn gone(&self) -> u64 {
        self.gone
    }

    /// Whether messages are asked for their bytes.
    #[inline]
    pub(super) const fn weighs(&self) -> bool {
        self.weighs
    }

    /// The bytes of messages that are over.
    #[inline]
    pub(super) const fn bytes_gone(&self) -> u64 {
        self.bytes_gone
    }

    /// The bytes of messages that run or are ahead.
    #[inline]
    pub(super) const fn bytes_running(&self) -> u64 {
        self.bytes_running
    }

    /// The bytes of a message, where they count.
    #[inline]
    pub(super) fn weight(&self, message: &impl Message) -> u64 {
        if self.weighs {
            message.bytes() as u64
        } else {
            0
        }
    }

    /// Messages of that weight were dropped that did not run.
    pub(super) const fn let_go(&mut self, bytes: u64) {
        self.bytes_gone += bytes;
    }

    pub(super) const fn counts(&self) -> &Counters {
        &self.counts
    }

    /// The work up to `now`, that under way included. `carries`: messages that are with another process run there.
    pub(super) fn worked(&self, now: Timestamp, carries: bool) -> Worked {
        let work = &self.work;
        let turns = work.turn.iter().chain(&work.turns);
        let runs = if carries { self.counts.running } else { 0 };
        let carried = work.carried_since.iter().cycle().take(runs as usize);
        let mut busy = Duration::from_nanos(work.busy_nanos);
        let mut recently = work.load.busy(now);
        for began in turns.chain(carried) {
            let time = now.since(*began);
            busy += time;
            recently.add(&Busy::up_to(time));
        }
        Worked {
            busy,
            recently,
            since: if work.has_turns() || self.counts.running > 0 {
                work.busy_since
            } else {
                work.idle_since
            },
        }
    }

    /// A turn begins.
    #[inline]
    pub(super) fn begin_turn(&mut self, now: Timestamp) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let runs = self.counts.running > 0;
        self.work.begin_turn(now, runs);
    }

    /// A turn that began then, and ran so many messages, has ended.
    pub(super) fn end_turn(&mut self, began: Timestamp, messages: usize, now: Timestamp) {
        self.work.end_turn(began, now);
        // Slow ones among quick ones may not have been timed. No more than that is known: a thread that had to wait for a
        // processor, or an interpreter, looks the same, and then the next quick message that is timed says so.
        let messages = u32::try_from(messages.max(1)).unwrap_or(u32::MAX);
        if now.since(began) / messages >= TIME_ALWAYS_ABOVE {
            self.average_run = self.average_run.max(TIME_ALWAYS_ABOVE);
        }
    }

    /// When the oldest of those that are ahead was posted, at the latest.
    pub(super) fn oldest_ahead(&self) -> Option<Timestamp> {
        self.handed_since.filter(|_| self.ahead > 0)
    }

    /// The message that was just taken is on its way to where it runs; it was posted at `posted`.
    pub(super) fn begin_carried(&mut self, posted: Option<Timestamp>, clock: &dyn Clock) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let now = clock.now();
        self.handed_since = Some(posted.unwrap_or(now));
        if self.counts.running == 1 {
            self.work.busy_since = Some(now);
        }
        self.work.carried_since = Some(now);
    }

    /// A message that ran elsewhere for so long, with as many in all, is about to end. `now`: the clock, where it was read.
    pub(super) fn end_carried(
        &mut self,
        (ran, together): (Duration, usize),
        now: Option<Timestamp>,
        clock: &dyn Clock,
    ) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        // Where it ran it was timed, be it timed here or not.
        if !ran.is_zero() {
            self.average_run = (self.average_run * 3 + share(ran, together)) / 4;
        }
        let work = &mut self.work;
        let ran = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX);
        work.busy_nanos = work.busy_nanos.saturating_add(ran);
        work.carried_nanos = work.carried_nanos.saturating_add(ran);
        if now.is_none() && work.carried_nanos < CARRIED_LEAST_NANOS && self.ahead > 0 {
            return;
        }
        let now = now.unwrap_or_else(|| clock.now());
        let carried = std::mem::take(&mut work.carried_nanos);
        work.record(carried, now);
        work.carried_since = Some(now);
        work.idle_since = Some(now);
    }

    /// The handler keeps the times of messages.
    pub(super) const fn leave_times(&mut self) {
        self.times_are_kept = true;
    }

    /// When the message began that runs elsewhere, as far as that is known, where it is the only one.
    pub(super) fn carried_since(&self) -> Option<Timestamp> {
        let only = self.counts.running == 1;
        self.work.carried_since.filter(|_| only)
    }

    pub(super) fn timings(&self) -> Option<Box<Timings>> {
        self.timings.clone()
    }

    /// Whether every message is to be timed.
    pub(super) fn is_slow(&self) -> bool {
        !cfg!(pytoweb_without_numbers) && self.average_run >= TIME_ALWAYS_ABOVE
    }

    /// The tickets of the messages that run or are ahead.
    pub(super) fn tickets(&self) -> impl Iterator<Item = &Arc<dyn Ticket>> {
        self.running.iter()
    }

    /// A queued message is taken and runs.
    #[inline]
    pub(super) fn run(&mut self, ticket: Option<Arc<dyn Ticket>>, bytes: u64) {
        self.bytes_running += bytes;
        self.gone += 1;
        self.counts.running += 1;
        self.running.add(ticket);
    }

    /// A queued message is taken, behind one that runs.
    pub(super) fn queue_ahead(&mut self, ticket: Option<Arc<dyn Ticket>>, bytes: u64) {
        self.bytes_running += bytes;
        self.ahead += 1;
        self.running.add(ticket);
    }

    /// The next one that is ahead runs, if there is one.
    pub(super) const fn move_up(&mut self) {
        if self.ahead > 0 {
            self.ahead -= 1;
            self.gone += 1;
            self.counts.running += 1;
        }
    }

    pub(super) const fn runs_none(&self) -> bool {
        self.counts.running == 0
    }

    /// A message that runs has ended. Returns its ticket, to be dropped outside the lock.
    #[inline]
    pub(super) fn end<M: Message>(
        &mut self,
        finished: &Finished<'_, M>,
    ) -> Option<Arc<dyn Ticket>> {
        self.counts.count(finished.outcome);
        self.counts.running -= 1;
        self.free(self.weight(finished.message));
        self.record_if_timed(finished.timed);
        self.running.remove(finished.message.state()?)
    }

    /// Notes how long a message waited and ran, where that was timed.
    #[inline]
    pub(super) fn record_if_timed(&mut self, timed: Option<&Times>) {
        if let Some(times) = timed {
            self.record(times);
        }
    }

    /// Apart, for most are not timed.
    #[cold]
    #[inline(never)]
    fn record(&mut self, times: &Times) {
        if !self.times_are_kept {
            let timings = self.timings.get_or_insert_with(|| Box::new(Timings::new()));
            timings.wait.record(times.wait);
            timings.run.record(times.run);
        }
        let run = share(times.run, times.together);
        self.average_run = (self.average_run * 3 + run) / 4;
    }

    const fn free(&mut self, bytes: u64) {
        self.bytes_running -= bytes;
        self.bytes_gone += bytes;
    }

    /// The same without its times, where bytes do not count; `key` is that of its ticket.
    #[inline]
    pub(super) fn end_plainly<M: Message>(
        &mut self,
        finished: &Finished<'_, M>,
        key: Option<TicketKey>,
    ) -> Option<Arc<dyn Ticket>> {
        self.counts.count(finished.outcome);
        self.counts.running -= 1;
        self.running.remove_known(key?)
    }

    /// The same for one whose handler unwound; `key` and `bytes` are what is left of it.
    pub(super) fn end_unwound(
        &mut self,
        key: Option<TicketKey>,
        bytes: u64,
    ) -> Option<Arc<dyn Ticket>> {
        self.free(bytes);
        let ticket = key.and_then(|key| self.running.remove_known(key));
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

    /// A message that was ahead is back in the queue. One that moved up since gets its place back, even where that is one
    /// more than the capacity. Returns its ticket, to be dropped outside the lock.
    pub(super) fn put_back(&mut self, message: &impl Message) -> Option<Arc<dyn Ticket>> {
        self.bytes_running -= self.weight(message);
        if self.ahead > 0 {
            self.ahead -= 1;
        } else {
            self.gone -= 1;
            self.counts.running -= 1;
        }
        self.running.remove_youngest(message.state()?)
    }

    /// A message that ran is back in the queue, to be tried again. Returns its ticket, to be dropped outside the lock.
    pub(super) fn again(&mut self, message: &impl Message) -> Option<Arc<dyn Ticket>> {
        self.bytes_running -= self.weight(message);
        self.gone -= 1;
        self.counts.running -= 1;
        self.counts.retried += 1;
        self.running.remove(message.state()?)
    }

    /// So many queued messages leave, and do not run.
    pub(super) const fn fail(&mut self, count: usize, failure: Failure) {
        let count = count as u64;
        self.gone += count;
        let counter = match failure {
            Failure::Dropped(DropReason::Oldest) => &mut self.counts.dropped_oldest,
            Failure::Dropped(DropReason::Replaced) => &mut self.counts.replaced,
            Failure::Cancelled => &mut self.counts.cancelled,
            Failure::Expired => &mut self.counts.expired,
            _ => &mut self.counts.failed,
        };
        *counter += count;
    }
}
