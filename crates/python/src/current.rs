//! The message that runs on the calling thread, and its owner: of the host, or of a child.

use pyo3::prelude::*;

use crate::child;
use crate::host::running;
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
