//! What a coroutine gets of a reply.

use pyo3::intern;
use pyo3::prelude::*;

use super::FutureBase;

/// What `await future` returns or raises once the reply stands.
pub(super) fn of(py: Python<'_>, future: &Py<FutureBase>) -> PyResult<Py<PyAny>> {
    let future = future.get();
    if future.is_cancelled()? {
        return Err(cancelled_error(py, None));
    }
    match future.outcome(py)? {
        Some(Ok(value)) => Ok(value.clone_ref(py)),
        Some(Err(error)) => Err(PyErr::from_value(error.bind(py).clone())),
        None => Err(unfinished_error(py)),
    }
}

/// What a coroutine expects of a cancelled future; `concurrent.futures` has a class of its own.
pub(super) fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    asyncio_error(py, "CancelledError", message)
}

/// What a coroutine expects of a future that is not done.
fn unfinished_error(py: Python<'_>) -> PyErr {
    asyncio_error(py, "InvalidStateError", None)
}

fn asyncio_error(py: Python<'_>, name: &str, message: Option<Py<PyAny>>) -> PyErr {
    let made = py.import(intern!(py, "asyncio")).and_then(|asyncio| {
        let class = asyncio.getattr(name)?;
        match message {
            Some(message) => class.call1((message,)),
            None => class.call0(),
        }
    });
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
