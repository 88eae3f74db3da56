"""``WorkerPool``: threads that run many named workers, and an ``Executor``.

Past 600 lines, half of which are what ``help()`` shows of the methods; each of them hands over to a file of
its own noun.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from concurrent.futures import CancelledError, Executor
from types import MappingProxyType

from pytoweb import _aio, _exit, _topics
from pytoweb._addressable import Addressable
from pytoweb._callables import checked_handler
from pytoweb._checks import (
    MAX_PROCESSES,
    checked_backend,
    checked_count,
    checked_initargs,
    checked_name,
    checked_options,
    checked_overflow,
    checked_size,
    refuse_process_options,
)
from pytoweb._clocks import make_threads
from pytoweb._core import Endpoint, checked_timeout, running_owner
from pytoweb._cpus import usable_cpus
from pytoweb._internals import PoolInternals
from pytoweb._leaving import leaving_block
from pytoweb._limits import checked_limits, wished
from pytoweb._map import map_calls
from pytoweb._options import PoolOptions
from pytoweb._runtime import PoolRuntime, cast_processes
from pytoweb._start import start_all
from pytoweb._worker import WORKER_OPTIONS, PythonWorker
from pytoweb.errors import DeadlineError, WorkerStoppedError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeVar

    from typing_extensions import ParamSpec, Unpack

    from pytoweb._around import Around
    from pytoweb._explain import Explanation
    from pytoweb._health import PoolHealth
    from pytoweb._limits import Limits
    from pytoweb._map import MapFeed
    from pytoweb._report import Report
    from pytoweb._stats import PoolStats
    from pytoweb._worker import Backend, Overflow, Transport, WorkerOptions
    from pytoweb._worker_stream import WorkerStream
    from pytoweb.futures import WorkerFuture

    Self = TypeVar("Self", bound="WorkerPool")
    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["WorkerPool", "default_pool"]

_numbers = itertools.count(1)


class _MaxWorkers:
    """The size of a pool under the name that ``ThreadPoolExecutor`` has for it, which libraries look at.

    No data descriptor, so that a subclass may set the name for itself.
    """

    def __get__(self, pool: WorkerPool | None, owner: type[WorkerPool]) -> int | _MaxWorkers:
        return self if pool is None else pool.size


class WorkerPool(Addressable, Executor):
    """Named workers that share ``size`` threads, and a drop-in ``concurrent.futures.Executor``.

    Each worker handles one message at a time, in the order of posting, whatever the size; no ready worker
    waits behind more than 64 messages, or about a millisecond of quick ones, of every other.

    The pool is an address too: what is posted to the pool itself (``on_message``, ``post_message``,
    ``post_messages``, ``ask``, ``submit``, ``map``) goes to whichever thread is free, up to ``size`` at a
    time. That mailbox is open from the start, holds ``capacity`` messages, and when it is full does with
    senders what ``overflow`` says.

    Threads start when there is work. A handler that waits for a reply or for room lends its place to another
    thread, so a pool whose handlers all wait for replies goes on. Other waits do so within ``blocking()``.

    Args:
        size: threads that run handlers at the same time; None is the number of CPUs that this process may
            use, as ``os.process_cpu_count()`` of Python 3.13 tells it.
        backend: where handlers run: ``"thread"``, or ``"process"`` for ``size`` child processes. A named
            worker lives in one of them, with its state.
        name: names the pool and its threads.
        initializer: called at the start of each thread, or of each process; the coroutine of an ``async def``
            function runs on the event loop, and the thread waits for it. If it raises, the pool is broken:
            what is queued and what comes fails with ``WorkerCrashedError``.
        initargs: its arguments.
        capacity: messages that the pool's own mailbox holds at most, at least 1; None is 16 384.
        limits: as for ``PythonWorker``, for the pool's own mailbox.
        overflow: as for ``PythonWorker``, for the pool's own mailbox. With ``"reject"`` a pool that cannot
            keep up says no at once: ``MailboxFullError``, a web server's 503.
        max_spare_threads: handlers that may wait at the same time, for replies, for room, or within
            ``blocking()``, each of which may cost a thread beyond ``size``; one more gets
            ``ThreadLimitError``. None is 256, or 8 for each of ``size`` where that is more.
        max_attempts: how many times a message of the pool's own mailbox may be begun whose process crashes.
        max_messages: messages after which a process is replaced; None is no limit.
        max_memory: bytes of resident memory above which a process is replaced; None is no limit.
        max_restarts: as for ``PythonWorker``, for each process.
        restart_window: as for ``PythonWorker``.
        grace: as for ``PythonWorker``.
        start_timeout: as for ``PythonWorker``.
        transport: as for ``PythonWorker``.

    Raises:
        TypeError: ``size`` or ``capacity`` is not an int, ``name`` not a str, or ``initializer`` not callable
            or a generator function.
        ValueError: ``size`` below 1, above 1 000 000 threads or 4 096 processes, ``capacity`` below 1,
            ``name`` empty, ``backend`` or ``overflow`` unknown.
    """

    _pytoweb: PoolInternals
    _pytoweb_is_worker = False

    _max_workers = _MaxWorkers()

    if TYPE_CHECKING:

        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[T]:
            """As `Endpoint._pytoweb_submit`."""
            ...

    else:
        # Without a Python frame in between: this is the hot path of an Executor.
        submit = Endpoint._pytoweb_submit

    def __init__(
        self,
        size: int | None = None,
        *,
        backend: Backend = "thread",
        name: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        capacity: int | None = None,
        overflow: Overflow = "block",
        limits: Limits | None = None,
        max_spare_threads: int | None = None,
        max_attempts: int = 1,
        max_messages: int | None = None,
        max_memory: int | None = None,
        max_restarts: int | None = 3,
        restart_window: float = 5.0,
        grace: float = 0.1,
        start_timeout: float | None = 60.0,
        transport: Transport | None = None,
    ) -> None:
        checked_backend(backend)
        size = checked_size(min(usable_cpus(), MAX_PROCESSES) if size is None else size, backend)
        limits = checked_limits(limits, capacity, is_pool=True)
        checked_overflow(overflow)
        if max_spare_threads is not None:
            max_spare_threads = checked_count(max_spare_threads, "max_spare_threads")
        initargs = checked_initargs(initargs)
        name = checked_name(f"pool-{next(_numbers)}" if name is None else name)
        if initializer is not None:
            checked_handler(initializer, "initializer")
        own = PoolInternals(name, backend, size)
        given: dict[str, Any] = {
            "max_attempts": max_attempts,
            "max_messages": max_messages,
            "max_memory": max_memory,
            "max_restarts": max_restarts,
            "restart_window": restart_window,
            "grace": grace,
            "start_timeout": start_timeout,
            "transport": transport,
        }
        if backend == "thread":
            refuse_process_options(given)
        if backend == "process":
            from pytoweb._process import ProcessOptions, ProcessRuntime

            options = ProcessOptions(**given)
            own.runtime = ProcessRuntime(f"pytoweb-{name}", size, options, initializer, initargs)
        else:
            own.runtime = PoolRuntime(f"pytoweb-{name}", initializer, initargs)
        own.max_spare_threads = max_spare_threads
        own.threads = make_threads(size, f"pytoweb-{name}", own.runtime, max_spare_threads)
        self._pytoweb_prepare(
            own,
            limits=limits,
            overflow=overflow,
            shared=True,
            max_attempts=max_attempts,
        )
        if backend == "process":
            cast_processes(own.runtime).place(self, None)
            # By its first post its handlers are known by their names.
            self._pytoweb_mark_stale()
        _exit.register(self)

    @property
    def name(self) -> str:
        """The pool's name."""
        return self._pytoweb.name

    @property
    def size(self) -> int:
        """Threads, or processes, that run handlers at the same time."""
        return self._pytoweb.size

    @property
    def backend(self) -> Backend:
        """Where handlers run: ``"thread"`` or ``"process"``."""
        return self._pytoweb.backend

    def _pytoweb_configure_child(self) -> None:
        from pytoweb import _process

        config = _process.configuration(self, WorkerPool)
        self._pytoweb_configure(config, self._pytoweb.has_coroutines)

    @property
    def workers(self) -> Mapping[str, PythonWorker]:
        """The pool's workers by name: a read-only copy."""
        with self._pytoweb.lock:
            return MappingProxyType(dict(self._pytoweb.workers))

    def create_worker(
        self, name: str, *, pin: bool = False, **options: Unpack[WorkerOptions]
    ) -> PythonWorker:
        """Makes a worker on this pool's threads, not started.

        Args:
            name: the worker's name, unique among the pool's workers that are not stopped.
            pin: gives it one thread of its own, beyond the pool's ``size``, on which its start hook and all
                its messages run: for what belongs to a thread (a SQLite connection, a GUI toolkit, a CUDA
                context). With processes that is so anyway: a named worker runs on the main thread of one
                child.
            **options: ``capacity`` and ``overflow``, as for ``PythonWorker``.

        Raises:
            TypeError: ``pin`` is not a bool, or an option is none of a worker.
            ValueError: the name is taken.
            WorkerStoppedError: the pool is shut down.
        """
        name = checked_name(name)
        if not isinstance(pin, bool):
            raise TypeError(f"pin must be a bool, not {type(pin).__name__}")
        checked_options(options, WORKER_OPTIONS, "WorkerPool.create_worker()")
        own = self._pytoweb
        with own.lock:
            if own.shut_down:
                raise self._pytoweb_stopped()
            known = own.workers.get(name)
            if known is not None and known.state != "stopped":
                raise ValueError(f"pool {own.name!r} has a worker {name!r} already; use get_worker({name!r})")
            if options.setdefault("backend", own.backend) != own.backend:
                raise ValueError(
                    f"pool {own.name!r} runs handlers with the backend {own.backend!r}; make a pool of "
                    "the other kind for the others"
                )
            worker = PythonWorker(name, _pool=self, _pin=pin, **options)
            if known is not None:
                _topics.forget(known, own)
            own.workers[name] = worker
            return worker

    def get_worker(self, name: str) -> PythonWorker | None:
        """The worker of that name, or None."""
        return self._pytoweb.workers.get(name)

    def remove_worker(self, name: str) -> None:
        """Stops a worker after its queue, and forgets it.

        Raises:
            KeyError: there is no worker of that name.
        """
        with self._pytoweb.lock:
            worker = self._pytoweb.workers.get(name)
        if worker is None:
            raise KeyError(f"pool {self._pytoweb.name!r} has no worker {name!r}")
        worker.stop()
        with self._pytoweb.lock:
            if self._pytoweb.workers.get(name) is worker:
                _topics.forget(worker, self._pytoweb)
                del self._pytoweb.workers[name]

    def broadcast(
        self,
        message_type: str,
        data: object = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> int:
        """Posts a message to every named worker of the pool that has a handler of its own for its type.

        The policy of each mailbox applies. All that have room have the message before this waits for those
        with ``"block"`` that have none; on an event loop, and in a handler of that worker, it does not wait.
        A worker that takes nothing now (full, stopped, its process given up) is left out: it does not get
        the message later, ``stats().rejected`` of one that is full counts it, and the others get theirs all
        the same. One that drops messages, by ``"drop_newest"`` or ``"drop_oldest"``, counts as one that has
        it. A worker that was not started keeps the message until it is. All handlers on threads get the same
        object.

        Args:
            message_type: the type, any but ``"response"`` and ``"error"``.
            data: what the handlers get.
            timeout: seconds until the messages expire, the wait for room in all of the workers included. None
                is no limit.
            priority: as for ``post_message``.
            key: as for ``post_message``.

        Returns:
            How many workers have the message.

        Raises:
            SerializationError: the data cannot be sent to another process.
            WorkerStoppedError: the pool is shut down.
            TypeError: ``message_type`` is not a str, ``timeout`` not a number, ``priority`` not an int, or
                ``key`` no str, int or bytes.
            ValueError: ``message_type`` is reserved, ``timeout`` negative or NaN, or ``priority`` not from 0
                to 9.
        """
        return _topics.Many(
            self, _topics.handling, message_type, data, timeout=timeout, priority=priority, key=key
        ).wait()

    async def abroadcast(
        self,
        message_type: str,
        data: object = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> int:
        """``broadcast`` for coroutines: waits for room without blocking the event loop.

        Args:
            message_type: as for ``broadcast``.
            data: as for ``broadcast``.
            timeout: as for ``broadcast``.
            priority: as for ``broadcast``.
            key: as for ``broadcast``.

        Returns:
            How many workers have the message.

        Raises:
            WorkerError: as for ``broadcast``.
        """
        return await _topics.Many(
            self, _topics.handling, message_type, data, timeout=timeout, priority=priority, key=key
        ).await_room()

    def publish(
        self,
        topic: str,
        data: object = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> int:
        """Posts a message of the type ``topic`` to each worker that subscribed to the topic.

        In the order of the subscriptions, and otherwise as ``broadcast``: what is true there of workers that
        are full or stopped is true here. Without subscribers it does nothing.

        Args:
            topic: what was given to ``worker.subscribe``.
            data: what the handlers get.
            timeout: as for ``broadcast``.
            priority: as for ``broadcast``.
            key: as for ``broadcast``.

        Returns:
            How many workers have the message.

        Raises:
            SerializationError: as for ``broadcast``.
            WorkerStoppedError: as for ``broadcast``.
            TypeError: as for ``broadcast``.
            ValueError: as for ``broadcast``.
        """
        return _topics.Many(
            self, _topics.subscribers, topic, data, timeout=timeout, priority=priority, key=key
        ).wait()

    async def apublish(
        self,
        topic: str,
        data: object = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> int:
        """``publish`` for coroutines: waits for room without blocking the event loop.

        Args:
            topic: as for ``publish``.
            data: as for ``publish``.
            timeout: as for ``broadcast``.
            priority: as for ``broadcast``.
            key: as for ``broadcast``.

        Returns:
            How many workers have the message.

        Raises:
            WorkerError: as for ``broadcast``.
        """
        return await _topics.Many(
            self, _topics.subscribers, topic, data, timeout=timeout, priority=priority, key=key
        ).await_room()

    def _pytoweb_surround(self) -> Around:
        with self._pytoweb.lock:
            around = super()._pytoweb_surround()
            for worker in self._pytoweb.workers.values():
                worker._pytoweb_surround().outer = around
        return around

    def _pytoweb_tell_surrounded(self) -> None:
        self._pytoweb_tell_child()
        for worker in self.workers.values():
            worker._pytoweb_tell_child()

    def start(self: Self, timeout: float | None = None) -> Self:
        """Has all threads, or child processes, started and their initializers run, and waits for that.

        Without it they start when there is work: the first requests wait for them.

        Args:
            timeout: seconds to wait at most.

        Returns:
            The pool.

        Raises:
            TimeoutError: ``timeout`` passed first; they go on starting.
            WorkerCrashedError: an initializer failed, or a child process does not come up.
            WorkerStoppedError: the pool is shut down.
        """
        timeout = checked_timeout(timeout)
        _aio.call_blocking(
            lambda: start_all(self, timeout), "start()", "use `await asyncio.to_thread(pool.start)`"
        )
        return self

    def options(
        self,
        *,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> PoolOptions:
        """A view of the pool whose ``submit`` and ``map`` have options.

        ``pool.options(timeout=3).submit(f, x)``: the keywords of ``submit`` itself are the function's.

        Args:
            timeout: seconds that each call may take, queued and running, before its future fails with
                ``DeadlineError``.
            soft_timeout: seconds that each call may run before ``DeadlineError`` is raised in it, as for
                ``on_message``.
            priority: how urgent each call is, as for ``post_message``.
            key: calls with the same key run one after the other, in order, as for ``post_message``.

        Raises:
            TypeError: a timeout is not a number, ``priority`` not an int, or ``key`` no str, int or bytes.
            ValueError: a timeout is negative or NaN, or ``priority`` not from 0 to 9.
        """
        return PoolOptions(self, timeout, soft_timeout, wished(priority, key, None, None, False))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Calls ``fn`` for each item, as ``map`` does, and gives the results in order, as they come.

        The input is read at once and everything is run, whether or not results are taken. Calls that find the
        mailbox full wait for room outside of it, and this returns without waiting for that.

        Args:
            fn: what to call.
            *iterables: one for each argument; the shortest ends all.
            timeout: seconds from now until taking a result raises ``TimeoutError``.
            chunksize: for processes: how many calls make one message; threads have no use for it.
            buffersize: how many messages are under way before their results are taken; the input is read as
                they are, so that it may be endless. None reads all of it now.

        Returns:
            The results. The exception of a call is raised in its place. That, a late result, or dropping the
            iterator before its end cancels the rest.

        Raises:
            MailboxFullError: the policy of the pool's mailbox refuses; none of the calls is run that is not
                running.
            SerializationError: an item cannot be sent to another process; likewise.
            WorkerStoppedError: the pool is shut down.
            TypeError: ``chunksize`` or ``buffersize`` is not an int, or an argument not iterable.
            ValueError: ``chunksize`` or ``buffersize`` is below 1.
        """
        return map_calls(self, fn, iterables, timeout, chunksize, buffersize, None)

    def stop_all(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Stops all workers of the pool; the pool itself stays open.

        Args:
            drain: as for ``PythonWorker.stop``. False fails what is queued in the pool's own mailbox, too.
            timeout: seconds for all of them together.

        Raises:
            DeadlineError: ``timeout`` passed first; names the workers that still run.
        """
        timeout = checked_timeout(timeout)
        mode = "drain" if drain else "finish"
        workers = list(self.workers.values())
        for worker in workers:
            worker._pytoweb_close(mode)
            worker._pytoweb_release()
        if not drain:
            for feed in list(self._pytoweb.feeds):
                feed.give_up(self._pytoweb_stopped())
            self._pytoweb_fail_queued()
        self._pytoweb_wait_for(workers, mode, timeout)

    def _pytoweb_wait_for(self, endpoints: list[Any], mode: str, timeout: float | None) -> bool:
        """Waits for closed endpoints; False where one could never end (the caller is its handler)."""
        end = None if timeout is None else time.monotonic() + timeout
        late, ended = [], True
        for endpoint in endpoints:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                ended = endpoint._pytoweb_close_and_wait(mode, left) and ended
            except DeadlineError:
                late.append(endpoint._pytoweb.name)
        if late:
            raise DeadlineError(
                f"still running after {timeout:g} s: {', '.join(map(repr, late))}; the messages that were "
                "queued there failed"
            )
        return ended

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> None:
        """Refuses further work and ends the threads once everything is done; the ``Executor`` contract.

        Args:
            wait: whether to wait for the end.
            cancel_futures: cancels what is queued instead of running it.
            timeout: seconds to wait at most. Past it the rest fails, handlers that run are asked to stop and
                child processes are killed; the end of the program waits for none of them.

        Raises:
            DeadlineError: ``timeout`` passed first; names what still runs.
        """
        timeout = checked_timeout(timeout)
        mode = "cancel" if cancel_futures else "drain"
        own = self._pytoweb
        self._pytoweb_begin_shutdown(mode)
        if not wait:
            return
        _aio.warn_of_blocking("shutdown()", "use `async with`, or `await pool.ashutdown()`")
        end = None if timeout is None else time.monotonic() + timeout
        try:
            if not self._pytoweb_wait_for_feeds(end):
                return
            left = None if end is None else max(0.0, end - time.monotonic())
            ended = self._pytoweb_wait_for([self, *self.workers.values()], mode, left)
        except DeadlineError as late:
            self.terminate()
            everyone = (self, *self.workers.values())
            running = [one for one in everyone if one._pytoweb_stats()["running"]]
            names = ", ".join(repr(one._pytoweb.name) for one in running) or "none"
            hooks = ", ".join(repr(one._pytoweb.name) for one in everyone if one._pytoweb_runs_end_hooks())
            raise DeadlineError(
                f"pool {own.name!r} did not end within {timeout} s: what was queued has failed; handlers "
                f"that still run, and are asked to stop: {names}"
                + (f"; on_stop hooks that still run are those of {hooks}" if hooks else "")
            ) from late
        if ended:
            pinned = [worker for worker in self.workers.values() if worker._pytoweb_owns_threads()]
            for owner in (self, *pinned):
                owner._pytoweb.threads.join()
                if not owner._pytoweb.runtime.join(end):
                    rest = owner._pytoweb_left_text()
                    self.terminate()
                    raise DeadlineError(
                        f"pool {own.name!r} did not end within {timeout:g} s: all its messages have ended, "
                        f"and {rest}"
                    )

    async def ashutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> None:
        """``shutdown`` for coroutines: waits for the end without blocking the event loop.

        Args:
            wait: as for ``shutdown``.
            cancel_futures: as for ``shutdown``.
            timeout: as for ``shutdown``.

        Raises:
            DeadlineError: as for ``shutdown``.
        """
        await _aio.in_thread(self.shutdown, wait=wait, cancel_futures=cancel_futures, timeout=timeout)

    def terminate(self) -> None:
        """Abandons everything at once, and does not wait.

        Queued messages fail with ``WorkerStoppedError``, and so do those that run: handlers on threads are
        asked to stop, as by ``PythonWorker.terminate``, and child processes are killed. The end of the
        program does not wait for handlers that go on.
        """
        with self._pytoweb.lock:
            self._pytoweb.shut_down = self._pytoweb.given_up = True
        for feed in list(self._pytoweb.feeds):
            feed.give_up(self._pytoweb_stopped())
        self._pytoweb.runtime.kill_ending()
        self._pytoweb_terminate()
        self._pytoweb.runtime.stop_posted(self)
        for worker in self.workers.values():
            worker.terminate()
        self._pytoweb_close_all("finish")

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            with leaving_block(self, kind):
                self.shutdown()
        except KeyboardInterrupt:
            # The second Ctrl-C, as a rule: the first one left the block. Queued messages are not run.
            self.terminate()
            raise

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        with leaving_block(self, kind, is_async=True):
            await self.ashutdown()

    def _pytoweb_stopped(self) -> WorkerStoppedError:
        return WorkerStoppedError(_exit.no_more(f"pool {self._pytoweb.name!r}", "is shut down"))

    def _pytoweb_begin_shutdown(self, mode: str) -> None:
        with self._pytoweb.lock:
            self._pytoweb.shut_down = True
            feeds = list(self._pytoweb.feeds)
        if feeds and mode == "drain":
            # The last of them closes: their calls are work that was accepted.
            self._pytoweb_refuse()
            return
        for feed in feeds:
            feed.give_up(CancelledError())
        self._pytoweb_close_all(mode)

    def _pytoweb_close_all(self, mode: str) -> None:
        self._pytoweb_close(mode)
        for worker in self.workers.values():
            worker._pytoweb_close(mode)
            worker._pytoweb_release()
        self._pytoweb.threads.shutdown()
        self._pytoweb.runtime.close(self._pytoweb.threads)

    def _pytoweb_feed_ended(self, feed: MapFeed) -> None:
        """The calls of a ``map`` are all posted, or given up."""
        with self._pytoweb.lock:
            self._pytoweb.feeds.discard(feed)
            closes = self._pytoweb.shut_down and not self._pytoweb.feeds
        if closes:
            self._pytoweb_close_all("drain")

    def _pytoweb_wait_for_feeds(self, end: float | None) -> bool:
        """Waits until the calls of ``map`` are posted; False where the caller is a handler, which they need.

        Raises:
            DeadlineError: ``end`` came first.
        """
        for feed in list(self._pytoweb.feeds):
            if running_owner() is not None:
                return False
            if not feed.ended.wait(None if end is None else max(0.0, end - time.monotonic())):
                raise DeadlineError("calls of map still wait for room")
        return True

    def run_until_idle(self, timeout: float | None = None) -> None:
        """Blocks until nothing is queued and nothing runs, in the pool's mailbox and in its started workers.

        Args:
            timeout: seconds to wait at most.

        Raises:
            DeadlineError: ``timeout`` passed first.
        """
        timeout = checked_timeout(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            busy = [self, *(worker for worker in self.workers.values() if worker.state != "new")]
            for endpoint in busy:
                left = None if end is None else max(0.0, end - time.monotonic())
                Addressable.run_until_idle(endpoint, left)
            # One that was idle may have been given work by another one since, or by a `map`.
            if not self._pytoweb.feeds and all(endpoint._pytoweb_is_idle() for endpoint in busy):
                return

    def stats(self) -> PoolStats:
        """The pool's numbers, and those of each worker. Waits for no handler."""
        from pytoweb._stats import pool_stats

        return pool_stats(self)

    def health(self) -> PoolHealth:
        """How it fares: the worst of its mailbox and its workers, and each of them. Waits for no handler."""
        from pytoweb._health import pool_health

        return pool_health(self)

    def report(
        self, path: str | os.PathLike[str], *, title: str | None = None, most_bars: int | None = None
    ) -> Report:
        """Records what the pool and its workers do, for an HTML file to look at.

        ``with pool.report("run.html"): ...`` writes it at the end of the block: a task stream with a lane for
        each thread or child process, wait and run times, queues, load, memory and failures. The file is
        complete in itself and needs no network.

        Recording is bounded, in memory and in the file, whatever runs meanwhile, and the page says what it
        leaves out. A message costs about a microsecond more meanwhile. One report of a pool is recorded at a
        time. Keep what ``start()`` returns: a report that is dropped ends with a ``ResourceWarning`` and no
        file; one that is recorded at the end of the program is written then, with a line in the log.

        Args:
            path: the file; one of that name is replaced.
            title: what stands at the head of the page; None is the name of the pool.
            most_bars: messages that are drawn each for itself, 1 024 where it says less; None is 50 000. Of
                more, the long ones and an even choice of the short ones are.

        Returns:
            The recording, not started: a context manager with ``start()`` and ``save()``.

        Raises:
            TypeError: ``path`` is no path, ``title`` no str, or ``most_bars`` no int.
            ValueError: ``path`` is empty, or ``most_bars`` is below 1 or above 1 000 000.
        """
        from pytoweb._report import MOST_BARS, Report

        return Report(self, path, title, MOST_BARS if most_bars is None else most_bars)

    def explain(self, message: str | WorkerFuture[Any] | WorkerStream[Any]) -> Explanation:
        """Why a message of the pool or of one of its workers waits, where it runs, or what became of it.

        Looks through all messages that wait, with the mailbox locked: it is for people who ask, not for a
        path that is taken often. Waits for no handler.

        Args:
            message: its ``message_id``, the future that ``ask()`` or ``submit()`` returned, or the stream of
                ``stream()``. Ends are kept of messages with a ``message_id``, the last 1000 of each mailbox;
                of several messages with one id, one that waits or runs is found first, then the last that
                ended.

        Returns:
            What is known of it; with the state ``"unknown"`` if nothing is.

        Raises:
            TypeError: ``message`` is no str, and no such future or stream.
        """
        from pytoweb._explain import explain

        return explain((self, *self.workers.values()), message, f"pool {self.name!r} and its workers")

    def __repr__(self) -> str:
        own = self._pytoweb
        state = "shut down" if own.shut_down else "open"
        return f"<WorkerPool {own.name!r} of {own.size}, {len(own.workers)} workers, {state}>"

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if _finalizing():
            # Everything was finished before; what the modules held is gone.
            return
        try:
            self._pytoweb_close("drain")
        except Exception:
            # Never set up, or the parent's: nothing to stop.
            return
        for worker in self._pytoweb.workers.values():
            worker.__del__()
        own = self._pytoweb
        own.threads.shutdown()
        own.runtime.close(own.threads)
        _exit.adopt(own.runtime, own.threads, given_up=own.given_up)

    def _pytoweb_has_threads(self) -> bool:
        return self._pytoweb.threads.count() > 0

    def _pytoweb_has_started(self) -> bool:
        own = self._pytoweb
        return own.shut_down or self._pytoweb_has_threads() or own.runtime.has_started()

    def _pytoweb_unlock(self) -> None:
        self._pytoweb.lock = threading.RLock()
        self._pytoweb.runtime.unlock()

    def _pytoweb_start_afresh(self) -> None:
        own = self._pytoweb
        own.runtime.start_afresh()
        if own.backend == "process":
            cast_processes(own.runtime).renew_processes()
        threads = make_threads(own.size, own.runtime.name, own.runtime, own.max_spare_threads)
        # Pinned ones begin by themselves, or have started.
        shared = [worker for worker in own.workers.values() if not worker._pytoweb_owns_threads()]
        own.threads = threads
        for endpoint in (self, *shared):
            endpoint._pytoweb_start_afresh_on(threads, own.runtime)
        if own.backend == "process":
            self._pytoweb_configure_child()
        default, _ = _defaults.get(own.backend, (None, None))
        if default is self:
            _defaults[own.backend] = self, os.getpid()

    def _pytoweb_begin_exit(self) -> None:
        self._pytoweb_begin_shutdown("drain")

    def _pytoweb_finish_exit(self) -> None:
        if not self._pytoweb.given_up:
            self.shutdown()

    def _pytoweb_break_exit(self) -> None:
        self.terminate()


#: By backend: the pool, and the process that it was made in.
_defaults: dict[str, tuple[WorkerPool, int]] = {}
_default_lock = threading.RLock()


def _unlock() -> None:
    global _default_lock
    _default_lock = threading.RLock()


_exit.unlock_after_fork(_unlock)


#: By backend: the initializer and its arguments, once they were given.
_default_initializers: dict[str, tuple[Callable[..., object], tuple[Any, ...]]] = {}


def default_pool(
    backend: Backend = "thread",
    *,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> WorkerPool:
    """The pool that the whole program shares, with a thread (or process) for each CPU it may use.

    Made on first use, and anew after a shutdown or a fork.

    Args:
        backend: where its handlers run; there is one pool for each backend.
        initializer: called at the start of each of its threads or processes, also when it is made anew. The
            program gives it once, before the pool is first used; giving the same one again does nothing.
        initargs: its arguments.

    Raises:
        RuntimeError: the pool is in use already, without this initializer.
    """
    checked_backend(backend)
    with _default_lock:
        pool, pid = _defaults.get(backend, (None, None))
        in_use = pool is not None and not pool._pytoweb.shut_down and pid == os.getpid()
        if initializer is not None:
            checked_handler(initializer, "initializer")
            given = initializer, tuple(initargs)
            if in_use and _default_initializers.get(backend) != given:
                raise RuntimeError(
                    f"the default pool of backend {backend!r} is in use already: give its initializer before "
                    "anything runs there, or make a WorkerPool of its own for it"
                )
            _default_initializers[backend] = given
        if pool is None or not in_use:
            name = "default" if backend == "thread" else f"default-{backend}"
            function, args = _default_initializers.get(backend, (None, ()))
            pool = WorkerPool(name=name, backend=backend, initializer=function, initargs=args)
            _defaults[backend] = pool, os.getpid()
        return pool


WorkerPool.__module__ = "pytoweb.workers"
