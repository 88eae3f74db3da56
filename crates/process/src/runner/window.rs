//! How many messages of a worker to send ahead: by how long its handlers took lately.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A batch is as many messages as are handled in this time, in nanoseconds: what one slow message may make others wait
/// for, and much longer than the way to the child and back.
const BATCH_TIME: u64 = 1_000_000;
/// Handlers that take less than this, in nanoseconds, get the next message before they are through. Of slower ones the
/// gap between two is lost in the noise, and what is sent ahead could wait for long.
const AHEAD_BELOW: u64 = 10_000_000;
/// And at most this many: at half a microsecond each, as much as hides the way there and back.
const BATCH_MESSAGES: u64 = 256;

/// How long the handlers of a worker took lately.
#[derive(Debug, Default)]
pub(super) struct RunTimes {
    /// In nanoseconds; 0 before the first.
    average: AtomicU64,
}

impl RunTimes {
    pub(super) fn note(&self, ran: Duration) {
        let nanos = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX).max(1);
        // ORDERING: Relaxed, a hint; a lost update is one sample less.
        let known = self.average.load(Ordering::Relaxed);
        let next = if known == 0 {
            nanos
        } else {
            (known / 8 * 7 + nanos / 8).max(1)
        };
        self.average.store(next, Ordering::Relaxed);
    }

    /// How many messages a child may have at once; one while nothing is known.
    pub(super) fn window(&self) -> usize {
        // ORDERING: Relaxed, a hint.
        let average = self.average.load(Ordering::Relaxed);
        if average == 0 {
            return 1;
        }
        // One at least is there when the one before ends: its child would be idle until this process gets a core.
        let least = if average < AHEAD_BELOW { 2 } else { 1 };
        usize::try_from((BATCH_TIME / average).clamp(least, BATCH_MESSAGES)).unwrap_or(1)
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    fn window_of(ran: Duration) -> usize {
        let times = RunTimes::default();
        times.note(ran);
        times.window()
    }

    #[test]
    fn a_window_is_a_millisecond_of_messages_within_bounds() {
        assert_eq!(RunTimes::default().window(), 1);
        for (ran, window) in [
            (0, 256),
            (1, 256),
            (10, 100),
            (400, 2),
            (9_999, 2),
            (10_000, 1),
        ] {
            assert_eq!(window_of(Duration::from_micros(ran)), window, "{ran} us");
        }
        assert_eq!(window_of(Duration::MAX), 1);
    }

    #[test]
    fn one_slow_message_among_quick_ones_makes_the_window_smaller_for_some_time() {
        let times = RunTimes::default();
        times.note(Duration::from_micros(1));
        times.note(Duration::from_millis(80));
        assert_eq!(times.window(), 1);
        for _ in 0..100 {
            times.note(Duration::from_micros(1));
        }
        assert_eq!(times.window(), 256);
    }
}
