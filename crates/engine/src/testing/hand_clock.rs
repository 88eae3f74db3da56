//! A clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::pool::{Pool, PoolOptions};

/// A clock that stands still until a test moves it.
///
/// A pool does not see that it was moved: [`Pool::expire_due`] does what is due by then on the calling thread, and
/// [`Pool::clock_moved`] has the timers' thread look.
#[derive(Debug, Default)]
pub struct HandClock(AtomicU64);

impl HandClock {
    /// Moves it on.
    ///
    /// # Panics
    /// When `by` is more nanoseconds than a `u64` holds, some 584 years.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("less than 584 years");
        // ORDERING: Relaxed, the clock says nothing of other memory.
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        // ORDERING: Relaxed, see `advance`.
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// A pool of `size` threads with a clock that stands still.
///
/// # Panics
/// When `size` is 0.
#[must_use]
pub fn pool_with_clock(size: usize) -> (Pool, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let pool = Pool::new(PoolOptions {
        clock: clock.clone(),
        ..PoolOptions::new(size)
    });
    (pool, clock)
}
