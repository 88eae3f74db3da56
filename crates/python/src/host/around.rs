//! What surrounds the calls of handlers: the middleware of a worker.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::interpreter::ending;

/// Calls handlers, through a `pytoweb._around.Around` where there is one.
#[derive(Debug, Default)]
pub(crate) struct Surroundings(OnceLock<Py<PyAny>>);

impl Surroundings {
    pub(crate) fn new(around: Option<Py<PyAny>>) -> Self {
        let own = Self::default();
        if let Some(around) = around {
            own.set(around);
        }
        own
    }

    /// The same, for the endpoint that takes this one's place in a forked child.
    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        Self::new(self.0.get().map(|around| around.clone_ref(py)))
    }

    /// Has `around(function, args, kwargs, awaits)` make the calls from now on; the first one stays.
    pub(crate) fn set(&self, around: Py<PyAny>) {
        let _ = self.0.set(around);
    }

    /// Whether handlers are called as they are.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.0.get().is_none()
    }

    /// Calls the handler of a message.
    pub(crate) fn handle<'py>(
        &self,
        handler: &Bound<'py, PyAny>,
        data: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.0.get() {
            None => ending::call_one(handler, &data),
            Some(around) => {
                let py = handler.py();
                let none: Option<&Bound<'py, PyDict>> = None;
                let args = (handler, (data,), none, true).into_pyobject(py)?;
                ending::call(around.bind(py), &args, None)
            }
        }
    }

    /// Calls a function; `awaits`: a coroutine that it returns is run too.
    pub(crate) fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        awaits: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.0.get() {
            None => ending::call(function, &args, kwargs),
            Some(around) => {
                let py = function.py();
                let args = (function, args, kwargs, awaits).into_pyobject(py)?;
                ending::call(around.bind(py), &args, None)
            }
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.get().map_or(Ok(()), |around| visit.call(around))
    }
}
