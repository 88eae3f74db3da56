//! The event loops that coroutines await on, each with its completions.

use std::cell::RefCell;
use std::ffi::c_ulong;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::interpreter::context;

use super::waiter::Completions;

/// A loop and its completions, both weakly.
type KnownLoop = (Py<PyWeakrefReference>, Py<PyWeakrefReference>);

thread_local! {
    /// The loops that awaited on this thread and still exist. Nearly always one; more where loops take turns.
    static KNOWN: RefCell<Vec<KnownLoop>> = const { RefCell::new(Vec::new()) };
}

/// The loop that runs on this thread and its completions, where that is the last one that awaited here.
///
/// asyncio's own answer asks the system for the number of the process, in most versions of Python.
fn last_running(py: Python<'_>) -> Option<(Bound<'_, PyAny>, Bound<'_, Completions>)> {
    let (weak, completions) = KNOWN.with(|known| {
        let known = known.borrow();
        let (weak, completions) = known.last()?;
        Some((weak.clone_ref(py), completions.clone_ref(py)))
    })?;
    let event_loop = weak.bind(py).upgrade()?;
    // Set while a loop of asyncio runs; others have no such attribute, or for themselves.
    let running_on = event_loop.getattr_opt(intern!(py, "_thread_id")).ok()??;
    if running_on.extract::<c_ulong>().ok()? != context::thread_ident() {
        return None;
    }
    let completions = completions.bind(py).upgrade()?;
    Some((event_loop, completions.cast_into().ok()?))
}

/// The completions of `event_loop`.
fn completions_of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Completions>> {
    let py = event_loop.py();
    let known = KNOWN.with(|known| {
        known.borrow().iter().find_map(|(weak, completions)| {
            let same = weak
                .bind(py)
                .upgrade()
                .is_some_and(|known| known.is(event_loop));
            if same {
                completions.bind(py).upgrade()
            } else {
                None
            }
        })
    });
    if let Some(known) = known {
        return Ok(known.cast_into::<Completions>()?);
    }
    let made = Completions::new(event_loop)?;
    let pair = (
        PyWeakrefReference::new(event_loop)?.unbind(),
        PyWeakrefReference::new(made.as_any())?.unbind(),
    );
    let gone: Vec<KnownLoop> = KNOWN.with(|known| {
        let mut known = known.borrow_mut();
        let (kept, gone) = known.drain(..).partition(|(weak, made)| {
            weak.bind(py).upgrade().is_some() && made.bind(py).upgrade().is_some()
        });
        *known = kept;
        known.push(pair);
        gone
    });
    drop(gone);
    Ok(made)
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = RUNNING_LOOP
        .import(py, "asyncio", "_get_running_loop")?
        .call0()?;
    if event_loop.is_none() {
        return Err(PyRuntimeError::new_err(
            "await a WorkerFuture in a coroutine of a running event loop, or call its result()",
        ));
    }
    Ok(event_loop)
}

/// The event loop that runs on this thread, and its completions.
pub(super) fn running(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Bound<'_, Completions>)> {
    if let Some(here) = last_running(py) {
        return Ok(here);
    }
    let event_loop = running_loop(py)?;
    let completions = completions_of(&event_loop)?;
    Ok((event_loop, completions))
}
