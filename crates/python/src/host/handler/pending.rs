//! Messages whose coroutines run on the pool's event loop.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::{
    Companions, Failure, Message, Outcome, ReplyState, RunPlace, Suspension, Ticket,
};

use crate::host::batches::OnceAllStop;
use crate::host::coroutines;
use crate::host::message::PyMessage;
use crate::host::retrying::Then;
use crate::host::task::Task;
use crate::host::telling::is_cancelled_error;
use crate::host::worker_message::WorkerMessage;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::loops::LoopLabel;
use crate::interpreter::marks::Residence;

use super::PyHandler;
use super::settling::BatchEnd;

impl WorkerShared {
    /// Hands a coroutine to the pool's event loop; the worker goes on when it is done. `batch`: it is the handler of
    /// several messages, or of one in a list.
    pub(super) fn go_on(
        &self,
        coroutine: &Py<PyAny>,
        suspension: Suspension<PyHandler>,
        batch: Option<RestOfBatch>,
    ) {
        coroutines::note();
        Python::attach(|py| {
            let context = suspension.message().and_then(PyMessage::context);
            let context = context.map(|context| context.clone_ref(py));
            let pending = Pending {
                suspension: Mutex::new(Some(suspension)),
                batch: Mutex::new(batch),
                residence: OnceLock::new(),
            };
            let started = Bound::new(py, pending).and_then(|pending| {
                let runtime = self.runtime.bind(py);
                runtime
                    .call_method1(
                        intern!(py, "run_coroutine"),
                        (coroutine, context, &pending, &self.owner),
                    )
                    .map(drop)
                    .or_else(|error| pending.get().finish(py, Err(error)))
            });
            if let Err(error) = started {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// A message whose coroutine runs on the pool's event loop.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Pending {
    suspension: Mutex<Option<Suspension<PyHandler>>>,
    batch: Mutex<Option<RestOfBatch>>,
    residence: OnceLock<Residence>,
}

/// The messages that run with the first one of a batch, if there are any.
#[derive(Debug)]
pub(super) struct RestOfBatch(pub(super) Option<Companions<PyHandler>>);

impl Pending {
    fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let taken = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?
            .take();
        let Some(suspension) = taken else {
            return Err(PyRuntimeError::new_err("the message is finished already"));
        };
        if let Some(residence) = self.residence.get() {
            residence.end();
        }
        let shared = suspension.handler().shared.clone();
        let Some(message) = suspension.message() else {
            return Ok(());
        };
        let batch = self
            .batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(RestOfBatch(companions)) = batch {
            let address = suspension.address();
            match shared.end_batch(py, Some(&address), message, companions, result) {
                BatchEnd::Done(outcome) => suspension.finish(outcome),
                BatchEnd::Again(wait, error) => {
                    shared.try_again_or_fail(py, suspension, (RunPlace::Suspended, wait), error);
                }
            }
            return Ok(());
        }
        if let Some(task) = message.task() {
            task.forget_interrupter();
        }
        let Err(error) = &result else {
            shared.end(py, suspension, result);
            return Ok(());
        };
        if let Some(task) = message.task()
            && task.slot.state().is_cancel_requested()
            && is_cancelled_error(py, error)
            && task.fail(false, Failure::Cancelled)
        {
            // The caller cancelled it, and it let that through: no failure, as in a child.
            suspension.finish(Outcome::Cancelled);
            return Ok(());
        }
        if let Some(retry) = message.retry()
            && !message.state().is_some_and(ReplyState::is_done)
        {
            match retry.failed(py, error, false) {
                Then::Again(wait) => {
                    shared.try_again_or_fail(
                        py,
                        suspension,
                        (RunPlace::Suspended, wait),
                        error.clone_ref(py),
                    );
                    return Ok(());
                }
                Then::DeadLetter(errors) => shared.bury(py, message, errors),
            }
        }
        // A coroutine that was given up raises CancelledError; what counts is why.
        let hook = match message.task().and_then(|task| task.slot.get()) {
            Some(Err(Failure::Stopped)) => None,
            // The same of a message without a reply.
            None if suspension.address().is_terminated() && is_cancelled_error(py, error) => None,
            Some(Err(given_up)) => {
                let error = message.error_of(*given_up, shared.named());
                shared.tell(py, Some(&suspension.address()), message, &error)
            }
            _ => shared.tell(py, Some(&suspension.address()), message, error),
        };
        match hook {
            None => shared.end(py, suspension, result),
            Some(hook) => {
                let (own, error) = (shared.clone(), error.clone_ref(py));
                hook.run(py, &shared, move |py| own.end(py, suspension, Err(error)));
            }
        }
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
    fn message(&self, py: Python<'_>) -> PyResult<Option<WorkerMessage>> {
        let guard = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?;
        let Some(suspension) = guard.as_ref() else {
            return Ok(None);
        };
        suspension
            .message()
            .map(|message| message.view_of_coroutine(py, &suspension.address()))
            .transpose()
    }

    /// The same, and notes for the watchdog that the coroutine is on that loop until it ends.
    fn comes_to(&self, py: Python<'_>, home: &LoopLabel) -> PyResult<Option<WorkerMessage>> {
        if let Ok(guard) = self.suspension.lock()
            && let Some(suspension) = guard.as_ref()
        {
            let residence = home.takes_in::<WorkerShared>(&suspension.handler().shared);
            // Of no consequence where it has one.
            let _ = self.residence.set(residence);
        }
        self.message(py)
    }

    /// Whether it is the message of that ticket, which the watchdog was told of.
    fn is_of(&self, ticket: usize) -> bool {
        let Ok(guard) = self.suspension.lock() else {
            return false;
        };
        let message = guard.as_ref().and_then(Suspension::message);
        let state = message.and_then(PyMessage::state);
        state.is_some_and(|state| std::ptr::from_ref(state).addr() == ticket)
    }

    /// Has `interrupter` called when the message is cancelled, expires, or its worker is terminated. False: it has no
    /// future, id or deadline by which it could be told.
    fn on_interrupt(&self, py: Python<'_>, interrupter: Py<PyAny>) -> PyResult<bool> {
        let task = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?
            .as_ref()
            .and_then(Suspension::message)
            .and_then(|message| message.task().cloned());
        let Some(task) = task else { return Ok(false) };
        let company = {
            let batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
            match batch.as_ref() {
                Some(RestOfBatch(Some(companions))) => tasks_of(companions),
                _ => Vec::new(),
            }
        };
        if company.is_empty() {
            task.on_interrupt(interrupter);
            return Ok(true);
        }
        let tasks: Vec<_> = std::iter::once(task).chain(company).collect();
        let once = OnceAllStop {
            tasks: tasks.clone(),
            interrupter,
        };
        let once = Bound::new(py, once)?.into_any();
        for task in tasks {
            task.on_interrupt(once.clone().unbind());
        }
        Ok(true)
    }

    /// Whether the worker was terminated.
    fn is_terminated(&self) -> PyResult<bool> {
        let guard = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?;
        Ok(guard
            .as_ref()
            .is_some_and(|suspension| suspension.address().is_terminated()))
    }
}

/// The tasks of messages of a batch; each has one, because it has a plan.
pub(super) fn tasks_of(companions: &Companions<PyHandler>) -> Vec<Arc<Task>> {
    companions
        .messages()
        .filter_map(|message| message.task().cloned())
        .collect()
}
