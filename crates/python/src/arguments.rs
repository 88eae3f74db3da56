//! What callers may pass, checked at the call that passes it.

use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::error;

/// A message type: any text but the two of the owner's side.
pub(crate) fn message_type(object: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
    let kind = object
        .cast::<PyString>()
        .map_err(|_| error::not_a_type(object))?;
    match kind.to_str() {
        Ok(name @ ("response" | "error")) => Err(error::reserved(name)),
        Ok(_) => Ok(kind.clone().unbind()),
        Err(_) => Err(error::no_text("a message type", kind)),
    }
}

/// A message id: a text, or none.
pub(crate) fn message_id(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyString>>> {
    match object {
        None => Ok(None),
        Some(object) if object.is_none() => Ok(None),
        Some(object) => {
            let id = object
                .cast::<PyString>()
                .map_err(|_| error::not_an_id(object))?;
            if id.to_str().is_err() {
                return Err(error::no_text("message_id", id));
            }
            Ok(Some(id.clone().unbind()))
        }
    }
}

/// A bool; `default` where it is not given. `what` is the name of the argument.
pub(crate) fn flag(object: Option<&Bound<'_, PyAny>>, what: &str, default: bool) -> PyResult<bool> {
    match object.filter(|object| !object.is_none()) {
        None => Ok(default),
        Some(object) => match object.cast::<PyBool>() {
            Ok(given) => Ok(given.is_true()),
            Err(_) => Err(PyTypeError::new_err(format!(
                "{what} must be a bool, not {}",
                error::class_name(object)
            ))),
        },
    }
}

/// Whether a message with or without an id asks for a reply: one with an id does, if nothing is said.
pub(crate) fn reply(object: Option<&Bound<'_, PyAny>>, has_id: bool) -> PyResult<bool> {
    let reply = flag(object, "reply", true)?;
    let is_said = object.is_some_and(|object| !object.is_none());
    if is_said && reply && !has_id {
        return Err(PyValueError::new_err(
            "reply=True needs a message_id, by which the 'response' handler knows the message: pass one, or use ask() for \
             the future of a reply",
        ));
    }
    Ok(reply)
}

pub(crate) fn timeout(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    seconds(object, "timeout")
}

/// Seconds: any number from 0 on that converts to a float. Infinity, and more than a clock can tell, are no limit. `what` is
/// the name of the argument.
pub(crate) fn seconds(object: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<Duration>> {
    let Some(object) = object.filter(|object| !object.is_none()) else {
        return Ok(None);
    };
    if object.is_instance_of::<PyBool>() {
        return Err(error::not_a_timeout(object, what));
    }
    let seconds: f64 = match object.extract() {
        Ok(seconds) => seconds,
        Err(raised) if raised.is_instance_of::<PyOverflowError>(object.py()) => {
            if object.lt(0)? {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
        Err(_) => return Err(error::not_a_timeout(object, what)),
    };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(error::bad_timeout(seconds, what));
    }
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

/// The same for what waits in Python: a float, or none for no limit. ``name`` is that of the argument.
#[pyfunction]
#[pyo3(signature = (timeout, name = "timeout"))]
pub(crate) fn checked_timeout(
    timeout: Option<&Bound<'_, PyAny>>,
    name: &str,
) -> PyResult<Option<f64>> {
    Ok(seconds(timeout, name)?.map(|limit| limit.as_secs_f64()))
}
