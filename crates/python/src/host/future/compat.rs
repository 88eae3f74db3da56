//! What `concurrent.futures` looks for in a future of its own, made once it has looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::FutureBase;

/// What `concurrent.futures` expects to find, once it has looked.
#[derive(Debug)]
pub(super) struct Compat {
    pub(super) condition: Py<PyAny>,
    /// See `_waiters.py`.
    pub(super) waiters: Py<PyAny>,
    pub(super) told: Arc<AtomicBool>,
}

impl FutureBase {
    pub(super) fn compat<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Compat> {
        let py = slf.py();
        let this = slf.get();
        if let Some(compat) = this.compat.get() {
            return Ok(compat);
        }
        let inner = this.inner()?;
        let condition = py.import("threading")?.call_method0("Condition")?.unbind();
        let waiters = py
            .import("pytoweb._waiters")?
            .call_method1("Waiters", (slf,))?;
        let told = Arc::new(AtomicBool::new(false));
        let compat = Compat {
            condition,
            waiters: waiters.unbind(),
            told: told.clone(),
        };
        if this.compat.set(compat).is_ok() {
            let future = slf.clone().unbind();
            inner.on_done(move || {
                Python::attach(|py| {
                    // `tell` is in Python: it is what `Future.set_result` does after the result is in.
                    let future = future.bind(py);
                    let told_them =
                        future.call_method1(intern!(py, "_tell_waiters"), (WaitersTold(told),));
                    if let Err(error) = told_them {
                        error.write_unraisable(py, Some(future.as_any()));
                    }
                });
            });
        }
        this.compat
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the future has no condition"))
    }
}

/// Passed to `_tell_waiters`, which calls it while it holds the condition.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
struct WaitersTold(Arc<AtomicBool>);

#[pymethods]
impl WaitersTold {
    fn __call__(&self) {
        // ORDERING: Release/Acquire with `_state`; the interpreter lock orders them as well.
        self.0.store(true, Ordering::Release);
    }
}
