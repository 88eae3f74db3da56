//! Handlers that are coroutines, as those who wait: for a reply, or for the end of a worker.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pytoweb_engine::{Address, WaitError, Waiter};

use crate::host::coroutines;
use crate::host::endpoint::Endpoint;
use crate::host::worker_message::WorkerMessage;

/// Marks one worker as waiting for another, as long as it lives.
pub(crate) type WaitEdge = pytoweb_engine::EdgeGuard;

/// Notes that the handler whose coroutine runs in this context, if one does, waits for the end of all that `target`
/// runs; an error where that could never end.
pub(crate) fn end_edge_of_coroutine(
    py: Python<'_>,
    target: &Address,
) -> PyResult<Result<Option<WaitEdge>, WaitError>> {
    // The handler of a pool's thread waits as such, and has the context of its sender.
    if !coroutines::may_be_in_one() || pytoweb_engine::current().is_some() {
        return Ok(Ok(None));
    }
    Ok(match waiter_of_coroutine(py)? {
        Some(waiter) => pytoweb_engine::edge(&waiter, target, None).map(Some),
        None => Ok(None),
    })
}

/// The handler whose coroutine runs in this context, if one does.
pub(crate) fn waiter_of_coroutine(py: Python<'_>) -> PyResult<Option<Waiter>> {
    static RUNNING_HANDLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let handler = RUNNING_HANDLER
        .import(py, "pytoweb._aio", "running_handler")?
        .call0()?;
    if handler.is_none() {
        return Ok(None);
    }
    let (owner, message) =
        handler.extract::<(Bound<'_, Endpoint>, Option<Bound<'_, WorkerMessage>>)>()?;
    let message = message.and_then(|message| message.get().ticket());
    Ok(Some(Waiter::new(&owner.get().address()?, message)))
}
