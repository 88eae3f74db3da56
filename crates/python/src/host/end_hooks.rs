//! What a worker runs when it has ended.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// The end hooks that are still to run.
#[derive(Debug, Default)]
pub(crate) struct EndHooks(Mutex<Vec<Py<PyAny>>>);

impl EndHooks {
    /// Only ever locked with the interpreter lock, and for a moment: in a forked child no other thread of the parent held
    /// it at the fork.
    fn lock(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same hooks, for the endpoint that takes this one's place in a forked child.
    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        let hooks = self.lock().iter().map(|hook| hook.clone_ref(py)).collect();
        Self(Mutex::new(hooks))
    }

    pub(crate) fn add(&self, hook: Py<PyAny>) {
        self.lock().push(hook);
    }

    /// All of them, the one that was added last first.
    pub(crate) fn take(&self) -> Vec<Py<PyAny>> {
        let mut hooks = std::mem::take(&mut *self.lock());
        hooks.reverse();
        hooks
    }
}
