//! Waits that Python code knows of: those of `concurrent.futures` for futures of ours, in which circles are looked for
//! as in `result()`, and those for an event loop that another handler blocks.

use std::mem;

use pyo3::prelude::*;
use pytoweb_engine::WaitNode;

use crate::error;
use crate::host::edges::WaitEdge;
use crate::host::endpoint::Endpoint;
use crate::host::future::FutureBase;
use crate::host::worker_message::WorkerMessage;
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

/// Notes that the handler of one message cannot go on before that of another one has.
///
/// Args:
///     waiter: The worker or pool whose handler waits.
///     waiting: Its message.
///     target: The worker or pool whose handler is waited for.
///     message: Its message.
///
/// Returns:
///     An object that holds this note while it lives.
///
/// Raises:
///     AskCycleError: It could wait for ever.
#[pyfunction]
pub(crate) fn note_wait_of(
    py: Python<'_>,
    waiter: &Bound<'_, Endpoint>,
    waiting: Option<&Bound<'_, WorkerMessage>>,
    target: &Bound<'_, Endpoint>,
    message: Option<&Bound<'_, WorkerMessage>>,
) -> PyResult<HeldWaits> {
    let ticket_of = |message: Option<&Bound<'_, WorkerMessage>>| message?.get().ticket();
    let target_address = target.get().address()?;
    let mut edges = Vec::new();
    // A worker is one node with all its messages: an earlier one that was given up does not wait for the next.
    if !(waiter.is(target) && target_address.is_exclusive()) {
        let waiter = WaitNode::new(&waiter.get().address()?, ticket_of(waiting));
        let edge = pytoweb_engine::edge(&waiter, &target_address, ticket_of(message).as_ref());
        edges.push(edge.map_err(|error| error::wait(py, error))?);
    }
    Ok(HeldWaits {
        generation: Generation::now(),
        edges,
    })
}
