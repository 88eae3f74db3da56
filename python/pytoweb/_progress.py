"""The progress of messages: what futures show of it, and who is told."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time

from pytoweb import _exit
from pytoweb._callables import checked_handler
from pytoweb._contained import contained
from pytoweb._events import call_on_way, way_from_here

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from pytoweb._core import ProgressMeter
    from pytoweb._events import Way
    from pytoweb.futures import WorkerFuture

    class Meter(Protocol):
        """What waits for the ticker."""

        def flush(self) -> None: ...


#: Seconds after which the ticker ends that has nothing to do.
LINGER = 1.0


class Progress:
    """How far a handler is. It cannot be changed; two are equal that say the same.

    Attributes:
        done: how much is done, an int or a float.
        total: of how much, in the same unit; None where that is not known.
        text: at what it is, or None.
    """

    __slots__ = ("done", "text", "total")

    done: float
    total: float | None
    text: str | None

    def __init__(self, done: float, total: float | None = None, text: str | None = None) -> None:
        for name, value in (("done", done), ("total", total), ("text", text)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Progress cannot be changed: {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Progress cannot be changed: {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not Progress:
            return NotImplemented
        return (self.done, self.total, self.text) == (other.done, other.total, other.text)

    def __hash__(self) -> int:
        return hash((self.done, self.total, self.text))

    def __reduce__(self) -> tuple[type[Progress], tuple[float, float | None, str | None]]:
        return Progress, (self.done, self.total, self.text)

    def __repr__(self) -> str:
        return f"Progress(done={self.done!r}, total={self.total!r}, text={self.text!r})"


Progress.__module__ = "pytoweb.workers"


class Watch:
    """Calls one handler with the latest progress, on its line or event loop."""

    __slots__ = ("_handler", "_is_called", "_meter", "_name", "_seen", "_way")

    def __init__(
        self, meter: ProgressMeter, handler: Callable[[Progress], object], way: Way, name: str
    ) -> None:
        self._meter = meter
        self._handler = handler
        self._way = way
        self._name = name
        #: A call is on its way.
        self._is_called = False
        #: The version that the handler was called with last.
        self._seen = 0

    def __call__(self) -> None:
        """There is something new, perhaps; called on any thread."""
        with _lock:
            if self._is_called:
                return
            self._is_called = True
        self._way.call(self._look)

    def _look(self) -> None:
        # Before the look: what comes after that makes another call.
        with _lock:
            self._is_called = False
        try:
            latest = self._meter.latest()
        except BaseException as error:
            contained(self._log, error)
            return
        if latest is None or latest[0] == self._seen:
            return
        self._seen, report = latest
        call_on_way(self._handler, Progress(*report), self._log)

    def _log(self, error: BaseException) -> None:
        logging.getLogger(f"pytoweb.worker.{self._name}").error(
            "a progress handler of worker %r raised", self._name, exc_info=error
        )


#: Of the calls of all watches. Reentrant, because the collector may run a worker's `__del__` anywhere.
_lock = threading.RLock()


def watch(future: WorkerFuture[Any], handler: Callable[[Progress], object]) -> None:
    """Has a handler called with the progress of the message of ``future``."""
    checked_handler(handler, "a progress handler")
    meter = future._progress_meter()
    one = Watch(meter, handler, way_from_here(future._runtime()), future._worker_name())
    future._watch_progress(one)
    # For what was reported before.
    if meter.latest() is not None:
        one()


class _Ticker:
    """Flushes meters at their times, on a thread of its own while there are some."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[tuple[float, int, Meter]] = []
        self._numbers = itertools.count()
        self._runs = False

    def add(self, meter: Meter, seconds: float) -> None:
        with self._changed:
            if not self._runs:
                thread = threading.Thread(target=self._run, name="pytoweb-progress", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # No thread can be started any more: the end of the message tells of it.
                    return
                self._runs = True
            heapq.heappush(self._entries, (time.monotonic() + seconds, next(self._numbers), meter))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._entries:
                    self._changed.wait(LINGER)
                    if not self._entries:
                        self._runs = False
                        return
                    continue
                left = self._entries[0][0] - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                meter = heapq.heappop(self._entries)[2]
            contained(meter.flush)
            del meter


_ticker = _Ticker()


def later(meter: Meter, seconds: float) -> None:
    """Has ``meter.flush()`` called after so many seconds."""
    _ticker.add(meter, seconds)


def _start_afresh() -> None:
    global _lock, _ticker
    _lock = threading.RLock()
    _ticker = _Ticker()


_exit.unlock_after_fork(_start_afresh)
