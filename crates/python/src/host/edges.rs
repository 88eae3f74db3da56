//! Handlers that are coroutines, as those who wait: for a reply, or for the end of a worker.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pytoweb_engine::{Address, WaitError, WaitNode};

use crate::host::coroutines;
use crate::host::endpoint::Endpoint;
use crate::host::worker_message::WorkerMessage;

/// Marks one worker as waiting for another, as long as it lives.
pub(crate) type WaitEdge = pytoweb_engine::EdgeGuard;

/// The same as Python holds it.
#[pyclass(module = "pytoweb._core", name = "WaitEdge", frozen)]
pub(crate) struct HeldEdge(
    #[expect(dead_code, reason = "it is there until it is dropped")] pub(crate) WaitEdge,
);

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

/// While it lives, the coroutine that runs on this thread blocks its event loop, and with it the others there.
pub(crate) struct BlockedLoop(Option<Py<PyAny>>);

impl Drop for BlockedLoop {
    fn drop(&mut self) {
        let Some(blocked) = self.0.take() else { return };
        Python::attach(|py| {
            let blocked = blocked.into_bound(py);
            if let Err(error) = blocked.call_method0(intern!(py, "end")) {
                error.write_unraisable(py, Some(&blocked));
            }
        });
    }
}

/// Notes that the coroutine of a handler, which has put up an `edge` for it, is about to block this thread; an error
/// where it waits for one that this event loop runs.
pub(crate) fn block_loop(py: Python<'_>, edge: Option<&WaitEdge>) -> PyResult<BlockedLoop> {
    static BLOCK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if edge.is_none() {
        return Ok(BlockedLoop(None));
    }
    let blocked = BLOCK.import(py, "pytoweb._loops", "block")?.call0()?;
    Ok(BlockedLoop((!blocked.is_none()).then(|| blocked.unbind())))
}

/// The handler whose coroutine runs in this context, if one does.
pub(crate) fn waiter_of_coroutine(py: Python<'_>) -> PyResult<Option<WaitNode>> {
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
    Ok(Some(WaitNode::new(&owner.get().address()?, message)))
}
