"""How workers and pools have ended, and who is told."""

from __future__ import annotations

import logging
import threading

from pytoweb import _exit
from pytoweb._events import call_on_way
from pytoweb._lines import Line

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from pytoweb._events import Way
    from pytoweb._runtime import PoolRuntime

    Reason = Literal["stopped", "drained", "terminated", "crashed", "failed", "program ends"]


class Exit:
    """How a worker or pool has ended. It cannot be changed.

    Attributes:
        reason: ``"drained"``: it was stopped, and what was queued has been handled before. ``"stopped"``: it
            was stopped, and what was queued has failed, or it was never started. ``"terminated"``: it was
            abandoned. ``"program ends"``: one of these three, because the program ends. ``"crashed"``: it was
            stopped, and the last message that it ran has taken its process down. ``"failed"``: at its end
            its initializer had failed, or no process could be started for it.
        error: the exception behind ``"crashed"`` and ``"failed"``, else None.
    """

    __slots__ = ("error", "reason")

    reason: Reason
    error: BaseException | None

    def __init__(self, reason: Reason, error: BaseException | None = None) -> None:
        object.__setattr__(self, "reason", reason)
        object.__setattr__(self, "error", error)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Exit cannot be changed: {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Exit cannot be changed: {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not Exit:
            return NotImplemented
        return (self.reason, self.error) == (other.reason, other.error)

    def __hash__(self) -> int:
        return hash((self.reason, self.error))

    def __repr__(self) -> str:
        return f"Exit(reason={self.reason!r}, error={self.error!r})"


Exit.__module__ = "pytoweb.workers"

#: Of all exits. Reentrant, because the collector may run a worker's `__del__` anywhere.
_lock = threading.RLock()


def _unlock() -> None:
    global _lock
    _lock = threading.RLock()


_exit.unlock_after_fork(_unlock)


class Exits:
    """Who is told of the end of one worker or pool."""

    __slots__ = ("_exit", "_handlers", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._exit: Exit | None = None
        self._handlers: list[tuple[Callable[[Exit], object], Way]] = []

    def add(self, handler: Callable[[Exit], object], way: Way) -> None:
        """Has a handler told, at once where it has ended."""
        with _lock:
            if self._exit is None:
                self._handlers.append((handler, way))
                return
        self._tell(handler, way)

    def tell(self, reason: Reason, error: BaseException | None) -> None:
        """It has ended; again does nothing."""
        if _exit.ending and reason in ("drained", "stopped", "terminated"):
            reason = "program ends"
        with _lock:
            if self._exit is not None:
                return
            self._exit = Exit(reason, error)
            handlers, self._handlers = self._handlers, []
        for handler, way in handlers:
            self._tell(handler, way)

    def _tell(self, handler: Callable[[Exit], object], way: Way) -> None:
        call = call_on_way, handler, self._exit, self._log
        if hasattr(way, "join") and way.is_closed():
            # That of the worker has ended with it.
            line = Line(self._name)
            line.call(*call)
            line.close()
        else:
            way.call(*call)

    def _log(self, error: BaseException) -> None:
        logging.getLogger(f"pytoweb.worker.{self._name}").error(
            "an exit handler of worker %r raised", self._name, exc_info=error
        )

    def start_afresh(self, runtime: PoolRuntime) -> None:
        """In a forked child: the line is another one there."""
        self._handlers = [
            (handler, runtime if hasattr(way, "join") else way) for handler, way in self._handlers
        ]
