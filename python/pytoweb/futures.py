"""``WorkerFuture``: the reply to an ``ask`` or a ``submit``."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import Future

from pytoweb import _aio
from pytoweb._core import FutureBase, gathered
from pytoweb.errors import ForkedProcessError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from typing import Any, Literal, TypeVar, overload

    from pytoweb._aio import Bridge
    from pytoweb._progress import Progress

    T = TypeVar("T")
    G = TypeVar("G", bound=Callable[[Progress], object])

__all__ = ["WorkerFuture", "gather"]

_log = logging.getLogger("pytoweb.worker")


class WorkerFuture(FutureBase, Future["T"]):
    """The reply to one message: a real ``concurrent.futures.Future`` that can also be awaited.

    Everything that takes a ``Future`` takes it (``wait``, ``as_completed``, ``asyncio.wrap_future``). Made by
    ``ask``, ``submit`` and the ``submit`` of decorated functions, never by hand.

    ``result(timeout)`` blocks without holding the interpreter lock, and on the main thread lets Ctrl-C
    through. A plain ``result(timeout)`` that runs out raises ``concurrent.futures.TimeoutError`` and leaves
    the message alone; the deadline of ``ask(timeout=...)`` raises ``DeadlineError`` and gives the message up.
    Waiting in a handler for a reply that could never come raises ``AskCycleError``.

    ``cancel()`` of a queued message removes it and returns True. Of a running one it returns False and sets
    ``current_message().cancelled``, for the handler to look at; an ``async def`` handler is cancelled.

    ``await future`` waits without blocking the event loop; an awaiting task that is cancelled cancels the
    message. ``asyncio.wait_for``, ``wait``, ``gather`` and ``shield`` take it as well.

    A failure that no error handler was told of is logged when the future is dropped before ``result()``,
    ``exception()`` or an ``await`` has told of it.

    Callbacks of ``add_done_callback`` run on the thread that settles the reply, as with any ``Future``; what
    they raise is logged by ``pytoweb.worker``.
    """

    #: What `asyncio.wait` is to call once the reply stands, each with the way to its event loop.
    _loop_callbacks: list[tuple[Callable[[WorkerFuture[T]], object], Bridge]]

    if TYPE_CHECKING:
        # The native half does not know the type of the reply.
        def result(self, timeout: float | None = None) -> T:
            """As `FutureBase.result`."""
            ...

        def __await__(self) -> Generator[Any, None, T]:
            """As `FutureBase.__await__`."""
            ...

    @property
    def progress(self) -> Progress | None:
        """How far the handler is, by its last ``current_worker().progress()`` that is known here; else None.

        Once the future is done, it is the last one of all.
        """
        latest = self._progress_meter().latest()
        if latest is None:
            return None
        from pytoweb._progress import Progress

        return Progress(*latest[1])

    if TYPE_CHECKING:

        @overload
        def on_progress(self, handler: None = None) -> Callable[[G], G]: ...
        @overload
        def on_progress(self, handler: G) -> G: ...

    def on_progress(self, handler: Any = None) -> Any:
        """Has ``handler`` called with each ``Progress`` of the handler of its message; with several, each is.

        It is called at most 20 times a second, in order, with the latest one, and with the last one in any
        case: one at a time on the event loop that runs where it is registered, else on the reply thread of
        the worker; never on the worker's thread. What was reported before is the first call.

        By the time the future is done, the last call is on its way: it may begin after ``result()`` has
        returned, and no other one begins after it. Callbacks of ``add_done_callback`` that are registered
        after it find it in line already. A message that is tried again begins anew. An error that it raises
        is logged.

        Args:
            handler: called with a ``Progress``; it may be ``async def``. Without it, this is a decorator.

        Returns:
            The handler, or a decorator.

        Raises:
            TypeError: the handler is not callable, or a generator function.
        """
        if handler is None:
            return self.on_progress
        from pytoweb._progress import watch

        watch(self, handler)
        return handler

    def __repr__(self) -> str:
        """Tells the state, and the kind of the result or the exception."""
        try:
            state = "cancelled" if self.cancelled() else "pending"
        except ForkedProcessError:
            return f"<WorkerFuture at {id(self):#x} of worker {self._worker_name()!r} of the parent process>"
        if self.done() and not self.cancelled():
            error = self._exception
            state = (
                f"raised {type(error).__name__}"
                if error is not None
                else f"returned {type(self._result).__name__}"
            )
        elif self.running():
            state = "running"
        return f"<WorkerFuture at {id(self):#x} of worker {self._worker_name()!r} {state}>"

    def _call_back(self, fn: Callable[[WorkerFuture[T]], object]) -> None:
        try:
            fn(self)
        except Exception:
            _log.exception("the callback %r of %r raised", fn, self)

    def _add_loop_callback(self, fn: Callable[[WorkerFuture[T]], object]) -> None:
        """Has ``fn(self)`` called on the event loop that runs here: what ``asyncio.wait`` adds."""
        loop = _aio.running_loop()
        if loop is None:
            raise RuntimeError("asyncio.wait was called where no event loop runs")
        callbacks = self.__dict__.get("_loop_callbacks")
        if callbacks is None:
            callbacks = self._loop_callbacks = []
            self.add_done_callback(WorkerFuture._call_loop_callbacks)
        callbacks.append((fn, _aio.bridge_to(loop)))
        if self.done():
            # The thread that settles it may have looked before this one was added.
            self._call_loop_callbacks()

    def _call_loop_callbacks(self) -> None:
        # Two threads may do so at the same time; `pop` gives each callback to one of them.
        with contextlib.suppress(IndexError):
            while True:
                fn, bridge = self._loop_callbacks.pop(0)
                bridge.call(fn, self)

    def remove_done_callback(self, fn: Callable[[WorkerFuture[T]], object]) -> int:
        """Takes back what ``asyncio.wait`` added; callbacks of ``add_done_callback`` stay.

        Returns:
            How many were taken back.
        """
        callbacks = self.__dict__.get("_loop_callbacks", [])
        removed = 0
        for entry in [entry for entry in callbacks if entry[0] == fn]:
            with contextlib.suppress(ValueError):
                callbacks.remove(entry)
                removed += 1
        return removed

    def _tell_waiters(self, told: Callable[[], None]) -> None:
        # What Future.set_result does once the result is in; `_state` says so only from here on.
        with self._condition:
            told()
            for waiter in self._waiters:
                if self.cancelled():
                    waiter.add_cancelled(self)
                elif self._exception is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self._condition.notify_all()


if TYPE_CHECKING:

    @overload
    async def gather(*futures: Awaitable[T], return_exceptions: Literal[False] = False) -> list[T]: ...
    @overload
    async def gather(
        *futures: Awaitable[T], return_exceptions: bool
    ) -> list[T] | list[T | BaseException]: ...


async def gather(*futures: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
    """Waits for many replies at once: ``asyncio.gather``, without a task for each.

    A task costs several times what a reply does, and ``asyncio.gather`` makes one for each future that is not
    asyncio's own.

    Cancelling the task that waits cancels all the messages. After an exception the others go on.

    Args:
        *futures: what ``ask`` and ``submit`` returned; anything else that can be awaited makes this
            ``asyncio.gather``.
        return_exceptions: whether exceptions are in the list like results, instead of the first one being
            raised as soon as it is here.

    Returns:
        The results, in the order of the futures.
    """
    # In a handler each wait is looked at for circles.
    if _aio.running_owner() is None and all(isinstance(future, WorkerFuture) for future in futures):
        return await gathered(futures, return_exceptions)  # type: ignore[arg-type]
    import asyncio

    return await asyncio.gather(*futures, return_exceptions=return_exceptions)


WorkerFuture.__module__ = "pytoweb.workers"
gather.__module__ = "pytoweb.workers"
