//! Error handlers that are coroutines: they run on the pool's event loop, and their message ends after them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;

use crate::host::coroutines;
use crate::host::worker_message::WorkerMessage;
use crate::host::worker_shared::WorkerShared;

type HookWork = Box<dyn FnOnce(Python<'_>) + Send>;

/// What is done once a hook is through. Dropped before, because no event loop runs it any more, it is done then: a
/// message may hang on it.
#[pyclass(module = "pytoweb._core", frozen)]
struct Afterwards(Mutex<Option<HookWork>>);

impl fmt::Debug for Afterwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Afterwards").finish_non_exhaustive()
    }
}

impl Afterwards {
    fn take(&self) -> Option<HookWork> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        if let Some(work) = self.take() {
            Python::attach(work);
        }
    }
}

#[pymethods]
impl Afterwards {
    /// Called with the exception of the hook, or None.
    fn __call__(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) {
        drop(error);
        if let Some(work) = self.take() {
            work(py);
        }
    }
}

/// A coroutine that an error handler returned, and what it finds: its message, and the context of that.
pub(crate) struct Hook {
    pub(crate) coroutine: Py<PyAny>,
    pub(crate) message: Option<WorkerMessage>,
    pub(crate) context: Option<Py<PyAny>>,
}

impl Hook {
    /// Has it run on the pool's event loop, and does `then` after that; does not wait.
    pub(crate) fn run(
        self,
        py: Python<'_>,
        shared: &WorkerShared,
        then: impl FnOnce(Python<'_>) + Send + 'static,
    ) {
        coroutines::note();
        let afterwards = Afterwards(Mutex::new(Some(Box::new(then))));
        let started = Bound::new(py, afterwards).and_then(|afterwards| {
            shared.runtime.bind(py).call_method1(
                intern!(py, "run_hook"),
                (
                    self.coroutine,
                    self.context,
                    self.message,
                    &shared.owner,
                    afterwards,
                ),
            )
        });
        if let Err(error) = started {
            error.write_unraisable(py, None);
        }
    }
}
