"""``WorkerTimer``: a message that is posted again and again.

The thread that watches the deadlines of the program calls at each time of the schedule; nothing of a timer
lies in the mailbox meanwhile, so a worker between two times is idle.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
import weakref

from pytoweb import _exit
from pytoweb._core import CallTimer, Repeated, checked_timeout
from pytoweb.errors import ForkedProcessError, MailboxFullError, WorkerCrashedError, WorkerStoppedError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from pytoweb._addressable import Addressable

__all__ = ["LEAST_SECONDS", "WorkerTimer", "begin_all", "renew_all"]

LEAST_SECONDS = 0.001
"""The shortest time between two messages: one thread serves the timers of the whole program."""

#: One lock for all timers, held for a few assignments. Reentrant, because the collector may run a worker's
#: `__del__` anywhere.
_lock = threading.RLock()


def _unlock() -> None:
    global _lock
    _lock = threading.RLock()


_exit.unlock_after_fork(_unlock)


def _checked_seconds(seconds: object) -> float:
    if seconds is None:
        raise TypeError("seconds must be a number, not NoneType")
    number = checked_timeout(seconds, "seconds")  # type: ignore[arg-type]
    if number is None:
        raise ValueError(f"seconds must be a finite number of seconds, not {seconds!r}")
    if number < LEAST_SECONDS:
        raise ValueError(f"seconds must be at least {LEAST_SECONDS}, not {seconds!r}")
    return number


class WorkerTimer:
    """A message that is posted every so many seconds; made by ``every`` of a worker or pool, never by hand.

    It goes on without a reference to it, until ``cancel()``, or the end of the worker.
    """

    __slots__ = (
        "__weakref__",
        "_call",
        "_context",
        "_data",
        "_is_cancelled",
        "_last",
        "_number",
        "_owner",
        "_posted",
        "_seconds",
        "_skipped",
        "_start",
        "_type",
    )

    def __init__(self, owner: Addressable, seconds: float, message_type: str, data: object) -> None:
        self._seconds = _checked_seconds(seconds)
        owner._pytoweb_check_message(message_type, data)
        self._owner = weakref.ref(owner)
        self._type = message_type
        self._data = data
        self._context = contextvars.copy_context()
        self._posted = self._skipped = 0
        self._is_cancelled = False
        self._reset()
        own = owner._pytoweb
        with _lock:
            if owner._pytoweb_state() in ("stopping", "stopped") or getattr(own, "shut_down", False):
                raise owner._pytoweb_too_late("every()")
            own.timers = (*own.timers, self)
        if owner._pytoweb_state() != "new":
            self._begin(owner)

    def _reset(self) -> None:
        #: What calls at the next time, from the start of the worker on.
        self._call: CallTimer | None = None
        #: On the clock of the pool; the times are whole multiples of the seconds after it.
        self._start = 0.0
        self._number = 0
        #: The message that it posted last.
        self._last: Repeated | None = None

    @property
    def seconds(self) -> float:
        """The time between two messages."""
        return self._seconds

    @property
    def posted(self) -> int:
        """How many messages it has posted."""
        return self._posted

    @property
    def skipped(self) -> int:
        """How many times passed without one: the one before was not over, or the mailbox refused it."""
        return self._skipped

    @property
    def active(self) -> bool:
        """Whether it goes on: it was not cancelled, and its worker has not ended."""
        owner = self._owner()
        if self._is_cancelled or owner is None:
            return False
        try:
            return owner._pytoweb_state() not in ("stopping", "stopped")
        except ForkedProcessError:
            return False

    def cancel(self) -> None:
        """Posts no further message; one that is queued or runs is not taken back. May be called again."""
        owner = self._owner()
        with _lock:
            self._is_cancelled = True
            self._call = None
            if owner is not None:
                own = owner._pytoweb
                own.timers = tuple(timer for timer in own.timers if timer is not self)
        # Without data and context, whatever keeps the timer.
        self._data = None
        self._context = contextvars.Context()

    def _begin(self, owner: Addressable) -> None:
        with _lock:
            if self._call is not None or self._is_cancelled:
                return
            call = self._call = CallTimer(functools.partial(_elapsed, weakref.ref(self)))
            threads = owner._pytoweb.threads
            self._start = threads.now()
            self._number = 1
        call.set(threads, self._start + self._seconds)

    def _elapsed(self) -> None:
        """One of the times has come. No two threads are here at once: it is set again at the end."""
        owner, call = self._owner(), self._call
        if owner is None or call is None:
            return
        try:
            if owner._pytoweb_state() in ("stopping", "stopped"):
                # Also one whose message waits for room and is refused.
                self.cancel()
                return
            if self._last is not None and not self._last.is_over():
                self._skipped += 1
            else:
                self._post(owner)
            threads = owner._pytoweb.threads
            # From the schedule, so that it does not drift; times that have passed meanwhile are left out.
            over = int((threads.now() - self._start) / self._seconds)
            following = max(over, self._number) + 1
            self._skipped += following - self._number - 1
            self._number = following
            call.set(threads, self._start + following * self._seconds)
        except (WorkerStoppedError, ForkedProcessError):
            self.cancel()

    def _post(self, owner: Addressable) -> None:
        data, context = self._data, self._context
        if self._is_cancelled:
            return
        try:
            # A copy, because a context can be entered once.
            self._last = context.copy().run(owner._pytoweb_park_repeated, self._type, data)
            self._posted += 1
        except (WorkerStoppedError, ForkedProcessError):
            raise
        except (MailboxFullError, WorkerCrashedError):
            # The mailbox refuses, or its process is given up for a while.
            self._skipped += 1
        except Exception:
            self._skipped += 1
            logger = logging.getLogger(f"pytoweb.worker.{owner._pytoweb.name}")
            logger.exception("the timer of %r could not post a message of type %r", owner, self._type)

    def __repr__(self) -> str:
        owner = self._owner()
        of = "a worker that is gone" if owner is None else repr(owner)
        state = "active" if self.active else "ended"
        return f"<WorkerTimer of {self._type!r} every {self._seconds:g} s, {state}, of {of}>"


def _elapsed(timer: weakref.ref[WorkerTimer]) -> None:
    alive = timer()
    if alive is not None:
        alive._elapsed()


def begin_all(owner: Addressable) -> None:
    """The worker has started: so do its timers that have not."""
    for timer in owner._pytoweb.timers:
        timer._begin(owner)


def renew_all(owner: Addressable) -> None:
    """In a forked child, where ``owner`` begins afresh: so do its timers."""
    for timer in owner._pytoweb.timers:
        timer._reset()
    if not owner._pytoweb_is_worker:
        begin_all(owner)


WorkerTimer.__module__ = "pytoweb.workers"
