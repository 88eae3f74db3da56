//! The methods of `PythonWorker` and `WorkerPool` that are native.
//!
//! Both Python classes inherit [`Endpoint`]. `__new__` takes anything and makes it empty, so that subclasses may have
//! an `__init__` of any signature; `_pytoweb_set_up` fills it in.
//!
//! Past 600 lines, half of which are what `help()` shows of the methods: a class has them in one block.

mod asking;
pub(crate) mod numbers;
mod options;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};
use pytoweb_engine::{Overflow, PostError, StopMode, WorkerOptions, WorkerState};

use crate::arguments;
use crate::error;
use crate::host::around::Surroundings;
use crate::host::channel::Channel;
use crate::host::edges::{block_loop, end_edge_of_coroutine};
use crate::host::end_hooks::EndHooks;
use crate::host::endpoint::{Endpoint, Inner};
use crate::host::ends::{self, RecentEnds};
use crate::host::exits::{self, Reason};
use crate::host::explaining::{self, Wanted};
use crate::host::fleet::Processes;
use crate::host::future::FutureBase;
use crate::host::hearing::{Came, Hearing};
use crate::host::kinds::Kinds;
use crate::host::last_crash::LastCrash;
use crate::host::parked::Repeated;
use crate::host::places::{PlaceResult, place_for};
use crate::host::planning::{ByType, Wishes, with_wishes};
use crate::host::reply_room::ReplyRoom;
use crate::host::retrying::Policy;
use crate::host::sizes::Scale;
use crate::host::start_hook::StartHook;
use crate::host::tallies::Tallies;
use crate::host::task::Head;
use crate::host::threads::Threads;
use crate::host::waiting::{self, PostResult};
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::attached::Attached;
use crate::interpreter::marks::Label;
use crate::pickle::pickling::{self, Way};

use self::options::{checked_rate, checked_seconds, checked_shed};

/// Messages that `post_messages` takes from its iterable before it posts them: enough for one wake-up to be lost in
/// the noise, few enough that an endless iterable meets a full mailbox.
const POST_CHUNK: usize = 1024;

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
    #[pyo3(signature = (*, name, capacity, overflow, threads, handlers, replies, owner, shared, pool_handlers=None, processes=None, lane=None, max_attempts=1, rate=None, concurrency=1, bytes=None, size_of=None, shed=None, stuck_after=None))]
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
        stuck_after: Option<f64>,
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
            stuck_after: stuck_after.map(checked_seconds).transpose()?,
            bytes,
        };
        let own = Attached::new(WorkerShared {
            label: Label::new(&name),
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
            runs_one: !shared && concurrency == 1,
            // In another process its pickle is what a message takes.
            scale: bytes
                .filter(|_| processes.is_none())
                .map(|_| Scale { size_of }),
            kinds: Kinds::default(),
            retries: ByType::default(),
            tallies: Tallies::default(),
            dead: AtomicU64::new(0),
            hearing: Hearing::default(),
            last_crash: LastCrash::default(),
            recording: threads.recording.clone(),
            ends: RecentEnds::default(),
            untold: AtomicU64::new(0),
        });
        let way = processes.map(|processes| (processes.get(), lane, max_attempts));
        self.fill(Inner::make(own, options, shared, threads.pool()?, way)?)
    }

    /// In a forked child: makes it anew, empty and not started, on threads and processes of this process.
    #[pyo3(signature = (threads, processes=None))]
    fn _pytoweb_renew(
        &self,
        py: Python<'_>,
        threads: &Bound<'_, Threads>,
        processes: Option<&Bound<'_, Processes>>,
    ) -> PyResult<()> {
        self.renew(py, threads.get(), processes.map(Bound::get))
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
    ///     message_id: Names the message in logs and for ``explain``, and asks for a reply: the ``response``
    ///         or ``error`` handler registered on this worker gets it, with this id. It takes a place of the
    ///         mailbox's room until that handler is through with the reply. Without such a handler replies
    ///         are kept for one to come, up to the capacity; further ones are lost, counted in ``stats()``
    ///         and warned of once. For an id without a reply pass ``reply=False``.
    ///     timeout: Seconds from now until the message expires, the wait for room included. One that expires
    ///         in the queue never runs; one that is running gets ``current_message().cancelled``. None is no
    ///         limit.
    ///     priority: How urgent it is, from 0 to 9; 4 is that of a message without one. It goes before queued
    ///         messages of a lower one, which age: each waits behind at most 1024 later ones for each level
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
    ///     reply: False: the ``message_id`` asks for no reply. Without an id there is none, and
    ///         True is refused.
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
    ///         and ``at`` are both given, ``keep_latest`` without a key, ``reply=True`` without a
    ///         ``message_id``, or ``message_type`` or ``message_id`` with lone surrogates.
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    #[pyo3(signature = (message_type, data=None, message_id=None, *, timeout=None, priority=None, key=None, delay=None, at=None, keep_latest=None, retry=None, reply=None))]
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
        reply: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let kind = arguments::message_type(message_type)?;
        let id = arguments::message_id(message_id)?;
        let reply = arguments::reply(reply, id.is_some())?;
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
            ..Wishes::default()
        };
        if id.is_none() && limit.is_none() && wishes.is_nothing() && inner.posts_plainly() {
            return inner.post_plainly(py, worker, kind, data);
        }
        let terms = inner.terms(worker, kind.bind(py), limit, wishes, &data)?;
        let task = terms.of_post(kind.bind(py), id, reply, limit);
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
    ///         messages of a lower one, which age: each waits behind at most 1024 later ones for each level
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
            ..Wishes::default()
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
    #[pyo3(signature = (r#fn=None, /, *args, **kwargs), text_signature = "($self, fn, /, *args, **kwargs)")]
    fn _pytoweb_submit<'py>(
        &self,
        py: Python<'py>,
        r#fn: Option<Py<PyAny>>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Not what the interpreter says, which would name this method.
        let function = r#fn.ok_or_else(|| {
            PyTypeError::new_err(
                "the first argument must be a function to call, not NoneType: submit(function, *args, **kwargs)",
            )
        })?;
        let (inner, _) = self.inner()?;
        if inner.shared.broken.is_set() {
            return Err(inner.shared.broken_error(py));
        }
        let (message, task) =
            inner.call(py, Head::AsyncFunction, function, args, kwargs, None, None)?;
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
            ..Wishes::default()
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
                let task = terms.of_post(kind.bind(py), None, true, None);
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
    #[expect(clippy::too_many_arguments, reason = "called by our own Python")]
    #[pyo3(signature = (message_type, data, message_id, timeout, told, wishes=None, reply=None))]
    fn _pytoweb_park_post<'py>(
        slf: &Bound<'py, Self>,
        message_type: &Bound<'py, PyAny>,
        data: Py<PyAny>,
        message_id: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
        told: Py<PyAny>,
        wishes: Option<&Bound<'py, PyTuple>>,
        reply: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (inner, worker) = slf.get().inner()?;
        let kind = arguments::message_type(message_type)?;
        let id = arguments::message_id(message_id)?;
        let reply = arguments::reply(reply, id.is_some())?;
        let limit = arguments::timeout(timeout)?;
        let terms = with_wishes(wishes, |wishes| {
            inner.terms(worker, kind.bind(py), limit, wishes, &data)
        })?;
        let task = terms.of_post(kind.bind(py), id, reply, limit);
        let message = inner.message(py, kind, data, task)?;
        let place = message
            .reply_id()
            .map(|id| place_for(py, worker, &inner.shared, id))
            .transpose()?;
        match place {
            Some(PlaceResult::Dropped) => return Ok(py.None().into_bound(py)),
            Some(PlaceResult::Wait) => return Ok(PyBool::new(py, false).to_owned().into_any()),
            Some(PlaceResult::Taken) | None => {}
        }
        let is_answered = place.is_some();
        match waiting::enter(worker, message, limit) {
            Ok(PostResult::In) => Ok(py.None().into_bound(py)),
            Ok(PostResult::Line(post)) => slf.get().parked(slf, post, None, is_answered, told),
            Err(refused) => {
                if is_answered {
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
        let posted = waiting::enter(worker, message, None)?;
        Ok(Repeated::new(task, posted))
    }

    /// Refuses what a post of this would refuse, whatever room there is.
    fn _pytoweb_check_message(
        &self,
        py: Python<'_>,
        message_type: &Bound<'_, PyAny>,
        data: Py<PyAny>,
    ) -> PyResult<()> {
        let (inner, worker) = self.inner()?;
        let kind = arguments::message_type(message_type)?;
        inner.terms(worker, kind.bind(py), None, Wishes::default(), &data)?;
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

    /// Asks for a stream, whose handler may be so many items ahead of its reader as `window` says, at first and at most: the
    /// future of its end; or, with a full mailbox and something to tell, a `Parked` as of `_pytoweb_park_post`.
    #[pyo3(signature = (message_type, data, timeout, window, wishes=None, told=None))]
    fn _pytoweb_stream<'py>(
        slf: &Bound<'py, Self>,
        message_type: &Bound<'py, PyAny>,
        data: Py<PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        window: (u32, u32),
        wishes: Option<&Bound<'py, PyTuple>>,
        told: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (inner, worker) = slf.get().inner()?;
        let kind = arguments::message_type(message_type)?;
        let limit = arguments::timeout(timeout)?;
        let terms = with_wishes(wishes, |mut wishes| {
            wishes.streams = true;
            inner.terms(worker, kind.bind(py), limit, wishes, &data)
        })?;
        let channel = Arc::new(Channel::growing(window.0, window.1));
        let task = terms.of_stream(kind.bind(py), limit, channel);
        let message = inner.message(py, kind, data, Some(task.clone()))?;
        match told {
            None => slf.get().ask_for(py, message, task, limit),
            Some(told) => slf.get().park_for(slf, message, task, limit, told),
        }
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

    /// Whether messages of one type, posted from now on, are answered with streams.
    fn _pytoweb_set_stream(&self, message_type: &str, is_stream: bool) -> PyResult<()> {
        let kinds = &self.inner()?.0.shared.kinds;
        kinds.set_stream(message_type, is_stream);
        Ok(())
    }

    /// Has messages of one type, posted from now on, tried again when they fail, or not.
    fn _pytoweb_set_retry(&self, message_type: &str, retry: &Bound<'_, PyAny>) -> PyResult<()> {
        let policy = Policy::of(retry)?;
        self.inner()?.0.shared.retries.set(message_type, policy);
        Ok(())
    }

    /// Takes the events out that came from its child: each with its name, its data and the id of its message; and how many
    /// were dropped.
    fn _pytoweb_take_events(&self, py: Python<'_>) -> PyResult<(Vec<Came>, u64)> {
        self.inner()?.0.shared.hearing.take_for(py)
    }

    /// Has `exits.tell(reason, error)` called when it has ended, on any thread; at once where it has.
    fn _pytoweb_tell_of_exit(&self, exits: Py<PyAny>) -> PyResult<()> {
        let (inner, worker) = self.inner()?;
        let shared = inner.shared.clone();
        let runner = inner.packing.as_ref().map(|packing| packing.runner.clone());
        let exits = Attached::new(exits);
        worker.on_exit(move |exit| {
            // Where the interpreter has ended, no handler is to be called.
            let _ = Python::try_attach(|py| {
                let reason = exits::reason(py, exit, &shared, runner.as_ref());
                if let Err(error) = exits.bind(py).call_method1(intern!(py, "tell"), reason) {
                    error.write_unraisable(py, None);
                }
            });
        });
        Ok(())
    }

    /// Why it has ended; None: it has not.
    fn _pytoweb_exit(&self, py: Python<'_>) -> PyResult<Option<Reason>> {
        let (inner, worker) = self.inner()?;
        let runner = inner.packing.as_ref().map(|packing| &packing.runner);
        let exit = worker.exit();
        Ok(exit.map(|exit| exits::reason(py, exit, &inner.shared, runner)))
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
        let was_new = worker.state() == WorkerState::New;
        // What was abandoned before was so by a call that said it.
        // ORDERING: Relaxed, see `WorkerShared::tell_of_untold`.
        inner.shared.untold.store(0, Ordering::Relaxed);
        let failed = worker.close(match mode {
            "drain" => StopMode::Drain,
            "cancel" => StopMode::CancelQueued,
            _ => StopMode::FinishRunning,
        });
        inner.shared.reply_room.close(py);
        // Who does not drain has said that they are not wanted.
        inner.shared.tell_of_untold(py, mode == "drain", was_new);
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
        let Ok(edge) = end_edge_of_coroutine(py, &worker.address())? else {
            return Ok(None);
        };
        let _blocked = match block_loop(py, edge.as_ref()) {
            Err(error) if error.is_instance_of::<error::AskCycleError>(py) => return Ok(None),
            blocked => blocked?,
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
        let edge = end_edge_of_coroutine(py, &worker.address())?
            .map_err(|error| error::wait(py, error))?;
        let _blocked = block_loop(py, edge.as_ref())?;
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

    /// Where a message with that id, or of that future, is, or what became of it: see ``_explain.py``. None: it is not known here.
    fn _pytoweb_explain<'py>(
        &self,
        py: Python<'py>,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (inner, worker) = self.inner()?;
        let wanted = match message.cast::<FutureBase>() {
            Ok(future) => Wanted::Task(future.get().stream_parts()?.task.clone()),
            Err(_) => Wanted::Id(message.cast::<PyString>()?.clone()),
        };
        if let Some(found) = explaining::explain(py, worker, &wanted)? {
            return Ok(Some(found));
        }
        match &wanted {
            Wanted::Id(id) => ends::end_of(py, &inner.shared.ends, id),
            Wanted::Task(_) => Ok(None),
        }
    }

    /// How it fares: the state, why, and for how many seconds.
    fn _pytoweb_health(&self) -> PyResult<(&'static str, String, f64)> {
        let health = self.worker()?.health();
        Ok((
            health.state.name(),
            health.reason,
            health.lasted.as_secs_f64(),
        ))
    }

    /// Its numbers, by name; times in seconds.
    fn _pytoweb_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (inner, worker) = self.inner()?;
        numbers::of(py, inner, worker)
    }

    /// How long messages of each type waited and ran, in the buckets of monitoring systems.
    fn _pytoweb_times<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        numbers::times_of(py, self.inner()?.1)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.traverse(&visit)
    }
}
