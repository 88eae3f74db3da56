//! The native half of `PythonWorker` and `WorkerPool`: something that messages are posted to.
//!
//! Both Python classes inherit [`Endpoint`]. `__new__` takes anything and makes it empty, so that subclasses may have
//! an `__init__` of any signature; `_pytoweb_set_up` fills it in.
//!
//! Past 600 lines, half of which are what `help()` shows of the methods.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};
use pytoweb_engine::{
    Overflow, ParkedPost, Pool, PostError, Rate, Shed, StopMode, Worker, WorkerOptions,
    WorkerState, WorkerStats,
};

use crate::arguments;
use crate::error;
use crate::host::around::Surroundings;
use crate::host::awaiting::end_edge_of_coroutine;
use crate::host::end_hooks::EndHooks;
use crate::host::failure::Limit;
use crate::host::fleet::Processes;
use crate::host::future::new_future;
use crate::host::handler::{PyHandler, Runner};
use crate::host::kinds::Kinds;
use crate::host::message::{Body, PyMessage, name_of};
use crate::host::packing::{LastKind, Packing};
use crate::host::parked::{Parked, Repeated};
use crate::host::places::{Place, place_for, wait_for_place};
use crate::host::planning::{ByType, Planned, Wishes, with_wishes};
use crate::host::reply_room::ReplyRoom;
use crate::host::retrying::Policy;
use crate::host::shared::Shared;
use crate::host::sizes::Scale;
use crate::host::start_hook::StartHook;
use crate::host::task::{Head, Task};
use crate::host::terms::Terms;
use crate::host::threads::Threads;
use crate::host::waiting::{self, Entry};
use crate::interpreter::attached::Attached;
use crate::interpreter::context;
use crate::interpreter::fork;
use crate::interpreter::generation::Generation;
use crate::pickle::definitions::Definitions;
use crate::pickle::pickling;
use crate::pickle::pickling::Way;

/// Messages that `post_messages` takes from its iterable before it posts them: enough for one wake-up to be lost in
/// the noise, few enough that an endless iterable meets a full mailbox.
const POST_CHUNK: usize = 1024;

#[derive(Debug)]
struct Inner {
    worker: Option<Worker<PyHandler>>,
    shared: Arc<Attached<Shared>>,
    /// For an endpoint whose handlers run in other processes.
    packing: Option<Packing>,
    generation: Generation,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.generation.is_here() {
            // Stopping it would take locks that no thread of this process can release.
            std::mem::forget(self.worker.take());
            std::mem::forget(self.packing.take());
        }
    }
}

impl Inner {
    /// The name of a state. While no process can be started, a worker that would run has failed.
    fn state_of(&self, state: WorkerState) -> &'static str {
        let runs = matches!(state, WorkerState::Running | WorkerState::Stuck);
        let packing = self.packing.as_ref().filter(|_| runs);
        match packing.and_then(|packing| packing.runner.failure()) {
            Some(_) => "failed",
            None => state.name(),
        }
    }

    /// What every use in a forked child raises.
    fn forked(&self) -> PyErr {
        // Reads what never changes: no lock.
        let kind = if self.shared.is_pool {
            "pool"
        } else {
            "worker"
        };
        error::forked(kind, &self.shared.name)
    }

    fn make(
        own: Attached<Shared>,
        options: WorkerOptions,
        shared: bool,
        pool: &Pool,
        way: Option<(&Processes, Option<usize>, u32)>,
    ) -> PyResult<Self> {
        let own = Arc::new(own);
        let packing = match way {
            None => None,
            Some((processes, lane, max_attempts)) => {
                let fleet = processes.fleet()?.clone();
                Some(Packing {
                    runner: Arc::new(Runner::new(&own.name, fleet, lane, pool)),
                    max_attempts,
                    // A pool has no start that would tell its children.
                    stale: AtomicBool::new(shared),
                    may_start: AtomicBool::new(false),
                    functions: Definitions::default(),
                    kind: LastKind::default(),
                    runtime: Python::attach(|py| own.runtime.clone_ref(py)),
                })
            }
        };
        let handler = PyHandler {
            shared: own.clone(),
            runner: packing.as_ref().map(|packing| packing.runner.clone()),
        };
        let worker = if shared {
            Worker::shared(&own.name, handler, options, pool)
        } else {
            Worker::new(&own.name, handler, options, pool)
        };
        Ok(Self {
            worker: Some(worker),
            shared: own,
            packing,
            generation: Generation::now(),
        })
    }

    /// A message for the handler of `kind`.
    fn message(
        &self,
        py: Python<'_>,
        kind: Py<PyString>,
        data: Py<PyAny>,
        task: Option<Arc<Task>>,
    ) -> PyResult<PyMessage> {
        let body = match &self.packing {
            None => Body::Local {
                head: kind.into_any(),
                data,
                context: context::capture(py)?,
            },
            Some(packing) => {
                packing.refresh(py, &self.shared.owner)?;
                packing.message(
                    py,
                    self.shared.named(),
                    kind.bind(py),
                    data.bind(py),
                    task.as_deref(),
                )?
            }
        };
        Ok(PyMessage { body, task })
    }

    /// The terms of a message of the type `kind`.
    #[inline]
    fn terms<'py>(
        &self,
        worker: &Worker<PyHandler>,
        kind: &Bound<'py, PyString>,
        limit: Option<Duration>,
        wishes: Wishes<'_, 'py>,
        data: &Py<PyAny>,
    ) -> PyResult<Terms> {
        let clock = &**worker.pool().clock();
        Terms::of(&self.shared, clock, kind, limit, wishes, data)
    }

    /// What a call asks of the mailbox; `wishes` as of [`with_wishes`].
    fn plan_of_call<'py>(
        &self,
        worker: &Worker<PyHandler>,
        limit: Option<Duration>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Option<Planned>> {
        let clock = &**worker.pool().clock();
        with_wishes(wishes, |wishes| wishes.plan(None, limit, None, clock))
    }

    /// A message that calls `function`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a call and what the caller asks for"
    )]
    fn call(
        &self,
        py: Python<'_>,
        head: Head,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        limit: Option<Duration>,
        plan: Option<Planned>,
    ) -> PyResult<(PyMessage, Arc<Task>)> {
        if !function.bind(py).is_callable() {
            return Err(error::not_a_function(function.bind(py)));
        }
        let limit = limit
            .map(|limit| PyResult::Ok(Limit::new(&name_of(function.bind(py))?, limit)))
            .transpose()?;
        let bytes = match &self.shared.scale {
            Some(scale) => {
                let kwargs = kwargs.as_ref().map(|kwargs| kwargs.bind(py));
                scale.weigh_call(args.bind(py), kwargs)?
            }
            None => 0,
        };
        let (body, kwargs) = match &self.packing {
            None => {
                let body = Body::Local {
                    head: function,
                    data: args.into_any(),
                    context: context::capture(py)?,
                };
                (body, kwargs)
            }
            Some(packing) => {
                packing.refresh(py, &self.shared.owner)?;
                let body = packing.call(
                    py,
                    self.shared.named(),
                    head,
                    function.bind(py),
                    args,
                    kwargs,
                )?;
                (body, None)
            }
        };
        let task = Arc::new(Task {
            head,
            kwargs,
            asked: true,
            limit,
            plan,
            bytes,
            ..Task::default()
        });
        let message = PyMessage {
            body,
            task: Some(task.clone()),
        };
        Ok((message, task))
    }

    /// Posts `message`, waiting for room as the policy says. Its deadline counts from here, that wait included.
    fn post(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        message: PyMessage,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        if message.has_id() {
            return self.post_with_id(py, worker, message, limit);
        }
        self.post_now(py, worker, message, limit)
    }

    /// The same, with a place for the reply.
    #[cold]
    fn post_with_id(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        message: PyMessage,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        self.shared.check_open()?;
        let since = Instant::now();
        let place = message
            .id()
            .map(|id| place_for(py, worker, &self.shared, id))
            .transpose()?;
        match place {
            Some(Place::Dropped) => return Ok(()),
            Some(Place::Wait) => wait_for_place(py, worker, &self.shared, limit)?,
            Some(Place::Taken) | None => {}
        }
        let left = limit.map(|limit| limit.saturating_sub(since.elapsed()));
        self.post_now(py, worker, message, left)
            .inspect_err(|_| self.shared.reply_room.give_back(py, 1))
    }

    fn post_now(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        message: PyMessage,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        self.shared.check_open()?;
        let deadline = limit.zip(message.task.clone());
        match worker.try_post(message) {
            Ok(()) => {}
            Err(PostError::Full(message)) if worker.overflow() == Overflow::Block => {
                return waiting::post_when_room(py, worker, message, limit);
            }
            Err(error) => return Err(waiting::refused(worker, error)),
        }
        match deadline {
            Some((limit, task)) => waiting::set_deadline(worker, task, limit),
            None => Ok(()),
        }
    }
}

/// The native half of ``PythonWorker`` and ``WorkerPool``: something that messages are posted to.
///
/// Until ``_pytoweb_set_up`` was called every method raises ``RuntimeError``; in a forked child each raises
/// ``ForkedProcessError``. Every method may be called from any thread.
// Under the name that a `TypeError` of a call should have; in `_core` it is `Endpoint`.
#[pyclass(module = "pytoweb._core", name = "PythonWorker", subclass, frozen)]
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    inner: OnceLock<Inner>,
    /// In a forked child: the same endpoint as it was made anew there.
    renewed: OnceLock<Box<Self>>,
}

impl Endpoint {
    pub(crate) fn address(&self) -> PyResult<pytoweb_engine::Address> {
        Ok(self.inner()?.1.address())
    }

    fn inner(&self) -> PyResult<(&Inner, &Worker<PyHandler>)> {
        let inner = self.inner.get().ok_or_else(fork::not_set_up)?;
        match &inner.worker {
            Some(worker) if inner.generation.is_here() => Ok((inner, worker)),
            _ => match self.renewed.get() {
                Some(renewed) => renewed.inner(),
                None => Err(inner.forked()),
            },
        }
    }
}

#[pymethods]
impl Endpoint {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Fills in what `__new__` left empty. `shared`: the pool's own mailbox.
    #[expect(
        clippy::too_many_arguments,
        reason = "called from one place, by keyword"
    )]
    #[pyo3(signature = (*, name, capacity, overflow, threads, handlers, replies, owner, shared, pool_handlers=None, processes=None, lane=None, max_attempts=1, rate=None, concurrency=1, bytes=None, size_of=None, shed=None))]
    fn _pytoweb_set_up(
        &self,
        py: Python<'_>,
        name: String,
        capacity: usize,
        overflow: &str,
        threads: &Bound<'_, Threads>,
        handlers: Py<PyDict>,
        replies: Py<PyAny>,
        owner: Py<PyAny>,
        shared: bool,
        pool_handlers: Option<Py<PyDict>>,
        processes: Option<&Bound<'_, Processes>>,
        lane: Option<usize>,
        max_attempts: u32,
        rate: Option<(u32, f64, u32)>,
        concurrency: usize,
        bytes: Option<u64>,
        size_of: Option<Py<PyAny>>,
        shed: Option<(f64, f64)>,
    ) -> PyResult<()> {
        let threads = threads.get();
        // A message that runs takes no place in the mailbox.
        let running = if shared {
            threads.pool()?.size()
        } else {
            concurrency
        };
        let overflow: Overflow =
            overflow
                .parse()
                .map_err(|error: pytoweb_engine::UnknownOverflow| {
                    pyo3::exceptions::PyValueError::new_err(error.to_string())
                })?;
        let options = WorkerOptions {
            capacity,
            overflow,
            rate: rate.map(checked_rate).transpose()?,
            shed: shed.map(checked_shed).transpose()?,
            concurrency,
            bytes,
        };
        let own = Attached::new(Shared {
            name,
            is_pool: shared,
            handlers,
            pool_handlers,
            replies,
            runtime: threads.runtime.clone_ref(py),
            owner,
            broken: threads.broken.clone(),
            closing: AtomicBool::new(false),
            start_hook: StartHook::default(),
            end_hooks: EndHooks::default(),
            began: AtomicBool::new(false),
            surroundings: Surroundings::default(),
            reply_room: ReplyRoom::new(capacity.saturating_add(running)),
            runs_several: !shared && concurrency > 1,
            // In another process its pickle is what a message takes.
            scale: bytes
                .filter(|_| processes.is_none())
                .map(|_| Scale { size_of }),
            kinds: Kinds::default(),
            retries: ByType::default(),
        });
        let way = processes.map(|processes| (processes.get(), lane, max_attempts));
        let inner = Inner::make(own, options, shared, threads.pool()?, way)?;
        self.inner
            .set(inner)
            .map_err(|_| PyRuntimeError::new_err("the worker is set up already"))
    }

    /// In a forked child: makes it anew, empty and not started, on threads and processes of this process.
    #[pyo3(signature = (threads, processes=None))]
    fn _pytoweb_renew(
        &self,
        py: Python<'_>,
        threads: &Bound<'_, Threads>,
        processes: Option<&Bound<'_, Processes>>,
    ) -> PyResult<()> {
        let mut last = self;
        while let Some(renewed) = last.renewed.get() {
            last = renewed;
        }
        let before = last.inner.get().ok_or_else(fork::not_set_up)?;
        let worker = before.worker.as_ref().ok_or_else(|| before.forked())?;
        let options = WorkerOptions {
            capacity: worker.capacity(),
            overflow: worker.overflow(),
            rate: worker.rate(),
            shed: worker.shed(),
            concurrency: worker.concurrency(),
            bytes: worker.byte_limit(),
        };
        let threads = threads.get();
        let own = Attached::new(Shared {
            name: before.shared.name.clone(),
            is_pool: before.shared.is_pool,
            handlers: before.shared.handlers.clone_ref(py),
            pool_handlers: before
                .shared
                .pool_handlers
                .as_ref()
                .map(|of_pool| of_pool.clone_ref(py)),
            replies: before.shared.replies.clone_ref(py),
            runtime: threads.runtime.clone_ref(py),
            owner: before.shared.owner.clone_ref(py),
            broken: threads.broken.clone(),
            closing: AtomicBool::new(false),
            start_hook: before.shared.start_hook.again(py),
            end_hooks: before.shared.end_hooks.again(py),
            began: AtomicBool::new(false),
            surroundings: before.shared.surroundings.again(py),
            reply_room: before.shared.reply_room.again(),
            runs_several: before.shared.runs_several,
            scale: before.shared.scale.as_ref().map(|scale| scale.again(py)),
            kinds: before.shared.kinds.again(),
            retries: before.shared.retries.again(Arc::clone),
        });
        let way = processes
            .zip(before.packing.as_ref())
            .map(|(processes, packing)| {
                (processes.get(), packing.runner.lane(), packing.max_attempts)
            });
        let inner = Inner::make(own, options, before.shared.is_pool, threads.pool()?, way)?;
        let renewed = Box::<Self>::default();
        // Just made, so it is not set.
        let _ = renewed.inner.set(inner);
        last.renewed
            .set(renewed)
            .map_err(|_| PyRuntimeError::new_err("the worker was made anew already"))
    }

    /// Queues a message, and returns without waiting for its handler.
    ///
    /// A worker handles messages one at a time, in the order of posting; a pool's own mailbox starts them in
    /// that order. A worker that is not started keeps them until it is. The caller's context variables are
    /// set around the handler. With a full mailbox the overflow policy decides: ``"block"`` waits for room,
    /// without the interpreter lock; ``"reject"`` raises; ``"drop_newest"`` and ``"drop_oldest"`` drop a
    /// message, count it, and return.
    ///
    /// Args:
    ///     message_type: The type, which chooses the handler; any but ``"response"`` and ``"error"``.
    ///     data: What the handler gets: as it is on a thread, pickled here for a process.
    ///     message_id: Asks for a reply: the owner's ``response`` or ``error`` handler gets it with this id.
    ///         It takes a place of the mailbox's room until that handler is through with the reply.
    ///     timeout: Seconds from now until the message expires, the wait for room included. One that expires
    ///         in the queue never runs; one that is running gets ``current_message().cancelled``. None is no
    ///         limit.
    ///     priority: How urgent it is, from 0 to 9; 4 is that of a message without one. It goes before queued
    ///         messages of a lower one, which age: each waits behind at most 64 later ones for each level
    ///         that those are higher.
    ///     key: A str, an int or bytes. Messages with the same key run one after the other, in order, also
    ///         where several run at once; keys take turns. In an order by priority that of the first one
    ///         counts.
    ///     delay: Seconds that the message stays in the mailbox, where it takes a place, before it takes its
    ///         turn. ``stop()`` fails one whose time has not come.
    ///     at: An aware datetime, instead of ``delay``; one that is over is now.
    ///     keep_latest: With a key: takes the place of the queued message of this type with the same key that
    ///         was posted so, if there is one, whose future is cancelled. With a delay that begins anew.
    ///     retry: How often it is tried when it fails, instead of what ``on_message`` says of its type.
    ///
    /// Raises:
    ///     MailboxFullError: The mailbox is full, and the policy is ``"reject"``, or ``"block"`` and no room
    ///         came within ``timeout``, or waiting would block an event loop (use ``apost_message``) or the
    ///         very handler that makes the room.
    ///     WorkerStoppedError: It is stopped or stopping.
    ///     SerializationError: The data cannot be sent to another process.
    ///     WorkerCrashedError: It has failed: its process could not be kept alive.
    ///     ForkedProcessError: It belongs to the parent process.
    ///     TypeError: ``message_type`` or ``message_id`` is not a str, ``timeout`` or ``delay`` not a number,
    ///         or another argument of a wrong type.
    ///     ValueError: ``message_type`` is reserved, ``timeout`` or ``delay`` negative or NaN, ``timeout``
    ///         not longer than ``delay``, ``priority`` not from 0 to 9, ``at`` without a time zone, ``delay``
    ///         and ``at`` are both given, or ``keep_latest`` without a key.
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    #[pyo3(signature = (message_type, data=None, message_id=None, *, timeout=None, priority=None, key=None, delay=None, at=None, keep_latest=None, retry=None))]
    fn post_message<'py>(
        &self,
        py: Python<'py>,
        message_type: &Bound<'py, PyAny>,
        data: Option<Py<PyAny>>,
        message_id: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        at: Option<&Bound<'py, PyAny>>,
        keep_latest: Option<&Bound<'py, PyAny>>,
        retry: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let kind = arguments::message_type(message_type)?;
        let id = arguments::message_id(message_id)?;
        let limit = arguments::timeout(timeout)?;
        let (inner, worker) = self.inner()?;
        let data = data.unwrap_or_else(|| py.None());
        let wishes = Wishes {
            priority,
            key,
            delay,
            at,
            keep_latest,
            retry,
        };
        let terms = inner.terms(worker, kind.bind(py), limit, wishes, &data)?;
        let task = terms.of_post(kind.bind(py), id, limit);
        let message = inner.message(py, kind, data, task)?;
        inner.post(py, worker, message, limit)
    }

    /// Queues a message as ``post_message`` does, and returns the future of its reply.
    ///
    /// The future gets what the handler returns, or raises what it raises. A message that the policy drops
    /// fails its future with ``MailboxFullError``, one that a stop gives up with ``WorkerStoppedError``, and
    /// one of a type without a handler with ``UnknownMessageError``.
    ///
    /// Args:
    ///     message_type: The type, which chooses the handler; any but ``"response"`` and ``"error"``.
    ///     data: What the handler gets: as it is on a thread, pickled here for a process.
    ///     timeout: Seconds from now until the future fails with ``DeadlineError``, queued or running. A
    ///         message that expires in the queue never runs; one that is running gets
    ///         ``current_message().cancelled``. None is no limit.
    ///     priority: How urgent it is, from 0 to 9; 4 is that of a message without one. It goes before queued
    ///         messages of a lower one, which age: each waits behind at most 64 later ones for each level
    ///         that those are higher.
    ///     key: A str, an int or bytes. Messages with the same key run one after the other, in order, also
    ///         where several run at once; keys take turns. In an order by priority that of the first one
    ///         counts.
    ///     delay: Seconds that the message stays in the mailbox, where it takes a place, before it takes its
    ///         turn. ``stop()`` fails one whose time has not come.
    ///     at: An aware datetime, instead of ``delay``; one that is over is now.
    ///     keep_latest: With a key: takes the place of the queued message of this type with the same key that
    ///         was posted so, if there is one, whose future is cancelled. With a delay that begins anew.
    ///     retry: How often it is tried when it fails, instead of what ``on_message`` says of its type.
    ///
    /// Returns:
    ///     The future; it can be waited for or awaited.
    ///
    /// Raises:
    ///     MailboxFullError: As for ``post_message``, but never for a message that is dropped.
    ///     WorkerStoppedError: It is stopped or stopping.
    ///     SerializationError: The data cannot be sent to another process.
    ///     WorkerCrashedError: It has failed: its process could not be kept alive.
    ///     ForkedProcessError: It belongs to the parent process.
    ///     TypeError: As for ``post_message``.
    ///     ValueError: As for ``post_message``.
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    #[pyo3(signature = (message_type, data=None, *, timeout=None, priority=None, key=None, delay=None, at=None, keep_latest=None, retry=None))]
    fn ask<'py>(
        &self,
        py: Python<'py>,
        message_type: &Bound<'py, PyAny>,
        data: Option<Py<PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        priority: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        at: Option<&Bound<'py, PyAny>>,
        keep_latest: Option<&Bound<'py, PyAny>>,
        retry: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kind = arguments::message_type(message_type)?;
        let limit = arguments::timeout(timeout)?;
        let (inner, worker) = self.inner()?;
        let data = data.unwrap_or_else(|| py.None());
        let wishes = Wishes {
            priority,
            key,
            delay,
            at,
            keep_latest,
            retry,
        };
        let terms = inner.terms(worker, kind.bind(py), limit, wishes, &data)?;
        let task = terms.of_ask(kind.bind(py), limit);
        let message = inner.message(py, kind, data, Some(task.clone()))?;
        self.ask_for(py, message, task, limit)
    }

    /// Has `function(*args, **kwargs)` called; `awaits`: a coroutine that it returns is run too.
    #[expect(clippy::too_many_arguments, reason = "called by our own Python")]
    #[pyo3(signature = (function, args, kwargs, awaits, timeout=None, wishes=None))]
    fn _pytoweb_call<'py>(
        &self,
        py: Python<'py>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        awaits: bool,
        timeout: Option<&Bound<'py, PyAny>>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limit = arguments::timeout(timeout)?;
        let (inner, worker) = self.inner()?;
        let plan = inner.plan_of_call(worker, limit, wishes)?;
        let (message, task) =
            inner.call(py, Head::of(awaits), function, args, kwargs, limit, plan)?;
        self.ask_for(py, message, task, limit)
    }

    /// Has ``fn(*args, **kwargs)`` called by whichever thread is free: ``submit`` of an ``Executor``.
    ///
    /// Blocks only while the pool's own mailbox is full. Only the caller hears of an exception, through the
    /// future.
    ///
    /// Args:
    ///     fn: What to call. A coroutine that it returns is the result as it is, not run.
    ///     *args: Its arguments.
    ///     **kwargs: Its keyword arguments.
    ///
    /// Returns:
    ///     The future of what it returns.
    ///
    /// Raises:
    ///     MailboxFullError: The mailbox is full, and waiting would block an event loop or the handler that
    ///         makes the room.
    ///     WorkerStoppedError: The pool is shut down.
    ///     WorkerCrashedError: The pool's initializer failed.
    ///     ForkedProcessError: It belongs to the parent process.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn _pytoweb_submit<'py>(
        &self,
        py: Python<'py>,
        r#fn: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (inner, _) = self.inner()?;
        if inner.shared.broken.load(Ordering::Acquire) {
            return Err(inner.shared.broken_error(py));
        }
        let (message, task) =
            inner.call(py, Head::AsyncFunction, r#fn, args, kwargs, None, None)?;
        self.ask_for(py, message, task, None)
    }

    /// Queues one message per item, in order, much cheaper than one ``post_message`` each.
    ///
    /// Args:
    ///     message_type: The type of all of them; any but ``"response"`` and ``"error"``.
    ///     items: The data of each. Read in chunks of 1024, so an endless iterable meets a full mailbox.
    ///     priority: As for ``post_message``, of each of them.
    ///     key: As for ``post_message``, of all of them.
    ///     delay: As for ``post_message``, of each of them.
    ///     at: As for ``post_message``.
    ///
    /// Returns:
    ///     How many were accepted. ``"block"`` waits until all are; ``"reject"`` and ``"drop_newest"`` take
    ///     as many as fit and count the others; ``"drop_oldest"`` takes all.
    ///
    /// Raises:
    ///     MailboxFullError: The policy is ``"block"``, and waiting would block an event loop or the handler
    ///         that makes the room. Items accepted before stay queued.
    ///     WorkerStoppedError: It is stopped or stopping, perhaps since the first item.
    ///     ForkedProcessError: It belongs to the parent process.
    ///     TypeError: ``message_type`` is not a str, or ``items`` cannot be iterated over.
    ///     ValueError: ``message_type`` is reserved.
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    #[pyo3(signature = (message_type, items, *, priority=None, key=None, delay=None, at=None))]
    fn post_messages<'py>(
        &self,
        py: Python<'py>,
        message_type: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
        priority: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        at: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<usize> {
        let wishes = Wishes {
            priority,
            key,
            delay,
            at,
            keep_latest: None,
            retry: None,
        };
        let (inner, worker) = self.inner()?;
        inner.shared.check_open()?;
        let kind = arguments::message_type(message_type)?;
        let mut items = items.try_iter()?;
        let mut accepted = 0;
        let mut chunk = VecDeque::new();
        loop {
            for item in items.by_ref().take(POST_CHUNK) {
                let item = item?.unbind();
                let terms = inner.terms(worker, kind.bind(py), None, wishes, &item)?;
                let task = terms.of_post(kind.bind(py), None, None);
                chunk.push_back(inner.message(py, kind.clone_ref(py), item, task)?);
            }
            if chunk.is_empty() {
                return Ok(accepted);
            }
            while !chunk.is_empty() {
                match worker.try_post_many(&mut chunk) {
                    Ok(more) => accepted += more,
                    Err((more, PostError::Full(()))) if worker.overflow() == Overflow::Block => {
                        accepted += more;
                        waiting::may_wait(py, worker, chunk.len())?;
                        py.detach(|| worker.dally());
                        if let Some(message) = chunk.pop_front() {
                            waiting::post_when_room(py, worker, message, None)
                                .inspect_err(|_| worker.give_up(chunk.len()))?;
                            accepted += 1;
                        }
                    }
                    Err((more, PostError::Full(()))) => {
                        // The first one was refused by the mailbox and counted there; the others have no room either.
                        accepted += more;
                        worker.give_up(chunk.len() - 1 + items.count());
                        return Ok(accepted);
                    }
                    Err((_, error)) => return Err(waiting::refused(worker, error)),
                }
            }
        }
    }

    /// Posts, or leaves the message in the line before a full mailbox: then a `Parked`, which calls `told()` once it is
    /// in or refused. False: a message with an id has no place for its reply yet.
    #[pyo3(signature = (message_type, data, message_id, timeout, told, wishes=None))]
    fn _pytoweb_park_post<'py>(
        slf: &Bound<'py, Self>,
        message_type: &Bound<'py, PyAny>,
        data: Py<PyAny>,
        message_id: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        told: Py<PyAny>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (inner, worker) = slf.get().inner()?;
        let kind = arguments::message_type(message_type)?;
        let id = arguments::message_id(message_id)?;
        let limit = arguments::timeout(timeout)?;
        let terms = with_wishes(wishes, |wishes| {
            inner.terms(worker, kind.bind(py), limit, wishes, &data)
        })?;
        let task = terms.of_post(kind.bind(py), id, limit);
        let message = inner.message(py, kind, data, task)?;
        let place = message
            .id()
            .map(|id| place_for(py, worker, &inner.shared, id))
            .transpose()?;
        match place {
            Some(Place::Dropped) => return Ok(py.None().into_bound(py)),
            Some(Place::Wait) => return Ok(PyBool::new(py, false).to_owned().into_any()),
            Some(Place::Taken) | None => {}
        }
        let with_id = place.is_some();
        match waiting::enter(worker, message, limit) {
            Ok(Entry::In) => Ok(py.None().into_bound(py)),
            Ok(Entry::Line(post)) => slf.get().parked(slf, post, None, with_id, told),
            Err(refused) => {
                if with_id {
                    inner.shared.reply_room.give_back(py, 1);
                }
                Err(refused)
            }
        }
    }

    /// The same for a message of `every`.
    fn _pytoweb_park_repeated<'py>(
        slf: &Bound<'py, Self>,
        message_type: &Bound<'py, PyAny>,
        data: Py<PyAny>,
    ) -> PyResult<Repeated> {
        let py = slf.py();
        let (inner, worker) = slf.get().inner()?;
        let kind = arguments::message_type(message_type)?;
        let terms = inner.terms(worker, kind.bind(py), None, Wishes::default(), &data)?;
        let task = terms.of_repeated(kind.bind(py));
        let message = inner.message(py, kind, data, Some(task.clone()))?;
        let entry = waiting::enter(worker, message, None)?;
        Ok(Repeated::new(task, entry))
    }

    /// Refuses what a post of this would refuse, whatever room there is.
    fn _pytoweb_check_message(
        &self,
        py: Python<'_>,
        message_type: &Bound<'_, PyAny>,
        data: Py<PyAny>,
    ) -> PyResult<()> {
        let (inner, _) = self.inner()?;
        let kind = arguments::message_type(message_type)?;
        if let Some(scale) = &inner.shared.scale {
            scale.weigh(data.bind(py))?;
        }
        inner.message(py, kind, data, None).map(drop)
    }

    /// Replies of messages with an id were taken by the owner.
    fn _pytoweb_replies_taken(&self, py: Python<'_>, replies: usize) -> PyResult<()> {
        self.inner()?.0.shared.reply_room.give_back(py, replies);
        Ok(())
    }

    /// Asks: the future, or, with a full mailbox, a `Parked` as of `_pytoweb_park_post`.
    #[pyo3(signature = (message_type, data, timeout, told, wishes=None))]
    fn _pytoweb_park_ask<'py>(
        slf: &Bound<'py, Self>,
        message_type: &Bound<'py, PyAny>,
        data: Py<PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        told: Py<PyAny>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (inner, worker) = slf.get().inner()?;
        let kind = arguments::message_type(message_type)?;
        let limit = arguments::timeout(timeout)?;
        let terms = with_wishes(wishes, |wishes| {
            inner.terms(worker, kind.bind(py), limit, wishes, &data)
        })?;
        let task = terms.of_ask(kind.bind(py), limit);
        let message = inner.message(py, kind, data, Some(task.clone()))?;
        slf.get().park_for(slf, message, task, limit, told)
    }

    /// The same for a call of `function(*args, **kwargs)`; `awaits`: a coroutine that it returns is run too.
    #[expect(clippy::too_many_arguments, reason = "called by our own Python")]
    #[pyo3(signature = (function, args, kwargs, awaits, timeout, told, wishes=None))]
    fn _pytoweb_park_call<'py>(
        slf: &Bound<'py, Self>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        awaits: bool,
        timeout: Option<&Bound<'py, PyAny>>,
        told: Py<PyAny>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let limit = arguments::timeout(timeout)?;
        let (inner, worker) = slf.get().inner()?;
        let plan = inner.plan_of_call(worker, limit, wishes)?;
        let (message, task) =
            inner.call(py, Head::of(awaits), function, args, kwargs, limit, plan)?;
        // As of `_pytoweb_try_call`.
        task.unread.note_read();
        slf.get().park_for(slf, message, task, limit, told)
    }

    /// Calls `function(*args, **kwargs)` without waiting; `None` where a "block" mailbox has no room, which is not
    /// counted. `awaits`: a coroutine that it returns is run too.
    #[expect(clippy::too_many_arguments, reason = "called by our own Python")]
    #[pyo3(signature = (function, args, kwargs, awaits, timeout=None, wishes=None))]
    fn _pytoweb_try_call<'py>(
        &self,
        py: Python<'py>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        awaits: bool,
        timeout: Option<&Bound<'py, PyAny>>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let limit = arguments::timeout(timeout)?;
        let (inner, worker) = self.inner()?;
        let plan = inner.plan_of_call(worker, limit, wishes)?;
        let (message, task) =
            inner.call(py, Head::of(awaits), function, args, kwargs, limit, plan)?;
        // `map` and a coroutine's own call, which take every result or tell of the first failure alone.
        task.unread.note_read();
        self.try_ask_for(py, message, task, limit)
    }

    /// Calls `callback()` once a message with an id may have a place for its reply; here and now if it may already.
    fn _pytoweb_on_reply_room(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let (inner, _) = self.inner()?;
        if inner.shared.reply_room.on_room(&callback, py) {
            return Ok(());
        }
        callback.call0(py).map(drop)
    }

    /// Refuses posts as if it were stopped, but for those that do not wait for room: `map` still has some.
    fn _pytoweb_refuse(&self) -> PyResult<()> {
        // ORDERING: Relaxed, a post that is under way at the same time may come before or after.
        self.inner()?
            .0
            .shared
            .closing
            .store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Fails what is queued, and stays open. Returns how many messages failed.
    fn _pytoweb_fail_queued(&self) -> PyResult<usize> {
        Ok(self.inner()?.1.fail_queued())
    }

    /// The error of a post that gave up waiting for room; counts it as rejected.
    fn _pytoweb_gave_up(&self, why: &str) -> PyResult<()> {
        let (_, worker) = self.inner()?;
        worker.give_up(1);
        Err(waiting::full(worker, why))
    }

    /// Has messages of one type begin no faster than `rate` from now on: messages, in seconds, and the burst.
    #[pyo3(signature = (message_type, rate, per_key))]
    fn _pytoweb_set_rate(
        &self,
        message_type: &str,
        rate: Option<(u32, f64, u32)>,
        per_key: bool,
    ) -> PyResult<()> {
        let rate = rate.map(checked_rate).transpose()?;
        self.inner()?
            .0
            .shared
            .kinds
            .set_rate(message_type, rate, per_key);
        Ok(())
    }

    /// Has messages of one type handled in batches from now on: of up to so many, of which the first waits so many seconds.
    #[pyo3(signature = (message_type, batch))]
    fn _pytoweb_set_batch(&self, message_type: &str, batch: Option<(usize, f64)>) -> PyResult<()> {
        let batch = batch.map(|(size, max_wait)| {
            // Longer than any program runs, where it is too long for a Duration.
            (
                size,
                Duration::try_from_secs_f64(max_wait).unwrap_or(Duration::MAX),
            )
        });
        self.inner()?.0.shared.kinds.set_batch(message_type, batch);
        Ok(())
    }

    /// Has messages of one type, posted from now on, tried again when they fail, or not.
    fn _pytoweb_set_retry(&self, message_type: &str, retry: &Bound<'_, PyAny>) -> PyResult<()> {
        let policy = Policy::of(retry)?;
        self.inner()?.0.shared.retries.set(message_type, policy);
        Ok(())
    }

    /// Lets the pool run it; false if it was stopped.
    fn _pytoweb_start(&self) -> PyResult<bool> {
        let (_, worker) = self.inner()?;
        worker
            .start()
            .map_err(|error| PyRuntimeError::new_err(format!("can't start new thread: {error}")))
    }

    /// Refuses posts from now on. `mode`: "drain", "finish" (fail the queued) or "cancel" (cancel them). Returns how
    /// many messages failed.
    fn _pytoweb_close(&self, py: Python<'_>, mode: &str) -> PyResult<usize> {
        let (inner, worker) = self.inner()?;
        let failed = worker.close(match mode {
            "drain" => StopMode::Drain,
            "cancel" => StopMode::CancelQueued,
            _ => StopMode::FinishRunning,
        });
        inner.shared.reply_room.close(py);
        Ok(failed)
    }

    /// Blocks until it has ended: true; false when `timeout` has passed; `None` where waiting could never end.
    #[pyo3(signature = (timeout=None))]
    fn _pytoweb_wait_ended(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<bool>> {
        let (_, worker) = self.inner()?;
        let limit = arguments::timeout(timeout)?;
        let Ok(_edge) = end_edge_of_coroutine(py, &worker.address())? else {
            return Ok(None);
        };
        Ok(waiting::wait_in_slices(py, limit, |step| worker.wait_ended(Some(step)))?.ok())
    }

    /// Blocks until nothing is queued and nothing runs; false when `timeout` has passed.
    #[pyo3(signature = (timeout=None))]
    fn _pytoweb_wait_idle(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (_, worker) = self.inner()?;
        let limit = arguments::timeout(timeout)?;
        let _edge = end_edge_of_coroutine(py, &worker.address())?
            .map_err(|error| error::wait(py, error))?;
        waiting::wait_in_slices(py, limit, |step| worker.wait_idle(Some(step)))?
            .map_err(|error| error::wait(py, error))
    }

    fn _pytoweb_is_idle(&self) -> PyResult<bool> {
        Ok(self.inner()?.1.is_idle())
    }

    /// Whether the calling thread runs this worker's handler.
    fn _pytoweb_is_current(&self) -> PyResult<bool> {
        Ok(self.inner()?.1.is_current())
    }

    /// Has the child process told of the handlers, before its next message. `one_by_one`: some are coroutines.
    fn _pytoweb_configure(
        &self,
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        one_by_one: bool,
    ) -> PyResult<()> {
        let (inner, worker) = self.inner()?;
        if let Some(packing) = &inner.packing {
            let payload = pickling::pack(py, Way::ToChild, config, || packing.runner.store())
                .map_err(|raised| error::unsendable(py, "the worker", raised))?;
            packing.runner.configure(payload, one_by_one);
        }
        let _ = worker;
        Ok(())
    }

    /// Has `_pytoweb_refresh` called by the next post.
    fn _pytoweb_mark_stale(&self) -> PyResult<()> {
        if let Some(packing) = &self.inner()?.0.packing {
            // ORDERING: Relaxed, set and read under the interpreter lock.
            packing.stale.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Has `hook()` called before the first message, on the thread that handles it.
    fn _pytoweb_set_start_hook(&self, hook: Py<PyAny>) -> PyResult<()> {
        self.inner()?.0.shared.start_hook.set(hook);
        Ok(())
    }

    /// Has `hook()` called when it has ended, on the thread that handled its messages; false if it has.
    fn _pytoweb_add_end_hook(&self, hook: Py<PyAny>) -> PyResult<bool> {
        Ok(self.inner()?.0.shared.end_hooks.add(hook))
    }

    /// Whether its end hooks run.
    fn _pytoweb_runs_end_hooks(&self) -> PyResult<bool> {
        Ok(self.inner()?.0.shared.end_hooks.are_running())
    }

    /// Has `around(function, args, kwargs, awaits)` call its handlers and functions.
    fn _pytoweb_set_around(&self, around: Py<PyAny>) -> PyResult<()> {
        self.inner()?.0.shared.surroundings.set(around);
        Ok(())
    }

    /// Has its child process started ahead of its first message.
    fn _pytoweb_want_process(&self) -> PyResult<()> {
        if let Some(packing) = &self.inner()?.0.packing {
            packing.runner.want();
        }
        Ok(())
    }

    fn _pytoweb_terminate(&self, py: Python<'_>) -> PyResult<()> {
        let (inner, worker) = self.inner()?;
        worker.terminate();
        inner.shared.reply_room.close(py);
        Ok(())
    }

    fn _pytoweb_state(&self) -> PyResult<&'static str> {
        let (inner, worker) = self.inner()?;
        Ok(inner.state_of(worker.state()))
    }

    /// Its numbers, by name; times in seconds.
    fn _pytoweb_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (inner, worker) = self.inner()?;
        let stats = worker.stats();
        let runner = inner.packing.as_ref().map(|packing| &packing.runner);
        let (processes, restarts) = runner.map_or((0, 0), |runner| runner.census());
        let numbers = PyDict::new(py);
        let counters = stats.counters;
        numbers.set_item("name", &stats.name)?;
        numbers.set_item("state", inner.state_of(stats.state))?;
        numbers.set_item("processes", processes)?;
        numbers.set_item("restarts", restarts)?;
        numbers.set_item("capacity", stats.capacity)?;
        numbers.set_item("depth", counters.queued)?;
        numbers.set_item("running", counters.running)?;
        numbers.set_item("posted", counters.posted)?;
        numbers.set_item("completed", counters.completed)?;
        numbers.set_item("failed", counters.failed)?;
        numbers.set_item("cancelled", counters.cancelled)?;
        numbers.set_item("expired", counters.expired)?;
        numbers.set_item("rejected", counters.rejected)?;
        numbers.set_item("dropped_oldest", counters.dropped_oldest)?;
        numbers.set_item("dropped_newest", counters.dropped_newest)?;
        numbers.set_item("dropped_replaced", counters.replaced)?;
        numbers.set_item("bytes", counters.bytes)?;
        numbers.set_item("retried", counters.retried)?;
        numbers.set_item("shed", counters.shed)?;
        numbers.set_item("busy_seconds", stats.busy.as_secs_f64())?;
        numbers.set_item("alive_seconds", stats.alive.as_secs_f64())?;
        set_timings(&numbers, stats.timings)?;
        Ok(numbers)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some(inner) = self.inner.get() else {
            return Ok(());
        };
        // While it has work, the engine refers to it too: leaving the references out keeps it alive for the
        // collector. In a forked child its locks may not be touched.
        let idle = inner.generation.is_here() && inner.worker.as_ref().is_some_and(Worker::is_idle);
        if idle {
            visit.call(&inner.shared.handlers)?;
            visit.call(&inner.shared.pool_handlers)?;
            visit.call(&inner.shared.replies)?;
            inner.shared.surroundings.traverse(&visit)?;
        }
        Ok(())
    }
}

impl Endpoint {
    fn ask_for<'py>(
        &self,
        py: Python<'py>,
        message: PyMessage,
        task: Arc<Task>,
        limit: Option<Duration>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (inner, worker) = self.inner()?;
        inner.post(py, worker, message, limit)?;
        self.future(py, task)
    }

    fn try_ask_for<'py>(
        &self,
        py: Python<'py>,
        message: PyMessage,
        task: Arc<Task>,
        limit: Option<Duration>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (_, worker) = self.inner()?;
        let posted = try_post(worker, message, limit.map(|limit| (limit, task.clone())))?;
        posted.then(|| self.future(py, task)).transpose()
    }

    fn park_for<'py>(
        &self,
        slf: &Bound<'py, Self>,
        message: PyMessage,
        task: Arc<Task>,
        limit: Option<Duration>,
        told: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match waiting::enter(self.worker()?, message, limit)? {
            Entry::In => self.future(slf.py(), task),
            Entry::Line(post) => self.parked(slf, post, Some(task), false, told),
        }
    }

    fn parked<'py>(
        &self,
        slf: &Bound<'py, Self>,
        post: ParkedPost<PyHandler>,
        task: Option<Arc<Task>>,
        with_id: bool,
        told: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (inner, _) = self.inner()?;
        let shared = inner.shared.clone();
        let parked = Parked::new(post, slf.clone().unbind(), shared, task, with_id, told);
        Ok(Bound::new(slf.py(), parked)?.into_any())
    }

    /// The engine's side of it.
    pub(crate) fn worker(&self) -> PyResult<&Worker<PyHandler>> {
        Ok(self.inner()?.1)
    }

    pub(crate) fn future<'py>(
        &self,
        py: Python<'py>,
        task: Arc<Task>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (inner, worker) = self.inner()?;
        let runner = inner.packing.as_ref().map(|packing| packing.runner.clone());
        new_future(py, task, worker.address(), runner, inner.generation)
    }
}

/// Posts without waiting, with a deadline if there is one; false where a "block" mailbox has no room.
fn try_post(
    worker: &Worker<PyHandler>,
    message: PyMessage,
    deadline: Option<(Duration, Arc<Task>)>,
) -> PyResult<bool> {
    match worker.try_post(message) {
        Ok(()) => {}
        Err(PostError::Full(_)) if worker.overflow() == Overflow::Block => return Ok(false),
        Err(error) => return Err(waiting::refused(worker, error)),
    }
    if let Some((limit, task)) = deadline {
        waiting::set_deadline(worker, task, limit)?;
    }
    Ok(true)
}

/// The target and the window, in seconds.
fn checked_shed((target, window): (f64, f64)) -> PyResult<Shed> {
    let seconds = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    };
    Ok(Shed {
        target: seconds(target)?,
        window: seconds(window)?,
    })
}

/// `messages` in so many seconds, and the burst.
fn checked_rate((messages, seconds, burst): (u32, f64, u32)) -> PyResult<Rate> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|period| Rate::new(messages, period, burst))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "a rate of {messages} messages in {seconds} s with a burst of {burst} is none that can be kept"
            ))
        })
}

fn set_timings(numbers: &Bound<'_, PyDict>, timings: pytoweb_engine::TimingStats) -> PyResult<()> {
    numbers.set_item("wait_p50", timings.wait_p50.map(|time| time.as_secs_f64()))?;
    numbers.set_item("wait_p99", timings.wait_p99.map(|time| time.as_secs_f64()))?;
    numbers.set_item("run_p50", timings.run_p50.map(|time| time.as_secs_f64()))?;
    numbers.set_item("run_p99", timings.run_p99.map(|time| time.as_secs_f64()))
}

/// The timings of several endpoints, as if they were one.
#[pyfunction]
pub(crate) fn merged_timings<'py>(
    py: Python<'py>,
    endpoints: Vec<Bound<'py, Endpoint>>,
) -> PyResult<Bound<'py, PyDict>> {
    let stats = endpoints
        .iter()
        .map(|endpoint| Ok(endpoint.get().inner()?.1.stats()))
        .collect::<PyResult<Vec<WorkerStats>>>()?;
    let numbers = PyDict::new(py);
    set_timings(&numbers, WorkerStats::merged_timings(&stats))?;
    Ok(numbers)
}
