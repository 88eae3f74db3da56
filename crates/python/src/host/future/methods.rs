//! The methods of a future, as Python calls them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::{Failure, Ticket};

use crate::error;
use crate::host::edges::HeldEdge;
use crate::host::ends;
use crate::host::fleet::Processes;
use crate::host::reporting::ProgressMeter;
use crate::host::task::value::Value;

use super::FutureBase;
use super::awaiting::awaitable;

/// Whether `callback` belongs to `asyncio.wait`, which takes any object with the methods of a future (since Python
/// 3.11 it wraps none) and expects to be called on its event loop.
fn is_of_asyncio_wait(callback: &Bound<'_, PyAny>) -> bool {
    let py = callback.py();
    callback
        .getattr_opt(intern!(py, "__module__"))
        .ok()
        .flatten()
        .is_some_and(|module| module.eq(intern!(py, "asyncio.tasks")).unwrap_or(false))
}

#[pymethods]
impl FutureBase {
    /// What is reported of the progress of its message.
    fn _progress_meter(&self) -> PyResult<ProgressMeter> {
        Ok(ProgressMeter(self.inner()?.task.clone()))
    }

    /// Has `watcher()` called when something new is reported, on any thread, and once the reply stands.
    fn _watch_progress(&self, py: Python<'_>, watcher: Py<PyAny>) -> PyResult<()> {
        let inner = self.inner()?;
        inner.check_here()?;
        if inner.task.watch(watcher) {
            let task = inner.task.clone();
            // Out of the interpreter lock: the callback may run here and now.
            py.detach(|| inner.on_done(move || task.end_progress()));
        }
        Ok(())
    }

    /// The `PoolRuntime` of the worker or pool that owes it.
    fn _runtime(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.inner()?.runtime(py))
    }

    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Waits for the reply, without the interpreter lock, and returns it.
    ///
    /// On the main thread Ctrl-C ends the wait.
    ///
    /// Args:
    ///     timeout: Seconds to wait at most, None for as long as it takes. The message itself goes on; its
    ///         own deadline is that of ``ask(timeout=...)``.
    ///
    /// Returns:
    ///     What the handler returned.
    ///
    /// Raises:
    ///     BaseException: What the handler raised: the very same exception.
    ///     concurrent.futures.TimeoutError: ``timeout`` passed first; nothing else has changed.
    ///     concurrent.futures.CancelledError: The message was cancelled.
    ///     DeadlineError: The message's own deadline passed.
    ///     MailboxFullError: The overflow policy dropped the message.
    ///     WorkerStoppedError: The worker stopped before it finished the message.
    ///     UnknownMessageError: No handler is registered for its type.
    ///     AskCycleError: Called in a handler, and the reply could never come while that waits.
    ///     ForkedProcessError: The reply is not in yet, and its worker belongs to the parent process.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        match self.settled(py, timeout)? {
            Ok(value) => Ok(value.clone_ref(py)),
            Err(error) => Err(PyErr::from_value(error.bind(py).clone())),
        }
    }

    /// Waits as ``result`` does, and returns the exception instead of raising it.
    ///
    /// Args:
    ///     timeout: Seconds to wait at most, None for as long as it takes.
    ///
    /// Returns:
    ///     What ``result`` would raise for the message, or None if its handler returned.
    ///
    /// Raises:
    ///     concurrent.futures.TimeoutError: ``timeout`` passed first; nothing else has changed.
    ///     concurrent.futures.CancelledError: The message was cancelled.
    ///     AskCycleError: Called in a handler, and the reply could never come while that waits.
    ///     ForkedProcessError: The reply is not in yet, and its worker belongs to the parent process.
    #[pyo3(signature = (timeout=None))]
    fn exception(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match self.settled(py, timeout)? {
            Ok(_) => Ok(None),
            Err(error) if self.is_cancelled()? => Err(PyErr::from_value(error.bind(py).clone())),
            Err(error) => Ok(Some(error.clone_ref(py))),
        }
    }

    /// Returns whether the reply stands: a result, an exception, or cancelled. Never blocks.
    ///
    /// Raises:
    ///     ForkedProcessError: It does not, and never will: its worker belongs to the parent process.
    pub(crate) fn done(&self) -> PyResult<bool> {
        Ok(self.live()?.task.slot.state().is_done())
    }

    /// Returns whether the message was cancelled while it was queued, so that its handler never runs.
    ///
    /// Raises:
    ///     ForkedProcessError: As for ``done``.
    fn cancelled(&self) -> PyResult<bool> {
        self.live()?;
        self.is_cancelled()
    }

    /// Returns whether the handler runs now. Never blocks.
    ///
    /// Raises:
    ///     ForkedProcessError: As for ``done``.
    fn running(&self) -> PyResult<bool> {
        let state = self.live()?.task.slot.state();
        Ok(!state.is_queued() && !state.is_done())
    }

    /// Gives the message up; does not wait.
    ///
    /// A queued message is removed and never runs. A running one goes on, but its
    /// ``current_message().cancelled`` is True from here on, for the handler to look at; an ``async def``
    /// handler is cancelled at its next ``await``, and its reply is the ``asyncio.CancelledError``, unless it
    /// handles that.
    ///
    /// Returns:
    ///     True if the message is cancelled, False if it was running or done.
    ///
    /// Raises:
    ///     ForkedProcessError: The reply is not in yet, and its worker belongs to the parent process.
    pub(crate) fn cancel(&self) -> PyResult<bool> {
        let inner = self.inner()?;
        if inner.task.slot.state().is_done() {
            return self.is_cancelled();
        }
        inner.check_here()?;
        let ticket: Arc<dyn Ticket> = inner.task.clone();
        Ok(inner
            .address
            .as_ref()
            .is_some_and(|address| address.cancel(&ticket)))
    }

    /// Has ``fn(future)`` called when the reply stands, callbacks in the order in which they were added.
    ///
    /// It runs on the thread that settles the reply, mostly the worker's, so it should be quick; here and now
    /// if the reply stands already. An error that it raises is logged by ``pytoweb.worker``.
    ///
    /// Args:
    ///     fn: Called with this future.
    ///
    /// Raises:
    ///     ForkedProcessError: As for ``done``.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>) -> PyResult<()> {
        let inner = slf.get().live()?;
        if is_of_asyncio_wait(r#fn.bind(slf.py())) {
            return slf
                .call_method1(intern!(slf.py(), "_add_loop_callback"), (r#fn,))
                .map(drop);
        }
        let future = slf.clone().unbind();
        inner.on_done(move || {
            Python::attach(|py| {
                let future = future.bind(py);
                let called = future.call_method1(intern!(py, "_call_back"), (r#fn,));
                if let Err(error) = called {
                    error.write_unraisable(py, Some(future.as_any()));
                }
            });
        });
        Ok(())
    }

    /// Waits without blocking the event loop, and returns or raises as ``result`` does.
    ///
    /// Cancelling the task that waits cancels the message, as ``cancel`` does.
    ///
    /// Raises:
    ///     asyncio.CancelledError: The message was cancelled.
    ///     RuntimeError: No event loop runs on this thread.
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        awaitable(slf)
    }

    /// Returns whether the message was not cancelled; for code that takes any ``Future``.
    fn set_running_or_notify_cancel(&self) -> PyResult<bool> {
        Ok(!self.is_cancelled()?)
    }

    /// Refuses: only the worker settles the reply.
    ///
    /// Raises:
    ///     concurrent.futures.InvalidStateError: Always.
    fn set_result(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = result;
        Err(error::InvalidStateError::new_err(
            "a WorkerFuture is settled by its worker",
        ))
    }

    /// Refuses: only the worker settles the reply.
    ///
    /// Raises:
    ///     concurrent.futures.InvalidStateError: Always.
    fn set_exception(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = exception;
        Err(error::InvalidStateError::new_err(
            "a WorkerFuture is settled by its worker",
        ))
    }

    #[getter]
    fn _condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::compat(slf)?.condition.clone_ref(slf.py()))
    }

    #[getter]
    fn _waiters(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::compat(slf)?.waiters.clone_ref(slf.py()))
    }

    #[getter]
    fn _state(&self) -> PyResult<&'static str> {
        let state = self.live()?.task.slot.state();
        let told = self
            .compat
            .get()
            .is_none_or(|compat| compat.told.load(Ordering::Acquire));
        Ok(if state.is_done() && told {
            if self.is_cancelled()? {
                "CANCELLED_AND_NOTIFIED"
            } else {
                "FINISHED"
            }
        } else if state.is_queued() {
            "PENDING"
        } else {
            "RUNNING"
        })
    }

    #[getter]
    fn _result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(match self.peek(py, self.inner()?)? {
            Some(Ok(value)) => Some(value.clone_ref(py)),
            _ => None,
        })
    }

    /// The exception as it stands; to look at it here is not to read it.
    #[getter]
    fn _exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(match self.peek(py, self.inner()?)? {
            Some(Err(error)) if !self.is_cancelled()? => Some(error.clone_ref(py)),
            _ => None,
        })
    }

    /// How its message ended, as ``explain`` says it of one with an id: the outcome, the error that its handler raised, and
    /// whether it is a dead letter. None: it has not. To look at it here is not to read it.
    fn _end(&self, py: Python<'_>) -> PyResult<Option<(&'static str, Option<String>, bool)>> {
        let task = &self.inner()?.task;
        Ok(match task.slot.get() {
            None => None,
            Some(Err(failure)) => Some((ends::name_of(*failure, task), None, false)),
            Some(Ok(value)) => Some(match value.get(py)? {
                Ok(_) => ("completed", None, false),
                Err(error) => {
                    let error = ends::text_of(error.bind(py)).into();
                    ("failed", Some(error), task.retry().is_some())
                }
            }),
        })
    }

    /// For as long as the returned object lives, the handler that runs here waits for its message; an error where that could
    /// never end. None: no handler does.
    fn _wait_edge(&self, py: Python<'_>) -> PyResult<Option<HeldEdge>> {
        Ok(self.edge_of_handler(py)?.map(HeldEdge))
    }

    /// The process number of the child that has begun its message, if one of these has.
    fn _process(&self, processes: &Processes) -> PyResult<Option<u32>> {
        processes.runs(&self.inner()?.task)
    }

    /// Counts a failure as read from now on: the code that has the future tells of it in another way.
    fn _note_read(&self) -> PyResult<()> {
        self.inner()?.task.unread.note_read();
        Ok(())
    }

    /// The name of the worker that owes the reply.
    fn _worker_name(&self) -> PyResult<String> {
        Ok(self
            .inner()?
            .address
            .as_ref()
            .map_or_else(String::new, |address| address.name().to_owned()))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        if let Some(inner) = self.inner.get() {
            let value: Option<&Result<Value, Failure>> = inner.task.slot.get();
            if let Some(Ok(value)) = value
                && let Some(object) = value.peek()
            {
                visit.call(object)?;
            }
        }
        if let Some(compat) = self.compat.get() {
            visit.call(&compat.condition)?;
            visit.call(&compat.waiters)?;
        }
        if let Some(failure) = self.failure.get() {
            visit.call(failure)?;
        }
        Ok(())
    }
}
