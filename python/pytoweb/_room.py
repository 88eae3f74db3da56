"""Coroutines that wait for a place: in the line of a mailbox, and in one of their own for replies."""

from __future__ import annotations

import threading
from collections import deque

from pytoweb._aio import bridge_to
from pytoweb._core import Parked

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from pytoweb._addressable import Addressable

__all__ = ["PostWaiter", "enter", "line_of"]

#: One lock for all: it is held for a few operations on a deque, and a lock each would cost every worker.
#: Reentrant, because the collector may run a worker's `__del__` anywhere.
_lock = threading.RLock()


class PostWaiter:
    """Wakes a coroutine whose post is in, or refused; called by the thread that made it so."""

    __slots__ = ("_is_settled", "_place")

    def __init__(self) -> None:
        self._is_settled = False
        self._place: asyncio.Future[None] | None = None

    def __call__(self) -> None:
        self._is_settled = True
        place = self._place
        if place is not None:
            # Where the loop is closed, the coroutine will never run; its message is in all the same.
            bridge_to(place.get_loop()).call(_wake, place)

    async def wait(self, parked: Parked, timeout: float | None) -> Any:
        """What became of the post: the future of an ask, or None.

        The thread that frees a place moves the message in, whatever this event loop does at that moment.

        Raises:
            MailboxFullError: no place was free within ``timeout``.
            WorkerStoppedError: the worker was stopped.
        """
        import asyncio

        place = asyncio.get_running_loop().create_future()
        self._place = place
        if self._is_settled:
            _wake(place)
        try:
            await asyncio.wait_for(place, timeout)
        except asyncio.TimeoutError:
            return parked.outcome(f"no room came within {timeout} s; allow more time, or post fewer")
        except BaseException:
            if not parked.withdraw():
                _cancel(parked)
            raise
        return parked.outcome("it was woken without a place")


async def enter(park: Callable[[float | None, PostWaiter], Any], timeout: float | None) -> Any:
    """What ``park(seconds left, waiter)`` gives once the message is in; False for want of a reply's place."""
    waiter = PostWaiter()
    result = park(timeout, waiter)
    return await waiter.wait(result, timeout) if type(result) is Parked else result


def _cancel(parked: Parked) -> None:
    """Cancels an ask whose coroutine was cancelled when it was in already."""
    try:
        future = parked.outcome("it was withdrawn")
    except Exception:
        return
    if future is not None:
        future.cancel()


def line_of(endpoint: Addressable) -> PlaceLine:
    """The line of those that wait for places for replies of ``endpoint``."""
    own = endpoint._pytoweb
    with _lock:
        if own.line is None:
            own.line = PlaceLine()
        return own.line


class PlaceLine:
    """The coroutines that wait for a place for the reply of a message with an id. True while there are some.

    A free place wakes one of them, so that a thousand that wait cost no more each than ten.
    """

    __slots__ = ("_places", "_watching")

    def __init__(self) -> None:
        self._places: deque[asyncio.Future[None]] = deque()
        self._watching = False

    def __bool__(self) -> bool:
        return bool(self._places)

    async def wait(
        self, endpoint: Addressable, attempt: Callable[[float | None], Any], timeout: float | None
    ) -> Any:
        """What ``await attempt(seconds left)`` gives, if not False, called when it is this coroutine's turn.

        Raises:
            MailboxFullError: no place was free within ``timeout``.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        place = loop.create_future()
        with _lock:
            self._places.append(place)
        try:
            while True:
                self._watch(endpoint)
                try:
                    await asyncio.wait_for(place, None if end is None else end - loop.time())
                except asyncio.TimeoutError:
                    endpoint._pytoweb_gave_up(
                        f"no room came within {timeout} s; allow more time, or post fewer"
                    )
                result = await attempt(None if end is None else max(0.0, end - loop.time()))
                if result is not False:
                    return result
                # A sender that does not stand in line took the place. This one stays the first.
                with _lock:
                    index = self._places.index(place)
                    place = self._places[index] = loop.create_future()
        finally:
            self._leave(place)
            self._watch(endpoint)

    def _watch(self, endpoint: Addressable) -> None:
        """Has the first in line woken when there is room."""
        with _lock:
            if self._watching or not self._places:
                return
            self._watching = True
        endpoint._pytoweb_on_reply_room(self._room_came)

    def _room_came(self) -> None:
        with _lock:
            self._watching = False
            first = self._places[0] if self._places else None
        if first is not None:
            try:
                first.get_loop().call_soon_threadsafe(_wake, first)
            except RuntimeError:
                # Its loop is closed, and the coroutine will never run.
                self._leave(first)
                self._room_came()

    def _leave(self, place: asyncio.Future[None]) -> None:
        with _lock:
            if place in self._places:
                self._places.remove(place)


def _wake(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)
