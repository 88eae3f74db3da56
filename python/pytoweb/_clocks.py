"""Which clock pools go by: the machine's, or one that a test moves (``pytoweb.testing.frozen_clock``)."""

from __future__ import annotations

import contextlib
import weakref

from pytoweb._core import HandClock, Threads
from pytoweb.errors import ForkedProcessError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from pytoweb._runtime import PoolRuntime

__all__ = ["FrozenTime", "make_threads", "use"]


class FrozenTime:
    """A clock that is moved by hand, and the threads that go by it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self._threads: weakref.WeakSet[Threads] = weakref.WeakSet()

    def add(self, threads: Threads) -> None:
        """Threads that were made with it."""
        self._threads.add(threads)

    def tell(self) -> None:
        """Has all that is due done, on this thread: the clock was moved."""
        for threads in list(self._threads):
            # In a forked child those of the parent.
            with contextlib.suppress(ForkedProcessError):
                threads.clock_moved()


#: What workers and pools that are made now go by; None is the machine's clock.
_current: FrozenTime | None = None


def use(time: FrozenTime | None) -> FrozenTime | None:
    """Has those that are made from now on go by ``time``; returns what they went by."""
    global _current
    before, _current = _current, time
    return before


def make_threads(size: int, name: str, runtime: PoolRuntime, max_spare_threads: int | None = None) -> Threads:
    """The engine threads of a worker or a pool."""
    time = _current
    if time is None:
        return Threads(size, name, runtime, max_spare_threads)
    threads = Threads(size, name, runtime, max_spare_threads, time.clock)
    time.add(threads)
    return threads
