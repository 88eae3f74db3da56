//! A failure that is left to a future: the future logs it when it is dropped before any code has looked.
//!
//! An `ask` without an error handler leaves its failure to the future, and so does every `submit`. Two threads may come
//! to the end of that at once: one ends the message, the other drops the future. Each sets a flag of its own by one
//! atomic operation, and the one that comes second logs.

use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::NamedOwner;

use super::Task;
use super::value::Value;

/// The failure stands, and its future is to tell of it.
const FAILED: u8 = 1;
/// Some code got the failure from the future.
const READ: u8 = 2;
/// The future is gone.
const DROPPED: u8 = 4;

/// `pytoweb._replies.log_unread`: looked up when a failure is left to a future, because at the end of the interpreter,
/// when the future may be dropped, nothing can be imported any more.
static LOG: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What the log says of a message whose failure is left to its future, besides the exception.
#[derive(Debug)]
pub(super) struct UnreadFailure {
    /// The message's type, or the name of the function.
    kind: Py<PyAny>,
    attempt: u32,
}

#[derive(Debug, Default)]
pub(crate) struct UnreadNote {
    flags: AtomicU8,
}

impl UnreadNote {
    /// The future is gone.
    pub(crate) fn is_dropped(&self) -> bool {
        // ORDERING: Relaxed, a future that goes at this moment may count either way.
        self.flags.load(Ordering::Relaxed) & DROPPED != 0
    }

    /// Some code got the failure.
    pub(crate) fn note_read(&self) {
        // ORDERING: Relaxed, the thread that drops the future has it from the one that read.
        self.flags.fetch_or(READ, Ordering::Relaxed);
    }
}

impl Task {
    /// Leaves the failure of a message to its future, instead of reporting it. Called before the reply stands.
    pub(crate) fn leave_failure(&self, py: Python<'_>, kind: &Bound<'_, PyAny>, attempt: u32) {
        if let Err(error) = LOG.get_or_try_init(py, || {
            py.import("pytoweb._replies")?
                .getattr("log_unread")
                .map(Bound::unbind)
        }) {
            error.write_unraisable(py, None);
        }
        let kind = kind.clone().unbind();
        let _ = self.beside().failure.set(UnreadFailure { kind, attempt });
    }

    /// Whether the failure was left to the future.
    pub(crate) fn is_left(&self) -> bool {
        self.left().is_some()
    }

    fn left(&self) -> Option<&UnreadFailure> {
        self.beside.get()?.failure.get()
    }

    /// The reply stands: logs a failure that was left to a future which is gone.
    pub(crate) fn ended(&self, by: NamedOwner<'_>) {
        if !self.is_left() {
            return;
        }
        // ORDERING: AcqRel, so that the thread that sets the second flag sees the reply.
        let before = self.unread.flags.fetch_or(FAILED, Ordering::AcqRel);
        if before & (DROPPED | READ) == DROPPED {
            self.log_unread(by);
        }
    }

    /// The future is gone: logs the failure that stands and that no code got.
    pub(crate) fn dropped(&self, by: NamedOwner<'_>) {
        let has_result = self
            .slot
            .get()
            .is_some_and(|reply| reply.as_ref().is_ok_and(Value::is_result));
        if has_result {
            return;
        }
        // ORDERING: AcqRel, as in `ended`.
        let before = self.unread.flags.fetch_or(DROPPED, Ordering::AcqRel);
        if before & (FAILED | READ) == FAILED {
            self.log_unread(by);
        }
    }

    fn log_unread(&self, by: NamedOwner<'_>) {
        let Some(about) = self.left() else {
            return;
        };
        Python::attach(|py| {
            // The future may be dropped while an exception is on its way.
            let on_its_way = PyErr::take(py);
            let failure = match self.slot.get() {
                Some(Ok(value)) => match value.get(py) {
                    Ok(object) => object.err().map(|error| error.clone_ref(py)),
                    Err(raised) => Some(raised.into_value(py).into_any()),
                },
                Some(Err(failure)) => {
                    let error = self.error_of(*failure, by);
                    Some(error.into_value(py).into_any())
                }
                None => None,
            };
            if let (Some(failure), Some(log)) = (failure, LOG.get(py))
                && let Err(error) = log.call1(py, (by.name, failure, &about.kind, about.attempt))
            {
                error.write_unraisable(py, None);
            }
            if let Some(error) = on_its_way {
                error.restore(py);
            }
        });
    }
}
