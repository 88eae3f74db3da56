"""One message for many workers of a pool: all that handle its type, or those that subscribed to a topic."""

from __future__ import annotations

import time

from pytoweb import _aio
from pytoweb._checks import checked_text
from pytoweb._core import Parked, check_wishes, checked_timeout
from pytoweb._limits import wished
from pytoweb._replies import ERROR, RESPONSE
from pytoweb._room import PostWaiter
from pytoweb.errors import MailboxFullError, WorkerCrashedError, WorkerStoppedError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable

    from pytoweb._internals import PoolInternals
    from pytoweb._limits import Wishes
    from pytoweb._pool import WorkerPool
    from pytoweb._worker import PythonWorker

__all__ = ["Many", "forget", "handling", "subscribe", "subscribers", "unsubscribe"]

#: A worker that refuses so keeps no other one from its message.
_REFUSED = (MailboxFullError, WorkerStoppedError, WorkerCrashedError)

_NO_ROOM = "no room came in time; allow more time, or post less"
_WOULD_BLOCK = (
    "waiting for room would block the event loop that runs here: use `await pool.abroadcast(...)` or "
    "`await pool.apublish(...)`"
)
_WOULD_DEADLOCK = "waiting would deadlock, because the caller is this worker's own handler"


def _checked_topic(topic: object, what: str) -> str:
    topic = checked_text(topic, what)
    if topic in (RESPONSE, ERROR):
        raise ValueError(
            f"{what} cannot be {topic!r}, which is the owner's side of a reply and is not posted"
        )
    return topic


def _pool_of(worker: PythonWorker, call: str) -> WorkerPool:
    pool = worker.pool
    if pool is None:
        raise RuntimeError(
            f"{call}: worker {worker.name!r} belongs to no pool, and topics are published by a pool; make it "
            "with WorkerPool.create_worker"
        )
    return pool


def subscribe(worker: PythonWorker, topic: str) -> None:
    """Has ``publish`` of its pool post messages of a topic to ``worker``."""
    topic = _checked_topic(topic, "a topic")
    own = _pool_of(worker, "subscribe()")._pytoweb
    with own.lock:
        if _has_ended(worker):
            raise worker._pytoweb_too_late("subscribe()")
        worker._pytoweb.topics |= {topic}
        own.subscribers.setdefault(topic, {})[worker.name] = None


def unsubscribe(worker: PythonWorker, topic: str) -> None:
    """Takes that back."""
    topic = _checked_topic(topic, "a topic")
    own = _pool_of(worker, "unsubscribe()")._pytoweb
    with own.lock:
        worker._pytoweb.topics -= {topic}
        if own.workers.get(worker.name) is worker:
            _drop(own, topic, worker.name)


def forget(worker: PythonWorker, own: PoolInternals) -> None:
    """The pool whose internals are ``own``, and whose lock the caller holds, lets go of ``worker``."""
    for topic in worker._pytoweb.topics:
        _drop(own, topic, worker.name)
    worker._pytoweb.topics = frozenset()


def _drop(own: PoolInternals, topic: str, name: str) -> None:
    names = own.subscribers.get(topic, {})
    names.pop(name, None)
    if not names:
        own.subscribers.pop(topic, None)


def _has_ended(worker: PythonWorker) -> bool:
    return worker._pytoweb_state() in ("stopping", "stopped")


def subscribers(pool: WorkerPool, topic: object) -> tuple[str, list[PythonWorker]]:
    """The topic, checked, and who gets its messages, in the order of their subscriptions."""
    topic = _checked_topic(topic, "a topic")
    own = pool._pytoweb
    with own.lock:
        found = [own.workers[name] for name in own.subscribers.get(topic, ())]
        for worker in found:
            if _has_ended(worker):
                forget(worker, own)
    return topic, found


def handling(pool: WorkerPool, message_type: object) -> tuple[str, list[PythonWorker]]:
    """The type, checked, and the workers that have a handler for it."""
    message_type = _checked_topic(message_type, "a message type")
    workers = pool.workers.values()
    return message_type, [worker for worker in workers if message_type in worker._pytoweb.handlers]


class Many:
    """A message on its way to many workers: posted at once, and parked where there is no room."""

    def __init__(
        self,
        pool: WorkerPool,
        found: Callable[[WorkerPool, object], tuple[str, list[PythonWorker]]],
        topic: object,
        data: object,
        *,
        timeout: float | None,
        priority: int | None,
        key: str | int | bytes | None,
    ) -> None:
        wishes: Wishes | None = wished(priority, key, None, None, False)
        if wishes is not None:
            check_wishes(wishes)
        timeout = checked_timeout(timeout)
        message_type, workers = found(pool, topic)
        # A forked child has no part in it either.
        pool._pytoweb_is_idle()
        if pool._pytoweb.shut_down:
            raise pool._pytoweb_stopped()
        self._end = None if timeout is None else time.monotonic() + timeout
        #: How many have it.
        self.posted = 0
        self._parked: list[tuple[PythonWorker, Parked, PostWaiter]] = []
        for worker in workers:
            waiter = PostWaiter()
            try:
                result = worker._pytoweb_park_post(message_type, data, None, self._left(), waiter, wishes)
            except _REFUSED:
                continue
            if isinstance(result, Parked):
                self._parked.append((worker, result, waiter))
            else:
                self.posted += 1

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def wait(self) -> int:
        """Waits until the others have it, refuse it, or the time is over; returns how many have it."""
        blocks = _aio.in_event_loop()
        for _, parked, _ in self._parked:
            try:
                if blocks:
                    parked.outcome(_WOULD_BLOCK)
                else:
                    parked.wait(self._left())
                    parked.outcome(_NO_ROOM)
                self.posted += 1
            except _REFUSED:
                continue
        self._parked.clear()
        return self.posted

    async def await_room(self) -> int:
        """``wait`` for coroutines."""
        for worker, parked, waiter in self._parked:
            try:
                if _aio.running_owner() is worker:
                    parked.outcome(_WOULD_DEADLOCK)
                else:
                    await waiter.wait(parked, self._left())
                self.posted += 1
            except _REFUSED:
                continue
        self._parked.clear()
        return self.posted
