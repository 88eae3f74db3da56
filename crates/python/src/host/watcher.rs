//! A callback that sees each failure of this process, for a program that is watched.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// Whether there is one: failures of programs that are not watched cost a look at this.
static IS_SET: AtomicBool = AtomicBool::new(false);
static CALLBACK: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

/// Has ``callback(worker, type, error)`` called with each failure, on the thread that it is told on; None: no longer.
#[pyfunction]
pub(crate) fn watch_failures(callback: Option<Py<PyAny>>) {
    // ORDERING: Relaxed, a failure at the same time may be told or not.
    IS_SET.store(callback.is_some(), Ordering::Relaxed);
    let mut kept = CALLBACK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = std::mem::replace(&mut *kept, callback);
    drop(kept);
    // Without the lock: it may be the last reference, whose end runs Python code.
    drop(before);
}

/// Tells the callback of a failure, if there is one. What it raises goes to `sys.unraisablehook`.
#[inline]
pub(crate) fn tell(py: Python<'_>, worker: &str, kind: &Bound<'_, PyAny>, error: &PyErr) {
    // ORDERING: Relaxed, see `watch_failures`.
    if IS_SET.load(Ordering::Relaxed) {
        tell_it(py, worker, kind, error);
    }
}

#[cold]
fn tell_it(py: Python<'_>, worker: &str, kind: &Bound<'_, PyAny>, error: &PyErr) {
    let callback = {
        let kept = CALLBACK.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|callback| callback.clone_ref(py))
    };
    let Some(callback) = callback else {
        return;
    };
    if let Err(raised) = callback.call1(py, (worker, kind, error.value(py))) {
        raised.write_unraisable(py, None);
    }
}
