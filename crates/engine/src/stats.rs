//! Counters and timings, and the snapshots that users see.

use std::time::Duration;

use crate::outcome::Outcome;

/// Values below this are counted one bucket each.
const LINEAR: u64 = 16;
/// Buckets per doubling above that: an error of at most 1/8 of the value.
const PER_OCTAVE: usize = 4;
/// The last doubling starts at 2^43 ns, 2.4 hours; longer times are counted there.
const OCTAVES: usize = 40;
const BUCKETS: usize = LINEAR as usize + OCTAVES * PER_OCTAVE;

/// A log-linear histogram of durations, after the idea of HdrHistogram: constant memory (704 bytes), constant time
/// per record, a bounded relative error.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u32; BUCKETS],
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
        }
    }

    fn index(nanos: u64) -> usize {
        if nanos < LINEAR {
            return usize::try_from(nanos).unwrap_or(0);
        }
        let octave = nanos.ilog2();
        let sub = (nanos >> (octave - 2)) & 3;
        let index = LINEAR as usize
            + (octave as usize - 4) * PER_OCTAVE
            + usize::try_from(sub).unwrap_or(0);
        index.min(BUCKETS - 1)
    }

    /// The middle of a bucket, in nanoseconds.
    fn middle(index: usize) -> u64 {
        if index < LINEAR as usize {
            return index as u64;
        }
        let octave = (index - LINEAR as usize) / PER_OCTAVE + 4;
        let sub = ((index - LINEAR as usize) % PER_OCTAVE) as u64;
        let width = 1_u64 << (octave - 2);
        (4 + sub) * width + width / 2
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let count = &mut self.counts[Self::index(nanos)];
        *count = count.saturating_add(1);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// The value that the share `q` (0 to 1) of the recorded times does not pass; `None` before the first record.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(Duration::from_nanos(Self::middle(index)))
    }
}

/// What was measured of one worker. On the heap, and only once a message was timed: an idle worker stays small.
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

    pub(crate) fn summary(&self) -> TimingStats {
        TimingStats {
            wait_p50: self.wait.quantile(0.5),
            wait_p99: self.wait.quantile(0.99),
            run_p50: self.run.quantile(0.5),
            run_p99: self.run.quantile(0.99),
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
/// Every message is timed while handlers take 10 us or longer on average; of faster ones, one in sixteen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimingStats {
    /// Median time from the post to the start of the handler.
    pub wait_p50: Option<Duration>,
    /// 99th percentile of the same.
    pub wait_p99: Option<Duration>,
    /// Median run time of the handler.
    pub run_p50: Option<Duration>,
    /// 99th percentile of the same.
    pub run_p99: Option<Duration>,
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
    /// What became of its messages.
    pub counters: Counters,
    /// Time that pool threads spent on it.
    pub busy: Duration,
    /// Time since it was started, up to its end; zero before.
    pub alive: Duration,
    /// How long messages waited and ran.
    pub timings: TimingStats,
    pub(crate) raw_timings: Option<Box<Timings>>,
}

impl WorkerStats {
    /// The timings of several workers, as if they were one.
    pub fn merged_timings<'a>(all: impl IntoIterator<Item = &'a Self>) -> TimingStats {
        let mut sum = Timings::new();
        for timings in all
            .into_iter()
            .filter_map(|stats| stats.raw_timings.as_ref())
        {
            sum.wait.add(&timings.wait);
            sum.run.add(&timings.run);
        }
        sum.summary()
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_an_eighth_of_the_value() {
        for nanos in (0..60)
            .map(|shift| 3_u64 << shift)
            .take_while(|nanos| *nanos < 1 << 43)
        {
            let mut histogram = Histogram::new();
            histogram.record(Duration::from_nanos(nanos));
            let seen = u64::try_from(histogram.quantile(0.5).expect("one record").as_nanos())
                .expect("fits");
            assert!(
                seen.abs_diff(nanos) * 8 <= nanos,
                "{nanos} was read as {seen}"
            );
        }
    }

    #[test]
    fn quantiles_of_a_known_series() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        for nanos in 1..=10 {
            histogram.record(Duration::from_nanos(nanos));
        }
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_nanos(5)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_nanos(10)));
        histogram.record(Duration::MAX);
        assert!(histogram.quantile(1.0) > Some(Duration::from_secs(3600)));
    }
}
