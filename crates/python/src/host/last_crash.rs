//! The crash that the last message of a worker ended with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// The crash that the last message of a worker ended with, if it did.
#[derive(Debug, Default)]
pub(crate) struct LastCrash {
    error: Mutex<Option<Py<PyAny>>>,
    is_there: AtomicBool,
}

impl LastCrash {
    /// A message has ended with a crash.
    pub(crate) fn note(&self, py: Python<'_>, error: &PyErr) {
        let error = error.clone_ref(py).into_value(py).into_any();
        let before = self.replace(Some(error));
        drop(before);
        // ORDERING: Relaxed, a hint: what is asked for at the end of the worker is under the lock.
        self.is_there.store(true, Ordering::Relaxed);
    }

    /// A message has ended without one.
    #[inline]
    pub(crate) fn forget(&self) {
        // ORDERING: Relaxed, see `note`.
        if self.is_there.load(Ordering::Relaxed) {
            self.is_there.store(false, Ordering::Relaxed);
            Python::attach(|_| drop(self.replace(None)));
        }
    }

    fn replace(&self, error: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        let mut own = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *own, error)
    }

    /// The exception of it.
    pub(crate) fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let own = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        own.as_ref().map(|error| error.clone_ref(py))
    }
}
