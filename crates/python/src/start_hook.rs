//! What a worker runs before its first message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// A hook that is still to run, if there is one.
#[derive(Debug, Default)]
pub(crate) struct StartHook {
    /// Whether there may be one: looked at for every message.
    waits: AtomicBool,
    hook: Mutex<Option<Py<PyAny>>>,
}

impl StartHook {
    pub(crate) fn new(hook: Option<Py<PyAny>>) -> Self {
        Self {
            waits: AtomicBool::new(hook.is_some()),
            hook: Mutex::new(hook),
        }
    }

    /// Has `hook` run before the next message.
    pub(crate) fn set(&self, hook: Py<PyAny>) {
        let before = self
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(hook);
        // ORDERING: Release, with `run`; the interpreter lock orders them as well.
        self.waits.store(true, Ordering::Release);
        drop(before);
    }

    /// Runs it, before a message; if it raises, again before the next one.
    pub(crate) fn run(&self, py: Python<'_>) -> PyResult<()> {
        // ORDERING: Acquire, with `set`.
        if !self.waits.load(Ordering::Acquire) {
            return Ok(());
        }
        let hook = self
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(hook) = hook else { return Ok(()) };
        let done = hook.call0(py);
        if done.is_err() {
            self.set(hook);
        } else {
            // ORDERING: Release, as in `set`.
            self.waits.store(false, Ordering::Release);
        }
        done.map(drop)
    }
}
