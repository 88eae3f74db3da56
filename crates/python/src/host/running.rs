//! Which message's handler runs on this thread.
//!
//! `current_message()` is rare and messages are many, so nothing is copied for it: the thread notes where the message
//! is, for as long as the handler runs.
#![expect(
    unsafe_code,
    reason = "the pointer to a message that its handler outlives"
)]

use std::cell::Cell;
use std::ptr;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::host::message::{About, PyMessage};
use crate::host::shared::Shared;
use crate::host::worker_message::WorkerMessage;

thread_local! {
    static RUNNING: Cell<(*const PyMessage, *const Shared)> = const { Cell::new((ptr::null(), ptr::null())) };
}

/// Notes `message` as the one that runs on this thread, for the time of `f`.
pub(crate) fn with<R>(message: &PyMessage, shared: &Shared, f: impl FnOnce() -> R) -> R {
    struct Restore((*const PyMessage, *const Shared));

    impl Drop for Restore {
        fn drop(&mut self) {
            RUNNING.set(self.0);
        }
    }

    let _restore = Restore(RUNNING.replace((message, shared)));
    f()
}

/// Runs `look` on the message and the worker's shared part, if a handler runs on this thread.
pub(crate) fn look<R>(look: impl FnOnce(&PyMessage, &Shared) -> R) -> Option<R> {
    let (message, shared) = RUNNING.get();
    // SAFETY: `with` borrows both for as long as the pointers are noted, on this very thread, and takes them away
    // before it returns, even by a panic. Null otherwise.
    unsafe { Some(look(message.as_ref()?, shared.as_ref()?)) }
}

/// Type, or name of the function, and more of the message that runs on this thread.
pub(crate) fn kind(py: Python<'_>) -> Option<(Py<PyString>, About)> {
    look(|message, _| {
        let kind = message.kind(py).ok()?;
        Some((kind, message.about(py)))
    })?
}

/// The message whose handler runs on this thread of the host, if one does.
pub(crate) fn message(py: Python<'_>) -> PyResult<Option<WorkerMessage>> {
    let Some(address) = pytoweb_engine::current() else {
        return Ok(None);
    };
    look(|message, _| message.view(py, &address)).transpose()
}

/// A weak reference to the worker or pool whose handler runs on this thread of the host, if one does.
pub(crate) fn owner(py: Python<'_>) -> Option<Py<PyAny>> {
    look(|_, shared| shared.owner.clone_ref(py))
}
