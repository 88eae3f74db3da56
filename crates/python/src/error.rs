//! The one place that knows exception classes: what the engine says, as what Python raises.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pytoweb_engine::{Failure, WaitError};

pyo3::import_exception!(pytoweb.errors, MailboxFullError);
pyo3::import_exception!(pytoweb.errors, WorkerStoppedError);
pyo3::import_exception!(pytoweb.errors, UnknownMessageError);
pyo3::import_exception!(pytoweb.errors, DeadlineError);
pyo3::import_exception!(pytoweb.errors, WorkerCrashedError);
pyo3::import_exception!(pytoweb.errors, AskCycleError);
pyo3::import_exception!(pytoweb.errors, ForkedProcessError);
pyo3::import_exception!(concurrent.futures, CancelledError);
pyo3::import_exception!(concurrent.futures, InvalidStateError);

/// Imports every class above, so that none has to be imported when it is needed.
#[pyfunction]
pub(crate) fn load_errors(py: Python<'_>) {
    use pyo3::PyTypeInfo;
    for class in [
        MailboxFullError::type_object,
        WorkerStoppedError::type_object,
        UnknownMessageError::type_object,
        DeadlineError::type_object,
        WorkerCrashedError::type_object,
        AskCycleError::type_object,
        ForkedProcessError::type_object,
        CancelledError::type_object,
        InvalidStateError::type_object,
    ] {
        class(py);
    }
}

/// `concurrent.futures.TimeoutError`, which is the built-in one from Python 3.11 on.
pub(crate) fn wait_timeout(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "concurrent.futures", "TimeoutError") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    }
}

/// Why a message of `worker` was not handled.
pub(crate) fn failure(failure: Failure, worker: &str) -> PyErr {
    match failure {
        Failure::Dropped(reason) => MailboxFullError::new_err(format!(
            "dropped from the full mailbox of worker {worker:?} as its {reason} message"
        )),
        Failure::Stopped => WorkerStoppedError::new_err(format!(
            "worker {worker:?} stopped before it finished this message"
        )),
        Failure::Cancelled => CancelledError::new_err(()),
        Failure::Expired => DeadlineError::new_err(format!(
            "worker {worker:?} did not finish the message before its deadline"
        )),
        _ => PyRuntimeError::new_err(failure.to_string()),
    }
}

/// Why waiting is refused.
pub(crate) fn wait(py: Python<'_>, error: WaitError) -> PyErr {
    match error {
        WaitError::Cycle(names) => {
            let raised = AskCycleError::new_err(WaitError::Cycle(names.clone()).to_string());
            match PyTuple::new(py, names).and_then(|names| raised.value(py).setattr("cycle", names))
            {
                Ok(()) => raised,
                Err(error) => error,
            }
        }
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

pub(crate) fn stopped(name: &str) -> PyErr {
    WorkerStoppedError::new_err(format!(
        "worker {name:?} is stopped; make a new one to go on"
    ))
}

pub(crate) fn pool_stopped() -> PyErr {
    WorkerStoppedError::new_err("cannot schedule new futures after shutdown")
}

pub(crate) fn full(name: &str, capacity: usize, hint: &str) -> PyErr {
    MailboxFullError::new_err(format!(
        "the mailbox of {name:?} is full ({capacity} messages); {hint}"
    ))
}

pub(crate) fn forked() -> PyErr {
    ForkedProcessError::new_err(
        "this worker belongs to the parent process; after os.fork() make a new worker or pool in the child",
    )
}

pub(crate) fn not_set_up() -> PyErr {
    PyRuntimeError::new_err("call super().__init__(...) in your __init__ before using the worker")
}

pub(crate) fn not_a_type(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "a message type must be a str, not {}",
        class_name(object)
    ))
}

pub(crate) fn not_an_id(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "message_id must be a str or None, not {}",
        class_name(object)
    ))
}

pub(crate) fn not_a_timeout(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "timeout must be a number of seconds or None, not {}",
        class_name(object)
    ))
}

pub(crate) fn bad_timeout(seconds: f64) -> PyErr {
    PyValueError::new_err(format!("timeout must be 0 or more seconds, not {seconds}"))
}

pub(crate) fn reserved(kind: &str) -> PyErr {
    PyValueError::new_err(format!(
        "{kind:?} is the owner's side of a reply and cannot be posted; handle it with on_message({kind:?}, handler)"
    ))
}

fn class_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "that".to_owned(), |name| name.to_string())
}
