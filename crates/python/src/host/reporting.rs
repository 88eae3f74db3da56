//! What handlers report of their progress, brought to the futures of their messages: see `progress.rs`.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};
use pytoweb_process::Parcel;

use crate::error;
use crate::host::progress::{AfterReport, Report, ReportMeter};
use crate::host::task::Task;
use crate::interpreter::attached::Attached;
use crate::pickle::pickling;

impl Task {
    fn meter(&self) -> &ReportMeter {
        &self.beside().meter
    }

    /// Its handler, on a thread or a loop of the host, says how far it is.
    pub(crate) fn report(
        self: &Arc<Self>,
        py: Python<'_>,
        report: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        if self.slot.state().is_done() {
            return Ok(());
        }
        let report = Report::Here(Arc::new(Attached::new(report.unbind())));
        match self.meter().note(report, false) {
            AfterReport::Nothing => {}
            AfterReport::Flush => self.flush(py),
            AfterReport::FlushAfter(wait) => {
                let meter = Bound::new(py, ProgressMeter(self.clone()))?;
                later(py, meter.as_any(), wait)?;
            }
        }
        Ok(())
    }

    /// Its child says how far the handler is. True: it is to be flushed.
    pub(crate) fn report_remote(&self, parcel: Parcel) -> bool {
        !self.slot.state().is_done()
            && self.meter().note(Report::Remote(Arc::new(parcel)), true) == AfterReport::Flush
    }

    /// Tells the watchers.
    pub(crate) fn flush(&self, py: Python<'_>) {
        tell(py, self.meter().to_tell(py));
    }

    /// Has `watcher()` called when there is something new, on any thread.
    pub(crate) fn watch(&self, watcher: Py<PyAny>) -> bool {
        self.meter().watch(watcher)
    }

    /// It is over: the watchers are told once more, for the last report.
    pub(crate) fn end_progress(&self) {
        Python::attach(|py| tell(py, self.meter().end()));
    }

    /// The latest report, and the how-manieth it is.
    pub(crate) fn latest_report<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(u64, Bound<'py, PyAny>)>> {
        let latest = self.beside.get().and_then(|beside| beside.meter.latest());
        Ok(match latest {
            None => None,
            Some((version, Report::Here(report))) => {
                Some((version, report.bind(py).clone().into_any()))
            }
            Some((version, Report::Remote(parcel))) => {
                let report = pickling::unpack(py, &parcel).map_err(|raised| {
                    let error = error::unreadable_reply(py, raised);
                    PyErr::from_value(error.into_bound(py))
                })?;
                Some((version, report))
            }
        })
    }
}

fn tell(py: Python<'_>, watchers: Vec<Py<PyAny>>) {
    for watcher in watchers {
        if let Err(error) = watcher.call0(py) {
            error.write_unraisable(py, Some(watcher.bind(py)));
        }
    }
}

/// Has the ticker call `meter.flush()` after a while.
pub(crate) fn later(py: Python<'_>, meter: &Bound<'_, PyAny>, wait: Duration) -> PyResult<()> {
    py.import(intern!(py, "pytoweb._progress"))?
        .call_method1(intern!(py, "later"), (meter, wait.as_secs_f64()))
        .map(drop)
}

/// The progress of a message of the host, for the ticker and those who watch it.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct ProgressMeter(pub(crate) Arc<Task>);

#[pymethods]
impl ProgressMeter {
    /// Tells those who watch it.
    fn flush(&self, py: Python<'_>) {
        self.0.flush(py);
    }

    /// The latest report and the how-manieth it is; None where there is none.
    fn latest<'py>(&self, py: Python<'py>) -> PyResult<Option<(u64, Bound<'py, PyAny>)>> {
        self.0.latest_report(py)
    }
}

/// What a handler reports, checked: exact numbers and a text, which go to any process.
pub(crate) fn checked<'py>(
    done: &Bound<'py, PyAny>,
    total: Option<&Bound<'py, PyAny>>,
    text: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    if let Some(text) = text
        && !text.is_instance_of::<PyString>()
    {
        let kind = text.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "text must be a str, not {kind}"
        )));
    }
    let total = total.map(|total| number(total, "total")).transpose()?;
    (number(done, "done")?, total, text).into_pyobject(done.py())
}

/// An exact int or float: `value` itself, or what it is as one. A finite one from 0 on: a bar can show no other.
fn number<'py>(value: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    let number = exact_number(value, what)?;
    let is_fit = if let Ok(number) = number.cast_exact::<PyFloat>() {
        number.value().is_finite() && number.value() >= 0.0
    } else if let Ok(number) = number.extract::<i64>() {
        number >= 0
    } else {
        // Far from 0, on one side or the other.
        number.gt(0)?
    };
    if is_fit {
        return Ok(number);
    }
    Err(PyValueError::new_err(format!(
        "{what} must be 0 or more, and finite, not {}",
        value.repr()?
    )))
}

fn exact_number<'py>(value: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    if value.is_exact_instance_of::<PyInt>() || value.is_exact_instance_of::<PyFloat>() {
        return Ok(value.clone());
    }
    if !value.is_instance_of::<PyBool>() {
        for method in ["__index__", "__float__"] {
            if let Some(convert) = value.getattr_opt(method)? {
                return convert.call0();
            }
        }
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "{what} must be a number, not {kind}"
    )))
}
