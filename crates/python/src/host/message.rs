//! A message with Python payloads.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use pytoweb_engine::{Address, Failure, Message, Plan, ReplyState, Ticket};
use pytoweb_process::OwnedRequest;

use crate::error::NamedOwner;
use crate::host::failure;
use crate::host::flags;
use crate::host::planning::Planned;
use crate::host::retrying::Retrying;
use crate::host::task::{Head, Task};
use crate::host::worker_message::{Site, WorkerMessage};
use crate::pickle::pickling;

#[derive(Debug)]
pub(crate) struct PyMessage {
    pub(crate) body: Body,
    pub(crate) asks: Asks,
}

/// What the sender of a message asks for beyond its handling.
#[derive(Debug, Default)]
pub(crate) enum Asks {
    #[default]
    Nothing,
    /// A place in the order of its mailbox, and nothing else: a post with a priority or a key has no task to be allocated, and
    /// to be fetched again by the thread that handles it.
    Order(Planned),
    /// All else.
    Task(Arc<Task>),
}

impl From<Option<Arc<Task>>> for Asks {
    fn from(task: Option<Arc<Task>>) -> Self {
        task.map_or(Self::Nothing, Self::Task)
    }
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

// Five words, as `task.rs` says.
const _: () = assert!(size_of::<PyMessage>() == 5 * size_of::<usize>());

impl Message for PyMessage {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.task().cloned().map(|task| task as Arc<dyn Ticket>)
    }

    fn state(&self) -> Option<&ReplyState> {
        self.task().map(|task| task.slot.state())
    }

    fn bytes(&self) -> usize {
        match self.request() {
            Some(request) => usize::try_from(request.payload.area_len()).unwrap_or(usize::MAX),
            None => self.task().map_or(0, |task| task.bytes()),
        }
    }

    #[inline]
    fn plan(&self) -> Option<&Plan> {
        match &self.asks {
            Asks::Nothing => None,
            Asks::Order(plan) => Some(plan.get()),
            Asks::Task(task) => task.plan.as_ref().map(Planned::get),
        }
    }
}

impl PyMessage {
    /// A worker's last message.
    pub(crate) const fn last() -> Self {
        Self {
            body: Body::Apart(Apart::Last),
            asks: Asks::Nothing,
        }
    }

    /// Its task, if it has one.
    #[inline]
    pub(crate) const fn task(&self) -> Option<&Arc<Task>> {
        match &self.asks {
            Asks::Task(task) => Some(task),
            Asks::Nothing | Asks::Order(_) => None,
        }
    }

    pub(crate) fn head_kind(&self) -> Head {
        self.task().map_or(Head::Type, |task| task.head)
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
        self.task()?.id()
    }

    /// What goes to another process, if this does.
    pub(crate) const fn request(&self) -> Option<&Arc<OwnedRequest>> {
        match &self.body {
            Body::Apart(Apart::Packed { request, .. }) => Some(request),
            Body::Local { .. } | Body::Apart(Apart::Last) => None,
        }
    }

    /// Whether the reply goes to the owner.
    pub(crate) fn is_answered(&self) -> bool {
        self.task().is_some_and(|task| task.is_answered())
    }

    /// The id of one whose reply goes to the owner.
    pub(crate) fn reply_id(&self) -> Option<&Py<PyString>> {
        self.id().filter(|_| self.is_answered())
    }

    /// Drops it while attached, without asking for each part whether that is so.
    pub(crate) fn drop_attached(self, py: Python<'_>) {
        let Self { body, asks } = self;
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
        drop(asks);
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
    pub(crate) fn error_of(&self, failure: Failure, to: NamedOwner<'_>) -> PyErr {
        match self.task() {
            Some(task) => task.error_of(failure, to),
            None => failure::failure(failure, to, None, false),
        }
    }

    pub(crate) fn about(&self, py: Python<'_>) -> About {
        About {
            id: self.id().map(|id| id.clone_ref(py)),
            attempt: self.attempt(),
            task: self.task().cloned(),
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
        self.task()?.retry()
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
        self.view_with(py, address, self.task().cloned())
    }

    /// The same of one whose handler is a coroutine: where several run at the same time, the ticket tells it from the
    /// others when it waits.
    pub(crate) fn view_of_coroutine(
        &self,
        py: Python<'_>,
        address: &Address,
    ) -> PyResult<WorkerMessage> {
        let task = self.task().cloned();
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
            site: Some(Site::Here {
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
            site: None,
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

/// What `map` calls in the place of its function.
pub(crate) fn run_chunk(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static RUN_CHUNK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUN_CHUNK.import(py, "pytoweb._chunks", "run_chunk")
}

/// What a report says of a message besides its type.
pub(crate) struct About {
    pub(crate) id: Option<Py<PyString>>,
    pub(crate) attempt: u32,
    pub(crate) task: Option<Arc<Task>>,
}
