"""asyncio: completions brought to an event loop in batches, and where a coroutine's handler is.

Nothing here imports asyncio before a caller uses it: the import alone costs more than ours.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from contextvars import ContextVar

from pytoweb._core import write_unraisable
from pytoweb._imported import imported

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pytoweb._core import Endpoint, Pending, WorkerMessage
    from pytoweb._loops import Tenant

    T = TypeVar("T")


class RunningCoroutine:
    """The message of the ``async def`` handler that runs in a context, its worker, and its part in a loop.

    Tasks that the handler started have copies of its context and may outlive the message. They would keep its
    data, so it is taken out at the handler's end.
    """

    __slots__ = ("message", "owner", "pending", "tenant")

    def __init__(
        self, message: WorkerMessage | None, owner: weakref.ref[Endpoint], tenant: Tenant | None = None
    ) -> None:
        self.message = message
        self.owner: weakref.ref[Endpoint] | None = owner
        #: Stays, because the tasks that the handler started are this one's until they end.
        self.tenant = tenant
        #: Of a handler; a hook has none.
        self.pending: Pending | None = None

    def end(self) -> None:
        """The handler is through."""
        self.message = None
        self.owner = None
        self.pending = None


running: ContextVar[RunningCoroutine | None] = ContextVar("pytoweb_running", default=None)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs on this thread, if any."""
    asyncio = imported("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def running_owner() -> Endpoint | None:
    """The worker or pool whose ``async def`` handler runs in this context, if it still exists."""
    current = running.get()
    owner = None if current is None else current.owner
    return None if owner is None else owner()


def running_message() -> WorkerMessage | None:
    """The message whose ``async def`` handler runs in this context."""
    current = running.get()
    return None if current is None else current.message


def running_handler() -> tuple[Endpoint, WorkerMessage | None] | None:
    """Both, for a wait: which worker or pool waits, and which of the messages that a pool runs at once."""
    owner = running_owner()
    return None if owner is None else (owner, running_message())


def in_event_loop() -> bool:
    """Whether blocking this thread would block an event loop."""
    return running_loop() is not None


#: The threads in a call of which they were warned: the waits within it are no news.
_warned: set[int] = set()


def warn_of_blocking(call: str, instead: str, stacklevel: int = 3) -> None:
    """Warns of a call that blocks the event loop of this thread, in asyncio's debug mode."""
    loop = running_loop()
    if loop is not None and loop.get_debug() and threading.get_ident() not in _warned:
        import warnings

        warnings.warn(f"{call} blocks the event loop: {instead}", RuntimeWarning, stacklevel=stacklevel)


def call_blocking(function: Callable[[], None], call: str, instead: str) -> None:
    """Calls ``function`` for a method: warns of ``call`` where that was called, and of no wait within it."""
    warn_of_blocking(call, instead, 4)
    own = threading.get_ident()
    if own in _warned:
        function()
        return
    _warned.add(own)
    try:
        function()
    finally:
        _warned.discard(own)


async def in_thread(function: Callable[..., T], /, **options: Any) -> T:
    """Waits for ``function(**options)``, which blocks, on a thread of the event loop.

    Not here, because replies and handlers may need this event loop before the function can return. In a copy
    of this context, by which that thread knows the handler that waits.
    """
    import asyncio
    from contextvars import copy_context
    from functools import partial

    call = partial(copy_context().run, partial(function, **options))
    return await asyncio.get_running_loop().run_in_executor(None, call)


class Bridge:
    """Calls functions on an event loop from any thread, in order, with one wake-up for all that are waiting.

    A wake-up of an event loop costs several microseconds (it writes to a socket), a deque's append a few tens
    of nanoseconds.
    """

    __slots__ = ("__weakref__", "_call_soon_threadsafe", "_calls", "_lock", "_scheduled", "is_closed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon_threadsafe = loop.call_soon_threadsafe
        #: Whether the loop is closed: nothing will be called any more.
        self.is_closed = loop.is_closed
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
        return self._schedule()

    def _schedule(self) -> bool:
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
            if not calls:
                # A function has run the loop again, and with it what was left.
                return
            function, args = calls.popleft()
            try:
                function(*args)
            except Exception as error:
                write_unraisable(error, function)
            except BaseException:
                # Ctrl-C ends the run of the loop; the others have their turn when it runs again.
                self._go_on()
                raise

    def _go_on(self) -> None:
        with self._lock:
            if self._scheduled or not self._calls:
                return
            self._scheduled = True
        self._schedule()


_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Bridge] = weakref.WeakKeyDictionary()


def bridge_to(loop: asyncio.AbstractEventLoop) -> Bridge:
    """The bridge to ``loop``; one for each."""
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = _bridges.setdefault(loop, Bridge(loop))
    return bridge
