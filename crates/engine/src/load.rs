//! Load: how much of the last second, ten seconds and minute a worker was busy.

use std::time::Duration;

use crate::clock::Timestamp;

/// Seconds that are kept, the one under way included: the longest window begins within the first of them.
const SECONDS: usize = 61;
/// Time is kept in these, so that a second of a thousand threads fits into 32 bits.
const UNIT_NANOS: u64 = 256;
const SECOND_NANOS: u64 = 1_000_000_000;

/// Busy time in the seconds just gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busy {
    /// In the last second.
    pub last_1s: Duration,
    /// In the last ten seconds.
    pub last_10s: Duration,
    /// In the last minute.
    pub last_60s: Duration,
}

impl Busy {
    /// Adds that of another worker.
    pub fn add(&mut self, other: &Self) {
        self.last_1s += other.last_1s;
        self.last_10s += other.last_10s;
        self.last_60s += other.last_60s;
    }

    /// A time that ends now.
    pub(crate) fn up_to(time: Duration) -> Self {
        let most = |seconds| time.min(Duration::from_secs(seconds));
        Self {
            last_1s: most(1),
            last_10s: most(10),
            last_60s: most(60),
        }
    }

    /// Each as a share, 0 to 1, of the time that `places` threads or children had; `alive`: there was no more time yet.
    #[must_use]
    pub fn shares(&self, alive: Duration, places: usize) -> [f64; 3] {
        let all = [(self.last_1s, 1), (self.last_10s, 10), (self.last_60s, 60)];
        all.map(|(busy, window)| {
            let time = alive.min(Duration::from_secs(window));
            share(busy, time, places)
        })
    }
}

/// Busy time as a share, 0 to 1, of the time that so many threads or children had.
#[must_use]
pub fn share(busy: Duration, time: Duration, places: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let all = time.as_secs_f64() * places as f64;
    if all > 0.0 {
        (busy.as_secs_f64() / all).min(1.0)
    } else {
        0.0
    }
}

/// The busy time of each second.
#[derive(Debug)]
pub(crate) struct Load {
    units: [u32; SECONDS],
    /// The last second that is in there.
    newest: u64,
    /// Less than a unit, to be added to the next.
    rest_nanos: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of SECONDS")]
const fn place(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

impl Load {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            units: [0; SECONDS],
            newest: now.nanos() / SECOND_NANOS,
            rest_nanos: 0,
        }
    }

    /// A thread was busy `until` then, for so many nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, busy: u64, until: Timestamp) {
        let until = until.nanos();
        let second = until / SECOND_NANOS;
        if second == self.newest && busy <= until % SECOND_NANOS {
            self.add(second, busy);
        } else {
            self.record_over(until.saturating_sub(busy), until);
        }
    }

    /// The same over more than one second.
    #[cold]
    fn record_over(&mut self, from: u64, until: u64) {
        self.go_to(until / SECOND_NANOS);
        let mut end = until;
        while end > from {
            let second = (end - 1) / SECOND_NANOS;
            if second + SECONDS as u64 <= self.newest {
                return;
            }
            let begin = from.max(second * SECOND_NANOS);
            self.add(second, end - begin);
            end = begin;
        }
    }

    fn add(&mut self, second: u64, busy: u64) {
        let busy = busy + self.rest_nanos;
        self.rest_nanos = busy % UNIT_NANOS;
        let units = u32::try_from(busy / UNIT_NANOS).unwrap_or(u32::MAX);
        let sum = &mut self.units[place(second)];
        *sum = sum.saturating_add(units);
    }

    /// Forgets what is too old for that second.
    fn go_to(&mut self, second: u64) {
        let new = second.saturating_sub(self.newest).min(SECONDS as u64);
        for passed in 0..new {
            self.units[place(second - passed)] = 0;
        }
        self.newest = self.newest.max(second);
    }

    /// Busy time up to now, to within what the second at the far end of a window is busy unevenly.
    pub(crate) fn busy(&self, now: Timestamp) -> Busy {
        let now = now.nanos();
        let (second, into) = (now / SECOND_NANOS, now % SECOND_NANOS);
        let since = second.saturating_sub(self.newest);
        if since >= SECONDS as u64 {
            return Busy::default();
        }
        let mut busy = Busy::default();
        let mut whole = 0;
        let mut place = place(second);
        for back in 0..SECONDS as u64 {
            // Seconds after the newest hold what is too old; none is before the clock's start.
            let known = back >= since && back <= second;
            let units = if known { self.units[place] } else { 0 };
            // A window began within the second before its whole ones. Both numbers have 32 bits at most.
            let window = || {
                let left = u64::from(units) * (SECOND_NANOS - into) / SECOND_NANOS;
                Duration::from_nanos((whole + left) * UNIT_NANOS)
            };
            match back {
                1 => busy.last_1s = window(),
                10 => busy.last_10s = window(),
                60 => busy.last_60s = window(),
                _ => {}
            }
            whole += u64::from(units);
            place = place.checked_sub(1).unwrap_or(SECONDS - 1);
        }
        busy
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn millis(busy: Busy) -> [u64; 3] {
        let all = [busy.last_1s, busy.last_10s, busy.last_60s];
        all.map(|busy| u64::try_from((busy + Duration::from_micros(500)).as_millis()).unwrap_or(0))
    }

    #[test]
    fn busy_time_is_in_its_windows_and_leaves_them() {
        let mut load = Load::new(at(0));
        load.record(500_000_000, at(2_500));
        assert_eq!(millis(load.busy(at(2_500))), [500, 500, 500]);
        assert_eq!(millis(load.busy(at(3_000))), [500, 500, 500]);
        // Half of the second in which it was has left the window, and where in it that was is not known.
        assert_eq!(millis(load.busy(at(3_500))), [250, 500, 500]);
        assert_eq!(millis(load.busy(at(4_000))), [0, 500, 500]);
        assert_eq!(millis(load.busy(at(12_000))), [0, 500, 500]);
        assert_eq!(millis(load.busy(at(13_000))), [0, 0, 500]);
        assert_eq!(millis(load.busy(at(62_000))), [0, 0, 500]);
        assert_eq!(millis(load.busy(at(63_000))), [0, 0, 0]);
        assert_eq!(millis(load.busy(at(1_000_000_000))), [0, 0, 0]);
    }

    #[test]
    fn a_long_time_is_spread_over_its_seconds() {
        let mut load = Load::new(at(0));
        load.record(100_000_000_000, at(100_300));
        assert_eq!(millis(load.busy(at(100_300))), [1_000, 10_000, 60_000]);
        assert_eq!(millis(load.busy(at(105_300))), [0, 5_000, 55_000]);
    }

    #[test]
    fn short_times_add_up() {
        let mut load = Load::new(at(0));
        for _ in 0..1_000_000 {
            load.record(333, at(900));
        }
        assert_eq!(millis(load.busy(at(900))), [333, 333, 333]);
    }

    #[test]
    fn a_second_of_a_thousand_threads_fits() {
        let mut load = Load::new(at(0));
        for _ in 0..1_000 {
            load.record(1_000_000_000, at(7_000));
        }
        assert_eq!(load.busy(at(7_000)).last_1s.as_secs(), 1_000);
        let shares = load.busy(at(7_000)).shares(Duration::from_secs(4), 1_000);
        assert!((shares[0] - 1.0).abs() < 1e-6 && (shares[1] - 0.25).abs() < 1e-6);
    }

    #[test]
    fn a_share_of_no_time_is_none() {
        assert!(share(Duration::from_secs(1), Duration::ZERO, 3).abs() < f64::EPSILON);
        assert!((share(Duration::from_secs(3), Duration::from_secs(1), 1) - 1.0).abs() < 1e-9);
    }
}
