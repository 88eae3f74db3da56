//! The native half of `WorkerFuture`.
//!
//! `WorkerFuture` inherits this class and `concurrent.futures.Future`, in that order: it is a real `Future`, but the
//! parts of one that cost (a condition variable, lists of waiters) are only made when a caller asks for them. That
//! is what `concurrent.futures.wait` and `as_completed` do, through the private attributes `_condition`, `_state`
//! and `_waiters`, which are properties here.
//!
//! Once the condition exists, `_state` says *finished* only after the waiters were told under that condition; else
//! `wait` could see a finished future and be told of it a second time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pytoweb_engine::{Address, DropReason, Failure, Ticket, Unpark, Waiter};

use crate::error::{self, Named};
use crate::host::awaiting::{awaitable, edge_of_coroutine, warn_of_blocking};
use crate::host::handler::Runner;
use crate::host::task::Task;
use crate::host::task::value::Value;
use crate::interpreter::context::bare_instance;
use crate::interpreter::generation::Generation;
use crate::interpreter::parker::{Parker, Woken};

/// How often a thread that waits looks for signals on its own. One that comes while it waits ends the wait at once; this
/// is for one that comes in the instant before.
const SIGNAL_LOOK: Duration = Duration::from_millis(250);

/// The class `pytoweb.workers.WorkerFuture`.
static FUTURE_CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static NO_ARGUMENTS: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

#[derive(Debug)]
struct Inner {
    task: Arc<Task>,
    address: Option<Address>,
    /// Where the message is handled, if in another process.
    runner: Option<Arc<Runner>>,
    generation: Generation,
}

impl Inner {
    fn worker_name(&self) -> &str {
        self.address.as_ref().map_or("", Address::name)
    }

    fn named(&self) -> Named<'_> {
        Named {
            name: self.worker_name(),
            is_pool: self
                .address
                .as_ref()
                .is_some_and(|address| !address.is_exclusive()),
        }
    }

    /// An error in a forked child of the process that it was made in.
    fn check_here(&self) -> PyResult<()> {
        let kind = if self.named().is_pool {
            "pool"
        } else {
            "worker"
        };
        self.generation.check(kind, self.worker_name())
    }

    /// Calls `callback` once the reply stands, which another thread is to see to.
    fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        self.task.slot.state().on_done(callback);
        if let Some(runner) = &self.runner
            && self.generation.is_here()
        {
            runner.call(&self.task.lane);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.generation.is_here() {
            self.task.dropped(self.named());
        } else {
            // The last reference to a worker would take locks that no thread of this process can release.
            std::mem::forget(self.address.take());
            std::mem::forget(self.runner.take());
        }
    }
}

/// What `concurrent.futures` expects to find, once it has looked.
#[derive(Debug)]
struct Compat {
    condition: Py<PyAny>,
    /// See `_waiters.py`.
    waiters: Py<PyAny>,
    told: Arc<AtomicBool>,
}

/// The native half of ``WorkerFuture``.
///
/// Made by ``ask`` and ``submit``: every method of one that is made by hand raises ``RuntimeError``.
#[pyclass(module = "pytoweb._core", subclass, frozen)]
#[derive(Debug, Default)]
pub(crate) struct FutureBase {
    inner: OnceLock<Inner>,
    compat: OnceLock<Compat>,
    /// The exception made of an engine failure, so that every call raises the same one.
    failure: OnceLock<Py<PyAny>>,
}

/// What a reply came to: the result, or the exception.
pub(crate) type Settled<'a> = Result<&'a Py<PyAny>, &'a Py<PyAny>>;

/// A new future for `task`.
pub(crate) fn new_future<'py>(
    py: Python<'py>,
    task: Arc<Task>,
    address: Address,
    runner: Option<Arc<Runner>>,
    generation: Generation,
) -> PyResult<Bound<'py, PyAny>> {
    let class = FUTURE_CLASS.import(py, "pytoweb.futures", "WorkerFuture")?;
    let none = NO_ARGUMENTS
        .get_or_init(py, || PyTuple::empty(py).unbind())
        .bind(py);
    let future = bare_instance(class, none)?;
    let base = future.cast::<FutureBase>()?;
    // Just made, so it is not set.
    let _ = base.get().inner.set(Inner {
        task,
        address: Some(address),
        runner,
        generation,
    });
    Ok(future)
}

impl FutureBase {
    fn inner(&self) -> PyResult<&Inner> {
        self.inner
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("futures are made by ask() and submit()"))
    }

    /// The reply for the code that asks: a failure counts as read from here on.
    fn value<'a>(&'a self, py: Python<'_>, inner: &'a Inner) -> PyResult<Option<Settled<'a>>> {
        let value = self.peek(py, inner)?;
        if let Some(Err(_)) = value {
            inner.task.unread.note_read();
        }
        Ok(value)
    }

    fn peek<'a>(&'a self, py: Python<'_>, inner: &'a Inner) -> PyResult<Option<Settled<'a>>> {
        let Some(reply) = inner.task.slot.get() else {
            return Ok(None);
        };
        Ok(Some(match reply {
            Ok(value) => value.get(py)?,
            Err(failure) => Err(self.failure.get_or_init(|| {
                inner
                    .task
                    .error_of(*failure, inner.named())
                    .into_value(py)
                    .into_any()
            })),
        }))
    }

    /// Waits until the reply stands; false when `limit` has passed.
    fn wait(&self, py: Python<'_>, inner: &Inner, limit: Option<Duration>) -> PyResult<bool> {
        inner.check_here()?;
        let Some(address) = &inner.address else {
            return Ok(false);
        };
        let ticket: Arc<dyn Ticket> = inner.task.clone();
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        if pytoweb_engine::current().is_some() {
            // A pool thread gets no signals, and the engine looks for cycles and lends its place.
            let waited = py.detach(|| pytoweb_engine::wait(address, &ticket, limit));
            return waited.map_err(|error| error::wait(py, error));
        }
        // A coroutine that blocks its event loop waits all the same.
        let _edge = edge_of_coroutine(py, self)?;
        if let Some(runner) = &inner.runner {
            // Its reply is read by this very thread, if no other thread reads.
            py.check_signals()?;
            if limit != Some(Duration::ZERO) {
                warn_of_blocking(py)?;
            }
            let limit = limit.map_or(SIGNAL_LOOK, |limit| limit.min(SIGNAL_LOOK));
            if py.detach(|| runner.help(&inner.task.lane, inner.task.slot.state(), limit)) {
                return Ok(true);
            }
        } else if py.detach(|| ticket.state().wait_briefly()) {
            return Ok(true);
        } else if limit != Some(Duration::ZERO) {
            warn_of_blocking(py)?;
        }
        let parker = Parker::of_this_thread()
            .ok_or_else(|| PyRuntimeError::new_err("can't allocate lock"))?;
        let unpark: Arc<dyn Unpark> = parker.clone();
        if !ticket.state().park_with(unpark.clone()) {
            return Ok(true);
        }
        let waited = loop {
            // Also before the first time: a signal that came since the call has been, and will not end the wait.
            if let Err(error) = py.check_signals() {
                break Err(error);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let step = left.map_or(SIGNAL_LOOK, |left| left.min(SIGNAL_LOOK));
            // Not timed out, but unparked (now, or left over from an earlier wait) or interrupted: look again.
            let woken = py.detach(|| parker.park(Some(step)));
            if ticket.state().is_done() {
                return Ok(true);
            }
            if woken == Woken::TimedOut && left.is_some_and(|left| left <= step) {
                break Ok(false);
            }
        };
        ticket.state().leave(&unpark);
        waited
    }

    fn settled<'a>(
        &'a self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Settled<'a>> {
        let inner = self.inner()?;
        if let Some(value) = self.value(py, inner)? {
            return Ok(value);
        }
        // As `Future` does: a negative time is none left.
        let limit = timeout
            .filter(|timeout| !timeout.is_none())
            .map(|timeout| timeout.extract::<f64>())
            .transpose()?;
        let limit = limit.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        if self.wait(py, inner, limit)?
            && let Some(value) = self.value(py, inner)?
        {
            return Ok(value);
        }
        Err(error::wait_timeout(py))
    }

    /// Notes that `waiter`, a handler, is about to wait for this future; an error where
    /// that could never end.
    pub(crate) fn wait_edge(&self, py: Python<'_>, waiter: &Waiter) -> PyResult<Option<WaitEdge>> {
        let inner = self.inner()?;
        let Some(target) = &inner.address else {
            return Ok(None);
        };
        let ticket: Arc<dyn Ticket> = inner.task.clone();
        pytoweb_engine::edge(waiter, target, Some(&ticket))
            .map(Some)
            .map_err(|error| error::wait(py, error))
    }

    /// The same for the handler that runs on this thread, or whose coroutine does; `None` where none does, or nothing
    /// is to be waited for.
    pub(crate) fn edge_of_handler(&self, py: Python<'_>) -> PyResult<Option<WaitEdge>> {
        let inner = self.inner()?;
        let Some(target) = inner.address.as_ref().filter(|_| !self.is_done()) else {
            return Ok(None);
        };
        inner.check_here()?;
        if pytoweb_engine::current().is_none() {
            return edge_of_coroutine(py, self);
        }
        let ticket: Arc<dyn Ticket> = inner.task.clone();
        pytoweb_engine::edge_of_current(target, &ticket).map_err(|error| error::wait(py, error))
    }

    fn is_done(&self) -> bool {
        self.inner
            .get()
            .is_some_and(|inner| inner.task.slot.state().is_done())
    }

    /// What it is made of. An error where it will never be done: it is open, and its worker the parent's.
    fn live(&self) -> PyResult<&Inner> {
        let inner = self.inner()?;
        if !inner.task.slot.state().is_done() {
            inner.check_here()?;
        }
        Ok(inner)
    }

    /// What came of it, once that stands.
    pub(crate) fn outcome(&self, py: Python<'_>) -> PyResult<Option<Settled<'_>>> {
        self.value(py, self.inner()?)
    }

    /// Calls `callback` on the thread that settles the future, or here and now if it is.
    pub(crate) fn on_done(&self, callback: impl FnOnce() + Send + 'static) -> PyResult<()> {
        self.live()?.on_done(callback);
        Ok(())
    }

    /// The same, with whether it failed, which counts as read: the caller is told of the first failure of many.
    pub(crate) fn on_outcome(&self, callback: impl FnOnce(bool) + Send + 'static) -> PyResult<()> {
        let inner = self.live()?;
        // Weakly: the callback is a part of the task until the reply stands.
        let task = Arc::downgrade(&inner.task);
        inner.on_done(move || {
            let failed = task.upgrade().filter(|task| task.has_failed());
            if let Some(task) = &failed {
                task.unread.note_read();
            }
            callback(failed.is_some());
        });
        Ok(())
    }

    pub(crate) fn is_cancelled(&self) -> PyResult<bool> {
        Ok(matches!(
            self.inner()?.task.slot.get(),
            Some(Err(
                Failure::Cancelled | Failure::Dropped(DropReason::Replaced)
            ))
        ))
    }

    fn compat<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Compat> {
        let py = slf.py();
        let this = slf.get();
        if let Some(compat) = this.compat.get() {
            return Ok(compat);
        }
        let inner = this.inner()?;
        let condition = py.import("threading")?.call_method0("Condition")?.unbind();
        let waiters = py
            .import("pytoweb._waiters")?
            .call_method1("Waiters", (slf,))?;
        let told = Arc::new(AtomicBool::new(false));
        let compat = Compat {
            condition,
            waiters: waiters.unbind(),
            told: told.clone(),
        };
        if this.compat.set(compat).is_ok() {
            let future = slf.clone().unbind();
            inner.on_done(move || {
                Python::attach(|py| {
                    // `tell` is in Python: it is what `Future.set_result` does after the result is in.
                    let future = future.bind(py);
                    let told_them =
                        future.call_method1(intern!(py, "_tell_waiters"), (Told(told),));
                    if let Err(error) = told_them {
                        error.write_unraisable(py, Some(future.as_any()));
                    }
                });
            });
        }
        this.compat
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the future has no condition"))
    }
}

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

/// Marks one worker as waiting for another, as long as it lives.
pub(crate) type WaitEdge = pytoweb_engine::EdgeGuard;

/// Passed to `_tell_waiters`, which calls it while it holds the condition.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
struct Told(Arc<AtomicBool>);

#[pymethods]
impl Told {
    fn __call__(&self) {
        // ORDERING: Release/Acquire with `_state`; the interpreter lock orders them as well.
        self.0.store(true, Ordering::Release);
    }
}

#[pymethods]
impl FutureBase {
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
