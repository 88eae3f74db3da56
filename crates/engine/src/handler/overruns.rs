//! Overruns: handlers that run past their message's deadline, or for longer than their worker's handlers are to.
//!
//! What a worker without [`WorkerOptions::stuck_after`](crate::WorkerOptions::stuck_after) pays for a message is a look
//! at that. With it each run is entered as it begins, and one timer of the pool looks at those that are entered: there is
//! no timer for each.

use std::fmt;
use std::mem;
use std::num::NonZeroU64;
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::contained::drop_each;
use crate::message::Ticket;
use crate::stream::StreamProgress;
use crate::sync::Mutex;

/// Why a run of a handler counts as stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overrun {
    /// It runs past its message's deadline.
    Deadline,
    /// It runs for longer than this, the worker's [`WorkerOptions::stuck_after`](crate::WorkerOptions::stuck_after).
    Limit(Duration),
}

/// A run of a handler that is stuck, as [`Handler::stuck`](crate::Handler::stuck) is told.
#[non_exhaustive]
pub struct Stuck {
    /// Why it counts as that.
    pub why: Overrun,
    /// For how long it has run by now; past the deadline, for one that runs past that.
    pub lasted: Duration,
    /// What [`Handler::name_of`](crate::Handler::name_of) said of its message, where the run has a limit.
    pub name: Option<String>,
    /// Of its message, where it has one.
    pub ticket: Option<Arc<dyn Ticket>>,
    /// On which thread it runs, where it runs on one and that is known.
    pub thread: Option<ThreadId>,
}

impl fmt::Debug for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stuck")
            .field("why", &self.why)
            .field("lasted", &self.lasted)
            .field("name", &self.name)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

/// Tells the runs of one worker apart.
pub(crate) type RunKey = NonZeroU64;

pub(super) struct Run {
    pub(super) key: RunKey,
    /// `None`: a carrier has it, and has not been seen to have begun it.
    pub(super) began: Option<Timestamp>,
    pub(super) told: bool,
    pub(super) name: Option<String>,
    pub(super) ticket: Option<Weak<dyn Ticket>>,
    pub(super) thread: Option<ThreadId>,
    /// Items of its stream that its handler had put when it was last looked at.
    pub(super) put: u64,
    /// It was seen to have a stream.
    pub(super) streams: bool,
}

impl Run {
    /// Whether its handler has put items of a stream since the last look, or waits for the reader of what it has put: then
    /// its time begins anew. What is looked at is to be dropped outside the lock.
    pub(super) fn goes_on(&mut self, now: Timestamp, seen: &mut Vec<Arc<dyn Ticket>>) -> bool {
        let Some(ticket) = self.ticket.as_ref().and_then(Weak::upgrade) else {
            return false;
        };
        let progress = ticket.progress();
        seen.push(ticket);
        let Some(StreamProgress { put, waits }) = progress else {
            return false;
        };
        self.streams = true;
        let has_put = put != mem::replace(&mut self.put, put);
        if has_put || waits {
            // One that was told of, and goes on after all, may be so again.
            (self.began, self.told) = (Some(now), false);
        }
        has_put || waits
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) last: u64,
    pub(super) runs: Vec<Run>,
    /// Messages whose handlers run past their deadline, and when that passed.
    pub(super) overdue: Vec<(Weak<dyn Ticket>, Timestamp)>,
    /// The timer is to come by.
    pub(super) timed: bool,
}

/// The runs of a worker's handlers that may be stuck.
pub(crate) struct Overruns {
    pub(crate) after: Option<Duration>,
    pub(super) state: Mutex<State>,
}

impl Overruns {
    pub(crate) fn new(after: Option<Duration>) -> Self {
        Self {
            after,
            state: Mutex::default(),
        }
    }

    /// For how long the oldest run has lasted beyond the limit.
    pub(crate) fn over(&self, now: Timestamp) -> Option<(Duration, Duration)> {
        let after = self.after?;
        let mut seen = Vec::new();
        let mut longest = Duration::ZERO;
        let mut state = self.state.lock();
        for run in &mut state.runs {
            let ran = run.began.map_or(Duration::ZERO, |began| now.since(began));
            if ran >= after && !run.goes_on(now, &mut seen) {
                longest = longest.max(ran);
            }
        }
        drop(state);
        drop_each(seen);
        (longest >= after).then(|| (longest, longest.saturating_sub(after)))
    }

    /// A run goes on elsewhere: its thread runs another message by the time that it is told of.
    #[inline]
    pub(crate) fn leaves_thread(&self, key: Option<RunKey>) {
        let Some(key) = key else { return };
        let mut state = self.state.lock();
        if let Some(run) = state.runs.iter_mut().find(|run| run.key == key) {
            run.thread = None;
        }
    }

    /// A run is over.
    #[inline]
    pub(crate) fn end(&self, key: Option<RunKey>) {
        if let Some(key) = key {
            self.forget(key);
        }
    }

    #[cold]
    fn forget(&self, key: RunKey) {
        let mut state = self.state.lock();
        let place = state.runs.iter().position(|run| run.key == key);
        let ended = place.map(|place| state.runs.swap_remove(place));
        drop(state);
        drop(ended);
    }
}
