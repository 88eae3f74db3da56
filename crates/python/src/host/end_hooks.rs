//! What a worker runs when it has ended.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// How far the end of a worker is.
#[derive(Debug)]
enum Stage {
    /// It goes on: these are to run.
    Before(Vec<Py<PyAny>>),
    /// They run.
    Running,
    /// They have run.
    Over,
}

/// The end hooks of a worker.
#[derive(Debug)]
pub(crate) struct EndHooks(Mutex<Stage>);

impl Default for EndHooks {
    fn default() -> Self {
        Self(Mutex::new(Stage::Before(Vec::new())))
    }
}

impl EndHooks {
    /// Only ever locked with the interpreter lock, and for a moment: in a forked child no other thread of the parent held
    /// it at the fork.
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same hooks, for the endpoint that takes this one's place in a forked child.
    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        let hooks = match &*self.lock() {
            Stage::Before(hooks) => hooks.iter().map(|hook| hook.clone_ref(py)).collect(),
            Stage::Running | Stage::Over => Vec::new(),
        };
        Self(Mutex::new(Stage::Before(hooks)))
    }

    /// False: it is too late for one more.
    pub(crate) fn add(&self, hook: Py<PyAny>) -> bool {
        match &mut *self.lock() {
            Stage::Before(hooks) => {
                hooks.push(hook);
                true
            }
            Stage::Running | Stage::Over => false,
        }
    }

    /// All of them, the one that was added last first: they run from here on.
    pub(crate) fn begin(&self) -> Vec<Py<PyAny>> {
        match mem::replace(&mut *self.lock(), Stage::Running) {
            Stage::Before(mut hooks) => {
                hooks.reverse();
                hooks
            }
            Stage::Running | Stage::Over => Vec::new(),
        }
    }

    /// They have run.
    pub(crate) fn end(&self) {
        *self.lock() = Stage::Over;
    }

    /// Whether they run.
    pub(crate) fn are_running(&self) -> bool {
        matches!(*self.lock(), Stage::Running)
    }
}
