//! How a worker or pool has ended, in Python's words.

use std::sync::Arc;

use pyo3::prelude::*;
use pytoweb_engine::Exit;

use crate::host::failure;
use crate::host::handler::Runner;
use crate::host::worker_shared::WorkerShared;

/// The reason of an end, and the exception behind it.
pub(crate) type Reason = (&'static str, Option<Py<PyAny>>);

/// Why a worker or pool has ended that the engine says has ended like this.
pub(crate) fn reason(
    py: Python<'_>,
    exit: Exit,
    shared: &WorkerShared,
    runner: Option<&Arc<Runner>>,
) -> Reason {
    if shared.broken.is_set() {
        let error = shared.broken_error(py).into_value(py).into_any();
        return ("failed", Some(error));
    }
    if let Some((crash, _)) = runner.and_then(|runner| runner.failure()) {
        let error = failure::crashed(py, &crash, None, Some(shared.named()), None);
        return ("failed", Some(error.into_value(py).into_any()));
    }
    match exit {
        Exit::Terminated => ("terminated", None),
        other => match (shared.last_crash.get(py), other) {
            (Some(error), _) => ("crashed", Some(error)),
            (None, Exit::Drained) => ("drained", None),
            (None, _) => ("stopped", None),
        },
    }
}
