//! A histogram of durations in little memory.

use std::time::Duration;

/// Values below this are counted one bucket each.
const LINEAR: u64 = 16;
/// Buckets per doubling above that: an error of at most 1/8 of the value.
const PER_OCTAVE: usize = 4;
/// The last doubling starts at 2^43 ns, 2.4 hours; longer times are counted there.
const OCTAVES: usize = 40;
const BUCKETS: usize = LINEAR as usize + OCTAVES * PER_OCTAVE;

/// A log-linear histogram of durations, after the idea of HdrHistogram: a bounded relative error, and constant time per
/// record. It holds the buckets from the shortest time to the longest: some 50 to 200 bytes for times that are alike, 704 at
/// most.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// The bucket that `counts` begins with.
    first: usize,
    counts: Vec<u32>,
    longest_nanos: u64,
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            counts: Vec::new(),
            longest_nanos: 0,
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
        self.longest_nanos = self.longest_nanos.max(nanos);
        let index = Self::index(nanos);
        self.reach(index, 1);
        let count = &mut self.counts[index - self.first];
        *count = count.saturating_add(1);
    }

    /// Makes sure of `len` buckets from `first` on.
    #[inline]
    fn reach(&mut self, first: usize, len: usize) {
        if first < self.first || first + len > self.first + self.counts.len() {
            self.widen(first, len);
        }
    }

    #[cold]
    fn widen(&mut self, first: usize, len: usize) {
        if self.counts.is_empty() {
            self.first = first;
        }
        let missing = self.first.saturating_sub(first);
        self.counts.splice(0..0, std::iter::repeat_n(0, missing));
        self.first -= missing;
        let buckets = self.counts.len().max(first + len - self.first);
        self.counts.resize(buckets, 0);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        self.longest_nanos = self.longest_nanos.max(other.longest_nanos);
        self.reach(other.first, other.counts.len());
        let mine = &mut self.counts[other.first - self.first..];
        for (mine, theirs) in mine.iter_mut().zip(&other.counts) {
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
        let nanos = Self::middle(self.first + index).min(self.longest_nanos);
        Some(Duration::from_nanos(nanos))
    }

    /// The longest recorded time, exactly; `None` before the first record.
    pub(crate) fn longest(&self) -> Option<Duration> {
        (!self.counts.is_empty()).then(|| Duration::from_nanos(self.longest_nanos))
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        for nanos in nanos {
            histogram.record(Duration::from_nanos(nanos));
        }
        histogram
    }

    #[test]
    fn a_quantile_is_within_an_eighth_of_the_value() {
        for nanos in (0..60)
            .map(|shift| 3_u64 << shift)
            .take_while(|nanos| *nanos < 1 << 43)
        {
            let seen = of([nanos]).quantile(0.5).expect("one record").as_nanos();
            let seen = u64::try_from(seen).expect("fits");
            assert!(
                seen.abs_diff(nanos) * 8 <= nanos,
                "{nanos} was read as {seen}"
            );
        }
    }

    #[test]
    fn quantiles_of_a_known_series() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile(0.5), histogram.longest()), (None, None));
        for nanos in 1..=10 {
            histogram.record(Duration::from_nanos(nanos));
        }
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_nanos(5)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_nanos(10)));
        assert_eq!(histogram.longest(), Some(Duration::from_nanos(10)));
        histogram.record(Duration::MAX);
        assert!(histogram.quantile(1.0) > Some(Duration::from_secs(3600)));
    }

    #[test]
    fn no_quantile_is_above_the_longest_time() {
        // In the lower half of its bucket.
        let histogram = of([1 << 20]);
        assert_eq!(histogram.quantile(0.5), histogram.longest());
        assert_eq!(histogram.longest(), Some(Duration::from_nanos(1 << 20)));
    }

    #[test]
    fn the_order_of_the_records_changes_nothing() {
        let mut times: Vec<u64> = (0..200).map(|n| n * n * n * 77 % 1_000_003).collect();
        let one = of(times.iter().copied());
        times.reverse();
        let other = of(times.iter().copied());
        let mut sum = of(times[..100].iter().copied());
        sum.add(&of(times[100..].iter().copied()));
        sum.add(&Histogram::new());
        let mut from_nothing = Histogram::new();
        from_nothing.add(&one);
        for q in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
            for histogram in [&other, &sum, &from_nothing] {
                assert_eq!(histogram.quantile(q), one.quantile(q));
            }
        }
        assert_eq!(sum.longest(), one.longest());
    }

    #[test]
    fn times_that_are_alike_take_few_buckets() {
        let histogram = of((0..10_000).map(|n| 900 + n % 300));
        assert!(histogram.counts.len() <= 4, "{}", histogram.counts.len());
    }
}
