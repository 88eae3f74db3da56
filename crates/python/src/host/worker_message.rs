//! What Python sees of a message: `WorkerMessage`.

use std::fmt;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pytoweb_engine::{Address, Ticket};
use pytoweb_process::ChildLink;

use crate::error::Quoted;
use crate::host::task::Task;

/// The way from a handler in a child to its host.
pub(crate) trait HostChannel: fmt::Debug + Send + Sync {
    /// Sends an event of message `seq`, or keeps it to be sent soon.
    fn emit(&self, py: Python<'_>, seq: u64, name: &str, data: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Sends a report of the progress of message `seq`, now or soon.
    fn report(&self, py: Python<'_>, seq: u64, report: Bound<'_, PyTuple>) -> PyResult<()>;
}

/// Where a message is handled.
#[derive(Debug)]
pub(crate) enum Site {
    /// In the process that it was posted in.
    Here {
        address: Address,
        task: Option<Arc<Task>>,
    },
    /// In a child, under the host's number.
    Child {
        link: Arc<dyn ChildLink>,
        seq: u64,
        /// Whether a future may wait for it.
        is_asked: bool,
        to_host: Arc<dyn HostChannel>,
    },
}

/// One message; what ``current_message()`` gives, and what ``response`` and ``error`` handlers get.
///
/// It cannot be changed, but for ``cancelled``, which is live.
#[pyclass(module = "pytoweb.workers", frozen)]
#[derive(Debug)]
pub(crate) struct WorkerMessage {
    pub(crate) kind: Py<PyString>,
    pub(crate) data: Py<PyAny>,
    pub(crate) id: Option<Py<PyString>>,
    pub(crate) worker: String,
    pub(crate) attempt: u32,
    /// Where it is handled, if it is.
    pub(crate) site: Option<Site>,
}

impl WorkerMessage {
    /// The ticket of a message that is handled in this process.
    pub(crate) fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        match &self.site {
            Some(Site::Here { task, .. }) => task
                .as_ref()
                .map(|task| -> Arc<dyn Ticket> { task.clone() }),
            _ => None,
        }
    }

    /// Brings a report of its handler's progress to its future, if it may have one.
    pub(crate) fn report(&self, py: Python<'_>, report: Bound<'_, PyTuple>) -> PyResult<()> {
        match &self.site {
            Some(Site::Here {
                task: Some(task), ..
            }) if task.asked => task.report(py, report),
            Some(Site::Child {
                seq,
                is_asked: true,
                to_host,
                ..
            }) => to_host.report(py, *seq, report),
            _ => Ok(()),
        }
    }

    /// What a handler in a child sees.
    pub(crate) const fn of_child(
        kind: Py<PyString>,
        data: Py<PyAny>,
        id: Option<Py<PyString>>,
        worker: String,
        attempt: u32,
        site: Site,
    ) -> Self {
        Self {
            kind,
            data,
            id,
            worker,
            attempt,
            site: Some(site),
        }
    }
}

#[pymethods]
impl WorkerMessage {
    #[new]
    #[pyo3(signature = (r#type, data=None, id=None, worker=None))]
    fn new(
        py: Python<'_>,
        r#type: Py<PyString>,
        data: Option<Py<PyAny>>,
        id: Option<Py<PyString>>,
        worker: Option<String>,
    ) -> Self {
        let data = data.unwrap_or_else(|| py.None());
        Self {
            kind: r#type,
            data,
            id,
            worker: worker.unwrap_or_default(),
            attempt: 1,
            site: None,
        }
    }

    /// The type that it was posted with; ``"response"`` or ``"error"`` for a reply.
    ///
    /// For a function of ``submit`` or ``run_in_worker`` its qualified name.
    #[getter]
    fn r#type(&self, py: Python<'_>) -> Py<PyString> {
        self.kind.clone_ref(py)
    }

    /// The payload, as it was posted.
    ///
    /// For a reply a dict with ``"id"`` and either ``"result"`` or ``"error"``; for a function its positional
    /// arguments.
    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        self.data.clone_ref(py)
    }

    /// The ``message_id`` that it was posted with, or None.
    #[getter]
    fn id(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.id.as_ref().map(|id| id.clone_ref(py))
    }

    /// The name of the worker or pool that handles it.
    #[getter]
    fn worker(&self) -> &str {
        &self.worker
    }

    /// The ordinal of this delivery, from 1.
    ///
    /// Higher after a failure that ``Retry`` has tried again, and after a crash that ``max_attempts`` allows.
    #[getter]
    const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether no caller waits for it any more; live, for long-running handlers to look at now and then.
    ///
    /// True once its future was cancelled while it ran, its deadline has passed, or its worker was
    /// terminated. In a handler of batches it is the first message, and true once that holds for all of them.
    #[getter]
    fn cancelled(&self) -> bool {
        match &self.site {
            None => false,
            Some(Site::Here { address, task }) => {
                address.is_terminated() || task.as_ref().is_some_and(|task| task.is_stop_asked())
            }
            Some(Site::Child { link, seq, .. }) => link.is_stop_asked(*seq),
        }
    }

    /// Sends an event to the host; for a message of a child.
    fn _emit(&self, py: Python<'_>, name: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.site {
            Some(Site::Child { seq, to_host, .. }) => to_host.emit(py, *seq, name, data),
            _ => Err(PyRuntimeError::new_err("this is no message of a child")),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let kind = self.kind.bind(py).repr()?;
        let id = match &self.id {
            Some(id) => id.bind(py).repr()?.to_string(),
            None => "None".to_owned(),
        };
        Ok(format!(
            "WorkerMessage(type={kind}, id={id}, worker={})",
            Quoted(&self.worker)
        ))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.data)
    }
}
