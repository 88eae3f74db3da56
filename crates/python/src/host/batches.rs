//! Batches: what a handler of many messages is called with, and what each of them gets of what it returns.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::host::task::Task;

/// The function that takes a list, where `handler` is one of batches: see `_batch.py`.
pub(crate) fn list_handler<'py>(
    handler: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = handler.py();
    if !handler
        .get_type()
        .is(CLASS.import(py, "pytoweb._batch", "BatchHandler")?)
    {
        return Ok(None);
    }
    handler.getattr(intern!(py, "call")).map(Some)
}

/// What a message of a batch fails with, where that is what stands in the place of its result.
pub(crate) fn item_error<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    if value.is_instance(CLASS.import(py, "pytoweb._batch", "BatchItemError")?)? {
        return value.getattr(intern!(py, "error")).map(Some);
    }
    Ok(None)
}

/// What the messages of a batch get.
pub(crate) enum Results<'py> {
    /// All the same.
    Same(PyResult<Bound<'py, PyAny>>),
    Each(Bound<'py, PyList>),
}

impl<'py> Results<'py> {
    /// Those of what a `BatchHandler` returned: a list, or what is for all in a tuple.
    pub(crate) fn of(returned: PyResult<Bound<'py, PyAny>>) -> Self {
        let returned = match returned {
            Err(raised) => return Self::Same(Err(raised)),
            Ok(returned) => returned,
        };
        match returned.cast_into::<PyList>() {
            Ok(each) => Self::Each(each),
            Err(other) => Self::Same(other.into_inner().get_item(0)),
        }
    }

    /// That of the message at `index`.
    pub(crate) fn get(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Same(Ok(value)) => Ok(value.clone()),
            Self::Same(Err(raised)) => Err(raised.clone_ref(py)),
            Self::Each(each) => {
                let value = each.get_item(index)?;
                match item_error(&value)? {
                    Some(error) => Err(PyErr::from_value(error)),
                    None => Ok(value),
                }
            }
        }
    }
}

/// Calls a function once all messages of a batch are to be stopped: the interrupter of each.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct OnceAllStop {
    pub(crate) tasks: Vec<Arc<Task>>,
    pub(crate) interrupter: Py<PyAny>,
}

#[pymethods]
impl OnceAllStop {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        if self.tasks.iter().all(|task| task.is_own_stop_asked()) {
            self.interrupter.call0(py)?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.interrupter)
    }
}
