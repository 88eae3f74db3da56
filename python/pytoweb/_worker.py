"""``PythonWorker``: one named worker. What it has in common with a pool is in `_addressable.py`."""

from __future__ import annotations

import sys
import time
import warnings

from pytoweb import _aio, _exit, _topics
from pytoweb._addressable import MESSAGE_TYPES, Addressable
from pytoweb._callables import (
    checked_handler,
)
from pytoweb._checks import (
    MAX_PROCESSES,
    checked_backend,
    checked_count,
    checked_initargs,
    checked_name,
    checked_overflow,
    refuse_process_options,
)
from pytoweb._clocks import make_threads
from pytoweb._core import checked_timeout
from pytoweb._internals import Internals
from pytoweb._leaving import leaving_block
from pytoweb._limits import Limits, checked_limits
from pytoweb._runtime import PoolRuntime, cast_processes
from pytoweb.errors import DeadlineError, WorkerStoppedError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypedDict, TypeVar

    from pytoweb._explain import Explanation
    from pytoweb._health import Health
    from pytoweb._pool import WorkerPool
    from pytoweb._stats import WorkerStats
    from pytoweb._worker_stream import WorkerStream
    from pytoweb.futures import WorkerFuture

    Self = TypeVar("Self", bound="PythonWorker")

    Backend = Literal["thread", "process"]
    WorkerState = Literal["new", "running", "stuck", "stopping", "stopped", "failed"]
    Transport = Literal["shared-memory", "socket"]
    Overflow = Literal["block", "reject", "drop_newest", "drop_oldest"]

    class WorkerOptions(TypedDict, total=False):
        """What `PythonWorker` takes besides its name."""

        backend: Backend
        capacity: int | None
        overflow: Overflow
        limits: Limits | None
        max_attempts: int


__all__ = ["WORKER_OPTIONS", "PythonWorker"]


class PythonWorker(Addressable):
    """A named background worker: handles typed messages one at a time, in the order of posting.

    A worker made by itself has a thread of its own; ``WorkerPool.create_worker`` makes workers that share a
    pool's. Messages may be posted before ``start()``; they wait. ``with worker:`` starts it, and stops it
    after its queue.

    ``post_message(message_type, data=None, message_id=None, *, timeout=None)`` queues a message and returns
    at once, while there is room. ``ask(message_type, data=None, *, timeout=None)`` does the same and returns
    a ``WorkerFuture`` of the reply. Both take
    ``priority``, ``key``, ``delay``, ``at`` and ``keep_latest``. ``post_messages(message_type, items)``
    queues many at the price of few.

    Args:
        name: names the worker in logs, errors and statistics.
        backend: where handlers run: ``"thread"``, or ``"process"`` for a child process of its own, on another
            core, whose crash costs one message. Handlers, data and replies are pickled then. With
            ``Limits(concurrency=n)`` there are up to so many, each with its own copy of what handlers change.
        capacity: messages that the mailbox holds at most, at least 1; None is 16 384.
        limits: what it takes in and how fast it begins it, as ``Limits``; with it no ``capacity``.
        overflow: what a post to a full mailbox does: ``"block"`` (wait for room), ``"reject"`` (raise
            ``MailboxFullError``), ``"drop_newest"`` or ``"drop_oldest"`` (drop and count).
        max_attempts: how many times a message may be begun whose process crashes while it runs.
        max_messages: messages after which the process is replaced; None is no limit.
        max_memory: bytes of resident memory above which the process is replaced, while a handler runs (its
            message fails) and between messages (none is lost); None is no limit.
        max_restarts: processes in a row that are replaced at once although they ended before they had begun a
            message. After them the worker has failed, for a second; then it is tried again, after twice as
            long each time that this fails, up to a minute. None is no limit.
        restart_window: a process that was ready for longer than these seconds is none of those.
        grace: seconds that a handler has to return once it is asked to stop (deadline, cancelled message);
            then its process is killed.
        start_timeout: seconds that a process may take to be ready; then it is killed, and the worker has
            failed, as above. None is no limit.
        transport: ``"shared-memory"`` (Linux) or ``"socket"``; None is the environment variable
            ``PYTOWEB_TRANSPORT``, else the faster one of the platform.
        initializer: called at the start of its thread, or of each of its processes, before anything of its
            handlers is looked up there (``django.setup``). If it raises, the worker has failed.
        initargs: its arguments.

    Raises:
        TypeError: ``name`` is not a str, ``capacity`` not an int, ``limits`` no ``Limits``, or
            ``initializer`` not callable.
        ValueError: ``name`` is empty, ``capacity`` below 1 or given beside ``limits``, ``overflow`` or
            ``backend`` unknown.
    """

    #: The message types of marked methods, and the names of those.
    _pytoweb_marked: tuple[tuple[str, str], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Base classes first, so that a subclass replaces the handler of a type.
        marked: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            for attribute, function in vars(base).items():
                marked.update((kind, attribute) for kind in getattr(function, MESSAGE_TYPES, ()))
        cls._pytoweb_marked = tuple(marked.items())

    def __init__(
        self,
        name: str,
        *,
        backend: Backend = "thread",
        capacity: int | None = None,
        overflow: Overflow = "block",
        limits: Limits | None = None,
        max_attempts: int = 1,
        max_messages: int | None = None,
        max_memory: int | None = None,
        max_restarts: int | None = 3,
        restart_window: float = 5.0,
        grace: float = 0.1,
        start_timeout: float | None = 60.0,
        transport: Transport | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        _pool: WorkerPool | None = None,
        _place: int | None = None,
        _pin: bool = False,
    ) -> None:
        name = checked_name(name)
        checked_backend(backend)
        limits = checked_limits(limits, capacity)
        concurrency = limits.concurrency
        checked_overflow(overflow)
        initargs = checked_initargs(initargs)
        if initializer is not None:
            checked_handler(initializer, "initializer")
            if _pool is not None:
                raise ValueError("initializer belongs to the threads of a pool: give it to WorkerPool")
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
        own = Internals(name, backend)
        lane = None
        if _pool is None and backend == "process":
            from pytoweb._process import ProcessOptions, ProcessRuntime

            options = ProcessOptions(**given)
            concurrency = checked_count(concurrency, "concurrency", most=MAX_PROCESSES)
            # Without a lane of its own it takes the one that runs a message soonest.
            lane = 0 if concurrency == 1 else None
            own.runtime = ProcessRuntime(f"pytoweb-{name}", concurrency, options, initializer, initargs)
            own.threads = make_threads(1, f"pytoweb-{name}", own.runtime)
        elif _pool is None:
            own.runtime = PoolRuntime(f"pytoweb-{name}", initializer, initargs)
            own.threads = make_threads(concurrency, f"pytoweb-{name}", own.runtime)
        elif _pin and backend == "thread":
            own.pool = _pool
            own.runtime = _pool._pytoweb.runtime.of_its_own(name)
            own.threads = make_threads(concurrency, own.runtime.name, own.runtime)
        else:
            own.pool = _pool
            own.runtime = _pool._pytoweb.runtime
            own.threads = _pool._pytoweb.threads
            if backend == "process":
                processes = cast_processes(own.runtime)
                processes.options.check_worker(given)
                concurrency = min(concurrency, processes.size)
                if concurrency == 1:
                    lane = processes.quietest() if _place is None else _place
        self._pytoweb_prepare(
            own,
            limits=limits,
            overflow=overflow,
            shared=False,
            lane=lane,
            max_attempts=max_attempts,
            concurrency=concurrency,
        )
        if backend == "process":
            cast_processes(own.runtime).place(self, lane)
        if _pool is not None and _pool._pytoweb.around is not None:
            self._pytoweb_surround()
        for message_type, attribute in self._pytoweb_marked:
            self.on_message(message_type, getattr(self, attribute))
        if self._pytoweb_owns_threads():
            _exit.register(self)

    @property
    def name(self) -> str:
        """The worker's name."""
        return self._pytoweb.name

    @property
    def backend(self) -> str:
        """Where handlers run: ``"thread"`` or ``"process"``."""
        return self._pytoweb.backend

    def _pytoweb_configure_child(self) -> None:
        from pytoweb import _process

        config = _process.configuration(self, PythonWorker)
        self._pytoweb_configure(config, self._pytoweb.has_coroutines)

    @property
    def pool(self) -> WorkerPool | None:
        """The pool that made it, or None for a worker with a thread of its own."""
        return self._pytoweb.pool

    @property
    def state(self) -> WorkerState:
        """What it does: ``"new"``, ``"running"``, ``"stuck"``, ``"stopping"``, ``"stopped"`` or ``"failed"``.

        A worker is stuck while a handler runs past its deadline. A process worker has failed while no process
        can be started for it, and runs again once one is up: see ``max_restarts``.
        """
        return self._pytoweb_state()

    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._pytoweb_state() in ("running", "stuck", "stopping")

    def start(self: Self) -> Self:
        """Lets it handle messages. Does nothing if it runs already.

        Returns:
            The worker.

        Raises:
            WorkerStoppedError: it was stopped.
            RuntimeError: the system refuses a new thread; the worker is as before.
        """
        if self._pytoweb.backend == "process" and self._pytoweb_state() == "new":
            cast_processes(self._pytoweb.runtime).check_start()
            self._pytoweb_configure_child()
        if not self._pytoweb_start():
            raise WorkerStoppedError(_exit.no_more(f"worker {self._pytoweb.name!r}", "is stopped"))
        if self._pytoweb.backend == "process":
            self._pytoweb_want_process()
        self._pytoweb_start_loop()
        if self._pytoweb.timers:
            from pytoweb._every import begin_all

            begin_all(self)
        return self

    def stop(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Refuses further posts, finishes, and waits for the end. Does nothing if it is stopped.

        Called from its own handler, or from one that it waits for, it does not wait.

        Args:
            drain: True handles what is queued first; False fails it with ``WorkerStoppedError``. The running
                handler is finished either way. Messages queued in a worker that was never started fail.
            timeout: seconds to wait at most.

        Raises:
            DeadlineError: ``timeout`` passed first: the rest of the queue has failed, and a handler or an
                ``on_stop`` hook still runs. The end of the program does not wait for it.
        """
        timeout = checked_timeout(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        _aio.warn_of_blocking("stop()", "use `async with`, or `await worker.astop()`")
        own = self._pytoweb
        try:
            try:
                ended = self._pytoweb_close_and_wait("drain" if drain else "finish", timeout)
            finally:
                self._pytoweb_release()
            if ended and self._pytoweb_owns_threads():
                own.threads.join()
                if not own.runtime.join(end):
                    raise DeadlineError(
                        f"{own.name!r} did not stop within {timeout:g} s: all its messages have ended, and "
                        f"{self._pytoweb_left_text()}"
                    )
        except DeadlineError:
            own.given_up = True
            raise

    async def astop(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """``stop`` for coroutines: waits for the end without blocking the event loop.

        Called from its own handler or hook it does not wait.

        Args:
            drain: as for ``stop``.
            timeout: as for ``stop``.

        Raises:
            DeadlineError: as for ``stop``.
        """
        if _aio.running_owner() is self:
            # Its own handler or hook does not wait for the end, as with `stop`.
            self._pytoweb_close("drain" if drain else "finish")
            self._pytoweb_release()
            return
        await _aio.in_thread(self.stop, drain=drain, timeout=timeout)

    def terminate(self) -> None:
        """Abandons everything at once, and does not wait.

        Queued messages fail with ``WorkerStoppedError``, and so does the future of the running one, whose
        handler is asked to stop through ``current_message().cancelled``; one that is ``async def`` is
        cancelled. A thread cannot be killed, but the end of the program does not wait for it. A child process
        that runs a handler, or is at its end, is killed.
        """
        self._pytoweb.given_up = True
        if self._pytoweb_owns_threads():
            self._pytoweb.runtime.kill_ending()
        self._pytoweb_terminate()
        self._pytoweb.runtime.stop_posted(self)
        self._pytoweb_release()

    def subscribe(self, topic: str) -> None:
        """Has ``pool.publish(topic, data)`` post to this worker, too, from now on; twice is once.

        What comes is a message of the type ``topic``: ``on_message(topic, handler)`` handles it, before or
        after this call. One that is handled without a handler fails with ``UnknownMessageError``, as any
        other. A subscription ends with the worker.

        Args:
            topic: any str but ``"response"`` and ``"error"``.

        Raises:
            TypeError: ``topic`` is not a str.
            ValueError: ``topic`` is reserved.
            RuntimeError: the worker belongs to no pool.
            WorkerStoppedError: it is stopped or stopping.
        """
        _topics.subscribe(self, topic)

    def unsubscribe(self, topic: str) -> None:
        """Ends what ``subscribe(topic)`` began, if it did; messages that are queued are handled all the same.

        Args:
            topic: as for ``subscribe``.

        Raises:
            TypeError: ``topic`` is not a str.
            ValueError: ``topic`` is reserved.
            RuntimeError: the worker belongs to no pool.
        """
        _topics.unsubscribe(self, topic)

    def stats(self) -> WorkerStats:
        """Its numbers at one instant: counters that add up, times in seconds. Waits for no handler."""
        from pytoweb._stats import worker_stats

        return worker_stats(self)

    def health(self) -> Health:
        """How it fares, in one word, with the reason and since when. Waits for no handler."""
        from pytoweb._health import worker_health

        return worker_health(self)

    def explain(self, message: str | WorkerFuture[Any] | WorkerStream[Any]) -> Explanation:
        """Why a message waits, where it runs, or what became of it.

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

        return explain((self,), message, f"worker {self.name!r}")

    def __enter__(self: Self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            with leaving_block(self, kind):
                self.stop()
        except KeyboardInterrupt:
            # The second Ctrl-C, as a rule: the first one left the block. Queued messages are not run.
            self.terminate()
            raise

    async def __aenter__(self: Self) -> Self:
        return self.start()

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        with leaving_block(self, kind, is_async=True):
            await self.astop()

    def __repr__(self) -> str:
        try:
            state = self._pytoweb_state()
        except RuntimeError:
            # Not set up, or as its own process sees it.
            return f"<{type(self).__name__} {getattr(self, '_name', None)!r}>"
        return f"<{type(self).__name__} {self._pytoweb.name!r} {state}>"

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if _finalizing():
            # Everything was finished before; what the modules held is gone.
            return
        try:
            forgotten = self._pytoweb_state() in ("running", "stuck")
        except Exception:
            # Never set up, or the parent's: nothing to stop.
            return
        if forgotten:
            warnings.warn(
                f"unstopped worker {self!r}: stop() it, or use it in a with block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        self._pytoweb_close("drain")
        self._pytoweb_release()
        if self._pytoweb_owns_threads():
            own = self._pytoweb
            _exit.adopt(own.runtime, own.threads, given_up=own.given_up)

    def _pytoweb_release(self) -> None:
        """Lets threads of its own end once they are done."""
        if self._pytoweb_owns_threads():
            self._pytoweb.threads.shutdown()
            self._pytoweb.runtime.close(self._pytoweb.threads)

    def _pytoweb_owns_threads(self) -> bool:
        """Whether it has threads of its own, which end with it: by itself, or pinned in a pool."""
        own = self._pytoweb
        return own.pool is None or own.threads is not own.pool._pytoweb.threads

    def _pytoweb_has_threads(self) -> bool:
        return self._pytoweb.threads.count() > 0

    def _pytoweb_has_started(self) -> bool:
        runtime = self._pytoweb.runtime
        return self._pytoweb_state() != "new" or self._pytoweb_has_threads() or runtime.has_started()

    def _pytoweb_unlock(self) -> None:
        self._pytoweb.runtime.unlock()

    def _pytoweb_start_afresh(self) -> None:
        runtime = self._pytoweb.runtime
        runtime.start_afresh()
        if self._pytoweb.backend == "process":
            cast_processes(runtime).renew_processes()
        self._pytoweb_start_afresh_on(make_threads(1, runtime.name, runtime), runtime)

    def _pytoweb_begin_exit(self) -> None:
        self._pytoweb_close("drain")

    def _pytoweb_finish_exit(self) -> None:
        if not self._pytoweb.given_up:
            self.stop()

    def _pytoweb_break_exit(self) -> None:
        self.terminate()


#: What it takes by keyword.
WORKER_OPTIONS: dict[str, object] = PythonWorker.__init__.__kwdefaults__ or {}

PythonWorker.__module__ = "pytoweb.workers"
