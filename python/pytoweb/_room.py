"""Coroutines that wait for room in a mailbox, first come, first served.

A free place wakes one of them, so that a thousand that wait cost no more each than ten.
"""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import TypeVar

    from pytoweb._worker import Addressable

    R = TypeVar("R")

__all__ = ["Line", "line_of"]

#: One lock for all: it is held for a few operations on a deque, and a lock each would cost every worker.
#: Reentrant, because the collector may run a worker's `__del__` anywhere.
_lock = threading.RLock()


def line_of(endpoint: Addressable, with_id: bool) -> Line:
    """The line before the mailbox of ``endpoint``; ``with_id``: for messages with an id."""
    own = endpoint._pytoweb
    with _lock:
        if with_id:
            if own.line_with_ids is None:
                own.line_with_ids = Line(True)
            return own.line_with_ids
        if own.line is None:
            own.line = Line(False)
        return own.line


class Line:
    """The coroutines that wait for room in one mailbox. True while there are some."""

    __slots__ = ("_places", "_watching", "_with_id")

    def __init__(self, with_id: bool) -> None:
        self._with_id = with_id
        self._places: deque[asyncio.Future[None]] = deque()
        self._watching = False

    def __bool__(self) -> bool:
        return bool(self._places)

    async def wait(
        self, endpoint: Addressable, attempt: Callable[[float | None], R | None], timeout: float | None
    ) -> R:
        """What ``attempt(seconds left)`` returns, called when it is this coroutine's turn and there is room.

        Raises:
            MailboxFullError: no room came within ``timeout``.
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
                result = attempt(None if end is None else max(0.0, end - loop.time()))
                if result is not None:
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
        endpoint._pytoweb_on_room(self._room_came, self._with_id)

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
