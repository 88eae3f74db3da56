//! Times in few buckets, as monitoring systems want them.

use std::time::Duration;

const LEN: usize = 19;

/// How many times were how long: a histogram with the same bounds for everything, so that those of several workers can be
/// added up, and a monitoring system can tell quantiles of any of them together.
///
/// It is of the messages that were timed (see [`TimingStats`](crate::TimingStats)), so its count is no count of messages.
/// The sum is exact. A time counts as up to an eighth more or less than it is, as with the quantiles: one that is that
/// near to a bound may be on its other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBuckets {
    counts: [u64; LEN + 1],
    sum: Duration,
}

impl TimeBuckets {
    /// The longest time that belongs into each bucket but the last one, which has no bound: from 10 us to 10 s.
    pub const BOUNDS: [Duration; LEN] = {
        let mut bounds = [Duration::ZERO; LEN];
        let mut place = 0;
        let mut decade = 10_000;
        while place < LEN {
            bounds[place] = Duration::from_nanos(decade * [1, 2, 5][place % 3]);
            if place % 3 == 2 {
                decade *= 10;
            }
            place += 1;
        }
        bounds
    };

    /// Those of times, each with how often there is one, and their sum.
    pub(crate) fn of(times: impl Iterator<Item = (Duration, u64)>, sum: Duration) -> Self {
        let mut counts = [0; LEN + 1];
        for (time, count) in times {
            let place = Self::BOUNDS.partition_point(|bound| *bound < time);
            counts[place] += count;
        }
        Self { counts, sum }
    }

    /// How many times lie in each bucket: above the bound of the one before, and not above its own.
    #[must_use]
    pub const fn counts(&self) -> &[u64; LEN + 1] {
        &self.counts
    }

    /// How many times are not above each bound, and above none: that is all of them.
    #[must_use]
    pub fn cumulative(&self) -> Vec<(Option<Duration>, u64)> {
        let bounds = Self::BOUNDS.into_iter().map(Some).chain([None]);
        let mut seen = 0;
        bounds
            .zip(self.counts)
            .map(|(bound, count)| {
                seen += count;
                (bound, seen)
            })
            .collect()
    }

    /// How many times there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, exactly.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Adds those of another worker, or of another type.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_go_from_ten_microseconds_to_ten_seconds() {
        let bounds = TimeBuckets::BOUNDS;
        assert_eq!(bounds[0], Duration::from_micros(10));
        assert_eq!(bounds[4], Duration::from_micros(200));
        assert_eq!(bounds[LEN - 1], Duration::from_secs(10));
        assert!(bounds.is_sorted());
    }

    #[test]
    fn a_time_at_a_bound_is_below_it() {
        let times = [
            (TimeBuckets::BOUNDS[2], 3),
            (Duration::MAX, 2),
            (Duration::ZERO, 1),
        ];
        let mut buckets = TimeBuckets::of(times.into_iter(), Duration::from_secs(7));
        assert_eq!(buckets.counts()[2], 3);
        assert_eq!((buckets.counts()[0], buckets.counts()[LEN]), (1, 2));
        buckets.add(&buckets.clone());
        assert_eq!(
            (buckets.count(), buckets.sum()),
            (12, Duration::from_secs(14))
        );
        assert_eq!(
            buckets.cumulative()[LEN - 1],
            (Some(Duration::from_secs(10)), 8)
        );
    }
}
