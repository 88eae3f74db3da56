"""``Retry`` and ``DeadLetter``: messages that are tried again when they fail, and that failed for good."""

from __future__ import annotations

import contextlib
import time
import weakref

from pytoweb._checks import MAX_ATTEMPTS, checked_count
from pytoweb._core import checked_timeout

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pytoweb._addressable import Addressable

__all__ = ["DEAD_LETTERS", "DeadLetter", "DeadLetters", "Retry"]

#: Dead letters that a worker keeps.
DEAD_LETTERS = 1_000


class Retry:
    """How often a message is tried, and after how long.

    After a failed attempt the message goes back into the queue for ``backoff`` seconds, then for twice as
    long each time, up to ``max_backoff``. Without a key other messages go past it meanwhile; with one it
    keeps its place before the others of that key. ``timeout`` is for all attempts together. A worker that
    stops makes no more of them: the message fails with what the last one raised.

    Args:
        attempts: how many there are at most, the first included.
        backoff: seconds before the second one.
        jitter: share, 0 to 1, by which each wait is longer or shorter, at random, so that messages that
            failed together do not come back together.
        max_backoff: seconds that a wait has at most.
        on: exception class, or classes, after which there is another attempt; others fail the message at
            once. A crash of the process that ran it is always tried again.

    Raises:
        TypeError: one of them is of a wrong type.
        ValueError: one of them is out of its range.
    """

    __slots__ = ("attempts", "backoff", "jitter", "max_backoff", "on")

    attempts: int
    backoff: float
    jitter: float
    max_backoff: float
    on: tuple[type[BaseException], ...]

    def __init__(
        self,
        attempts: int,
        backoff: float = 0.5,
        *,
        jitter: float = 0.1,
        max_backoff: float = 60.0,
        on: type[BaseException] | Sequence[type[BaseException]] = Exception,
    ) -> None:
        classes = (on,) if isinstance(on, type) else on
        if not isinstance(classes, (tuple, list)) or not all(_is_exception(kind) for kind in classes):
            raise TypeError(f"on must be an exception class, or a tuple of them, not {on!r}")
        if isinstance(jitter, bool) or not isinstance(jitter, (int, float)):
            raise TypeError(f"jitter must be a number from 0 to 1, not {type(jitter).__name__}")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {jitter}")
        values = {
            "attempts": checked_count(attempts, "attempts", most=MAX_ATTEMPTS),
            "backoff": _finite(backoff, "backoff"),
            "jitter": float(jitter),
            "max_backoff": _finite(max_backoff, "max_backoff"),
            "on": tuple(classes),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Retry does not change: make another one to set {name}")

    def __repr__(self) -> str:
        kinds = ", ".join(kind.__name__ for kind in self.on)
        on = f"({kinds},)" if len(self.on) == 1 else f"({kinds})"
        return (
            f"Retry({self.attempts}, {self.backoff:g}, jitter={self.jitter:g}, "
            f"max_backoff={self.max_backoff:g}, on={on})"
        )

    def _all(self) -> tuple[Any, ...]:
        return self.attempts, self.backoff, self.jitter, self.max_backoff, self.on

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Retry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return _retry, self._all()


def _retry(attempts: int, backoff: float, jitter: float, max_backoff: float, on: Any) -> Retry:
    """The retry of these values."""
    return Retry(attempts, backoff, jitter=jitter, max_backoff=max_backoff, on=on)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _finite(value: float, name: str) -> float:
    seconds = checked_timeout(value, name)
    if seconds is None:
        raise ValueError(f"{name} must be a finite number of seconds, not {value}")
    return seconds


class DeadLetter:
    """A message that has failed for good, although it was tried again, with what each attempt raised."""

    __slots__ = ("_reply", "_worker", "at", "data", "errors", "message_id", "message_type", "worker")

    def __init__(
        self,
        worker: Addressable,
        message_type: str,
        data: Any,
        message_id: str | None,
        errors: Sequence[BaseException],
        reply: bool = True,
    ) -> None:
        self._worker = weakref.ref(worker)
        self._reply = reply
        #: The name of the worker whose message it was.
        self.worker = worker._pytoweb.name
        self.message_type = message_type
        self.data = data
        self.message_id = message_id
        #: What each attempt raised, the last one last.
        self.errors = tuple(errors)
        #: When the last one failed, as ``time.time()``.
        self.at = time.time()

    def post_again(self) -> None:
        """Posts it to its worker once more, as a new message with the ``retry`` of its type.

        It leaves ``dead_letters()``, if it is still there. Each call posts it once.

        Raises:
            RuntimeError: its worker is gone.
            MailboxFullError: as for ``post_message``; it stays a dead letter then, as with other errors.
            WorkerStoppedError: its worker is stopped.
        """
        worker = self._worker()
        if worker is None:
            raise RuntimeError(f"the worker {self.worker!r} of this dead letter is gone")
        # Without an id it asks for none.
        reply = None if self._reply else False
        worker.post_message(self.message_type, self.data, self.message_id, reply=reply)
        with contextlib.suppress(ValueError):
            worker._pytoweb.dead_letters.letters.remove(self)

    def __repr__(self) -> str:
        return (
            f"<DeadLetter {self.message_type!r} of {self.worker!r}, attempts={len(self.errors)}, "
            f"last={self.errors[-1]!r}>"
        )


class DeadLetters:
    """The dead letters of one worker: the last ones, and what is told of each."""

    __slots__ = ("handler", "letters")

    def __init__(self) -> None:
        # A deque has 600 bytes before its first item, and most workers have none.
        self.letters: list[DeadLetter] = []
        self.handler: Callable[[DeadLetter], object] | None = None

    def add(self, letter: DeadLetter) -> None:
        """Keeps one, and tells the handler; called on the worker's thread."""
        self.letters.append(letter)
        del self.letters[:-DEAD_LETTERS]
        if self.handler is not None:
            self.handler(letter)


DeadLetter.__module__ = Retry.__module__ = "pytoweb.workers"
