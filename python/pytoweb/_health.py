"""How workers and pools fare, as users see it."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pytoweb._core import Endpoint
    from pytoweb._pool import WorkerPool

__all__ = ["Health", "HealthState", "PoolHealth"]

HealthState = Literal["stopped", "ok", "busy", "restarting", "overloaded", "stuck", "failed"]

STATES: tuple[HealthState, ...] = ("stopped", "ok", "busy", "restarting", "overloaded", "stuck", "failed")
"""From the one that calls for nothing to the one that calls for help first."""


@dataclasses.dataclass(frozen=True)
class Health:
    """How a worker fares, and why.

    Of several that hold, the first of these counts:

    - ``"stopped"``: it is not started, stopping or stopped.
    - ``"failed"``: its messages fail, whatever they are: its pool's initializer has failed, or no child
      process can be started and a try is not due yet.
    - ``"stuck"``: a handler runs past its message's deadline, or for longer than ``Limits(stuck_after=...)``,
      or runs on after the interpreter lock could not be had for long meanwhile. It ends with that handler.
    - ``"overloaded"``: ``Limits(shed=...)`` refuses messages; or a post found the mailbox full a second ago
      or longer, and since then it was never half empty.
    - ``"restarting"``: the child process that runs its messages has ended, and another one is not ready yet.
    - ``"busy"``: messages are running or queued.
    - ``"ok"``: it has nothing to do.
    """

    state: HealthState
    reason: str
    """Why, in words. They may change from version to version."""
    since: float
    """Since when, in seconds as ``time.time()`` has them. Of ``"ok"`` and ``"busy"`` since the worker last
    began or ended work."""

    def as_dict(self) -> dict[str, Any]:
        """The same as a dictionary that ``json.dumps`` takes."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class PoolHealth(Health):
    """How a pool fares: the worst of its own mailbox and its workers, and each of them.

    From bad to good: ``"failed"``, ``"stuck"``, ``"overloaded"``, ``"restarting"``, ``"busy"``, ``"ok"``. A
    worker that was stopped, or not started, makes a pool no worse; a pool that was shut down is
    ``"stopped"``, whatever its workers are.
    """

    own: Health
    """That of the pool's own mailbox."""
    workers: dict[str, Health]
    """Those of the named workers."""


def worker_health(worker: Endpoint) -> Health:
    """How a worker fares, or a pool's own mailbox."""
    return _health_of(worker._pytoweb_health())


def _health_of(told: tuple[Any, str, float]) -> Health:
    state, reason, lasted = told
    return Health(state, reason, time.time() - lasted)


def pool_health(pool: WorkerPool) -> PoolHealth:
    """How a pool fares."""
    own = worker_health(pool)
    workers = {name: worker_health(worker) for name, worker in dict(pool.workers).items()}
    return _of_all(own, workers)


def _of_all(own: Health, workers: dict[str, Health]) -> PoolHealth:
    if own.state == "stopped":
        return PoolHealth(own.state, own.reason, own.since, own, workers)
    state = max((each.state for each in (own, *workers.values())), key=STATES.index)
    named = [("the pool's own mailbox", own), *((f"worker {name!r}", each) for name, each in workers.items())]
    alike = [(name, each) for name, each in named if each.state == state]
    name, first = min(alike, key=lambda one: one[1].since)
    reason = f"{name}: {first.reason}"
    if state == "ok":
        reason = first.reason
    elif len(alike) > 1:
        reason += f" (and {len(alike) - 1} more)"
    return PoolHealth(state, reason, first.since, own, workers)


for _public in (Health, PoolHealth):
    _public.__module__ = "pytoweb.workers"
