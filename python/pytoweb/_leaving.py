"""What the end of a block or of the program waits for: said once, when it takes long.

After Ctrl-C, a second of silence looks like a program that did not hear it; and an open stream that no code
reads never ends. The thread that waits says so itself.
"""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token
    from typing import Any

__all__ = ["Leaving", "everything_of", "leaving_block", "wait_for_end"]

SOON = 1.0
"""Seconds of a wait that pass without a word after Ctrl-C, and where a stream is open."""

STILL = 5.0
"""The same at the end of a program that was not interrupted, if no message ends meanwhile: to finish what is
queued is what such an end is for, and no news as long as it goes on."""

_MOST_NAMED = 5

_leaving: ContextVar[Leaving | None] = ContextVar("pytoweb_leaving", default=None)


class Leaving:
    """One end that waits for workers, in the context that it is entered in.

    Args:
        what: what comes after the wait: ``"the program ends"``.
        endpoints: returns the workers and pools that are waited for.
        interrupted: Ctrl-C was pressed before.
        breaks: the thread that waits is the one that Ctrl-C interrupts.
        ends_program: it is the end of the program.
    """

    __slots__ = ("_breaks", "_endpoints", "_ends_program", "_interrupted", "_is_told", "_token", "_what")

    def __init__(
        self,
        what: str,
        endpoints: Callable[[], Iterable[Any]],
        *,
        interrupted: bool = False,
        breaks: bool = False,
        ends_program: bool = False,
    ) -> None:
        self._what = what
        self._endpoints = endpoints
        self._interrupted = interrupted
        self._breaks = breaks
        self._ends_program = ends_program
        self._is_told = False
        self._token: Token[Leaving | None] | None = None

    def __enter__(self) -> Leaving:
        self._token = _leaving.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._token is not None:
            _leaving.reset(self._token)

    def wait_for(self, endpoint: Any) -> bool | None:
        """Waits for the end of a closed worker or pool; None where that could never come."""
        step, before = SOON, None
        while not self._is_told:
            ended: bool | None = endpoint._pytoweb_wait_ended(step)
            if ended is not False:
                return ended
            left = self._left()
            streams = _open_streams({endpoint._pytoweb.name for endpoint in left})
            over = sum(_ended(endpoint) for endpoint in left)
            if self._interrupted or streams or (self._ends_program and over == before):
                self._tell(left, streams)
            elif not self._ends_program:
                break
            step, before = STILL, over
        last: bool | None = endpoint._pytoweb_wait_ended(None)
        return last

    def _left(self) -> list[Any]:
        return [one for one in self._endpoints() if one._pytoweb_state() != "stopped"]

    def _tell(self, left: list[Any], streams: int) -> None:
        self._is_told = True
        if not left:
            return
        import logging

        named = ", ".join(map(_described, left[:_MOST_NAMED])) + (", ..." if len(left) > _MOST_NAMED else "")
        text = f"{self._what} once {named} {'has' if len(left) == 1 else 'have'} ended"
        if streams:
            text += f"; open streams: {streams}, each to be read to its end or closed with close()"
        if self._breaks:
            press = "a second Ctrl-C" if self._interrupted else "Ctrl-C"
            text += f"; {press} ends the wait at once, and what is queued is not handled"
        logging.getLogger(f"pytoweb.worker.{left[0]._pytoweb.name}").warning(text)


def leaving_block(owner: Any, kind: type[BaseException] | None, *, is_async: bool = False) -> Leaving:
    """The end of the ``with`` block of a worker or a pool, which an exception of that kind may have left."""
    interrupted = kind is not None and (
        issubclass(kind, KeyboardInterrupt) or (is_async and kind.__name__ == "CancelledError")
    )
    breaks = False
    if not is_async and threading.current_thread() is threading.main_thread():
        import signal

        # A program's own handler does what it does.
        breaks = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return Leaving("the block is left", lambda: everything_of(owner), interrupted=interrupted, breaks=breaks)


def everything_of(owner: Any) -> Iterable[Any]:
    """A worker; or a pool and its workers."""
    return (owner,) if owner._pytoweb_is_worker else (owner, *owner.workers.values())


def wait_for_end(endpoint: Any) -> bool | None:
    """Waits for the end of a closed worker or pool, however long; None where that could never come."""
    leaving = _leaving.get() or Leaving("this wait ends", lambda: (endpoint,))
    return leaving.wait_for(endpoint)


def _described(endpoint: Any) -> str:
    which = "worker" if endpoint._pytoweb_is_worker else "pool"
    return f"{which} {endpoint._pytoweb.name!r} ({endpoint._pytoweb_busy_text()})"


def _ended(endpoint: Any) -> int:
    """Messages that have ended."""
    stats: dict[str, int] = endpoint._pytoweb_stats()
    return stats["posted"] - stats["depth"] - stats["running"]


def _open_streams(names: set[str]) -> int:
    """Streams of these workers that are not read to their end."""
    streams = sys.modules.get("pytoweb._worker_stream")
    return 0 if streams is None else streams.open_of(names)
