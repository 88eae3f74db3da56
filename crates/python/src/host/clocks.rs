//! Time as Python code sees and sets it: a clock that is moved by hand, and timers that call back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pytoweb_engine::{Clock, Timer, Timestamp};

use crate::arguments;
use crate::host::threads::Threads;
use crate::interpreter::attached::Attached;
use crate::interpreter::ending;

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

#[derive(Debug)]
struct Callback(Attached<Py<PyAny>>);

impl Timer for Callback {
    fn elapsed(self: Arc<Self>) {
        if ending::is_over() {
            return;
        }
        // Where the interpreter has ended, nothing is to be called.
        let _ = Python::try_attach(|py| {
            let called = ending::call(self.0.bind(py), &PyTuple::empty(py), None);
            if let Err(error) = called {
                error.write_unraisable(py, Some(self.0.bind(py)));
            }
        });
    }
}

/// Calls a function at times of a pool's clock, while it exists.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct CallTimer(Arc<Callback>);

#[pymethods]
impl CallTimer {
    #[new]
    fn new(callback: Py<PyAny>) -> Self {
        Self(Arc::new(Callback(Attached::new(callback))))
    }

    /// Has the function called once the clock of ``threads`` tells so many seconds.
    fn set(&self, py: Python<'_>, threads: &Threads, at: f64) -> PyResult<()> {
        let pool = threads.pool()?;
        let at = Duration::try_from_secs_f64(at).unwrap_or(Duration::MAX);
        let at = Timestamp::from_nanos(0).after(at);
        let timer: Arc<dyn Timer> = self.0.clone();
        py.detach(|| pool.set_timer(at, &timer))?;
        Ok(())
    }
}
