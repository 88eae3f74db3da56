//! The engine's handler for Python callables.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{Failure, Handled, Handler, Outcome, Suspension, Ticket, Turning, Wake};

use crate::context;
use crate::error;
use crate::message::{PyMessage, Work, running_kind, with_running};
use crate::task::Value;

/// What a worker's Python side and its engine side share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    /// Handlers by message type; under `None` the error handler.
    pub(crate) handlers: Py<PyDict>,
    /// The worker's `Replies`: the owner's side of its messages.
    pub(crate) replies: Py<PyAny>,
    /// The pool's `PoolRuntime`.
    pub(crate) runtime: Py<PyAny>,
    /// A weak reference to the `PythonWorker` or `WorkerPool`.
    pub(crate) owner: Py<PyAny>,
    /// Set once the pool's initializer has failed.
    pub(crate) broken: Arc<AtomicBool>,
}

impl Shared {
    /// Tells the error handler, or the log, of a message that failed and that nobody else answers for.
    fn report(&self, py: Python<'_>, message: &PyMessage, error: &PyErr) {
        if let Work::Typed { kind, id, .. } = &message.work {
            self.report_as(py, kind, id.as_ref(), error);
        }
    }

    fn report_as(&self, py: Python<'_>, kind: &Py<PyString>, id: Option<&Py<PyString>>, error: &PyErr) {
        let told = self.replies.bind(py).call_method1(
            intern!(py, "report"),
            // `into_value` attaches the traceback, which `value` leaves apart before Python 3.12.
            (error.clone_ref(py).into_value(py), kind, id, self.handlers.bind(py)),
        );
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    /// The same for the message that runs on this thread.
    fn report_running(&self, py: Python<'_>, error: &PyErr) {
        // Its kind and id are read before the report, which may look at the message too.
        if let Some((kind, id)) = running_kind(py) {
            self.report_as(py, &kind, id.as_ref(), error);
        }
    }

    fn deliver(&self, py: Python<'_>, id: &Py<PyString>, reply: Value) {
        let replies = self.replies.bind(py);
        let told = match reply {
            Ok(result) => replies.call_method1(intern!(py, "deliver"), (id, result, false)),
            Err(error) => replies.call_method1(intern!(py, "deliver"), (id, error, true)),
        };
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    /// Why the pool cannot run anything.
    pub(crate) fn broken_error(&self, py: Python<'_>) -> PyErr {
        let pool = self.runtime.bind(py);
        match pool.call_method0(intern!(py, "broken_error")) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    }

    /// Settles the reply of a message that has run. Returns what it counts as.
    fn settle(&self, py: Python<'_>, message: &mut PyMessage, result: PyResult<Bound<'_, PyAny>>) -> Outcome {
        let (value, outcome): (Value, _) = match result {
            Ok(value) => (Ok(value.unbind()), Outcome::Completed),
            Err(raised) => (Err(raised.into_value(py).into_any()), Outcome::Failed),
        };
        if let Work::Typed { id: Some(_), .. } = &message.work {
            message.reply = Some(match &value {
                Ok(result) => Ok(result.clone_ref(py)),
                Err(error) => Err(error.clone_ref(py)),
            });
        }
        let Some(task) = &message.task else { return outcome };
        if task.slot.settle(Ok(value)) {
            message.settled = true;
            return outcome;
        }
        // A deadline or `terminate` was first; what the handler made of it is nobody's any more.
        match task.slot.get() {
            Some(Err(Failure::Stopped)) => Outcome::Failed,
            _ => {
                self.expired(py, message, outcome);
                Outcome::Expired
            }
        }
    }

    /// A message ran past its deadline: whoever has no future learns it here.
    fn expired(&self, py: Python<'_>, message: &mut PyMessage, outcome: Outcome) {
        let error = error::failure(Failure::Expired, &self.name);
        if outcome == Outcome::Completed {
            self.report(py, message, &error);
        }
        if message.reply.is_some() {
            message.reply = Some(Err(error.into_value(py).into_any()));
        }
    }

    fn call<'py>(&self, py: Python<'py>, message: &PyMessage) -> Call<'py> {
        match &message.work {
            Work::Typed { kind, data, .. } => match self.handlers.bind(py).get_item(kind) {
                Ok(Some(handler)) => Call::Handler(handler, data.bind(py).clone()),
                Ok(None) => Call::Nobody(error::UnknownMessageError::new_err(format!(
                    "worker {:?} has no handler for messages of type {:?}; register one with on_message",
                    self.name,
                    kind.to_string(),
                ))),
                Err(error) => Call::Nobody(error),
            },
            Work::Call { function, args, kwargs, awaits } => Call::Function {
                function: function.bind(py).clone(),
                args: args.bind(py).clone(),
                kwargs: kwargs.as_ref().map(|kwargs| kwargs.bind(py).clone()),
                awaits: *awaits,
            },
        }
    }
}

/// What to call for one message, apart from the message, which is elsewhere during the call.
enum Call<'py> {
    Handler(Bound<'py, PyAny>, Bound<'py, PyAny>),
    Function {
        function: Bound<'py, PyAny>,
        args: Bound<'py, pyo3::types::PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
        awaits: bool,
    },
    Nobody(PyErr),
}

impl<'py> Call<'py> {
    fn run(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Handler(handler, data) => handler.call1((data,)),
            Self::Function { function, args, kwargs, .. } => function.call(args, kwargs.as_ref()),
            Self::Nobody(error) => Err(error),
        }
    }

    const fn awaits(&self) -> bool {
        match self {
            Self::Handler(..) => true,
            Self::Function { awaits, .. } => *awaits,
            Self::Nobody(_) => false,
        }
    }
}

/// Runs Python messages.
#[derive(Debug)]
pub(crate) struct PyHandler {
    pub(crate) shared: Arc<Shared>,
}

impl PyHandler {
    /// Hands a coroutine to the pool's event loop; the worker goes on when it is done.
    fn suspend(
        &self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
        message: PyMessage,
        turn: &Turning<'_, Self>,
    ) {
        let context = message.context.clone_ref(py);
        let pending = Pending { suspension: Mutex::new(Some(turn.suspend(message))) };
        let started = Bound::new(py, pending).and_then(|pending| {
            let runtime = self.shared.runtime.bind(py);
            let owner = &self.shared.owner;
            runtime
                .call_method1(intern!(py, "run_coroutine"), (coroutine, context, &pending, owner))
                .map(drop)
                .or_else(|error| pending.get().finish(py, Err(error)))
        });
        if let Err(error) = started {
            error.write_unraisable(py, None);
        }
    }
}

impl Handler for PyHandler {
    type Message = PyMessage;

    fn handle(&self, message: PyMessage, turn: &Turning<'_, Self>) -> Handled<PyMessage> {
        Python::attach(|py| {
            if self.shared.broken.load(Ordering::Acquire) {
                let mut message = message;
                let error = self.shared.broken_error(py);
                self.shared.report(py, &message, &error);
                let outcome = self.shared.settle(py, &mut message, Err(error));
                return Handled::Done(message, outcome);
            }
            let call = self.shared.call(py, &message);
            let awaits = call.awaits();
            let context = message.context.bind(py).clone();
            // The error handler is part of the call: it finds the message as the current one, and its context.
            let (mut message, result) = with_running(message, self.shared.owner.clone_ref(py), || {
                let _entered = context::enter(&context)?;
                call.run().inspect_err(|error| self.shared.report_running(py, error))
            });
            if awaits && let Ok(coroutine) = &result && context::is_coroutine(coroutine) {
                self.suspend(py, coroutine, message, turn);
                return Handled::Suspended;
            }
            let outcome = self.shared.settle(py, &mut message, result);
            Handled::Done(message, outcome)
        })
    }

    fn finish(&self, message: PyMessage) -> Wake {
        Python::attach(|py| {
            let PyMessage { work, task, settled, reply, .. } = message;
            let wake = match task {
                Some(task) if settled && task.slot.publish() => Wake::threads_of(task),
                _ => Wake::nobody(),
            };
            if let (Some(reply), Work::Typed { id: Some(id), .. }) = (reply, &work) {
                self.shared.deliver(py, id, reply);
            }
            wake
        })
    }

    fn abandon(&self, message: PyMessage, failure: Failure) {
        Python::attach(|py| {
            if let Some(task) = &message.task {
                task.fail(false, failure);
            }
            let error = error::failure(failure, &self.shared.name);
            if failure == Failure::Expired {
                self.shared.report(py, &message, &error);
            }
            if let Work::Typed { id: Some(id), .. } = &message.work {
                self.shared.deliver(py, id, Err(error.into_value(py).into_any()));
            }
        });
    }
}

/// A message whose coroutine runs on the pool's event loop.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Pending {
    suspension: Mutex<Option<Suspension<PyHandler>>>,
}

impl Pending {
    fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let taken = self.suspension.lock().map_err(|_| PyRuntimeError::new_err("the message is lost"))?.take();
        let Some(mut suspension) = taken else {
            return Err(PyRuntimeError::new_err("the message is finished already"));
        };
        let shared = suspension.handler().shared.clone();
        let Some(message) = suspension.message_mut() else { return Ok(()) };
        if let Err(error) = &result {
            shared.report(py, message, error);
        }
        let outcome = shared.settle(py, message, result);
        suspension.finish(outcome);
        Ok(())
    }
}

#[pymethods]
impl Pending {
    /// Ends the message with a result.
    fn completed(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Ok(result))
    }

    /// Ends the message with an exception.
    fn failed(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Err(PyErr::from_value(error)))
    }

    /// The message as `current_message()` shows it.
    fn message(&self, py: Python<'_>) -> PyResult<Option<crate::message::WorkerMessage>> {
        let guard = self.suspension.lock().map_err(|_| PyRuntimeError::new_err("the message is lost"))?;
        let Some(suspension) = guard.as_ref() else { return Ok(None) };
        suspension.message().map(|message| message.view(py, &suspension.address())).transpose()
    }

    /// Has `interrupter` called when the message is cancelled, expires, or its worker is terminated.
    fn on_interrupt(&self, interrupter: Py<PyAny>) -> PyResult<()> {
        let guard = self.suspension.lock().map_err(|_| PyRuntimeError::new_err("the message is lost"))?;
        if let Some(task) = guard.as_ref().and_then(Suspension::message).and_then(|message| message.task.as_ref()) {
            // Set once, before the coroutine runs.
            let _ = task.interrupter.set(interrupter);
        }
        Ok(())
    }
}
