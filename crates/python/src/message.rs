//! A message with Python payloads, and what Python sees of the one that runs.

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pytoweb_engine::{Address, Message, ReplyState, Ticket};

use crate::task::{Task, Value};

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// A typed message for the handler that is registered for its type.
    Typed { kind: Py<PyString>, data: Py<PyAny>, id: Option<Py<PyString>> },
    /// A function to call. `awaits`: a coroutine that it returns is run too, instead of being the result.
    Call { function: Py<PyAny>, args: Py<PyTuple>, kwargs: Option<Py<PyDict>>, awaits: bool },
}

#[derive(Debug)]
pub(crate) struct PyMessage {
    pub(crate) work: Work,
    /// The sender's context variables at the post.
    pub(crate) context: Py<PyAny>,
    pub(crate) task: Option<Arc<Task>>,
    /// The task holds the reply, and `finish` is to publish it.
    pub(crate) settled: bool,
    /// The reply for the owner's `response` or `error` handler.
    pub(crate) reply: Option<Value>,
}

impl Message for PyMessage {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.task.clone().map(|task| task as Arc<dyn Ticket>)
    }

    fn state(&self) -> Option<&ReplyState> {
        self.task.as_ref().map(|task| task.slot.state())
    }
}

impl PyMessage {
    pub(crate) const fn new(work: Work, context: Py<PyAny>, task: Option<Arc<Task>>) -> Self {
        Self { work, context, task, settled: false, reply: None }
    }

    /// The message as `current_message()` shows it.
    pub(crate) fn view(&self, py: Python<'_>, address: &Address) -> PyResult<WorkerMessage> {
        let (kind, data, id) = match &self.work {
            Work::Typed { kind, data, id } => {
                (kind.clone_ref(py), data.clone_ref(py), id.as_ref().map(|id| id.clone_ref(py)))
            }
            Work::Call { function, args, .. } => {
                let name = function.bind(py).getattr_opt(intern!(py, "__qualname__"))?;
                let kind = match name {
                    Some(name) => name.str()?,
                    None => function.bind(py).get_type().name()?,
                };
                (kind.unbind(), args.clone_ref(py).into_any(), None)
            }
        };
        Ok(WorkerMessage {
            kind,
            data,
            id,
            worker: address.name().to_owned(),
            delivery: Some(Delivery { address: address.clone(), task: self.task.clone() }),
        })
    }
}

thread_local! {
    /// The message whose handler runs on this thread, and a weak reference to its worker.
    static RUNNING: RefCell<Option<(PyMessage, Py<PyAny>)>> = const { RefCell::new(None) };
}

/// Puts `message` where `current_message()` finds it, for the time of `f`.
///
/// # Panics
/// Never in practice: handlers do not nest on a thread, and nobody else takes the message away.
#[expect(clippy::expect_used, reason = "the invariant above")]
pub(crate) fn with_running<R>(message: PyMessage, owner: Py<PyAny>, f: impl FnOnce() -> R) -> (PyMessage, R) {
    RUNNING.with(|running| *running.borrow_mut() = Some((message, owner)));
    let result = f();
    let running = RUNNING.with(|running| running.borrow_mut().take());
    (running.expect("the running message stays until its handler returns").0, result)
}

/// Type and id of the typed message whose handler runs on this thread.
pub(crate) fn running_kind(py: Python<'_>) -> Option<(Py<PyString>, Option<Py<PyString>>)> {
    RUNNING.with(|running| match &running.borrow().as_ref()?.0.work {
        Work::Typed { kind, id, .. } => Some((kind.clone_ref(py), id.as_ref().map(|id| id.clone_ref(py)))),
        Work::Call { .. } => None,
    })
}

/// The message whose handler runs on this thread, if one does.
#[pyfunction]
pub(crate) fn running_message(py: Python<'_>) -> PyResult<Option<WorkerMessage>> {
    let Some(address) = pytoweb_engine::current() else { return Ok(None) };
    RUNNING.with(|running| running.borrow().as_ref().map(|(message, _)| message.view(py, &address)).transpose())
}

/// The worker or pool whose handler runs on this thread, if one does and it still exists.
#[pyfunction]
pub(crate) fn running_owner(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    let owner = RUNNING.with(|running| running.borrow().as_ref().map(|(_, owner)| owner.clone_ref(py)));
    let Some(owner) = owner else { return Ok(None) };
    owner.call0(py).map(|owner| (!owner.is_none(py)).then_some(owner))
}

#[derive(Debug)]
struct Delivery {
    address: Address,
    task: Option<Arc<Task>>,
}

/// One message: type, data, id, the worker's name, and the ordinal of the delivery.
#[pyclass(module = "pytoweb.workers", frozen)]
#[derive(Debug)]
pub(crate) struct WorkerMessage {
    kind: Py<PyString>,
    data: Py<PyAny>,
    id: Option<Py<PyString>>,
    worker: String,
    delivery: Option<Delivery>,
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
        Self { kind: r#type, data, id, worker: worker.unwrap_or_default(), delivery: None }
    }

    #[getter]
    fn r#type(&self, py: Python<'_>) -> Py<PyString> {
        self.kind.clone_ref(py)
    }

    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        self.data.clone_ref(py)
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.id.as_ref().map(|id| id.clone_ref(py))
    }

    #[getter]
    fn worker(&self) -> &str {
        &self.worker
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "a property")]
    const fn attempt(&self) -> u32 {
        // Messages in memory are delivered once.
        1
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| {
            delivery.address.is_terminated()
                || delivery.task.as_ref().is_some_and(|task| task.slot.state().is_cancel_requested())
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let kind = self.kind.bind(py).repr()?;
        let id = match &self.id {
            Some(id) => id.bind(py).repr()?.to_string(),
            None => "None".to_owned(),
        };
        Ok(format!("WorkerMessage(type={kind}, id={id}, worker={:?})", self.worker))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.data)
    }
}
