"""Soft limits: ``DeadlineError`` in a handler that has run for too long, while it can still clean up.

On a thread it is raised where the handler runs Python code, as Ctrl-C is on the main thread; a call into
native code is not interrupted. A coroutine gets it where it awaits.
"""

from __future__ import annotations

import heapq
import threading
import time
from itertools import count
from types import CoroutineType

from pytoweb import _exit
from pytoweb._core import interrupt_thread
from pytoweb._functions import is_coroutine_function
from pytoweb.errors import DeadlineError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

__all__ = ["LimitedFunction", "LimitedHandler"]

#: Seconds after which the thread that watches the limits looks for calls that have ended meanwhile; without
#: any other it ends.
LINGER_SECONDS = 0.2


class _Clock:
    """One thread of the process that calls what is due; there only while it has something to watch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[tuple[float, int, _Call]] = []
        self._numbers = count()
        self._runs = False

    def watch(self, call: _Call, seconds: float) -> None:
        """Has ``call.expire()`` called in ``seconds``."""
        with self._changed:
            if not self._runs:
                thread = threading.Thread(target=self._run, name="pytoweb-soft-limits", daemon=True)
                try:
                    # This takes its time, which is not the call's.
                    thread.start()
                except RuntimeError:
                    # No thread can be started any more, because the program ends: its calls have no limit.
                    return
                self._runs = True
            heapq.heappush(self._entries, (time.monotonic() + seconds, next(self._numbers), call))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                # Most calls have ended long before.
                while self._entries and self._entries[0][2].ended:
                    heapq.heappop(self._entries)
                now = time.monotonic()
                if not self._entries:
                    self._changed.wait(LINGER_SECONDS)
                    if not self._entries:
                        self._runs = False
                        return
                    continue
                if self._entries[0][0] > now:
                    self._changed.wait(min(self._entries[0][0] - now, LINGER_SECONDS))
                    continue
                _, _, call = heapq.heappop(self._entries)
            call.expire()


_clock = _Clock()


def _unlock() -> None:
    global _clock
    _clock = _Clock()


_exit.unlock_after_fork(_unlock)


class _Call:
    """One call of a handler on this thread."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self.ended = False
        self.expired = False

    def expire(self) -> None:
        """Raises in the handler, unless that has ended: never in what the thread runs afterwards."""
        with self._lock:
            if not self.ended:
                self.expired = self.ended = True
                interrupt_thread(self._thread, DeadlineError)

    def end(self) -> None:
        """The handler has ended. An error that was raised in it and has not come yet comes in here."""
        with self._lock:
            self.ended = True
        for _ in range(2):
            # The interpreter looks for such exceptions where a loop goes on.
            continue


def _called(call: Callable[[], Any], seconds: float, text: str) -> Any:
    """Calls with a soft limit; ``text`` is that of the error."""
    limit = _Call()
    try:
        try:
            _clock.watch(limit, seconds)
            return call()
        finally:
            limit.end()
    except DeadlineError as error:
        if limit.expired and not error.args:
            error.args = (text,)
        raise


async def _awaited(coroutine: Coroutine[Any, Any, object], seconds: float, text: str) -> object:
    """Runs a coroutine with a soft limit."""
    import asyncio

    task = asyncio.current_task()
    assert task is not None
    limited = _Limited(coroutine, DeadlineError(text), task)
    timer = asyncio.get_running_loop().call_later(seconds, limited.expire)
    try:
        return await limited
    finally:
        timer.cancel()


class LimitedFunction:
    """A function whose calls have a soft limit; a child unpickles it."""

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        # What errors and statistics call it.
        self.__qualname__ = getattr(function, "__qualname__", None) or repr(function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        text = f"the call of {self.__qualname__!r} ran longer than its soft_timeout of {self._seconds:g} s"
        if is_coroutine_function(self._function):
            return _awaited(self._function(*args, **kwargs), self._seconds, text)
        return _called(lambda: self._function(*args, **kwargs), self._seconds, text)

    def __repr__(self) -> str:
        return repr(self._function)


class LimitedHandler:
    """A handler of messages of one type with a soft limit."""

    def __init__(self, handler: Callable[..., Any], seconds: float, message_type: str) -> None:
        self._handler = handler
        self._awaits = is_coroutine_function(handler)
        self._seconds = seconds
        self._text = f"the handler of {message_type!r} ran longer than its soft_timeout of {seconds:g} s"

    def __call__(self, data: Any) -> Any:
        if self._awaits:
            return _awaited(self._handler(data), self._seconds, self._text)
        returned = _called(lambda: self._handler(data), self._seconds, self._text)
        if isinstance(returned, CoroutineType):
            return _awaited(returned, self._seconds, self._text)
        return returned


class _Limited:
    """Awaits a coroutine, and raises ``error`` where it awaits once that has expired."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, object], error: DeadlineError, task: asyncio.Task[Any]
    ) -> None:
        self._coroutine = coroutine
        self._error = error
        self._task = task
        self._expired = False

    def expire(self) -> None:
        self._expired = True
        # It comes to `__await__` as the cancellation of what the coroutine waits for, which is what that is.
        self._task.cancel()

    def __await__(self) -> Generator[Any, Any, object]:
        import asyncio

        steps = self._coroutine.__await__()
        step: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                waits_for = step(value)
            except StopIteration as end:
                return end.value
            try:
                value = yield waits_for
            except asyncio.CancelledError as cancelled:
                step, value = steps.throw, cancelled
                if self._expired:
                    self._expired = False
                    value = self._error
                    # From Python 3.11 on a task counts these, and a cancel of others would not.
                    getattr(self._task, "uncancel", int)()
            except BaseException as error:
                step, value = steps.throw, error
            else:
                step = steps.send
