"""Tools for the tests of programs that use workers. They need no test framework.

    with no_leaks():
        with PythonWorker("thumbnails") as worker:
            worker.on_message("image", make_thumbnail)
            worker.post_message("image", path)
            wait_until_idle(worker)

With pytest there is the fixture ``worker_pool`` as well: a ``WorkerPool`` of two threads that ends with the
test. Import it into the ``conftest.py`` or the test module that uses it; this module itself imports no
pytest.

    from pytoweb.testing import worker_pool
"""

from __future__ import annotations

import contextlib
import importlib
import time
import weakref

from pytoweb import _exit, _pool
from pytoweb._core import checked_timeout
from pytoweb.errors import DeadlineError
from pytoweb.workers import PythonWorker, WorkerPool

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pytoweb._core import Threads
    from pytoweb._runtime import PoolRuntime

    worker_pool: object

__all__ = ["no_leaks", "wait_until_idle"]

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


@contextlib.contextmanager
def no_leaks(*, timeout: float = LEAK_TIMEOUT) -> Iterator[None]:
    """Checks that the threads of all workers and pools made inside the block end with it.

    Those that were told to end (``terminate()``, ``shutdown(wait=False)``) are waited for. Those made
    before the block are not looked at, nor is ``default_pool()``, which is meant to outlive a test. If the
    block raises, nothing is checked.

    Args:
        timeout: seconds to wait at most, for all of them together.

    Raises:
        AssertionError: threads are left; names the workers and pools they belong to.
    """
    # Weak, so that the block may also test how a worker is collected.
    roots_before = weakref.WeakSet(list(_exit._roots))
    orphans_before = set(_exit._orphans)
    limit = checked_timeout(timeout)
    yield
    end = time.monotonic() + (IDLE_TIMEOUT if limit is None else limit)
    left = []
    roots: list[Any] = [root for root in list(_exit._roots) if root not in roots_before]
    for root in roots:
        closed = (
            root._pytoweb.shut_down
            if isinstance(root, WorkerPool)
            else root.state in ("stopping", "stopped", "failed")
        )
        shared = any(root is pool for pool, _ in _pool._defaults.values())
        if not shared and not _ended(root._pytoweb.runtime, root._pytoweb.threads, end if closed else 0.0):
            left.append(repr(root))
    for runtime, threads in list(_exit._orphans.items()):
        if runtime not in orphans_before and not _ended(runtime, threads, end):
            left.append(f"{runtime.name}, which was collected with work to do")
    if left:
        raise AssertionError(f"left running: {'; '.join(left)}")


def _ended(runtime: PoolRuntime, threads: Threads, end: float) -> bool:
    """Waits until ``end``, on the monotonic clock, for the engine threads and those beside them."""
    beside = [helper._thread for helper in (runtime._loop, runtime._replies) if helper is not None]
    if not beside and threads.count() == 0 and not runtime.has_processes():
        return True
    if not runtime.ended.wait(max(0.0, end - time.monotonic())):
        return False
    # They are past their last message, so this is short.
    threads.join()
    for thread in beside:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in beside):
        return False
    # Child processes that do not end in time are killed.
    runtime.join()
    return True


def _worker_pool() -> Iterator[WorkerPool]:
    """A pool of two threads, shut down after the test; no worker made meanwhile may be left running."""
    with no_leaks():
        pool = WorkerPool(2)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def __getattr__(name: str) -> object:
    if name != "worker_pool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not an import statement: type checkers would want a pytest that fits the oldest Python.
    return globals().setdefault(name, importlib.import_module("pytest").fixture(name=name)(_worker_pool))
