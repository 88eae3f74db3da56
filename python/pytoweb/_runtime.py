"""What a pool needs besides its engine threads: an initializer, an event loop, a line for replies.

Each of the two is made when it is first needed and ends with the pool.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import weakref
from types import CoroutineType

from pytoweb import _exit, _lines, _loops
from pytoweb._contained import contained
from pytoweb._core import interrupt_thread
from pytoweb._pool_thread import PoolThread
from pytoweb._surroundings import refuse_greenlets
from pytoweb.errors import crashed_error

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from types import ModuleType
    from typing import Any

    from pytoweb._core import Endpoint, Pending, Threads, WorkerMessage
    from pytoweb._process import ProcessRuntime
    from pytoweb.errors import WorkerCrashedError

_pool_log = logging.getLogger("pytoweb.pool")


def watchdog() -> ModuleType:
    """The module of the watchdog, for native code: by this import it is found for frozen programs."""
    from pytoweb import _watchdog

    return _watchdog


def initialize(
    initializer: Callable[..., object], initargs: tuple[Any, ...], start_loop: Callable[[], _loops.Tenant]
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
        self.load_modules()
        self.name = name
        self._initializer = initializer
        self._initargs = initargs
        self.start_afresh()

    def load_modules(self) -> None:
        """Imports, on the thread that makes the pool, all that its own threads need.

        A fork in the middle of an import of another thread leaves the child with half a module, and with a
        lock of the import that no thread of it holds.
        """
        watchdog()

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
        self._loop: _loops.Tenant | None = None
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
        """As `Tenant.run_hook`."""
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
        """As `Tenant.finish_hook`."""
        self.start_loop().finish_hook(coroutine, context, message, owner)

    def stop_posted(self, owner: Endpoint) -> None:
        """As `Tenant.stop_posted`, if there is one."""
        if self._loop is not None:
            self._loop.stop_posted(owner)

    def start_loop(self) -> _loops.Tenant:
        """What runs coroutines, made if it is not there.

        Raises:
            RuntimeError: the system refuses a new thread.
        """
        with self._lock:
            if self._loop is None:
                self._loop = _loops.take_part()
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
