//! Tallies: what became of the messages of one type, kept by the code that finds their handler.

use crate::buckets::TimeBuckets;
use crate::outcome::Outcome;
use crate::stats::{TimingStats, Timings};
use crate::sync::{AtomicU64, Mutex, Ordering};

use std::time::Duration;

/// What became of the messages of one type that were begun, and how long they waited and ran. Any number of threads may
/// count and read at the same time; no reader waits for a handler.
#[derive(Debug)]
pub struct Tally {
    /// By outcome.
    ended: [AtomicU64; 4],
    retried: AtomicU64,
    timings: Mutex<Timings>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            retried: AtomicU64::new(0),
            timings: Mutex::new(Timings::new()),
        }
    }
}

const fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Completed => 0,
        Outcome::Failed => 1,
        Outcome::Expired => 2,
        Outcome::Cancelled => 3,
    }
}

impl Tally {
    /// A message has ended.
    #[inline]
    pub fn count(&self, outcome: Outcome) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        // ORDERING: Relaxed, only the sums matter.
        self.ended[place(outcome)].fetch_add(1, Ordering::Relaxed);
    }

    /// The same where no other thread counts at the same time: cheaper.
    #[inline]
    pub fn count_alone(&self, outcome: Outcome) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let ended = &self.ended[place(outcome)];
        // ORDERING: Relaxed, only the sums matter; the caller sees to it that no count is lost in between.
        ended.store(ended.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// An attempt has failed and is followed by another one.
    #[inline]
    pub fn count_retry(&self) {
        // ORDERING: Relaxed, only the sums matter.
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// The other attempt is not made after all.
    pub fn uncount_retry(&self) {
        // ORDERING: Relaxed, only the sums matter.
        self.retried.fetch_sub(1, Ordering::Relaxed);
    }

    /// A message was timed: see [`Handler::timed`](crate::Handler::timed).
    pub fn record(&self, wait: Duration, run: Duration) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let mut timings = self.timings.lock();
        timings.wait.record(wait);
        timings.run.record(run);
    }

    /// Adds the times of its messages to others.
    pub(crate) fn add_times_to(&self, sum: &mut Timings) {
        sum.add(&self.timings.lock());
    }

    /// The numbers.
    #[must_use]
    pub fn stats(&self) -> TypeStats {
        // ORDERING: Relaxed, only the sums matter.
        let ended = |outcome| self.ended[place(outcome)].load(Ordering::Relaxed);
        let raw_timings = self.timings.lock().clone();
        TypeStats {
            completed: ended(Outcome::Completed),
            failed: ended(Outcome::Failed),
            expired: ended(Outcome::Expired),
            cancelled: ended(Outcome::Cancelled),
            // ORDERING: Relaxed, likewise.
            retried: self.retried.load(Ordering::Relaxed),
            timings: raw_timings.summary(),
            raw_timings,
        }
    }
}

/// What became of the messages of one type that were begun: those that ended in the queue are not among them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TypeStats {
    /// Handled, with a result.
    pub completed: u64,
    /// Handled with an error.
    pub failed: u64,
    /// Past the deadline when the handler ended.
    pub expired: u64,
    /// Cancelled while running, where the handler could be stopped.
    pub cancelled: u64,
    /// Attempts that failed and were followed by another one.
    pub retried: u64,
    /// How long they waited and ran.
    pub timings: TimingStats,
    raw_timings: Timings,
}

impl TypeStats {
    /// How long they waited, in the buckets of a monitoring system.
    #[must_use]
    pub fn wait_times(&self) -> TimeBuckets {
        self.raw_timings.wait.folded()
    }

    /// How long their handlers ran, likewise.
    #[must_use]
    pub fn run_times(&self) -> TimeBuckets {
        self.raw_timings.run.folded()
    }

    /// Adds those of the same type in another worker.
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.retried += other.retried;
        self.raw_timings.add(&other.raw_timings);
        self.timings = self.raw_timings.summary();
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_count() {
        let tally = Tally::default();
        let outcomes = [
            Outcome::Completed,
            Outcome::Failed,
            Outcome::Expired,
            Outcome::Cancelled,
        ];
        for (times, outcome) in outcomes.into_iter().enumerate() {
            for _ in 0..=times {
                tally.count(outcome);
                tally.count_alone(outcome);
            }
        }
        tally.count_retry();
        tally.record(Duration::from_millis(2), Duration::from_millis(3));
        let mut stats = tally.stats();
        let counts = |stats: &TypeStats| {
            let TypeStats {
                completed,
                failed,
                expired,
                cancelled,
                retried,
                ..
            } = *stats;
            [completed, failed, expired, cancelled, retried]
        };
        assert_eq!(counts(&stats), [2, 4, 6, 8, 1]);
        assert_eq!(stats.timings.wait_max, Some(Duration::from_millis(2)));
        assert_eq!(stats.timings.run_max, Some(Duration::from_millis(3)));
        let other = Tally::default();
        other.count(Outcome::Completed);
        other.record(Duration::from_millis(1), Duration::from_millis(9));
        stats.add(&other.stats());
        assert_eq!(counts(&stats), [3, 4, 6, 8, 1]);
        assert_eq!(stats.timings.run_max, Some(Duration::from_millis(9)));
        let (wait, run) = (stats.wait_times(), stats.run_times());
        assert_eq!((wait.count(), wait.sum()), (2, Duration::from_millis(3)));
        assert_eq!((run.count(), run.sum()), (2, Duration::from_millis(12)));
    }
}
