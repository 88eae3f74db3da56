"""Numbers that users see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytoweb._core import merged_timings

if TYPE_CHECKING:
    from pytoweb._pool import WorkerPool
    from pytoweb._worker import WorkerState

__all__ = ["PoolStats", "WorkerStats"]


class WorkerStats(NamedTuple):
    """One worker's numbers at one instant; times in seconds.

    Always ``posted == completed + failed + dropped + cancelled + expired + depth + running``.
    A message is counted before its future resolves.
    """

    name: str
    state: WorkerState
    """As ``PythonWorker.state``."""
    capacity: int
    """Messages that the mailbox holds at most."""
    depth: int
    """Messages that are queued now."""
    running: int
    """Messages that are being handled now."""
    posted: int
    """Posts that did not raise."""
    completed: int
    """Handled with a result."""
    failed: int
    """Handled with an exception, or given up by a stop."""
    dropped: int
    """Dropped by the overflow policy, or replaced by a newer message."""
    cancelled: int
    """Cancelled while queued."""
    expired: int
    """Past their deadline; one that was running counts once its handler has returned."""
    rejected: int
    """Posts that a full mailbox refused; not part of ``posted``."""
    drops: dict[str, int]
    """``dropped`` by reason: ``"oldest"`` and ``"newest"`` (the policy), ``"replaced"`` (``keep_latest``)."""
    shed: int
    """Posts that ``Limits(shed=...)`` refused; not part of ``posted``."""
    retried: int
    """Attempts that failed and were followed by another one; not part of ``posted``."""
    bytes: int
    """Bytes of the messages that are queued or being handled; 0 where ``Limits`` bounds none."""
    busy_seconds: float
    """Time that threads spent on it."""
    utilisation: float
    """``busy_seconds`` as a share, 0 to 1, of the time since its start."""
    wait_p50: float | None
    """Median time from the post to the handler. Below 10 us per handler, one message in 16 is timed."""
    wait_p99: float | None
    """99th percentile of the same."""
    run_p50: float | None
    """Median run time of the handler."""
    run_p99: float | None
    """99th percentile of the same."""
    processes: int
    """Child processes that run its handlers and are there now; 0 for a thread worker."""
    restarts: int
    """Child processes that were started in the place of one that had ended, for whatever reason."""

    @property
    def stuck(self) -> bool:
        """Whether its handler runs past the message's deadline."""
        return self.state == "stuck"


class PoolStats(NamedTuple):
    """A pool's numbers; the counters are sums over its mailbox and its workers, taken one after the other."""

    name: str
    size: int
    """Threads that run handlers at the same time."""
    threads: int
    """Threads that exist now."""
    own: WorkerStats
    """The pool's own mailbox."""
    workers: dict[str, WorkerStats]
    """The named workers."""
    depth: int
    running: int
    posted: int
    completed: int
    failed: int
    dropped: int
    cancelled: int
    expired: int
    rejected: int
    shed: int
    retried: int
    bytes: int
    """Of those whose mailboxes are bounded by bytes."""
    busy_seconds: float
    utilisation: float
    """``busy_seconds`` as a share, 0 to 1, of ``size`` threads since the pool was made."""
    wait_p50: float | None
    wait_p99: float | None
    run_p50: float | None
    run_p99: float | None
    processes: int
    """Child processes that are there now; they start when there is work for them. 0 for a pool of threads."""
    restarts: int
    """Child processes that were started in the place of one that had ended, for whatever reason."""


_SUMS = (
    "depth",
    "running",
    "posted",
    "completed",
    "failed",
    "dropped",
    "cancelled",
    "expired",
    "rejected",
    "shed",
    "retried",
    "bytes",
    "busy_seconds",
)


def worker_stats(numbers: dict[str, Any]) -> WorkerStats:
    """The engine's numbers as users see them."""
    drops = {reason: numbers.pop(f"dropped_{reason}") for reason in ("oldest", "newest", "replaced")}
    utilisation = share(numbers["busy_seconds"], numbers.pop("alive_seconds"))
    return WorkerStats(**numbers, dropped=sum(drops.values()), drops=drops, utilisation=utilisation)


def share(busy: float, alive: float) -> float:
    """Busy time as a share of all, 0 to 1."""
    return min(1.0, busy / alive) if alive > 0 else 0.0


def pool_stats(pool: WorkerPool) -> PoolStats:
    """The numbers of a pool and of its workers."""
    own_numbers = pool._pytoweb_stats()
    alive = own_numbers["alive_seconds"]
    own = worker_stats(own_numbers)
    members = dict(pool.workers)
    workers = {name: worker.stats() for name, worker in members.items()}
    sums = {name: sum(getattr(stats, name) for stats in (own, *workers.values())) for name in _SUMS}
    pinned = [worker for worker in members.values() if worker._pytoweb_owns_threads()]
    return PoolStats(
        name=pool.name,
        size=pool.size,
        threads=sum(owner._pytoweb.threads.count() for owner in (pool, *pinned)),
        own=own,
        workers=workers,
        utilisation=share(sums["busy_seconds"], alive * (pool.size + len(pinned))),
        processes=own.processes,
        restarts=own.restarts,
        **sums,
        **merged_timings([pool, *members.values()]),
    )


WorkerStats.__module__ = PoolStats.__module__ = "pytoweb.workers"
