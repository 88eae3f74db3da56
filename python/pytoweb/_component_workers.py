"""Which workers a component made, and stopping them."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from pytoweb._worker import WorkerOptions
    from pytoweb.workers import PythonWorker

__all__ = ["OwnedWorkers", "make_worker"]

# Keyed by id, so a worker needs no room for a mark. The id stays valid: an entry lives no longer than
# its OwnedWorkers, and that holds the worker.
_owners: WeakValueDictionary[int, OwnedWorkers] = WeakValueDictionary()

# Re-entrant: a collection that starts in here may run a `__del__` that unmounts another component.
_owners_lock = threading.RLock()


def worker_class() -> type[PythonWorker] | None:
    """Returns the class, or None if it was never imported and so has no instances."""
    return getattr(sys.modules.get("pytoweb.workers"), "PythonWorker", None)


def make_worker(name: str, options: WorkerOptions) -> PythonWorker:
    """Returns a new worker, not started."""
    # Components without workers do not pay for the engine.
    from pytoweb._checks import checked_options
    from pytoweb._worker import WORKER_OPTIONS
    from pytoweb.workers import PythonWorker

    checked_options(options, WORKER_OPTIONS, "Component.create_worker()")
    return PythonWorker(name, **options)


class OwnedWorkers:
    """The workers that one component stops when it is unmounted."""

    def __init__(self) -> None:
        """Starts with none."""
        self._workers: dict[int, PythonWorker] = {}  # by id, in the order they came

    def claim(self, value: object) -> None:
        """Makes a worker this component's own, unless a pool made it or another component has it.

        A pool's worker is known by its `pool`, which is None for others. Anything that is not a worker
        is ignored. Workers that were stopped meanwhile are let go, so a component may make
        a worker per job for as long as it lives.
        """
        kind = worker_class()
        if kind is None or not isinstance(value, kind) or getattr(value, "pool", None) is not None:
            return
        with _owners_lock:
            for key in [key for key, known in self._workers.items() if known.state == "stopped"]:
                self._release(key)
            if id(value) not in _owners:
                _owners[id(value)] = self
                self._workers[id(value)] = value

    def stop(self, timeout: float | None) -> list[BaseException]:
        """Stops every worker, the last one made first, and lets all of them go.

        Args:
            timeout: Seconds for all of them together, or None for as long as it takes.

        Returns:
            What the stops raised, in that order. An interrupt is among them: the other workers are
            stopped all the same, as nested `with` blocks would.
        """
        with _owners_lock:
            workers = list(self._workers.values())[::-1]
            for worker in workers:
                self._release(id(worker))
        deadline = None if timeout is None else time.monotonic() + timeout
        errors: list[BaseException] = []
        for worker in workers:
            try:
                worker.stop(drain=True, timeout=_left(deadline))
            except BaseException as exc:
                errors.append(exc)
        return errors

    def _release(self, key: int) -> None:
        del self._workers[key]
        _owners.pop(key, None)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
