//! Time as Python code sees and sets it: a clock that is moved by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pytoweb_engine::{Clock, Timestamp};

use crate::arguments;

#[derive(Debug, Default)]
pub(crate) struct Hand {
    nanos: AtomicU64,
    /// Since when it goes by itself again.
    thawed: OnceLock<Instant>,
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        // ORDERING: Relaxed, the thread that moves it tells the pools, whose locks bring the rest along.
        let hand = Timestamp::from_nanos(self.nanos.load(Ordering::Relaxed));
        match self.thawed.get() {
            None => hand,
            Some(since) => hand.after(since.elapsed()),
        }
    }
}

/// A clock that stands still until it is moved.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct HandClock(pub(crate) Arc<Hand>);

#[pymethods]
impl HandClock {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Seconds since it was made.
    fn now(&self) -> f64 {
        seconds(&*self.0)
    }

    /// Moves it forward, and tells no pool.
    fn advance(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let by = arguments::seconds(Some(seconds), "seconds")?.unwrap_or(Duration::MAX);
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        // ORDERING: Relaxed, see `now`.
        let _ = self
            .0
            .nanos
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |nanos| {
                Some(nanos.saturating_add(by))
            });
        Ok(())
    }

    /// Has it go by itself from now on.
    fn thaw(&self) {
        self.0.thawed.get_or_init(Instant::now);
    }
}

/// Seconds since a clock's start.
pub(crate) fn seconds(clock: &dyn Clock) -> f64 {
    clock.now().since(Timestamp::from_nanos(0)).as_secs_f64()
}
