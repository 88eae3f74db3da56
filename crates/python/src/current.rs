//! The message that runs on the calling thread, and its owner: of the host, or of a child.

use pyo3::prelude::*;

use crate::child;
use crate::host::stream::writer;
use crate::host::worker_message::WorkerMessage;
use crate::host::{reporting, running};

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

/// Reports the progress of the message whose handler runs on this thread, or of ``message``.
#[pyfunction]
#[pyo3(signature = (message, done, total, text))]
pub(crate) fn report_progress(
    py: Python<'_>,
    message: Option<&WorkerMessage>,
    done: &Bound<'_, PyAny>,
    total: Option<&Bound<'_, PyAny>>,
    text: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let report = reporting::checked(done, total, text)?;
    if let Some(message) = message {
        return message.report(py, report);
    }
    match running::look(|message, _| message.task().cloned()) {
        Some(Some(task)) if task.asked => task.report(py, report),
        Some(_) => Ok(()),
        None => child::report_running(py, report).map(drop),
    }
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
