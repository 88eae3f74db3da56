"""The tools of ``pytoweb.testing``, apart from it because a test run imports that for its plugin."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref

from pytoweb import _clocks, _exit, _pool
from pytoweb._core import checked_timeout
from pytoweb.errors import DeadlineError
from pytoweb.workers import PythonWorker, WorkerPool

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pytoweb._core import Threads
    from pytoweb._runtime import PoolRuntime

__all__ = ["LEAK_TIMEOUT", "FrozenClock", "Watch", "frozen_clock", "no_leaks", "wait_until_idle"]

IDLE_TIMEOUT = 10.0
"""Seconds: far more than a handler in a test takes, far less than a test run is given."""

LEAK_TIMEOUT = 5.0
"""Seconds that a worker gets that was told to end: for the handler that runs, not for its queue."""


def wait_until_idle(*addresses: PythonWorker | WorkerPool, timeout: float | None = IDLE_TIMEOUT) -> None:
    """Blocks until nothing is queued and nothing runs in any of them, also if they post to each other.

    A pool stands for its own mailbox and its started workers. A worker that was not started is idle while it
    has no messages. Replies may still be on their way to ``response`` and ``error`` handlers.

    Args:
        *addresses: workers and pools, all those that post to each other in one call.
        timeout: seconds for all of them together, None for as long as it takes.

    Raises:
        DeadlineError: ``timeout`` passed first.
        AskCycleError: called by a handler that it would wait for.
        TypeError: ``timeout`` is not a number.
        ValueError: ``timeout`` is negative or NaN.
    """
    timeout = checked_timeout(timeout)
    end = None if timeout is None else time.monotonic() + timeout
    before = None
    while True:
        for address in addresses:
            address.run_until_idle(None if end is None else max(0.0, end - time.monotonic()))
        now = [_load(address) for address in addresses]
        # One that was idle may have been given work by another one since. Nothing open and the same counts in
        # two rounds leave no room for that: between them there was a moment at which all were idle.
        if now == before and not any(still_open for _, still_open in now):
            return
        if before is not None and end is not None and time.monotonic() > end:
            raise DeadlineError(f"still posting to each other after {timeout:g} s: {addresses}")
        before = now


def _load(address: PythonWorker | WorkerPool) -> tuple[int, int]:
    """How many messages were posted so far, and how many of them are queued or running."""
    if isinstance(address, WorkerPool):
        pool = address.stats()
        parts = [pool.own, *(worker for worker in pool.workers.values() if worker.state != "new")]
    else:
        parts = [address.stats()]
    return sum(part.posted for part in parts), sum(part.depth + part.running for part in parts)


class Watch:
    """Looks for workers and pools that were made since it was, and still run."""

    def __init__(self) -> None:
        # Weak, so that the block may also test how a worker is collected.
        self._roots_before = weakref.WeakSet(list(_exit._roots))
        self._orphans_before = set(_exit._orphans)

    def left(self, timeout: float | None) -> list[tuple[Any, str]]:
        """Waits for those that were told to end; each that is left, and how a failure names it.

        None stands for one that was collected.
        """
        end = time.monotonic() + (IDLE_TIMEOUT if timeout is None else timeout)
        left: list[tuple[Any, str]] = []
        roots: list[Any] = [root for root in list(_exit._roots) if root not in self._roots_before]
        for root in roots:
            own = root._pytoweb
            closed = (
                own.shut_down
                if isinstance(root, WorkerPool)
                else root.state in ("stopping", "stopped", "failed")
            )
            shared = any(root is pool for pool, _ in _pool._defaults.values())
            if not shared and not _ended(own.runtime, own.threads, end if closed else 0.0):
                left.append((root, f"{root!r}{_remains(own.runtime)}"))
        for runtime, threads in list(_exit._orphans.items()):
            if runtime not in self._orphans_before and not _ended(runtime, threads, end):
                text = f"{runtime.name}, which was collected with work to do{_remains(runtime)}"
                left.append((None, text))
        return left


def _remains(runtime: PoolRuntime) -> str:
    """Names the threads and child processes of a pool."""
    prefix = f"{runtime.name}-"
    # A thread that runs a reply handler is shared, and has the name of the owner behind its own.
    suffix = f" ({runtime.given_name})"
    names = sorted(
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(prefix) or thread.name.endswith(suffix)
    )
    parts = [f"threads: {', '.join(names)}"] if names else []
    pids = ", ".join(map(str, runtime.pids()))
    if pids:
        parts.append(f"child processes: {pids}")
    return f" ({'; '.join(parts)})" if parts else ""


@contextlib.contextmanager
def no_leaks(*, timeout: float = LEAK_TIMEOUT) -> Iterator[None]:
    """Checks that the threads of all workers and pools made inside the block end with it.

    Those that were told to end (``terminate()``, ``shutdown(wait=False)``) are waited for. Those made
    before the block are not looked at, nor is ``default_pool()``, which is meant to outlive a test. If the
    block raises, nothing is checked.

    Args:
        timeout: seconds to wait at most, for all of them together.

    Raises:
        AssertionError: threads are left; names them, and the workers and pools they belong to.
    """
    limit = checked_timeout(timeout)
    watch = Watch()
    yield
    left = watch.left(limit)
    if left:
        raise AssertionError(f"left running: {'; '.join(text for _, text in left)}")


class FrozenClock:
    """What ``frozen_clock`` gives: the time of the workers and pools made meanwhile."""

    def __init__(self, time: _clocks.FrozenTime) -> None:
        self._time = time

    def now(self) -> float:
        """Seconds since the clock was frozen."""
        return self._time.clock.now()

    def advance(self, seconds: float) -> None:
        """Moves the clock forward, in one step.

        All that is due by then is done before this returns: deadlines have passed, delayed messages take
        their turn, timers have posted. Handlers run on their own threads as ever: ``wait_until_idle`` waits
        for them.

        Args:
            seconds: how far, from 0 on.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is negative or not finite.
        """
        by = checked_timeout(seconds, "seconds")
        if by is None:
            raise ValueError(f"seconds must be a finite number of seconds, not {seconds!r}")
        self._time.clock.advance(by)
        self._time.tell()


@contextlib.contextmanager
def frozen_clock() -> Iterator[FrozenClock]:
    """Stops the time of workers and pools that are made inside the block, until the block moves it.

    It is the time of ``timeout=`` of a message, ``delay=``, ``at=``, rates, ``every`` and ``stats()``. Waits
    of threads and coroutines (``result(timeout)``, ``stop(timeout=)``, for room), ``soft_timeout`` and all
    that happens in child processes keep real time. Workers that were made before keep their clock; those made
    inside go on in real time after the block.

    Yields:
        The clock.
    """
    frozen = _clocks.FrozenTime()
    before = _clocks.use(frozen)
    try:
        yield FrozenClock(frozen)
    finally:
        _clocks.use(before)
        frozen.clock.thaw()
        frozen.tell()


def _ended(runtime: PoolRuntime, threads: Threads, end: float) -> bool:
    """Waits until ``end``, on the monotonic clock, for the engine threads and those beside them."""
    beside = [helper for helper in (runtime._loop, runtime._replies) if helper is not None]
    if not beside and threads.count() == 0 and not runtime.has_processes():
        return True
    if not runtime.ended.wait(max(0.0, end - time.monotonic())):
        return False
    # They are past their last message, so this is short.
    threads.join()
    if not all([helper.join(max(0.0, end - time.monotonic())) for helper in beside]):
        return False
    # Child processes that do not end in time are killed.
    runtime.join()
    return True


for _public in (wait_until_idle, no_leaks, frozen_clock, FrozenClock):
    _public.__module__ = "pytoweb.testing"
