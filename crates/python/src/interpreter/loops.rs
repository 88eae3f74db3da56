//! Event loops, as the watchdog sees them: when the thread of one is at work, and whose coroutines run there.
//!
//! The thread of a loop is at work from the return of its selector to the next wait, whatever it runs meanwhile: a
//! [`Select`] in the selector's place notes both. Which coroutine is at a step is not noted, because that would cost each
//! step a tenth of a loop's turn; but a loop whose coroutines are all of one worker can only be at work for that.

use std::cell::RefCell;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::interpreter::marks::{self, Label, Mark, Residence};

/// An event loop and its name. What its thread marks points here.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct LoopLabel {
    name: String,
    label: Label,
}

impl LoopLabel {
    /// A coroutine comes to the loop, of the worker whose messages share `shared`.
    pub(crate) fn takes_in<S>(&self, shared: &S) -> Residence {
        self.label.takes_in(std::ptr::from_ref(shared).addr())
    }
}

/// The marks of the calling thread point to a label, for as long as the thread lives.
struct Own;

impl Drop for Own {
    fn drop(&mut self) {
        marks::own(Mark::ends_loop);
    }
}

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

#[pymethods]
impl LoopLabel {
    #[new]
    fn new(py: Python<'_>, name: String) -> PyResult<Py<Self>> {
        let label = Label::of_loop(&name);
        let this = Py::new(py, Self { name, label })?;
        this.get().label.is_of::<Self>(this.get());
        Ok(this)
    }

    /// The calling thread is about to run the loop, until it ends.
    fn begin(&self) {
        marks::serve_as(&self.name);
        marks::rests();
        marks::own(|mark| mark.runs_loop(self));
        OWN.with(|own| *own.borrow_mut() = Some(Own));
    }
}

/// Its `wait` takes the place of the `select` of a loop's selector: the loop is at rest while it waits there.
#[pyclass(module = "pytoweb._core", frozen)]
pub(crate) struct Select {
    select: Py<PyAny>,
}

#[pymethods]
impl Select {
    /// `select`: that of the selector.
    #[new]
    fn new(select: Py<PyAny>) -> Self {
        Self { select }
    }

    /// Waits as `select(timeout)` does. Called by the loop, on its thread. No `__call__`: that takes longer, because its
    /// arguments come in a tuple.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        marks::own(|mark| {
            mark.loop_rests();
            let ready = self.select.call1(py, (timeout,));
            mark.loop_wakes();
            ready
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.select)
    }
}
