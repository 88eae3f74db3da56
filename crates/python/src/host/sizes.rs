//! The bytes of a message, for mailboxes that are bounded by them.
//!
//! For another process they are those of its pickle. In this one: the length of a buffer, the length of a str, and for
//! anything else what `size_of` says, or `sys.getsizeof` without what it refers to.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::error::class_name;

/// How the messages of one endpoint are weighed.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Called with the data of each message that is no buffer and no str.
    pub(crate) size_of: Option<Py<PyAny>>,
}

impl Scale {
    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        Self {
            size_of: self.size_of.as_ref().map(|size_of| size_of.clone_ref(py)),
        }
    }

    /// The bytes of a message's data.
    pub(crate) fn weigh(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return Ok(bytes.as_bytes().len());
        }
        if let Ok(text) = data.cast::<PyString>() {
            return text.len();
        }
        if let Ok(buffer) = PyUntypedBuffer::get(data) {
            return Ok(buffer.len_bytes());
        }
        let py = data.py();
        let Some(size_of) = &self.size_of else {
            let sys = py.import(intern!(py, "sys"))?;
            return sys
                .call_method1(intern!(py, "getsizeof"), (data, 0))?
                .extract();
        };
        let size = size_of.bind(py).call1((data,))?;
        let bytes: i128 = size.extract().map_err(|_| {
            PyTypeError::new_err(format!(
                "size_of must return a number of bytes as an int, not {}",
                class_name(&size)
            ))
        })?;
        usize::try_from(bytes).map_err(|_| {
            PyValueError::new_err(format!("size_of must return 0 or more bytes, not {bytes}"))
        })
    }

    /// The bytes of the arguments of a call.
    pub(crate) fn weigh_call(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<usize> {
        let mut bytes = 0_usize;
        for data in args.iter() {
            bytes = bytes.saturating_add(self.weigh(&data)?);
        }
        for (_, data) in kwargs.into_iter().flatten() {
            bytes = bytes.saturating_add(self.weigh(&data)?);
        }
        Ok(bytes)
    }
}
