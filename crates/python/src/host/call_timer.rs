//! Timers that call a function at times of a pool's clock.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pytoweb_engine::{Timer, Timestamp};

use crate::host::threads::Threads;
use crate::interpreter::attached::Attached;
use crate::interpreter::ending;

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
