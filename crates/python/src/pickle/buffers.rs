//! Bytes of Python objects, and Python objects over bytes: the parts of the buffer protocol that PyO3 does not wrap.
#![expect(unsafe_code, reason = "the buffer protocol of the C API")]

use std::ffi::c_char;
use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pytoweb_process::Bytes;

/// Streams up to this long are copied into a `bytes`, which is cheaper than a view of them.
const COPY_BELOW: usize = 4096;

/// Runs `f` on the bytes of an object that is contiguous in memory.
pub(crate) fn with_bytes<R>(object: &Bound<'_, PyAny>, f: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(f(bytes.as_bytes()));
    }
    let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
    // SAFETY: attached, as `object` proves; the call fills the view in or returns an error.
    let status = unsafe {
        ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_CONTIG_RO)
    };
    if status != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    // SAFETY: filled in, as the status says.
    let mut view = unsafe { view.assume_init() };
    let len = usize::try_from(view.len).unwrap_or(0);
    let bytes: &[u8] = if len == 0 {
        &[]
    } else {
        // SAFETY: the exporter keeps `len` bytes there until the release below. Nothing writes to them meanwhile:
        // this thread holds the interpreter lock, and `f` runs no Python code.
        unsafe { std::slice::from_raw_parts(view.buf.cast::<u8>(), len) }
    };
    let result = f(bytes);
    // SAFETY: got above, released once.
    unsafe { ffi::PyBuffer_Release(&raw mut view) };
    Ok(result)
}

/// A `bytes` or a view, for a reader that is done with it before `bytes` goes.
pub(crate) fn lend<'py>(py: Python<'py>, bytes: &Bytes<'_>) -> PyResult<Bound<'py, PyAny>> {
    if bytes.len() <= COPY_BELOW
        && let Some(slice) = bytes.as_slice()
    {
        return Ok(PyBytes::new(py, slice).into_any());
    }
    let len = isize::try_from(bytes.len()).unwrap_or(isize::MAX);
    // SAFETY: attached; the memory outlives the view, whose only reader, `pickle.loads`, lets go of it when it returns.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyMemoryView_FromMemory(
                bytes.as_ptr().cast_mut().cast::<c_char>(),
                len,
                ffi::PyBUF_READ,
            ),
        )
    }
}

/// A `bytearray` with a copy of the bytes.
pub(crate) fn own<'py>(py: Python<'py>, bytes: &Bytes<'_>) -> PyResult<Bound<'py, PyAny>> {
    let len = isize::try_from(bytes.len()).unwrap_or(isize::MAX);
    // SAFETY: attached; the bytes are readable for that length while the parcel lives, and are only copied. If the other
    // process changes them meanwhile, the copy is of both.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyByteArray_FromStringAndSize(bytes.as_ptr().cast::<c_char>(), len),
        )
    }
}
