//! Calls of handlers on a thread that may outlive the interpreter.
//!
//! Before Python 3.14 the interpreter ends a thread that asks for its lock once it is torn down: with `pthread_exit`,
//! which unwinds the thread's frames. A frame that catches panics stops that, and the C library aborts the process. So
//! the thread stops in the first frame of ours, for the short time that the process still has.
#![expect(
    unsafe_code,
    reason = "calls that may unwind, which PyO3 declares as if they could not"
)]

use std::thread;

use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

unsafe extern "C-unwind" {
    fn PyObject_Call(
        callable: *mut PyObject,
        args: *mut PyObject,
        kwargs: *mut PyObject,
    ) -> *mut PyObject;
    fn PyObject_CallFunctionObjArgs(callable: *mut PyObject, ...) -> *mut PyObject;
}

/// Stops the thread for good when it is dropped; a panic goes on.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        while !thread::panicking() {
            thread::park();
        }
    }
}

/// `function(argument)`.
pub(crate) fn call_one<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let none: *mut PyObject = std::ptr::null_mut();
    let stop = Stop;
    // SAFETY: both are alive and the interpreter lock is held; null ends the arguments.
    let result =
        unsafe { PyObject_CallFunctionObjArgs(function.as_ptr(), argument.as_ptr(), none) };
    std::mem::forget(stop);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}

/// `function(*args, **kwargs)`.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(std::ptr::null_mut(), |kwargs| kwargs.as_ptr());
    let stop = Stop;
    // SAFETY: all are alive and the interpreter lock is held; null is for no keyword arguments.
    let result = unsafe { PyObject_Call(function.as_ptr(), args.as_ptr(), kwargs) };
    std::mem::forget(stop);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}
