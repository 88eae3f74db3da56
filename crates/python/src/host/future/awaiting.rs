//! Replies as coroutines await them: one, or many as one.

use pyo3::prelude::*;

use super::gathering::Gathered;
use super::waiter::{Awaited, Waiter};
use super::{FutureBase, edge_of_coroutine, loops};

/// What `await future` iterates over.
pub(super) fn awaitable<'py>(future: &Bound<'py, FutureBase>) -> PyResult<Bound<'py, PyAny>> {
    let here = loops::running(future.py())?;
    let edge = edge_of_coroutine(future.py(), future.get())?;
    let awaited = Awaited::One(future.clone().unbind());
    Waiter::on(here, awaited, edge)
}

/// Awaits many replies as one; not for handlers, whose waits are to be known one by one.
///
/// Args:
///     futures: The futures of the replies.
///     return_exceptions: Whether an exception is a result like any other.
///
/// Returns:
///     An awaitable of the list of results, in the order of ``futures``.
#[pyfunction]
pub(crate) fn gathered(
    py: Python<'_>,
    futures: Vec<Py<FutureBase>>,
    return_exceptions: bool,
) -> PyResult<Bound<'_, PyAny>> {
    let awaited = Awaited::All(Gathered::new(futures, return_exceptions));
    Waiter::on(loops::running(py)?, awaited, None)
}
