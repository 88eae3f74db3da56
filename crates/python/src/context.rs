//! The parts of CPython's C API that PyO3 does not wrap: contexts, and bare instances of a subclass.
//!
//! The only module of this crate with `unsafe` in it.
#![expect(unsafe_code, reason = "the one home of calls into CPython's C API")]

use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::ffi;

/// A copy of the calling thread's context, as `contextvars.copy_context()` makes it.
pub(crate) fn capture(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached, as `py` proves; the call returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// Makes `context` the calling thread's current one until the guard is dropped.
pub(crate) fn enter<'a, 'py>(context: &'a Bound<'py, PyAny>) -> PyResult<Entered<'a, 'py>> {
    // SAFETY: attached, as `context` proves; it is a context object, because `capture` made it (the call checks).
    match unsafe { ffi::PyContext_Enter(context.as_ptr()) } {
        0 => Ok(Entered(context)),
        _ => Err(PyErr::fetch(context.py())),
    }
}

pub(crate) struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: attached, and the context was entered by this thread in `enter`.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            // The handler left another context entered: a defect of the handler, told where such are told.
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), None);
        }
    }
}

/// An instance of `class` without running its `__init__`.
pub(crate) fn bare_instance<'py>(class: &Bound<'py, PyType>, none: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `class` is a live type object; reading a slot of it is always allowed while attached.
    let Some(new) = (unsafe { (*class.as_type_ptr()).tp_new }) else {
        return Err(PySystemError::new_err("the future class cannot be instantiated"));
    };
    // SAFETY: `tp_new` takes the type, an empty tuple and no keywords, and returns a new reference or null with an
    // exception set.
    unsafe { Bound::from_owned_ptr_or_err(class.py(), new(class.as_type_ptr(), none.as_ptr(), std::ptr::null_mut())) }
}

/// Whether `object` is the coroutine of an `async def`.
pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a type comparison.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}
