"""asyncio: completions brought to an event loop in batches, and where a coroutine's handler is.

Nothing here imports asyncio before somebody uses it: the import alone costs more than ours.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from contextvars import ContextVar

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from typing import Any

    from pytoweb._core import Endpoint, WorkerMessage
    from pytoweb.futures import WorkerFuture

#: The message and the worker whose ``async def`` handler runs in this context.
running: ContextVar[tuple[WorkerMessage | None, weakref.ref[Endpoint]] | None] = ContextVar(
    "pytoweb_running", default=None
)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs on this thread, if any."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def in_event_loop() -> bool:
    """Whether blocking this thread would block an event loop."""
    return running_loop() is not None


class Bridge:
    """Calls functions on an event loop from any thread, in order, with one wake-up for all that are waiting.

    A wake-up of an event loop costs several microseconds (it writes to a socket), a deque's append a few tens
    of nanoseconds.
    """

    __slots__ = ("__weakref__", "_call_soon_threadsafe", "_calls", "_lock", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon_threadsafe = loop.call_soon_threadsafe
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._lock = threading.RLock()
        self._scheduled = False

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Has ``function(*args)`` called on the loop; False when the loop is closed."""
        self._calls.append((function, args))
        # Without the lock, a call added between the drain's last look and its flag would wait for the next
        # one. Reentrant, because the collector may run a worker's `__del__` anywhere.
        with self._lock:
            if self._scheduled:
                return True
            self._scheduled = True
        try:
            self._call_soon_threadsafe(self._drain)
        except RuntimeError:
            self._scheduled = False
            self._calls.clear()
            return False
        return True

    def _drain(self) -> None:
        calls = self._calls
        with self._lock:
            self._scheduled = False
            ready = len(calls)
        for _ in range(ready):
            function, args = calls.popleft()
            function(*args)


_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Bridge] = weakref.WeakKeyDictionary()


def bridge_to(loop: asyncio.AbstractEventLoop) -> Bridge:
    """The bridge to ``loop``; one for each."""
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = _bridges.setdefault(loop, Bridge(loop))
    return bridge


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def wait_for(future: WorkerFuture[Any]) -> Generator[Any, None, None]:
    """Waits on the running event loop until ``future`` is done; if it is cancelled, cancels the message."""
    loop = running_loop()
    if loop is None:
        raise RuntimeError(
            "await a WorkerFuture in a coroutine of a running event loop, or call its result()"
        )
    current = running.get()
    owner = current[1]() if current is not None else None
    # Held while waiting: it tells other workers that this one cannot answer before the reply is here.
    edge = None if owner is None else future._wait_edge(owner)
    waiter = loop.create_future()
    bridge = bridge_to(loop)
    future._on_done(lambda _: bridge.call(_settle, waiter))
    try:
        yield from waiter
    except BaseException:
        future.cancel()
        raise
    finally:
        del edge
