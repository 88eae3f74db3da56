"""Numbers that users see."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pytoweb._core import merged_numbers

if TYPE_CHECKING:
    from pytoweb._addressable import Addressable
    from pytoweb._pool import WorkerPool
    from pytoweb._worker import PythonWorker, WorkerState

__all__ = ["ChildStats", "PoolStats", "TypeStats", "WorkerStats"]


class _Numbers:
    """What the numbers have in common."""

    def as_dict(self) -> dict[str, Any]:
        """The same as dictionaries, lists, strings, numbers and ``None``, which ``json.dumps`` takes."""
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, _Numbers):
        return value.as_dict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


@dataclasses.dataclass(frozen=True)
class TypeStats(_Numbers):
    """What became of the messages of one type that a handler began; times in seconds.

    Messages that ended in the queue (dropped, cancelled, expired there) are not among them.
    """

    completed: int
    """Handled with a result."""
    failed: int
    """Handled with an exception; among them those of a type without a handler."""
    expired: int
    """Past their deadline when the handler ended."""
    cancelled: int
    """Cancelled while running, where the handler was stopped for it: a coroutine, or a process."""
    retried: int
    """Attempts that failed and were followed by another one."""
    wait_p50: float | None
    """Median time from the post to the handler, of the messages that were timed: see ``WorkerStats``."""
    wait_p90: float | None
    wait_p99: float | None
    wait_max: float | None
    """The longest of those that were timed."""
    run_p50: float | None
    """Median run time of the handler."""
    run_p90: float | None
    run_p99: float | None
    run_max: float | None


@dataclasses.dataclass(frozen=True)
class ChildStats(_Numbers):
    """What a child process uses, as the system counts it; ``None`` where the system is not Linux."""

    pid: int
    memory_bytes: int | None
    """Resident memory (RSS) in bytes; what it shares with other processes is in the number of each."""
    cpu_seconds: float | None
    """Processor time since its start, in its own code and in the system's for it; in steps of 10 ms as a
    rule."""


@dataclasses.dataclass(frozen=True)
class WorkerStats(_Numbers):
    """One worker's numbers at one instant; times in seconds.

    Always ``posted == completed + failed + dropped + cancelled + expired + depth + running``.
    A message is counted before its future resolves.

    Every message is timed while handlers take 10 us or longer on average; of quicker ones, one in 64.
    Percentiles are within an eighth of the value.
    """

    name: str
    state: WorkerState
    """As ``PythonWorker.state``."""
    capacity: int
    """Messages that the mailbox holds at most."""
    concurrency: int
    """Messages that are handled at the same time at most."""
    depth: int
    """Messages that are queued now."""
    oldest_age: float | None
    """How long the oldest one has waited that is queued; ``None``: none is, or all wait for a time of their
    own. Exact while handlers take 10 us or longer; of quicker ones', the age of the first one that came
    while the worker was busy."""
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
    dead: int
    """Messages that became dead letters, ever; they are among ``failed``."""
    lost_replies: int
    """Replies to messages with an id that no ``response`` or ``error`` handler got: there was none, and more
    of them than the capacity, or its event loop was closed."""
    bytes: int
    """Bytes of the messages that are queued or being handled; 0 where ``Limits`` bounds none."""
    busy_seconds: float
    """Time that threads spent on it, or children on its messages."""
    utilisation: float
    """``busy_seconds`` as a share, 0 to 1, of the time that it had since its start: that of ``concurrency``
    threads."""
    utilisation_1s: float
    """The same of the last second; of a busy second before it, a part is in there."""
    utilisation_10s: float
    """The same of the last ten seconds."""
    utilisation_60s: float
    """The same of the last minute."""
    wait_p50: float | None
    """Median time from the post to the handler, of the messages that were timed."""
    wait_p90: float | None
    """90th percentile of the same."""
    wait_p99: float | None
    """99th percentile of the same."""
    wait_max: float | None
    """The longest of those that were timed."""
    run_p50: float | None
    """Median run time of the handler."""
    run_p90: float | None
    """90th percentile of the same."""
    run_p99: float | None
    """99th percentile of the same."""
    run_max: float | None
    """The longest of those that were timed."""
    types: dict[str, TypeStats]
    """The messages that were begun, by type: by the name of the function for ``submit`` and ``map``. The
    first 128 types have numbers of their own, the others are together under ``"(others)"``."""
    processes: int
    """Child processes that run its handlers and are there now; 0 for a thread worker."""
    restarts: int
    """Child processes that were started in the place of one that had ended, for whatever reason."""
    children: tuple[ChildStats, ...]
    """What each of these processes uses; those of a pool run the messages of all its workers."""
    lock_wait_seconds: float | None
    """As ``PoolStats.lock_wait_seconds``, of a worker with a thread of its own; ``None`` for one of a
    pool."""

    @property
    def stuck(self) -> bool:
        """Whether its handler runs past the message's deadline."""
        return self.state == "stuck"


@dataclasses.dataclass(frozen=True)
class PoolStats(_Numbers):
    """A pool's numbers; the counters are sums over its mailbox and its workers, taken one after the other.

    What is not said here is as in ``WorkerStats``.
    """

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
    oldest_age: float | None
    """How long the oldest message has waited that is queued in any of them."""
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
    dead: int
    lost_replies: int
    bytes: int
    """Of those whose mailboxes are bounded by bytes."""
    busy_seconds: float
    utilisation: float
    """``busy_seconds`` as a share, 0 to 1, of ``size`` threads since the pool was made."""
    utilisation_1s: float
    utilisation_10s: float
    utilisation_60s: float
    wait_p50: float | None
    wait_p90: float | None
    wait_p99: float | None
    wait_max: float | None
    run_p50: float | None
    run_p90: float | None
    run_p99: float | None
    run_max: float | None
    types: dict[str, TypeStats]
    """By type, over its mailbox and its workers."""
    processes: int
    """Child processes that are there now; they start when there is work for them. 0 for a pool of threads."""
    restarts: int
    """Child processes that were started in the place of one that had ended, for whatever reason."""
    children: tuple[ChildStats, ...]
    """What each of these processes uses."""
    lock_wait_seconds: float
    """How long its threads have waited, in sum, for the interpreter lock when there was work for them to
    begin. Where a handler gives the lock up and waits to have it back, only the interpreter knows, and does
    not tell."""


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
    "dead",
    "lost_replies",
    "bytes",
    "busy_seconds",
)
_WINDOWS = (1.0, 10.0, 60.0)


def _types(numbers: dict[str, dict[str, Any]]) -> dict[str, TypeStats]:
    return {kind: TypeStats(**each) for kind, each in numbers.items()}


def _shares(busy: list[float], alive: float, places: int) -> dict[str, Any]:
    """Busy time in the last second, ten seconds and minute, as shares."""
    each = zip(busy, _WINDOWS)
    return {f"utilisation_{window:.0f}s": share(time, min(window, alive) * places) for time, window in each}


def worker_stats(worker: PythonWorker) -> WorkerStats:
    """The numbers of a worker."""
    lock_wait = worker._pytoweb.threads.lock_wait() if worker._pytoweb_owns_threads() else None
    return _stats_of(worker, worker._pytoweb_stats(), lock_wait)


def stats_of(one: Addressable) -> WorkerStats:
    """The numbers of a worker, or of a pool's own mailbox, without ``lock_wait_seconds``."""
    return _stats_of(one, one._pytoweb_stats(), None)


def _stats_of(one: Addressable, numbers: dict[str, Any], lock_wait: float | None) -> WorkerStats:
    """The engine's numbers as users see them."""
    drops = {reason: numbers.pop(f"dropped_{reason}") for reason in ("oldest", "newest", "replaced")}
    alive, busy = numbers.pop("alive_seconds"), numbers.pop("busy_recently")
    places = numbers["concurrency"]
    numbers["types"] = _types(numbers["types"])
    numbers["children"] = tuple(ChildStats(*child) for child in numbers["children"])
    return WorkerStats(
        **numbers,
        dropped=sum(drops.values()),
        drops=drops,
        lost_replies=one._pytoweb.replies.lost_replies,
        utilisation=share(numbers["busy_seconds"], alive * places),
        lock_wait_seconds=lock_wait,
        **_shares(busy, alive, places),
    )


def share(busy: float, alive: float) -> float:
    """Busy time as a share of all, 0 to 1."""
    return min(1.0, busy / alive) if alive > 0 else 0.0


def pool_stats(pool: WorkerPool) -> PoolStats:
    """The numbers of a pool and of its workers."""
    members = dict(pool.workers)
    own_numbers = pool._pytoweb_stats()
    numbers = {name: worker._pytoweb_stats() for name, worker in members.items()}
    alive = own_numbers["alive_seconds"]
    recently = [each["busy_recently"] for each in (own_numbers, *numbers.values())]
    busy = [sum(times) for times in zip(*recently)]
    pinned = [worker for worker in members.values() if worker._pytoweb_owns_threads()]
    lock_waits = {worker.name: worker._pytoweb.threads.lock_wait() for worker in pinned}
    own = _stats_of(pool, own_numbers, None)
    workers = {name: _stats_of(members[name], each, lock_waits.get(name)) for name, each in numbers.items()}
    everyone = (own, *workers.values())
    sums = {name: sum(getattr(stats, name) for stats in everyone) for name in _SUMS}
    ages = [stats.oldest_age for stats in everyone if stats.oldest_age is not None]
    merged = merged_numbers([pool, *members.values()])
    merged["types"] = _types(merged["types"])
    places = pool.size + len(pinned)
    return PoolStats(
        name=pool.name,
        size=pool.size,
        threads=sum(owner._pytoweb.threads.count() for owner in (pool, *pinned)),
        own=own,
        workers=workers,
        oldest_age=max(ages, default=None),
        utilisation=share(sums["busy_seconds"], alive * places),
        processes=own.processes,
        restarts=own.restarts,
        children=own.children,
        lock_wait_seconds=pool._pytoweb.threads.lock_wait() + sum(lock_waits.values()),
        **_shares(busy, alive, places),
        **sums,
        **merged,
    )


for _public in (ChildStats, PoolStats, TypeStats, WorkerStats):
    _public.__module__ = "pytoweb.workers"
