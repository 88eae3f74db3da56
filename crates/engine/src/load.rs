//! Load: how much of the last second, ten seconds and minute a worker was busy.

use std::mem;
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

/// The busy time of each second. It takes memory of its own only while more than one second of the last minute was busy:
/// many workers have little to do.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// The last second that is known of.
    newest: u64,
    /// Busy time in it, where `all` is not there; then no other second was busy.
    units: u32,
    /// Less than a unit, to be added to the next.
    rest_nanos: u32,
    all: Option<Box<[u32; SECONDS]>>,
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of SECONDS")]
const fn place(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

impl Load {
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
        let busy = busy + u64::from(self.rest_nanos);
        let rest = (busy % UNIT_NANOS) as u32;
        self.rest_nanos = rest;
        let units = u32::try_from(busy / UNIT_NANOS).unwrap_or(u32::MAX);
        let sum = if second == self.newest && self.all.is_none() {
            &mut self.units
        } else {
            &mut self.all()[place(second)]
        };
        *sum = sum.saturating_add(units);
    }

    /// All seconds, from now on.
    fn all(&mut self) -> &mut [u32; SECONDS] {
        self.all.get_or_insert_with(|| {
            let mut all = Box::new([0; SECONDS]);
            all[place(self.newest)] = mem::take(&mut self.units);
            all
        })
    }

    /// Forgets what is too old for that second.
    fn go_to(&mut self, second: u64) {
        if second <= self.newest {
            return;
        }
        let new = (second - self.newest).min(SECONDS as u64);
        if new == SECONDS as u64 {
            self.units = 0;
            self.all = None;
        } else if self.units > 0 {
            self.all();
        }
        if let Some(all) = &mut self.all {
            for passed in 0..new {
                all[place(second - passed)] = 0;
            }
        }
        self.newest = second;
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
            let units = match &self.all {
                Some(all) if known => all[place],
                None if back == since => self.units,
                _ => 0,
            };
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
        let mut load = Load::default();
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
        let mut load = Load::default();
        load.record(100_000_000_000, at(100_300));
        assert_eq!(millis(load.busy(at(100_300))), [1_000, 10_000, 60_000]);
        assert_eq!(millis(load.busy(at(105_300))), [0, 5_000, 55_000]);
    }

    #[test]
    fn a_worker_that_has_little_to_do_takes_no_more_memory() {
        let mut load = Load::default();
        for minute in 1..5 {
            load.record(500_000_000, at(minute * 61_000 + 700));
            assert_eq!(
                millis(load.busy(at(minute * 61_000 + 700))),
                [500, 500, 500]
            );
            assert!(load.all.is_none());
        }
        load.record(100_000_000, at(5 * 61_000 - 900));
        assert!(load.all.is_some());
        assert_eq!(millis(load.busy(at(5 * 61_000 - 900))), [100, 100, 550]);
    }

    #[test]
    fn short_times_add_up() {
        let mut load = Load::default();
        for _ in 0..1_000_000 {
            load.record(333, at(900));
        }
        assert_eq!(millis(load.busy(at(900))), [333, 333, 333]);
    }

    #[test]
    fn a_second_of_a_thousand_threads_fits() {
        let mut load = Load::default();
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
