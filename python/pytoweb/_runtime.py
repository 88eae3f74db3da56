"""What a pool needs besides its engine threads: an initializer, an event loop, a line for replies.

Each of the two is made when it is first needed and ends with the pool.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import weakref
from queue import Empty, SimpleQueue
from types import CoroutineType

from pytoweb import _aio, _exit, _lines
from pytoweb._contained import contained
from pytoweb._core import interrupt_thread
from pytoweb._pool_thread import PoolThread
from pytoweb._surroundings import refuse_greenlets
from pytoweb.errors import crashed_error

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from typing import Any

    from pytoweb._core import Endpoint, Pending, Threads, WorkerMessage
    from pytoweb._process import ProcessRuntime
    from pytoweb.errors import WorkerCrashedError

_pool_log = logging.getLogger("pytoweb.pool")

#: Seconds after which the thread that waits for the coroutine of a hook looks whether it is to be cancelled:
#: less than the grace of a process worker, after which its child is killed.
HOOK_LOOK = 0.02


class LoopThread:
    """Runs the coroutines of ``async def`` handlers on one event loop.

    The loop goes on whatever runs on it: a task that raises ``SystemExit`` ends a run of the loop, and so
    does ``loop.stop()``.
    """

    def __init__(self, name: str) -> None:
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._bridge = _aio.Bridge(self._loop)
        #: The hooks that run.
        self._hooks: set[asyncio.Task[None]] = set()
        #: The handlers that run of messages without a future, an id and a deadline, and their workers.
        self._posted: dict[Pending, tuple[asyncio.Task[None], weakref.ref[Endpoint]]] = {}
        closing = self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, closing, self._hooks), name=name, daemon=True
        )
        self._thread.start()

    @staticmethod
    def _run(
        loop: asyncio.AbstractEventLoop, closing: threading.Event, hooks: set[asyncio.Task[None]]
    ) -> None:
        import asyncio

        asyncio.set_event_loop(loop)
        while not closing.is_set() and not loop.is_closed():
            contained(loop.run_forever)
        # No message waits for some of them: what is left of an error handler is finished all the same.
        while hooks:
            contained(_run_until_complete, loop, list(hooks))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        # Each run that ends early has ended a task.
        while tasks := [task for task in asyncio.all_tasks(loop) if not task.done()]:
            contained(_run_until_complete, loop, tasks)
        contained(loop.run_until_complete, loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()

    def run(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        owner: weakref.ref[Endpoint],
    ) -> None:
        if not self._bridge.call(self._begin, coroutine, context, pending, owner):
            coroutine.close()
            raise RuntimeError("the event loop of the pool is closed")

    def _begin(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        owner: weakref.ref[Endpoint],
    ) -> None:
        # The task takes a copy of the context that is current when it is made.
        if context is None:
            context = contextvars.Context()
        task = context.copy().run(self._loop.create_task, self._drive(coroutine, pending, owner))
        if task.done() or pending.on_interrupt(lambda: self._bridge.call(task.cancel)):
            return
        self._posted[pending] = task, owner
        # `terminate` may have come before it was there to be found.
        if pending.is_terminated():
            self._stop(owner)

    def stop_posted(self, owner: Endpoint) -> None:
        """Cancels the handlers of a terminated worker whose messages have no future, id or deadline."""
        self._bridge.call(self._stop, weakref.ref(owner))

    def _stop(self, owner: weakref.ref[Endpoint]) -> None:
        # One object has one weak reference, which stays when it is gone.
        for pending in [pending for pending, (_, of) in self._posted.items() if of is owner]:
            # A second time would break off what the handler does about the first.
            task, _ = self._posted.pop(pending)
            task.cancel()

    async def _drive(
        self, coroutine: Coroutine[Any, Any, object], pending: Pending, owner: weakref.ref[Endpoint]
    ) -> None:
        running = _aio.Running(None, owner)
        _aio.running.set(running)
        try:
            running.message = pending.message()
            result = await coroutine
        except BaseException as error:
            # SystemExit and KeyboardInterrupt fail the message, and go no further.
            pending.failed(error)
        else:
            pending.completed(result)
        finally:
            running.end()
            self._posted.pop(pending, None)

    def run_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
        begun: SimpleQueue[asyncio.Task[None]] | None = None,
    ) -> None:
        """Runs the coroutine of a hook, and calls ``then`` on the loop with what it raised; does not wait.

        Its task is put into ``begun``.
        """
        if not self._bridge.call(self._begin_hook, coroutine, context, message, owner, then, begun):
            coroutine.close()
            raise RuntimeError("the event loop of the pool is closed")

    def _begin_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
        begun: SimpleQueue[asyncio.Task[None]] | None,
    ) -> None:
        context = contextvars.Context() if context is None else context.copy()
        task = context.run(self._loop.create_task, self._drive_hook(coroutine, message, owner, then))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)
        if begun is not None:
            begun.put(task)

    @staticmethod
    async def _drive_hook(
        coroutine: Coroutine[Any, Any, object],
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
    ) -> None:
        running = _aio.Running(message, owner)
        _aio.running.set(running)
        try:
            await coroutine
        except BaseException as error:
            running.end()
            then(error)
        else:
            running.end()
            then(None)

    def finish_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
    ) -> None:
        """Runs the coroutine of a hook, waits for its end, and raises what it raised.

        It is cancelled once its message is: that has expired, or its worker was terminated.
        """
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        begun: SimpleQueue[asyncio.Task[None]] = SimpleQueue()
        # An end hook that begins after `terminate` runs all the same.
        watches = message is not None and not message.cancelled
        self.run_hook(coroutine, context, message, owner, ended.put, begun)
        while True:
            try:
                error = ended.get(timeout=HOOK_LOOK if watches else None)
                break
            except Empty:
                if message is not None and message.cancelled:
                    watches = False
                    self._bridge.call(begun.get().cancel)
        if error is not None:
            raise error

    def close(self) -> None:
        self._closing.set()
        self._bridge.call(self._loop.stop)

    def join(self, timeout: float | None = None) -> bool:
        if self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _run_until_complete(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> None:
    import asyncio

    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def initialize(
    initializer: Callable[..., object], initargs: tuple[Any, ...], start_loop: Callable[[], LoopThread]
) -> None:
    """Calls the initializer of a pool on the thread that is initialized; a coroutine runs on the loop."""
    returned = initializer(*initargs)
    if isinstance(returned, CoroutineType):
        start_loop().finish_hook(returned, contextvars.copy_context(), None, cast_owner(None))


def cast_owner(owner: object) -> weakref.ref[Endpoint]:
    """A strong reference to ``owner``, or to None, in the place of a weak one."""
    return lambda: owner  # type: ignore[return-value]


def cast_processes(runtime: PoolRuntime) -> ProcessRuntime:
    """``runtime``, which is that of process workers."""
    return runtime  # type: ignore[return-value]


def left_until(end: float | None) -> float | None:
    """Seconds until a time of ``time.monotonic()``."""
    return None if end is None else max(0.0, end - time.monotonic())


#: What the names of threads begin with.
PREFIX = "pytoweb-"


class PoolRuntime:
    """The Python side of one pool's engine threads, which call it."""

    #: The identifiers of the threads that call reply handlers, for all pools.
    reply_idents = _lines.reply_idents

    def __init__(
        self, name: str, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
    ) -> None:
        refuse_greenlets()
        self.name = name
        self._initializer = initializer
        self._initargs = initargs
        self.start_afresh()

    def start_afresh(self) -> None:
        """Begins as one that has started nothing; again in a forked child, which has no threads."""
        self._broken: BaseException | None = None
        self._lock = threading.RLock()
        #: The identifiers of the engine threads.
        self._idents: set[int] = set()
        #: The engine threads, from `close` until they have ended.
        self._closing: Threads | None = None
        #: The threads here were told to end.
        self._is_over = False
        self._loop: LoopThread | None = None
        self._replies: _lines.Line | None = None
        #: Set once the pool is closed and its engine threads are past their last message.
        self.ended = threading.Event()

    def run_thread(self, name: str, life: Callable[[], None]) -> None:
        """Called on each new engine thread; ``life`` runs its messages until the thread is to end."""
        PoolThread(name, life).live()

    def thread_started(self) -> bool:
        """Called on each new engine thread, before its first message; False breaks the pool."""
        self._idents.add(threading.get_ident())
        if self._initializer is None:
            return True
        try:
            initialize(self._initializer, self._initargs, self.start_loop)
        except BaseException as error:
            self._broken = error
            contained(self._log_broken, error)
            return False
        return True

    def _log_broken(self, error: BaseException) -> None:
        _pool_log.critical(
            "the initializer of %r raised: no more work is run", self.given_name, exc_info=error
        )

    def thread_ended(self) -> None:
        """Called on an engine thread that ends; the last one ends the threads here too."""
        self._idents.discard(threading.get_ident())
        self._close_if_last()

    def interrupt(self) -> None:
        """Raises ``SystemExit`` in the handlers that run."""
        for ident in list(self._idents):
            interrupt_thread(ident, SystemExit)

    @property
    def given_name(self) -> str:
        """The name of the pool, or of the worker with threads of its own."""
        return self.name[len(PREFIX) :] if self.name.startswith(PREFIX) else self.name

    def broken_error(self) -> WorkerCrashedError:
        """What work of a pool whose initializer failed fails with."""
        error = crashed_error("ThreadsBrokenError")(
            f"the initializer of {self.given_name!r} failed: {self._broken!r}"
        )
        error.__cause__ = self._broken
        return error

    def run_coroutine(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        owner: weakref.ref[Endpoint],
    ) -> None:
        """Runs an ``async def`` handler on the pool's event loop."""
        self.start_loop().run(coroutine, context, pending, owner)

    def run_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
    ) -> None:
        """As `LoopThread.run_hook`."""
        try:
            loop = self.start_loop()
        except BaseException:
            coroutine.close()
            raise
        loop.run_hook(coroutine, context, message, owner, then)

    def finish_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
    ) -> None:
        """As `LoopThread.finish_hook`."""
        self.start_loop().finish_hook(coroutine, context, message, owner)

    def stop_posted(self, owner: Endpoint) -> None:
        """As `LoopThread.stop_posted`, if there is one."""
        if self._loop is not None:
            self._loop.stop_posted(owner)

    def start_loop(self) -> LoopThread:
        """The thread that runs coroutines, started if it is not."""
        with self._lock:
            if self._loop is None:
                self._loop = LoopThread(f"{self.name}-loop")
            return self._loop

    def of_its_own(self, worker: str) -> PoolRuntime:
        """One for the thread of a pinned worker, which is initialized as those of the pool are."""
        return PoolRuntime(f"{self.name}-{worker}", self._initializer, self._initargs)

    def unlock(self) -> None:
        """In a forked child: replaces what another thread of the parent may have locked."""
        self._lock = threading.RLock()

    def has_started(self) -> bool:
        """Whether it was closed, or there are processes: what a forked child cannot begin with.

        An event loop and a reply line that nothing has run on yet are made again when they are needed.
        """
        return self._closing is not None or self.ended.is_set()

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """As `Line.call`, on the line that there is by then."""
        return self.reply_line().call(function, *args)

    def is_closed(self) -> bool:
        """As `Line.is_closed`."""
        return self._replies is not None and self._replies.is_closed()

    def reply_line(self) -> _lines.Line:
        """What calls reply handlers, made if it is not there.

        Raises:
            RuntimeError: the system refuses a new thread.
        """
        with self._lock:
            if self._replies is None:
                self._replies = _lines.Line(self.given_name)
            return self._replies

    def close(self, threads: Threads) -> None:
        """Ends the threads here once the engine's have ended."""
        with self._lock:
            self._closing = threads
        self._close_if_last()

    def _close_if_last(self) -> None:
        with self._lock:
            if self._closing is None or self._closing.count() > 0:
                return
            self._closing = None
            self._is_over = True
            ending = [thread for thread in (self._loop, self._replies) if thread is not None]
        for thread in ending:
            thread.close()
        self._ends()
        self.ended.set()
        _exit.forget(self)

    def has_processes(self) -> bool:
        """Whether there are child processes."""
        return False

    def pids(self) -> list[int]:
        """The process numbers of its child processes."""
        return []

    def kill_ending(self) -> None:
        """Has child processes killed that were told to end and have not yet."""

    def _ends(self) -> None:
        """What is to end besides, once the engine's threads have."""

    def join(self, end: float | None = None) -> bool:
        """Waits for the threads here, after ``close`` and the end of the engine's.

        Args:
            end: the time of ``time.monotonic()`` until which it waits at most.

        Returns:
            Whether they have ended.
        """
        threads = [thread for thread in (self._loop, self._replies) if thread is not None]
        return all(thread.join(left_until(end)) for thread in threads)
