//! A histogram of durations in little memory.

use std::time::Duration;

use crate::buckets::TimeBuckets;

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
    /// A bucket for each time that its count was full and began anew.
    full: Vec<u8>,
    longest_nanos: u64,
    /// Of 584 years at most. A wider number is aligned otherwise, and would move what lies around it: four senders of one
    /// worker were a third slower.
    sum_nanos: u64,
}

/// What a bucket of `full` stands for.
const FULL: u64 = 1 << u32::BITS;

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            counts: Vec::new(),
            full: Vec::new(),
            longest_nanos: 0,
            sum_nanos: 0,
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

    /// The least value of a bucket, in nanoseconds.
    fn least(index: usize) -> u64 {
        if index < LINEAR as usize {
            return index as u64;
        }
        let octave = (index - LINEAR as usize) / PER_OCTAVE + 4;
        let sub = ((index - LINEAR as usize) % PER_OCTAVE) as u64;
        (4 + sub) << (octave - 2)
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.longest_nanos = self.longest_nanos.max(nanos);
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
        let index = Self::index(nanos);
        self.reach(index, 1);
        self.count(index, 1);
    }

    /// Counts so many more in a bucket that is there.
    #[inline]
    fn count(&mut self, index: usize, more: u32) {
        let count = &mut self.counts[index - self.first];
        let (sum, is_full) = count.overflowing_add(more);
        *count = sum;
        if is_full {
            self.begin_anew(index);
        }
    }

    #[cold]
    fn begin_anew(&mut self, index: usize) {
        self.full.push(u8::try_from(index).unwrap_or(u8::MAX));
    }

    /// The buckets that are there, by their numbers, and how many times lie in each.
    fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().zip(self.first..).map(|(count, index)| {
            let full = self.full.iter().filter(|full| usize::from(**full) == index);
            (index, u64::from(*count) + full.count() as u64 * FULL)
        })
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
        self.first -= missing;
        let buckets = (self.counts.len() + missing).max(first + len - self.first);
        // No more than they need: there are two of these for each type of each worker.
        self.counts.reserve_exact(buckets - self.counts.len());
        self.counts.splice(0..0, std::iter::repeat_n(0, missing));
        self.counts.resize(buckets, 0);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        self.longest_nanos = self.longest_nanos.max(other.longest_nanos);
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
        self.reach(other.first, other.counts.len());
        for (index, count) in (other.first..).zip(&other.counts) {
            self.count(index, *count);
        }
        self.full.extend(&other.full);
    }

    /// The same in the buckets that are exported. Each time counts as the middle of its bucket in here.
    pub(crate) fn folded(&self) -> TimeBuckets {
        let each = self.counted();
        let each = each.map(|(index, count)| (Duration::from_nanos(Self::middle(index)), count));
        TimeBuckets::of(each, Duration::from_nanos(self.sum_nanos))
    }

    /// The least nanoseconds of each bucket that has some, and its count.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = (self.first..).zip(&self.counts);
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (Self::least(index), u64::from(*count)))
    }

    /// The value that the share `q` (0 to 1) of the recorded times does not pass; `None` before the first record.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        let total: u64 = self.counted().map(|(_, count)| count).sum();
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
        let (index, _) = self.counted().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        let nanos = Self::middle(index).min(self.longest_nanos);
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
    fn a_bucket_counts_further_than_its_number_reaches() {
        let mut histogram = of([1_000, 1_000, 5_000_000]);
        let place = Histogram::index(1_000) - histogram.first;
        histogram.counts[place] = u32::MAX;
        histogram.record(Duration::from_nanos(1_000));
        assert_eq!(histogram.folded().count(), FULL + 1);
        assert_eq!(histogram.folded().counts()[0], FULL);
        histogram.counts[place] = u32::MAX;
        let mut sum = Histogram::new();
        for _ in 0..2 {
            sum.add(&histogram);
        }
        assert_eq!(sum.folded().count(), 2 * (2 * FULL));
        let median = sum.quantile(0.5).expect("there are some");
        assert!(median < Duration::from_micros(2), "{median:?}");
    }

    #[test]
    fn folded_it_has_every_time_in_the_bucket_of_what_it_is_read_as() {
        let times = (0..400).map(|n: u64| (n * n * n * 7919) % 30_000_000_000);
        let (mut histogram, mut exact) = (Histogram::new(), Duration::ZERO);
        let mut least = [0; TimeBuckets::BOUNDS.len()];
        let mut most = least;
        for time in times.map(Duration::from_nanos) {
            histogram.record(time);
            exact += time;
            for (place, bound) in TimeBuckets::BOUNDS.iter().enumerate() {
                least[place] += u64::from(time <= *bound - *bound / 8);
                most[place] += u64::from(time <= *bound + *bound / 8);
            }
        }
        let folded = histogram.folded();
        assert_eq!((folded.sum(), folded.count()), (exact, 400));
        assert_eq!(folded.counts().iter().sum::<u64>(), 400);
        let cumulative = folded.cumulative();
        for (place, (_, count)) in cumulative.iter().enumerate().take(least.len()) {
            assert!(
                (least[place]..=most[place]).contains(count),
                "{cumulative:?}"
            );
        }
        assert_eq!(cumulative.last(), Some(&(None, 400)));
        assert_eq!(Histogram::new().folded().count(), 0);
    }

    #[test]
    fn times_that_are_alike_take_few_buckets() {
        let histogram = of((0..10_000).map(|n| 900 + n % 300));
        assert!(histogram.counts.len() <= 4, "{}", histogram.counts.len());
    }
}
