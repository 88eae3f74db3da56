//! The inbox: the senders' side of a mailbox, and whether they may post.

use super::admission::Admission;
use super::door::InboxDoor;
use super::entry::Entry;
use super::queue::Queue;
use super::shedding::Shedding;
use crate::clock::{Clock, Timestamp};
use crate::message::Message;
use crate::outcome::Failure;

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

/// What [`Mailbox::wait_settled`](super::Mailbox::wait_settled) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing queued, nothing running.
    Idle,
    /// The same, and closed for good.
    Ended,
}

/// Under load one message in this many is timed, so that the three clock readings, and the two numbers that each adds to
/// two histograms, stay a few per cent of a message. One turn has as many messages at most: its length tells of those that
/// were slow and not timed.
pub(super) const SAMPLE_UNDER_LOAD: u32 = 64;

/// Messages that are all timed while it is not known how quick handlers are.
const TIMED_FIRST: usize = 64;

pub(super) struct Inbox<M> {
    pub(super) queue: Queue<M>,
    /// When the first one in `queue` was posted, while there is one.
    pub(super) since: Option<Timestamp>,
    /// The order is by plans, and looks here when it is told to.
    pub(super) door: Option<InboxDoor>,
    pub(super) gate: Gate,
    /// Why queued messages fail, where they do since it was closed.
    pub(super) failing: Option<Failure>,
    /// Runs once nothing is queued and nothing runs, after the mailbox has closed; counted nowhere.
    pub(super) last: Option<M>,
    pub(super) admission: Admission,
    /// Tokens that are out, and how many may be.
    pub(super) active: usize,
    pub(super) limit: usize,
    /// Turns that gave their token back and have yet to publish what they ended.
    pub(super) publishing: usize,
    /// Where messages are refused for the wait of those that are queued; then all are timed.
    pub(super) shedding: Option<Shedding>,
    /// One message in this many is timed; how many are still to pass.
    sample_every: u32,
    until_sample: u32,
    /// The worker has said how many, since it knows how quick its handlers are.
    is_sampled: bool,
    /// All are: a report of the worker is being recorded.
    times_all: bool,
    /// Threads that wait for the mailbox to settle.
    pub(super) watchers: usize,
}

impl<M: Message> Inbox<M> {
    pub(super) const fn new(
        admission: Admission,
        limit: usize,
        gate: Gate,
        shedding: Option<Shedding>,
    ) -> Self {
        Self {
            queue: Queue::new(),
            since: None,
            door: None,
            gate,
            failing: None,
            last: None,
            admission,
            active: 0,
            limit,
            publishing: 0,
            shedding,
            sample_every: 1,
            until_sample: 1,
            is_sampled: false,
            times_all: false,
            watchers: 0,
        }
    }

    /// One message in so many is timed from now on.
    pub(super) fn sample(&mut self, every: u32) {
        if self.shedding.is_some() || self.times_all {
            return;
        }
        self.is_sampled = true;
        self.sample_every = every;
        self.until_sample = self.until_sample.min(every);
    }

    /// All messages that are posted from now on are timed; or, with `false`, as many as before.
    pub(super) fn time_all(&mut self, on: bool) {
        self.times_all = on;
        if on {
            (self.sample_every, self.until_sample) = (1, 1);
        }
    }

    pub(super) fn push(&mut self, message: M, clock: &dyn Clock) {
        self.push_from(&mut Some(message), clock);
    }

    /// The same for the message in `place`, which is empty then.
    #[expect(
        clippy::inline_always,
        reason = "the compiler left it out of the post, for 20 instructions more"
    )]
    #[inline(always)]
    pub(super) fn push_from(&mut self, place: &mut Option<M>, clock: &dyn Clock) {
        let Some(message) = place else {
            return;
        };
        let posted_at = self.if_timed(|| clock.now());
        if self.queue.is_empty() {
            self.begin_queue(posted_at, clock);
        }
        self.admission.enter(self.admission.weight(message));
        if let Some(door) = &mut self.door {
            door.comes(message.plan());
        }
        self.queue.push_from(place, posted_at);
    }

    /// Notes when the first message was posted. Apart, so that posts behind others stay short.
    #[inline(never)]
    fn begin_queue(&mut self, posted: Option<Timestamp>, clock: &dyn Clock) {
        self.since = posted.or_else(|| self.takes_times().then(|| clock.now()));
    }

    /// The same for a message that goes past the queue.
    #[inline]
    pub(super) fn entry(&mut self, message: M, clock: &dyn Clock) -> Entry<M> {
        Entry {
            posted_at: self.if_timed(|| clock.now()),
            message,
        }
    }

    /// The same for a message that has waited for its place, `since` then.
    pub(super) fn push_waited(&mut self, message: M, since: Timestamp) {
        let entry = self.entry_waited(message, since);
        if self.queue.is_empty() {
            self.since = Some(since);
        }
        self.enter(entry);
    }

    /// The same for one that goes past the queue.
    pub(super) fn entry_waited(&mut self, message: M, since: Timestamp) -> Entry<M> {
        Entry {
            posted_at: self.if_timed(|| since),
            message,
        }
    }

    /// When the next message was posted, if it is one of those that are timed.
    #[inline]
    fn if_timed(&mut self, posted: impl FnOnce() -> Timestamp) -> Option<Timestamp> {
        if !self.takes_times() {
            return None;
        }
        self.until_sample -= 1;
        (self.until_sample == 0).then(|| {
            self.until_sample = self.until_next_sample();
            posted()
        })
    }

    /// All are timed until it is known how quick handlers are; but not all of many that are queued before.
    fn until_next_sample(&self) -> u32 {
        let is_known = self.is_sampled || self.times_all || self.shedding.is_some();
        if is_known || self.queue.len() < TIMED_FIRST {
            self.sample_every
        } else {
            SAMPLE_UNDER_LOAD
        }
    }

    /// Whether there is a use for times: without numbers, only where they decide, or are recorded.
    #[inline]
    const fn takes_times(&self) -> bool {
        !cfg!(pytoweb_without_numbers) || self.shedding.is_some() || self.times_all
    }

    #[inline]
    fn enter(&mut self, entry: Entry<M>) {
        self.admission.enter(self.admission.weight(&entry.message));
        if let Some(door) = &mut self.door {
            door.comes(entry.message.plan());
        }
        self.queue.push_back(entry);
    }

    /// Hands out tokens for up to `messages` messages.
    pub(super) fn activate(&mut self, messages: usize) -> usize {
        if self.gate == Gate::Paused {
            return 0;
        }
        let tokens = self.limit.saturating_sub(self.active).min(messages);
        self.active += tokens;
        tokens
    }

    /// Gives a token back. Says whether threads that wait for the mailbox to settle are to look.
    pub(super) fn give_back(&mut self) -> bool {
        self.active -= 1;
        self.active == 0 && self.watchers > 0
    }

    /// The same for the last message, where nothing else is left to do: what slept is gone, and it was all that the worker
    /// waited for.
    pub(super) fn activate_for_last(&mut self) -> usize {
        if self.last.is_some() && self.active == 0 && self.admission.queued() == 0 {
            self.activate(1)
        } else {
            0
        }
    }

    /// Takes the last message for the caller, which holds the only token, if nothing else is left to do.
    pub(super) fn take_last(&mut self) -> Option<Entry<M>> {
        if self.gate != Gate::Closed || self.active != 1 || self.admission.queued() > 0 {
            return None;
        }
        self.last.take().map(|message| Entry {
            message,
            posted_at: None,
        })
    }

    pub(super) fn is_settled(&self, until: Settled) -> bool {
        // With no token out the count is exact: a token is given back under both locks. What is queued then sleeps until
        // a time.
        self.active == 0
            && self.publishing == 0
            && self.admission.queued() == 0
            && (until == Settled::Idle || (self.gate == Gate::Closed && self.last.is_none()))
    }
}
