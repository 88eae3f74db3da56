"""``concurrent.futures.wait`` and ``as_completed`` in a handler.

They put an object into the list of waiters of each future, and then wait for its event. In a handler this is
an event that lends the handler's place in its pool while it waits, as ``result()`` does, and looks for
circles where all of the futures are waited for. Which other futures there are is not known, so a wait for the
first one finds no circle.
"""

from __future__ import annotations

import threading
import weakref

from pytoweb import _aio
from pytoweb._core import blocking, note_waits, running_owner

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb._core import FutureBase


def _is_in_handler() -> bool:
    return running_owner() is not None or _aio.running_owner() is not None


class HandlerEvent(threading.Event):
    """The event of a wait that began in a handler."""

    def __init__(self, waits_for_all: bool) -> None:
        super().__init__()
        self._waits_for_all = waits_for_all
        self._futures: list[FutureBase] = []

    def add(self, future: FutureBase | None) -> None:
        """One more future is waited for."""
        if self._waits_for_all and future is not None:
            self._futures.append(future)

    def wait(self, timeout: float | None = None) -> bool:
        """As any event, while another thread of the pool runs.

        Raises:
            AskCycleError: it could wait for ever.
            ThreadLimitError: as many handlers wait as the pool may have threads beyond its size.
        """
        futures, self._futures = self._futures, []
        if self.is_set():
            return True
        held = note_waits(futures)
        with blocking():
            ended = super().wait(timeout)
        del held
        return ended


class Waiters(list["Any"]):
    """The list of waiters of one future."""

    def __init__(self, future: FutureBase) -> None:
        super().__init__()
        # A strong one would make a circle with the future.
        self._future = weakref.ref(future)

    def append(self, waiter: Any) -> None:
        """Adds one, before it waits."""
        super().append(waiter)
        event = waiter.event
        if type(event) is threading.Event and _is_in_handler():
            # That of `wait(..., return_when=ALL_COMPLETED)`, of which this says whether it ends sooner.
            event = waiter.event = HandlerEvent(getattr(waiter, "stop_on_exception", True) is False)
        if isinstance(event, HandlerEvent):
            event.add(self._future())
