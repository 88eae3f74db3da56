"""A row of the fault run: what it injects, what it measures, and what was asked for."""

from __future__ import annotations

import contextlib
import math
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from conftest import check_adds_up

WAIT = 20.0
"""Seconds after which a future counts as never resolved."""

POLL = 0.001
"""Seconds between two looks at a state that nothing announces."""

MIB = 1 << 20


class Figure(NamedTuple):
    """One number of a row, and what it may be."""

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    exactly: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is what was asked for; a figure without a limit is for people."""
        if self.exactly is not None:
            return self.value == self.exactly
        # A number that could not be measured is above every limit.
        return self.at_most is None or self.value <= self.at_most

    def __str__(self) -> str:
        text = f"{self.name} {_short(self.value)}{self.unit}"
        if self.exactly is not None:
            return f"{text} (= {_short(self.exactly)})"
        if self.at_most is not None:
            return f"{text} (<= {_short(self.at_most)}{self.unit})"
        return text


def _short(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        return "none"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above; infinite if there are none."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Outcome(NamedTuple):
    """How a future ended."""

    value: Any
    error: BaseException | None
    resolved: bool = True


class Trial:
    """What the function of a row gets: its size, tools that are checked afterwards, a place for figures."""

    def __init__(self, scale: float, soak: bool = False) -> None:
        self.scale = scale
        self.soak = soak
        self.injected = 0
        self.figures: list[Figure] = []
        self.random = random.Random(1)
        """The same in every run, so that what was found can be found again."""
        self.unresolved = 0
        self.logged: list[str] = []
        self._made: list[Any] = []
        self._lock = threading.Lock()
        self.directory = tempfile.TemporaryDirectory(prefix="faults-")

    def count(self, full: int, least: int = 1) -> int:
        """How many of what there are `full` of in a run of full size."""
        return max(least, round(full * self.scale))

    def path(self, name: str) -> str:
        """A path of this row."""
        return os.path.join(self.directory.name, name)

    # Figures.

    def exactly(self, name: str, value: float, wanted: float = 0) -> None:
        """A figure that must be what is wanted."""
        self.figures.append(Figure(name, value, exactly=wanted))

    def at_most(self, name: str, value: float, limit: float, unit: str = "") -> None:
        """A figure with an upper limit."""
        self.figures.append(Figure(name, value, unit, at_most=limit))

    def tell(self, name: str, value: float, unit: str = "") -> None:
        """A figure for people."""
        self.figures.append(Figure(name, value, unit))

    # Workers and pools, counted and stopped afterwards.

    def worker(
        self, name: str, handlers: dict[str, Any] | Iterable[Callable[..., Any]], **options: Any
    ) -> Any:
        """A worker, not started; in `errors` what its owner was told."""
        from pytoweb.workers import PythonWorker

        options.setdefault("backend", "process")
        one = PythonWorker(name, **options)
        one.errors = Errors()
        named = handlers if isinstance(handlers, dict) else {one.__name__: one for one in handlers}
        for kind, handler in named.items():
            one.on_message(kind, handler)
        one.on_error(one.errors)
        self._made.append(one)
        return one

    def pool(self, size: int, **options: Any) -> Any:
        """A pool."""
        from pytoweb.workers import WorkerPool

        options.setdefault("backend", "process")
        one = WorkerPool(size, **options)
        one.on_error(lambda error: None)
        self._made.append(one)
        return one

    def outcome(self, future: Any, limit: float = WAIT) -> Outcome:
        """How a future ended; one that does not within `limit` seconds is counted (I2)."""
        try:
            error = future.exception(limit)
        except CancelledError as cancelled:
            return Outcome(None, cancelled)
        except BaseException as late:
            with self._lock:
                self.unresolved += 1
            return Outcome(None, late, False)
        return Outcome(None if error is not None else future.result(0), error)

    def finish(self) -> None:
        """Checks the counters and that pools are usable (I1, I3), and stops what was made."""
        wrong = 0
        for one in self._made:
            try:
                self._close(one)
                check_adds_up(one.stats())
            except Exception as error:
                wrong += 1
                self.logged.append(f"{one!r}: {type(error).__name__}: {error}")
        self._made.clear()
        self.exactly("miscounted", wrong)
        self.exactly("unresolved", self.unresolved)
        self.exactly("unusable pools", sum(not _is_usable(backend) for backend in ("thread", "process")))
        self.directory.cleanup()

    @staticmethod
    def _close(one: Any) -> None:
        if hasattr(one, "shutdown"):
            one.stop_all(drain=False, timeout=WAIT)
            one.shutdown(wait=True, cancel_futures=True)
        else:
            one.stop(drain=False, timeout=WAIT)


def _is_usable(backend: str) -> bool:
    from pytoweb.workers import WorkerPool

    pool = WorkerPool(1, backend=backend)  # type: ignore[arg-type]
    try:
        return bool(pool.submit(pow, 2, 5).result(WAIT) == 32)
    except Exception:
        return False
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Errors:
    """What an owner was told, and when."""

    def __init__(self) -> None:
        self.all: list[tuple[float, BaseException]] = []

    def __call__(self, error: BaseException) -> None:
        self.all.append((time.monotonic(), error))

    def __len__(self) -> int:
        return len(self.all)


def until(predicate: Callable[[], object], limit: float = WAIT) -> bool:
    """Waits for a state that nothing announces; False if it does not come."""
    end = time.monotonic() + limit
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True


@contextlib.contextmanager
def threads(*functions: Callable[[], object]) -> Iterator[None]:
    """Runs functions on threads while the body runs; what one raises is raised after it."""
    failures: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    started = [threading.Thread(target=run, args=(one,), daemon=True) for one in functions]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        for thread in started:
            thread.join(WAIT)
    if any(thread.is_alive() for thread in started):
        raise TimeoutError("a thread of the row hangs")
    if failures:
        raise failures[0]


def memory(pid: int | str = "self") -> int:
    """Bytes of resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Row(NamedTuple):
    """A fault."""

    name: str
    run: Callable[[Trial], None]
    seconds: float
    """What it takes in full at most; it is stopped after that."""


ROWS: dict[str, Row] = {}

START_UP = 30.0
"""Seconds that a row of any size may take besides."""


def row(name: str, seconds: float) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Adds a function to the rows."""

    def add(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
        ROWS[name] = Row(name, function, seconds)
        return function

    return add
