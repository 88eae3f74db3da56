//! Counters and timings, and the snapshots that users see.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::load::Busy;
use crate::outcome::Outcome;

/// What was measured of one worker, or of one type of message.
#[derive(Clone, Debug)]
pub(crate) struct Timings {
    pub(crate) wait: Histogram,
    pub(crate) run: Histogram,
}

impl Timings {
    pub(crate) const fn new() -> Self {
        Self {
            wait: Histogram::new(),
            run: Histogram::new(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.wait.add(&other.wait);
        self.run.add(&other.run);
    }

    pub(crate) fn summary(&self) -> TimingStats {
        TimingStats {
            wait_p50: self.wait.quantile(0.5),
            wait_p90: self.wait.quantile(0.9),
            wait_p99: self.wait.quantile(0.99),
            wait_max: self.wait.longest(),
            run_p50: self.run.quantile(0.5),
            run_p90: self.run.quantile(0.9),
            run_p99: self.run.quantile(0.99),
            run_max: self.run.longest(),
        }
    }
}

/// What became of the messages of one worker.
///
/// At any instant `posted == completed + failed + dropped() + cancelled + expired + queued + running`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Posts that the mailbox did not refuse.
    pub posted: u64,
    /// Handled, with a result.
    pub completed: u64,
    /// Handled with an error, or given up by a stop.
    pub failed: u64,
    /// Dropped as the oldest of a full mailbox.
    pub dropped_oldest: u64,
    /// Dropped as one too many for a full mailbox.
    pub dropped_newest: u64,
    /// Replaced in the queue by a newer message.
    pub replaced: u64,
    /// Cancelled while queued, or stopped for it while running, where that is possible.
    pub cancelled: u64,
    /// Past the deadline, queued or running.
    pub expired: u64,
    /// Posts that were refused because those that were queued had waited too long; not part of `posted`.
    pub shed: u64,
    /// Attempts that failed and were followed by another one; not part of `posted`.
    pub retried: u64,
    /// Posts that a full mailbox refused; not part of `posted`.
    pub rejected: u64,
    /// Queued now.
    pub queued: u64,
    /// Being handled now.
    pub running: u64,
    /// Bytes of the messages that are queued or being handled, where the mailbox is bounded by bytes; else 0.
    pub bytes: u64,
}

impl Counters {
    /// Dropped by the overflow policy, or for a newer message in its place.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_oldest + self.dropped_newest + self.replaced
    }

    /// Adds another worker's counters.
    pub const fn add(&mut self, other: &Self) {
        self.posted += other.posted;
        self.completed += other.completed;
        self.failed += other.failed;
        self.dropped_oldest += other.dropped_oldest;
        self.dropped_newest += other.dropped_newest;
        self.replaced += other.replaced;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.rejected += other.rejected;
        self.shed += other.shed;
        self.retried += other.retried;
        self.queued += other.queued;
        self.running += other.running;
        self.bytes += other.bytes;
    }

    pub(crate) const fn count(&mut self, outcome: Outcome) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        match outcome {
            Outcome::Completed => self.completed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Expired => self.expired += 1,
            Outcome::Cancelled => self.cancelled += 1,
        }
    }
}

/// How long messages waited and ran.
///
/// Every message is timed while handlers take 10 us or longer on average; of quicker ones, one in 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimingStats {
    /// Median time from the post to the start of the handler.
    pub wait_p50: Option<Duration>,
    /// 90th percentile of the same.
    pub wait_p90: Option<Duration>,
    /// 99th percentile of the same.
    pub wait_p99: Option<Duration>,
    /// The longest of those that were timed.
    pub wait_max: Option<Duration>,
    /// Median run time of the handler.
    pub run_p50: Option<Duration>,
    /// 90th percentile of the same.
    pub run_p90: Option<Duration>,
    /// 99th percentile of the same.
    pub run_p99: Option<Duration>,
    /// The longest of those that were timed.
    pub run_max: Option<Duration>,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// Made, not started: posts queue.
    New,
    /// Started.
    Running,
    /// Started, and its handler runs past the message's deadline.
    Stuck,
    /// Refuses posts, still has messages or a handler to finish.
    Stopping,
    /// Over.
    Stopped,
}

impl WorkerState {
    /// The state's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Stuck => "stuck",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// One worker's numbers, taken at one instant, without the timings: quick to read of many workers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Numbers {
    /// What the worker is doing.
    pub state: WorkerState,
    /// Messages its mailbox holds at most.
    pub capacity: usize,
    /// How many of its messages run at the same time.
    pub concurrency: usize,
    /// What became of its messages.
    pub counters: Counters,
    /// How long the oldest message has waited that is queued.
    pub oldest_age: Option<Duration>,
    /// Time that pool threads spent on it, or children on its messages.
    pub busy: Duration,
    /// The same in the seconds just gone.
    pub recently: Busy,
    /// Time since it was started, up to its end; zero before.
    pub alive: Duration,
}

impl Numbers {
    /// Busy time in the last second, ten seconds and minute as shares, 0 to 1, of the time that it has had.
    #[must_use]
    pub fn utilisation(&self) -> [f64; 3] {
        self.recently.shares(self.alive, self.concurrency)
    }
}

/// One worker's numbers, taken at one instant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The worker's name.
    pub name: String,
    /// What it is doing.
    pub state: WorkerState,
    /// Messages its mailbox holds at most.
    pub capacity: usize,
    /// How many of its messages run at the same time.
    pub concurrency: usize,
    /// What became of its messages.
    pub counters: Counters,
    /// How long the oldest message has waited that is queued; `None`: none is, or it sleeps until a time of its own.
    ///
    /// Exact while handlers take 10 us or longer on average. Of quicker ones' it is the age of the first message of those
    /// that came while the worker was busy with those before.
    pub oldest_age: Option<Duration>,
    /// Time that pool threads spent on it, or children on its messages.
    pub busy: Duration,
    /// The same in the seconds just gone.
    pub recently: Busy,
    /// Time since it was started, up to its end; zero before.
    pub alive: Duration,
    /// How long messages waited and ran.
    pub timings: TimingStats,
    raw_timings: Option<Box<Timings>>,
}

impl WorkerStats {
    pub(crate) fn of(name: &str, numbers: Numbers, timings: Option<Box<Timings>>) -> Self {
        Self {
            name: name.to_owned(),
            state: numbers.state,
            capacity: numbers.capacity,
            concurrency: numbers.concurrency,
            counters: numbers.counters,
            oldest_age: numbers.oldest_age,
            busy: numbers.busy,
            recently: numbers.recently,
            alive: numbers.alive,
            timings: timings
                .as_ref()
                .map(|timings| timings.summary())
                .unwrap_or_default(),
            raw_timings: timings,
        }
    }

    /// Busy time in the last second, ten seconds and minute as shares, 0 to 1, of the time that it has had.
    #[must_use]
    pub fn utilisation(&self) -> [f64; 3] {
        self.recently.shares(self.alive, self.concurrency)
    }

    /// The timings of several workers, as if they were one.
    pub fn merged_timings<'a>(all: impl IntoIterator<Item = &'a Self>) -> TimingStats {
        let mut sum = Timings::new();
        for timings in all
            .into_iter()
            .filter_map(|stats| stats.raw_timings.as_ref())
        {
            sum.add(timings);
        }
        sum.summary()
    }
}
