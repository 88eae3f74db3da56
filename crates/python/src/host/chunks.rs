//! How calls of `map` are told from others.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// What `map` calls in the place of its function.
pub(crate) fn run_chunk(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static RUN_CHUNK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUN_CHUNK.import(py, "pytoweb._chunks", "run_chunk")
}
