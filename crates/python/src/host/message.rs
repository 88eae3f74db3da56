//! A message with Python payloads, and what Python sees of the one that runs.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::{Address, Failure, Message, Plan, ReplyState, Ticket};
use pytoweb_process::{ChildLink, OwnedRequest};

use crate::error::{Named, Quoted};
use crate::host::failure;
use crate::host::flags;
use crate::host::planning::Planned;
use crate::host::retrying::Retrying;
use crate::host::task::{Head, Task};
use crate::pickle::pickling;

#[derive(Debug)]
pub(crate) struct PyMessage {
    pub(crate) body: Body,
    pub(crate) task: Option<Arc<Task>>,
}

/// What a message says.
#[derive(Debug)]
pub(crate) enum Body {
    /// For a handler of this process.
    Local {
        /// The message's type, or the function to call: see [`Head`].
        head: Py<PyAny>,
        /// The message's data, or the arguments.
        data: Py<PyAny>,
        /// The sender's context variables at the post; `None` if it had none.
        context: Option<Py<PyAny>>,
    },
    /// For no handler of this process.
    Apart(Apart),
}

/// A message that no handler of this process gets. An enum of its own, because the two would not fit beside the first.
#[derive(Debug)]
pub(crate) enum Apart {
    /// For a handler of another process.
    Packed {
        request: Arc<OwnedRequest>,
        /// The context variables of the request as they are here, for the error handler.
        context: Option<Py<PyAny>>,
    },
    /// The worker's last, which its end hooks see as the current message.
    Last,
}

// Four words, as `task.rs` says.
const _: () = assert!(size_of::<PyMessage>() == 4 * size_of::<usize>());

impl Message for PyMessage {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.task.clone().map(|task| task as Arc<dyn Ticket>)
    }

    fn state(&self) -> Option<&ReplyState> {
        self.task.as_ref().map(|task| task.slot.state())
    }

    fn bytes(&self) -> usize {
        match self.request() {
            Some(request) => usize::try_from(request.payload.area_len()).unwrap_or(usize::MAX),
            None => self.task.as_ref().map_or(0, |task| task.bytes),
        }
    }

    #[inline]
    fn plan(&self) -> Option<&Plan> {
        self.task.as_ref()?.plan.as_ref().map(Planned::get)
    }
}

impl PyMessage {
    /// A worker's last message.
    pub(crate) const fn last() -> Self {
        Self {
            body: Body::Apart(Apart::Last),
            task: None,
        }
    }

    pub(crate) fn head_kind(&self) -> Head {
        self.task.as_ref().map_or(Head::Type, |task| task.head)
    }

    /// The sender's context variables.
    pub(crate) const fn context(&self) -> Option<&Py<PyAny>> {
        match &self.body {
            Body::Local { context, .. } => context.as_ref(),
            Body::Apart(Apart::Packed { context, .. }) => context.as_ref(),
            Body::Apart(Apart::Last) => None,
        }
    }

    pub(crate) fn id(&self) -> Option<&Py<PyString>> {
        self.task.as_ref().and_then(|task| task.id.as_ref())
    }

    /// What goes to another process, if this does.
    pub(crate) const fn request(&self) -> Option<&Arc<OwnedRequest>> {
        match &self.body {
            Body::Apart(Apart::Packed { request, .. }) => Some(request),
            Body::Local { .. } | Body::Apart(Apart::Last) => None,
        }
    }

    /// Whether the reply goes to the owner.
    pub(crate) fn has_id(&self) -> bool {
        self.task.as_ref().is_some_and(|task| task.id.is_some())
    }

    /// Drops it while attached, without asking for each part whether that is so.
    pub(crate) fn drop_attached(self, py: Python<'_>) {
        let Self { body, task } = self;
        match body {
            Body::Local {
                head,
                data,
                context,
            } => {
                drop(head.into_bound(py));
                drop(data.into_bound(py));
                drop(context.map(|context| context.into_bound(py)));
            }
            Body::Apart(Apart::Packed { request, context }) => {
                drop(request);
                drop(context.map(|context| context.into_bound(py)));
            }
            Body::Apart(Apart::Last) => {}
        }
        drop(task);
    }

    /// The message's type, or the name of the function.
    pub(crate) fn kind(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        let head = match &self.body {
            Body::Local { head, .. } => head.bind(py),
            Body::Apart(Apart::Packed { request, .. }) => {
                return Ok(PyString::new(py, &request.kind).unbind());
            }
            Body::Apart(Apart::Last) => return Ok(PyString::intern(py, "stop").unbind()),
        };
        if self.head_kind() == Head::Type {
            return Ok(head.cast::<PyString>()?.clone().unbind());
        }
        name_of(head).map(Bound::unbind)
    }

    /// Why it was not handled by `to`, as what Python raises.
    pub(crate) fn error_of(&self, failure: Failure, to: Named<'_>) -> PyErr {
        match &self.task {
            Some(task) => task.error_of(failure, to),
            None => failure::failure(failure, to, None, false),
        }
    }

    pub(crate) fn about(&self, py: Python<'_>) -> About {
        About {
            id: self.id().map(|id| id.clone_ref(py)),
            attempt: self.attempt(),
            task: self.task.clone(),
        }
    }

    /// The ordinal of this delivery.
    pub(crate) fn attempt(&self) -> u32 {
        match self.request() {
            Some(request) => request.attempt(),
            None => 1 + self.retry().map_or(0, Retrying::made),
        }
    }

    /// Another attempt follows; or, with `false`, does not after all.
    pub(crate) fn goes_on(&self, on: bool) {
        if let Some(retry) = self.retry() {
            retry.goes_on(on);
        }
    }

    /// Whether it is tried again when it fails.
    pub(crate) fn retry(&self) -> Option<&Retrying> {
        self.task.as_ref()?.retry.as_deref()
    }

    /// The message's data, where it is handled in this process.
    pub(crate) const fn local_data(&self) -> Option<&Py<PyAny>> {
        match &self.body {
            Body::Local { data, .. } => Some(data),
            Body::Apart(_) => None,
        }
    }

    /// The message's data; that of another process is read back from what it was sent.
    pub(crate) fn data(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.body {
            Body::Local { data, .. } => Ok(data.clone_ref(py)),
            Body::Apart(Apart::Packed { request, .. }) => {
                let data = pickling::unpack(py, &request.payload.to_parcel())?;
                if request.flags & flags::FUNCTION == 0 {
                    return Ok(data.unbind());
                }
                // The function, its arguments and keyword arguments.
                Ok(data.get_item(1)?.unbind())
            }
            Body::Apart(Apart::Last) => Ok(py.None()),
        }
    }

    /// The message as `current_message()` shows it.
    pub(crate) fn view(&self, py: Python<'_>, address: &Address) -> PyResult<WorkerMessage> {
        self.view_with(py, address, self.task.clone())
    }

    /// The same of one whose handler is a coroutine: where several run at the same time, the ticket tells it from the
    /// others when it waits.
    pub(crate) fn view_of_coroutine(
        &self,
        py: Python<'_>,
        address: &Address,
    ) -> PyResult<WorkerMessage> {
        let task = self.task.clone();
        let task = task.or_else(|| (!address.is_exclusive()).then(Arc::default));
        self.view_with(py, address, task)
    }

    fn view_with(
        &self,
        py: Python<'_>,
        address: &Address,
        task: Option<Arc<Task>>,
    ) -> PyResult<WorkerMessage> {
        Ok(WorkerMessage {
            delivery: Some(Delivery::Here {
                address: address.clone(),
                task,
            }),
            ..self.view_of(py, address.name())?
        })
    }

    /// The same of a message that no handler has.
    pub(crate) fn view_of(&self, py: Python<'_>, worker: &str) -> PyResult<WorkerMessage> {
        Ok(WorkerMessage {
            kind: self.kind(py)?,
            data: self.data(py)?,
            id: self.id().map(|id| id.clone_ref(py)),
            worker: worker.to_owned(),
            attempt: self.attempt(),
            delivery: None,
        })
    }
}

/// What stands for the type of a message that calls `function`.
pub(crate) fn name_of<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    match function.getattr_opt(intern!(function.py(), "__qualname__"))? {
        Some(name) => name.str(),
        None => function.get_type().name(),
    }
}

/// What a report says of a message besides its type.
pub(crate) struct About {
    pub(crate) id: Option<Py<PyString>>,
    pub(crate) attempt: u32,
    pub(crate) task: Option<Arc<Task>>,
}

#[derive(Debug)]
pub(crate) enum Delivery {
    /// In the process that it was posted in.
    Here {
        address: Address,
        task: Option<Arc<Task>>,
    },
    /// In a child, under the host's number.
    Child { link: Arc<dyn ChildLink>, seq: u64 },
}

/// One message; what ``current_message()`` gives, and what ``response`` and ``error`` handlers get.
///
/// It cannot be changed, but for ``cancelled``, which is live.
#[pyclass(module = "pytoweb.workers", frozen)]
#[derive(Debug)]
pub(crate) struct WorkerMessage {
    kind: Py<PyString>,
    data: Py<PyAny>,
    id: Option<Py<PyString>>,
    worker: String,
    attempt: u32,
    delivery: Option<Delivery>,
}

impl WorkerMessage {
    /// The ticket of a message that is handled in this process.
    pub(crate) fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        match &self.delivery {
            Some(Delivery::Here { task, .. }) => task
                .as_ref()
                .map(|task| -> Arc<dyn Ticket> { task.clone() }),
            _ => None,
        }
    }

    /// What a handler in a child sees.
    pub(crate) const fn of_child(
        kind: Py<PyString>,
        data: Py<PyAny>,
        id: Option<Py<PyString>>,
        worker: String,
        attempt: u32,
        delivery: Delivery,
    ) -> Self {
        Self {
            kind,
            data,
            id,
            worker,
            attempt,
            delivery: Some(delivery),
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
            delivery: None,
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
        match &self.delivery {
            None => false,
            Some(Delivery::Here { address, task }) => {
                address.is_terminated() || task.as_ref().is_some_and(|task| task.is_stop_asked())
            }
            Some(Delivery::Child { link, seq }) => link.is_stop_asked(*seq),
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
