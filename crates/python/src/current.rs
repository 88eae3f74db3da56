//! The message that runs on the calling thread, and its owner: of the host, or of a child.

use pyo3::prelude::*;

use crate::child;
use crate::host::running;
use crate::host::stream::writer;
use crate::host::worker_message::WorkerMessage;

/// The message whose handler runs on this thread, if one does.
#[pyfunction]
pub(crate) fn running_message(py: Python<'_>) -> PyResult<Option<WorkerMessage>> {
    match running::message(py)? {
        None => child::running_message(py),
        found => Ok(found),
    }
}

/// The worker or pool whose handler runs on this thread, if one does and it still exists.
#[pyfunction]
pub(crate) fn running_owner(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    let Some(owner) = running::owner(py) else {
        return Ok(child::running_owner(py));
    };
    owner
        .call0(py)
        .map(|owner| (!owner.is_none(py)).then_some(owner))
}

/// Where the handler that runs on this thread puts the items of its stream; None: its message was not posted by
/// ``stream``.
#[pyfunction]
pub(crate) fn running_stream(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    Ok(match writer::running(py)? {
        None => child::running_stream(py)?.map(Py::into_any),
        found => found.map(Py::into_any),
    })
}
