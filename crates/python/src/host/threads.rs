//! The engine threads of a pool, or of one worker, as Python holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pytoweb_engine::{Clock, MonotonicClock, Pool, PoolOptions};

use crate::error;
use crate::host::broken::InitializerFailure;
use crate::host::clocks::{self, HandClock};
use crate::host::pool_host::PyHost;
use crate::host::recording::Recording;
use crate::interpreter::attached::Attached;
use crate::interpreter::fork::{self, OfProcess};
use crate::interpreter::generation::Generation;

/// A pool's threads, as Python holds them.
#[pyclass(module = "pytoweb._core", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<Pool>,
    pub(crate) runtime: Py<PyAny>,
    pub(crate) broken: Arc<InitializerFailure>,
    pub(crate) recording: Arc<Recording>,
    waited_nanos: Arc<AtomicU64>,
    generation: Generation,
}

impl Drop for Threads {
    fn drop(&mut self) {
        if !self.generation.is_here() {
            std::mem::forget(self.pool.take());
        }
    }
}

impl Threads {
    pub(crate) fn pool(&self) -> PyResult<&Pool> {
        // Reads what never changes: no lock.
        let name = self.pool.as_ref().map_or("", Pool::name);
        self.generation.check("pool", name)?;
        self.pool
            .as_ref()
            .ok_or_else(|| error::forked("pool", name))
    }
}

#[pymethods]
impl Threads {
    #[new]
    #[pyo3(signature = (size, name, runtime, max_spare_threads=None, clock=None))]
    fn new(
        size: usize,
        name: String,
        runtime: Py<PyAny>,
        max_spare_threads: Option<usize>,
        clock: Option<&Bound<'_, HandClock>>,
    ) -> Self {
        let clock: Arc<dyn Clock> = match clock {
            Some(clock) => clock.get().0.clone(),
            None => Arc::new(MonotonicClock::new()),
        };
        let broken = Arc::<InitializerFailure>::default();
        let waited_nanos = Arc::<AtomicU64>::default();
        Python::attach(|py| {
            let host = PyHost {
                runtime: Attached::new(runtime.clone_ref(py)),
                broken: broken.clone(),
                waited_nanos: waited_nanos.clone(),
                waits: AtomicU64::new(0),
            };
            let OfProcess { timers, registry } = fork::of_process();
            let pool = Pool::new(PoolOptions {
                name,
                max_spare_threads: max_spare_threads
                    .unwrap_or_else(|| PoolOptions::default_spare_threads(size)),
                host: Arc::new(host),
                timers,
                registry,
                clock,
                ..PoolOptions::new(size)
            });
            Self {
                pool: Some(pool),
                runtime,
                broken,
                recording: Arc::default(),
                waited_nanos,
                generation: Generation::now(),
            }
        })
    }

    /// Threads that exist now.
    fn count(&self) -> PyResult<usize> {
        Ok(self.pool()?.threads())
    }

    /// Seconds that they have waited for the interpreter lock when they had work.
    fn lock_wait(&self) -> f64 {
        // ORDERING: Relaxed, only the sum matters.
        let nanos = self.waited_nanos.load(Ordering::Relaxed);
        Duration::from_nanos(nanos).as_secs_f64()
    }

    /// Seconds on their clock.
    fn now(&self) -> PyResult<f64> {
        Ok(clocks::seconds(&**self.pool()?.clock()))
    }

    /// Does all that is due: their clock was moved by hand.
    fn clock_moved(&self, py: Python<'_>) -> PyResult<()> {
        let pool = self.pool()?;
        py.detach(|| pool.expire_due());
        Ok(())
    }

    /// Keeps from now on what their workers run, of very many messages at most so many.
    fn start_recording(&self, most_bars: usize) -> PyResult<()> {
        let pool = self.pool()?;
        self.recording.start(most_bars)?;
        for worker in pool.workers() {
            worker.time_all(true);
        }
        Ok(())
    }

    /// Ends it, and returns what was kept; None where nothing was.
    fn stop_recording<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        for worker in self.pool()?.workers() {
            worker.time_all(false);
        }
        self.recording.stop(py)
    }

    /// Lets the threads end once the queued work is done.
    fn shutdown(&self) -> PyResult<()> {
        self.pool()?.shutdown();
        Ok(())
    }

    /// Blocks until they have ended.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let pool = self.pool()?;
        py.detach(|| pool.join());
        Ok(())
    }
}
