"""The ground of each part of the contract: makes workers, gates and threads, and ends them."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from concurrent.futures import Future

from pytoweb.testing import _handlers
from pytoweb.workers import PythonWorker, WorkerPool

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pytoweb._stats import PoolStats, WorkerStats

    E = TypeVar("E", bound=BaseException)

__all__ = ["NEVER", "WAIT", "LogRecords", "Subject", "check_adds_up", "raised"]

WAIT = 10.0
"""Seconds after which a wait counts as a hang: far above what any state takes to come."""

NEVER = 0.05
"""Seconds for which something that must not happen is watched: it can hide a failure, never make one."""


def raised(kind: type[E], call: Callable[..., object], *args: object, **options: object) -> E:
    """Returns the exception of this kind that a call raises; without one, the test fails."""
    try:
        call(*args, **options)
    except kind as error:
        return error
    raise AssertionError(f"{call!r} did not raise {kind.__name__}")


def check_adds_up(stats: WorkerStats | PoolStats) -> None:
    """Checks that every accepted message is counted in exactly one place."""
    ended = stats.completed + stats.failed + stats.dropped + stats.cancelled + stats.expired
    assert stats.posted == ended + stats.depth + stats.running, f"the counters do not add up: {stats}"


class LogRecords(logging.Handler):
    """Keeps log records."""

    def __init__(self, then: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._then = then
        self._log = logging.getLogger("pytoweb.worker")

    @classmethod
    def of(cls, worker: PythonWorker, then: Callable[[], object]) -> LogRecords:
        """Those of a worker, in a ``with`` block; ``then`` is called after each."""
        kept = cls(then)
        kept._log = logging.getLogger(f"pytoweb.worker.{worker.name}")
        return kept

    def __enter__(self) -> LogRecords:
        self._log.addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if self._then is not None:
            self._then()


class Subject:
    """The subject of the tests: subclasses say how its workers and pools are made.

    ``setup_method`` and ``teardown_method`` are pytest's; a subclass that has its own calls these.
    """

    backend: str = "thread"
    """The backend of the workers that ``make_worker`` and ``make_pool`` make."""

    def make_worker(self, name: str, **options: Any) -> PythonWorker:
        """Returns a new worker that was not started; the test stops it."""
        if self.backend == "process":
            # On a busy machine a child may take longer than the default to end a message by itself.
            options.setdefault("grace", WAIT)
        return PythonWorker(name, backend=self.backend, **options)  # type: ignore[arg-type]

    def make_pool(self, size: int, **options: Any) -> WorkerPool:
        """Returns a new pool; the test shuts it down."""
        return WorkerPool(size, backend=self.backend, **options)  # type: ignore[arg-type]

    def setup_method(self) -> None:
        """Begins a test."""
        self._workers: list[PythonWorker] = []
        self._pools: list[WorkerPool] = []
        self._gates: list[_handlers.Gate] = []
        self._spawned: list[threading.Thread] = []
        self._directory = tempfile.TemporaryDirectory(prefix="pytoweb-contract-")
        self._color = _handlers.color.set("none")

    def teardown_method(self) -> None:
        """Ends all that the test made; the counters must add up."""
        _handlers.color.reset(self._color)
        for gate in self._gates:
            gate.open()
        for worker in self._workers:
            worker.stop(drain=False, timeout=WAIT)
            check_adds_up(worker.stats())
        for pool in self._pools:
            pool.stop_all(drain=False, timeout=WAIT)
            pool.shutdown(wait=True, cancel_futures=True)
            check_adds_up(pool.stats())
        for thread in self._spawned:
            thread.join(WAIT)
        assert not any(thread.is_alive() for thread in self._spawned), "a thread of the test hangs"
        self._workers.clear()
        self._pools.clear()
        self._directory.cleanup()

    def path(self, name: str = "noted") -> str:
        """A path for files of this test."""
        return os.path.join(self._directory.name, name)

    def noted(self, name: str = "noted") -> list[str]:
        """The lines that handlers wrote to such a file."""
        return _handlers.noted(self.path(name))

    def new_worker(self, name: str = "contract", **options: Any) -> PythonWorker:
        """A worker with the handlers of the contract, not started; its failures are not logged."""
        return self.equip(self._kept(self.make_worker(name, **options)))

    def worker(self, name: str = "contract", **options: Any) -> PythonWorker:
        """The same, started."""
        return self.new_worker(name, **options).start()

    def pool(self, size: int = 2, **options: Any) -> WorkerPool:
        """A pool."""
        self._pools.append(self.make_pool(size, **options))
        return self._pools[-1]

    def _kept(self, worker: PythonWorker) -> PythonWorker:
        self._workers.append(worker)
        return worker

    @staticmethod
    def equip(worker: PythonWorker) -> PythonWorker:
        """Registers the handlers of the contract."""
        for handler in _handlers.PLAIN:
            worker.on_message(handler.__name__, handler)
        worker.on_error(lambda error: None)
        return worker

    def gate(self) -> _handlers.Gate:
        """A handler that stands until it is let through: at the end of the test, if not before."""
        directory = self.path(f"gate-{len(self._gates)}")
        os.mkdir(directory)
        self._gates.append(_handlers.Gate(directory))
        return self._gates[-1]

    def blocked(self, name: str = "blocked", **options: Any) -> tuple[PythonWorker, _handlers.Gate]:
        """A started worker whose handler of "gate" stands in the gate, with one message."""
        worker, gate = self.new_worker(name, **options), self.gate()
        worker.on_message("gate", gate)
        worker.start().post_message("gate")
        gate.wait_entered()
        return worker, gate

    def spawn(self, function: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        """Runs a function on a thread; the outcome is a future."""
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(function(*args, **options))
            except BaseException as error:
                outcome.set_exception(error)

        thread = threading.Thread(target=run, daemon=True, name="contract-spawn")
        self._spawned.append(thread)
        thread.start()
        return outcome

    @staticmethod
    def until(predicate: Callable[[], object], what: str) -> None:
        """Waits for a state that nothing announces."""
        deadline = time.monotonic() + WAIT
        while not predicate():
            assert time.monotonic() < deadline, f"{what} did not come within {WAIT} s"
            time.sleep(_handlers.POLL)
