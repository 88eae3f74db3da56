"""Everything that can go wrong with a worker, in one tree.

``WorkerError`` is the root. Where the standard library has a class for the same thing, ours is one of those
too, so code written for ``concurrent.futures`` keeps working.
"""

from __future__ import annotations

import sys

# The class of `pickle`, whose import takes longer.
from _pickle import PicklingError
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AskCycleError",
    "DeadlineError",
    "ForkedProcessError",
    "HandlerError",
    "MailboxFullError",
    "MessageTooLargeError",
    "OverloadedError",
    "SerializationError",
    "ThreadLimitError",
    "UnknownMessageError",
    "WorkerCrashedError",
    "WorkerError",
    "WorkerStoppedError",
]


class WorkerError(Exception):
    """The root of the errors that workers raise themselves; a handler's own exceptions stay what they are."""


class MailboxFullError(WorkerError):
    """There was no room in a mailbox: the post was refused, or the overflow policy dropped the message.

    Post fewer messages, wait for replies, or choose another ``capacity`` or ``overflow``.
    """


class MessageTooLargeError(MailboxFullError, ValueError):
    """A message has more bytes than all messages of its worker may have: it never fits. Send it in parts."""


class OverloadedError(MailboxFullError):
    """A worker with ``Limits(shed=...)`` takes no messages: those that are queued have waited too long."""


class WorkerStoppedError(WorkerError, RuntimeError):
    """The worker or pool is stopped, or stopped before it handled the message. Make a new one to go on."""


class UnknownMessageError(WorkerError):
    """No handler is registered for the message's type."""


if sys.version_info >= (3, 11):

    class DeadlineError(WorkerError, TimeoutError):
        """A deadline passed: a message's own, queued or running, or that of ``stop(timeout=...)``."""

else:  # Older ones have two classes of that name.

    class DeadlineError(WorkerError, TimeoutError, FutureTimeoutError):
        """A deadline passed: a message's own, queued or running, or that of ``stop(timeout=...)``."""


class WorkerCrashedError(WorkerError, BrokenExecutor):
    """What should have run the message is gone, or never came up (a pool whose ``initializer`` failed).

    That of a process is a ``concurrent.futures.process.BrokenProcessPool`` too, that of a pool of threads a
    ``concurrent.futures.thread.BrokenThreadPool``.

    Attributes:
        exitcode: the process's exit code, or None.
        signal: the number of the signal that ended it, or None.
    """

    def __init__(self, message: str = "", *, exitcode: int | None = None, signal: int | None = None) -> None:
        """Takes the text, and what is known of the process that ended."""
        super().__init__(message)
        self.exitcode = exitcode
        self.signal = signal


class HandlerError(WorkerError):
    """A handler failed with an exception that cannot be brought over as it is; carries its name and text."""


class SerializationError(WorkerError, PicklingError):
    """A payload cannot be sent to where the worker runs, or cannot be read there."""


class AskCycleError(WorkerError):
    """Workers wait for each other's replies in a circle, so none would ever come.

    Attributes:
        cycle: the names, each waiting for the next and the last for the first.
    """

    cycle: tuple[str, ...] = ()


class ThreadLimitError(WorkerError, RuntimeError):
    """As many handlers of a pool wait as it may have threads beyond its size, so one more must not.

    Post without waiting, recurse less deeply, await in ``async def`` functions, which cost no threads, or
    make the pool with a larger ``max_spare_threads``.
    """


class ForkedProcessError(WorkerError):
    """The handle is the parent process's; after ``os.fork()`` make a new worker or pool in the child."""


def _process_crashed_error() -> type[WorkerCrashedError]:
    from concurrent.futures.process import BrokenProcessPool

    class ProcessCrashedError(WorkerCrashedError, BrokenProcessPool):
        """The process that should have run the message is gone, or never came up."""

    return ProcessCrashedError


def _threads_broken_error() -> type[WorkerCrashedError]:
    from concurrent.futures.thread import BrokenThreadPool

    class ThreadsBrokenError(WorkerCrashedError, BrokenThreadPool):
        """The initializer of a pool of threads failed."""

    return ThreadsBrokenError


#: Classes that are made when the first of their kind is raised, because their bases take long to import.
_LATER = {"ProcessCrashedError": _process_crashed_error, "ThreadsBrokenError": _threads_broken_error}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _LATER[name]()
    # Pickles name it so.
    made.__qualname__ = name
    return globals().setdefault(name, made)


def crashed_error(name: str) -> type[WorkerCrashedError]:
    """The class of that name in ``_LATER``, or ``WorkerCrashedError`` where it cannot be made.

    The program may be at its end, when ``concurrent.futures.process`` refuses to be imported.
    """
    try:
        made: type[WorkerCrashedError] = getattr(sys.modules[__name__], name)
    except Exception:
        return WorkerCrashedError
    return made
