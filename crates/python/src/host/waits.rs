//! The waits of `concurrent.futures` for futures of ours: circles are looked for as in `result()`.

use std::mem;

use pyo3::prelude::*;

use crate::host::edges::WaitEdge;
use crate::host::future::FutureBase;
use crate::interpreter::generation::Generation;

/// Notes that a handler waits, for as long as this lives.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct HeldWaits {
    generation: Generation,
    edges: Vec<WaitEdge>,
}

impl Drop for HeldWaits {
    fn drop(&mut self) {
        if !self.generation.is_here() {
            // Its locks are the parent's.
            mem::forget(mem::take(&mut self.edges));
        }
    }
}

/// Notes that the handler of this thread, if one runs here, waits until all of ``futures`` are done.
///
/// Returns:
///     An object that holds this note while it lives.
///
/// Raises:
///     AskCycleError: It could wait for ever.
#[pyfunction]
pub(crate) fn note_waits(
    py: Python<'_>,
    futures: Vec<Bound<'_, FutureBase>>,
) -> PyResult<HeldWaits> {
    let mut edges = Vec::new();
    for future in futures {
        edges.extend(future.get().edge_of_handler(py)?);
    }
    Ok(HeldWaits {
        generation: Generation::now(),
        edges,
    })
}
