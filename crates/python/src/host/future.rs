//! The native half of `WorkerFuture`.
//!
//! `WorkerFuture` inherits this class and `concurrent.futures.Future`, in that order: it is a real `Future`, but the
//! parts of one that cost (a condition variable, lists of waiters) are only made when a caller asks for them. That
//! is what `concurrent.futures.wait` and `as_completed` do, through the private attributes `_condition`, `_state`
//! and `_waiters`, which are properties here.
//!
//! Once the condition exists, `_state` says *finished* only after the waiters were told under that condition; else
//! `wait` could see a finished future and be told of it a second time.

pub(crate) mod awaiting;
mod compat;
mod gathering;
mod loops;
mod methods;
mod outcome;
mod waiter;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pytoweb_engine::{Address, DropReason, Failure, Ticket, Unpark, WaitNode};

use crate::error::{self, NamedOwner};
use crate::host::coroutines;
use crate::host::edges::{self, WaitEdge};
use crate::host::endpoint::Endpoint;
use crate::host::handler::Runner;
use crate::host::task::Task;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::attached::Attached;
use crate::interpreter::context::bare_instance;
use crate::interpreter::generation::Generation;
use crate::interpreter::parker::{Parker, Woken};

use self::compat::Compat;

/// How often a thread that waits looks for signals on its own. One that comes while it waits ends the wait at once; this
/// is for one that comes in the instant before.
pub(crate) const SIGNAL_LOOK: Duration = Duration::from_millis(250);

/// The class `pytoweb.workers.WorkerFuture`.
static FUTURE_CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static NO_ARGUMENTS: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) task: Arc<Task>,
    address: Option<Address>,
    /// Whether that is a pool's own mailbox.
    is_pool: bool,
    /// Where the message is handled, if in another process.
    runner: Option<Arc<Runner>>,
    /// Of the endpoint that owes it.
    shared: Option<Arc<Attached<WorkerShared>>>,
    generation: Generation,
}

impl Inner {
    /// The `PoolRuntime` of the endpoint that owes it.
    pub(crate) fn runtime(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let shared = self.shared.as_ref()?;
        Some(shared.runtime.clone_ref(py))
    }

    fn worker_name(&self) -> &str {
        self.address.as_ref().map_or("", Address::name)
    }

    fn named(&self) -> NamedOwner<'_> {
        NamedOwner {
            name: self.worker_name(),
            is_pool: self.is_pool,
        }
    }

    /// An error in a forked child of the process that it was made in.
    pub(crate) fn check_here(&self) -> PyResult<()> {
        let kind = if self.named().is_pool {
            "pool"
        } else {
            "worker"
        };
        self.generation.check(kind, self.worker_name())
    }

    /// Calls `callback` once the reply stands, which another thread is to see to.
    pub(crate) fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        self.task.slot.state().on_done(callback);
        self.call_lane();
    }

    /// Has what comes from another process read soon.
    pub(crate) fn call_lane(&self) {
        if let Some(runner) = &self.runner
            && self.generation.is_here()
        {
            runner.call(&self.task.lane);
        }
    }

    /// Whether this is the process that it was made in.
    pub(crate) fn is_here(&self) -> bool {
        self.generation.is_here()
    }

    /// No item of its stream is read any more: a message that has not begun is cancelled, one that runs is told.
    pub(crate) fn give_up(&self, ticket: &Arc<dyn Ticket>) {
        let Some(address) = &self.address else {
            return;
        };
        match &self.runner {
            None => drop(address.cancel(ticket)),
            Some(_) if address.withdraw(ticket) => {}
            // It is no reason to kill the child.
            Some(runner) => runner.unread(ticket),
        }
    }

    /// A stream ends with its future, which its reader holds: where an interrupt came before there was a reader, there will be
    /// none.
    fn end_stream(&self) {
        let Some(channel) = self.task.stream() else {
            return;
        };
        if self.task.slot.state().is_done() {
            return;
        }
        channel.close();
        let ticket: Arc<dyn Ticket> = self.task.clone();
        Python::attach(|py| py.detach(|| self.give_up(&ticket)));
    }

    /// So many items of its stream were read: the child may send as many more.
    pub(crate) fn grant(&self, items: u32) {
        if let Some(runner) = &self.runner
            && self.generation.is_here()
        {
            let ticket: Arc<dyn Ticket> = self.task.clone();
            runner.grant(&ticket, items);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.generation.is_here() {
            self.end_stream();
            self.task.dropped(self.named());
        } else {
            // The last reference to a worker would take locks that no thread of this process can release.
            std::mem::forget(self.address.take());
            std::mem::forget(self.runner.take());
            std::mem::forget(self.shared.take());
        }
    }
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
pub(crate) type SettledReply<'a> = Result<&'a Py<PyAny>, &'a Py<PyAny>>;

/// A new future for `task`, which `endpoint` owes.
pub(crate) fn new_future<'py>(
    py: Python<'py>,
    endpoint: &Endpoint,
    task: Arc<Task>,
) -> PyResult<Bound<'py, PyAny>> {
    let (inner, worker) = endpoint.inner()?;
    let class = FUTURE_CLASS.import(py, "pytoweb.futures", "WorkerFuture")?;
    let none = NO_ARGUMENTS
        .get_or_init(py, || PyTuple::empty(py).unbind())
        .bind(py);
    let future = bare_instance(class, none)?;
    let base = future.cast::<FutureBase>()?;
    // Just made, so it is not set.
    let _ = base.get().inner.set(Inner {
        task,
        address: Some(worker.address()),
        is_pool: inner.shared.is_pool,
        runner: inner.packing.as_ref().map(|packing| packing.runner.clone()),
        shared: Some(inner.shared.clone()),
        generation: inner.generation,
    });
    Ok(future)
}

impl FutureBase {
    /// What a reader of its stream needs of it, or a search for its message.
    pub(crate) fn stream_parts(&self) -> PyResult<&Inner> {
        self.inner()
    }

    fn inner(&self) -> PyResult<&Inner> {
        self.inner
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("futures are made by ask() and submit()"))
    }

    /// The reply for the code that asks: a failure counts as read from here on.
    fn value<'a>(&'a self, py: Python<'_>, inner: &'a Inner) -> PyResult<Option<SettledReply<'a>>> {
        let value = self.peek(py, inner)?;
        if let Some(Err(_)) = value {
            inner.task.unread.note_read();
        }
        Ok(value)
    }

    fn peek<'a>(&'a self, py: Python<'_>, inner: &'a Inner) -> PyResult<Option<SettledReply<'a>>> {
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
        let edge = edge_of_coroutine(py, self)?;
        let _blocked = edges::block_loop(py, edge.as_ref())?;
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
    ) -> PyResult<SettledReply<'a>> {
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
    pub(crate) fn wait_edge(
        &self,
        py: Python<'_>,
        waiter: &WaitNode,
    ) -> PyResult<Option<WaitEdge>> {
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
    pub(crate) fn outcome(&self, py: Python<'_>) -> PyResult<Option<SettledReply<'_>>> {
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
}

/// Notes that the handler waits for `future` whose coroutine runs in this context, if one does; an error where that
/// could never end.
fn edge_of_coroutine(py: Python<'_>, future: &FutureBase) -> PyResult<Option<WaitEdge>> {
    if !coroutines::may_be_in_one() || future.done()? {
        return Ok(None);
    }
    match edges::waiter_of_coroutine(py)? {
        Some(waiter) => future.wait_edge(py, &waiter),
        None => Ok(None),
    }
}

/// Warns, in asyncio's debug mode, of a wait that blocks the event loop of this thread.
fn warn_of_blocking(py: Python<'_>) -> PyResult<()> {
    static MODULES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let modules = MODULES.import(py, "sys", "modules")?;
    if modules.contains(intern!(py, "asyncio"))? {
        py.import(intern!(py, "pytoweb._aio"))?.call_method1(
            intern!(py, "warn_of_blocking"),
            ("result()", "await the future instead", 2),
        )?;
    }
    Ok(())
}
