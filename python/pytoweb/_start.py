"""``WorkerPool.start``: all threads or child processes of a pool at once, ready for the first message."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout

from pytoweb._worker import PythonWorker
from pytoweb.errors import DeadlineError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytoweb._pool import WorkerPool
    from pytoweb.futures import WorkerFuture

__all__ = ["start_all"]

#: Pools take turns: the threads of one that is started twice at the same time would wait for each other.
_turn = threading.Lock()


def start_all(pool: WorkerPool, timeout: float | None) -> None:
    """Returns when every thread, or child, of ``pool`` has done something; see ``WorkerPool.start``."""
    if pool._pytoweb.shut_down:
        raise pool._pytoweb_stopped()
    end = None if timeout is None else time.monotonic() + timeout
    if not _turn.acquire(timeout=-1 if timeout is None else timeout):
        raise _late(pool, timeout)
    # On threads each call waits for the others, so that each needs a thread of its own.
    met = threading.Barrier(pool.size)
    call, args = (os.getpid, ()) if pool.backend == "process" else (_meet, (met,))
    try:
        futures = [_call_at(pool, place, call, args) for place in range(pool.size)]
        try:
            for future in futures:
                future.result(None if end is None else max(0.0, end - time.monotonic()))
        except FutureTimeout:
            raise _late(pool, timeout) from None
        finally:
            met.abort()
    finally:
        _turn.release()


def _call_at(
    pool: WorkerPool, place: int, call: Callable[..., object], args: tuple[Any, ...]
) -> WorkerFuture[object]:
    # Not through the pool's own mailbox, which may be full, and gives a child more than one.
    starter = PythonWorker(pool.name, backend=pool.backend, _pool=pool, _place=place)
    starter.start()
    future = starter._pytoweb_call(call, args, None, False)
    starter._pytoweb_close("drain")
    return future


def _late(pool: WorkerPool, timeout: float | None) -> DeadlineError:
    return DeadlineError(f"pool {pool.name!r} is not ready after {timeout} s; it goes on starting")


def _meet(met: threading.Barrier) -> None:
    try:
        met.wait()
    except threading.BrokenBarrierError:
        return
