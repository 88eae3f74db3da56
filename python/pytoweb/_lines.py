"""Reply handlers: a line for each worker or pool, and the threads that all lines of the program share.

A line calls what is put into it in order, one call at a time. A line with calls takes an idle thread. Where
none is idle, a thread starts at once while there are fewer than ``PROMPT``. Beyond that the line waits, and
a *relief* looks after the lines that wait: it starts a thread when the oldest of them has waited for
``PATIENCE`` seconds, and the next one ``STEP`` seconds later at the earliest. So many short calls need few
threads, and a handler that blocks holds up no other line for long. A thread without work ends after
``IDLE`` seconds, but for one, which is there for the end of the interpreter, when no thread may be started
any more; with the last line all end.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue

from pytoweb import _exit
from pytoweb._core import write_unraisable

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Threads that start at once. Two: the second one helps where the first waits for something, and more of
#: them would wait for the interpreter lock.
PROMPT = 2
#: Seconds that a line waits before a thread more is started: a few of the interpreter's switch intervals,
#: so that a burst of short handlers does not start threads which only wait for the interpreter lock.
PATIENCE = 0.015
#: Seconds between two such starts: one switch interval, before which it does not show whether the last one
#: helped.
STEP = 0.005
#: Seconds after which a thread without work ends.
IDLE = 1.0
#: Seconds after which a line goes behind those that wait.
TURN = 0.001

#: The identifiers of the threads that run lines.
reply_idents: set[int] = set()

#: Of all lines. It is held for a few operations on a deque, and never while a handler runs. Reentrant,
#: because the collector may run a worker's `__del__` anywhere.
_lock = threading.RLock()


class Line:
    """Calls functions in order, one at a time, on threads that it shares with other lines."""

    __slots__ = ("_crew", "_ended", "calls", "is_over", "is_under_way", "name", "run_in_context", "since")

    def __init__(self, name: str) -> None:
        #: The worker or pool, for the names of threads.
        self.name = name
        #: What is to be called; None ends the line.
        self.calls: deque[tuple[Callable[..., object], tuple[Any, ...]] | None] = deque()
        #: It waits for a thread, or runs on one.
        self.is_under_way = False
        #: It has ended: nothing is called any more.
        self.is_over = False
        #: The time of ``time.monotonic()`` since which it waits.
        self.since = 0.0
        # Variables that one worker's handlers set are none of another's.
        self.run_in_context = contextvars.Context().run
        self._ended = threading.Event()
        self._crew = _join_crew()

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Has ``function(*args)`` called after those before it; does not wait. Past the end it does nothing.

        What it raises goes to ``sys.unraisablehook``.
        """
        self.calls.append((function, args))
        # After the append: a thread that ends its turn looks at the calls once more after it has set this.
        if not self.is_under_way:
            self._crew.enter(self)
        return True

    def is_closed(self) -> bool:
        """Whether it has ended: nothing is called any more."""
        return self.is_over

    def close(self) -> None:
        """Ends it after the calls so far; does not wait."""
        with _lock:
            if self.is_under_way:
                self.calls.append(None)
            else:
                self.end()

    def end(self) -> None:
        """Ends it now; its thread has come to the end of its calls, or none runs it."""
        with _lock:
            if not self.is_over:
                self.is_over = True
                self._ended.set()
                # It takes calls, and forgets them.
                self.calls = deque(maxlen=0)
                self._crew.leave()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until it has ended, and, where it was the last one, until the threads have.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it has ended. True at once for a call of its own.
        """
        if getattr(threading.current_thread(), "line", None) is self:
            return True
        end = None if timeout is None else time.monotonic() + timeout
        return self._ended.wait(timeout) and self._crew.join(end)


class ReplyThread(threading.Thread):
    """A thread of a crew. Its name says whose reply handler runs on it."""

    def __init__(self, name: str, life: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._life = life
        self.line: Line | None = None

    @property
    def name(self) -> str:
        """``pytoweb-replies-<number>``; while a handler runs with its worker or pool behind that."""
        name: str = self._name  # type: ignore[attr-defined]
        line = self.line
        return f"{name} ({line.name})" if line is not None and line.is_under_way else name

    @name.setter
    def name(self, name: str) -> None:
        threading.Thread.name.fset(self, name)  # type: ignore[attr-defined]

    def run(self) -> None:
        """Runs lines, or looks after those that wait."""
        self._life()


class Crew:
    """The threads that run lines, from the first line until the last one has ended."""

    def __init__(self) -> None:
        #: Lines that have not ended.
        self.lines = 0
        self._is_over = False
        #: Lines that no thread has taken yet, the oldest first.
        self.waiting: deque[Line] = deque()
        #: Threads that run lines, or will.
        self._runners = 0
        #: Those of them that wait for a line, and that none was handed to.
        self._idle = 0
        #: The lines that are handed to them; None: look around.
        self._handed: SimpleQueue[Line | None] = SimpleQueue()
        self._has_relief = False
        #: The relief has nothing to wait for.
        self._relief_sleeps = False
        self._alarm: SimpleQueue[None] = SimpleQueue()
        #: When a line that waited was last given a thread.
        self._relieved = 0.0
        self._threads: set[threading.Thread] = set()
        self._numbers = itertools.count(1)

    def leave(self) -> None:
        """A line has ended; with the last one the threads end. Called under the lock."""
        self.lines -= 1
        if self.lines == 0:
            self._is_over = True
            for _ in range(self._idle):
                self._handed.put(None)
            self._alarm.put(None)
            _forget(self)

    def join(self, end: float | None) -> bool:
        """Waits for the threads, if they are to end; whether they have until ``end``."""
        if self._is_over:
            for thread in list(self._threads):
                if thread is not threading.current_thread():
                    thread.join(None if end is None else max(0.0, end - time.monotonic()))
                    if thread.is_alive():
                        return False
        return True

    def enter(self, line: Line) -> None:
        """Has a line with calls run, unless it is under way."""
        with _lock:
            if line.is_under_way or line.is_over:
                return
            line.is_under_way = True
            if self._idle > 0:
                self._idle -= 1
                self._handed.put(line)
                return
            line.since = time.monotonic()
            self.waiting.append(line)
            if self._runners < PROMPT:
                start = self._start_runner
                self._runners += 1
            elif not self._has_relief:
                start = self._start_relief
                self._has_relief = True
                self._relief_sleeps = False
            else:
                if self._relief_sleeps:
                    self._relief_sleeps = False
                    self._alarm.put(None)
                return
        # Where no thread can be started any more, one of those that there are takes it.
        with contextlib.suppress(RuntimeError):
            start()

    def start_first(self) -> None:
        """Starts a thread, if there is none.

        Raises:
            RuntimeError: the system refuses a new thread.
        """
        with _lock:
            if self._runners > 0:
                return
            self._runners += 1
        self._start_runner()

    def _start_runner(self) -> None:
        try:
            self._start(f"pytoweb-replies-{next(self._numbers)}", self._run)
        except BaseException:
            with _lock:
                self._runners -= 1
            raise

    def _start_relief(self) -> None:
        try:
            self._start("pytoweb-replies-relief", self._relieve)
        except BaseException:
            self._has_relief = False
            raise

    def _start(self, name: str, life: Callable[[], None]) -> None:
        thread = ReplyThread(name, life)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            if thread.ident is not None:
                # Ctrl-C came while it was waited for; it runs.
                return
            self._threads.discard(thread)
            raise

    def _run(self) -> None:
        """The life of a thread that runs lines.

        One function but for the calls themselves: what follows them delays the threads that wait for the
        interpreter lock, for the reply, say.
        """
        own: Any = threading.current_thread()
        reply_idents.add(own.ident)
        others = self.waiting
        try:
            line = self._first()
            while line is not None:
                own.line = line
                line.run_in_context(_turn, line, others)
                with _lock:
                    line.is_under_way = False
                    # Once more: a sender that saw it under way has not told of its call.
                    if line.calls:
                        line.is_under_way = True
                        if not others:
                            continue
                        line.since = time.monotonic()
                        others.append(line)
                    if others:
                        line = others.popleft()
                        continue
                    self._idle += 1
                    is_only = self._idle == 1 and not self._is_over
                line = self._handed.get() if is_only else None
                if line is None:
                    line = self._handed_out()
        finally:
            own.line = None
            reply_idents.discard(own.ident)
            self._threads.discard(own)

    def _first(self) -> Line | None:
        """The line that the thread was started for, or the first that is handed to it."""
        with _lock:
            if self.waiting:
                return self.waiting.popleft()
            self._idle += 1
        return self._handed_out()

    def _handed_out(self) -> Line | None:
        """Waits for a line; None: the thread is to end. It was counted as idle."""
        line, is_late = None, False
        while line is None:
            with _lock:
                # As many threads are here as are idle, and one for each line that is handed out.
                if self._idle > 0 and (self._is_over or (is_late and self._idle > 1)):
                    self._idle -= 1
                    self._runners -= 1
                    return None
                timeout = IDLE if self._idle > 1 else None
            try:
                line = self._handed.get(True, timeout)
                is_late = False
            except Empty:
                is_late = True
        return line

    def _relieve(self) -> None:
        """The life of the relief. It runs no line, so that it is there when it is needed."""
        try:
            is_late = False
            while True:
                with _lock:
                    pause = IDLE
                    if self.waiting:
                        self._relief_sleeps = False
                        now = time.monotonic()
                        pause = max(self.waiting[0].since + PATIENCE, self._relieved + STEP) - now
                        if pause <= 0:
                            self._relieved = now
                            self._runners += 1
                    elif self._is_over or (is_late and self._relief_sleeps):
                        self._has_relief = False
                        return
                    else:
                        self._relief_sleeps = True
                if pause > 0:
                    is_late = not self._is_called(pause)
                    continue
                try:
                    self._start_runner()
                except Exception:
                    # As many as the system allows: it looks again in a moment.
                    self._is_called(PATIENCE)
        finally:
            self._threads.discard(threading.current_thread())

    def _is_called(self, timeout: float) -> bool:
        """Waits for the alarm; false when ``timeout`` has passed."""
        try:
            self._alarm.get(True, timeout)
        except Empty:
            return False
        return True


def _turn(line: Line, others: deque[Line]) -> None:
    """Calls what there is in ``line``; where ``others`` wait, for `TURN` seconds."""
    calls, until = line.calls, None
    while calls:
        call = calls.popleft()
        if call is None:
            line.end()
            return
        function, args = call
        # As `contained`.
        try:
            function(*args)
        except BaseException as error:
            write_unraisable(error, function)
        # Nothing of the last reply is kept while waiting for the next.
        del call, function, args
        if others:
            now = time.monotonic()
            if until is None:
                until = now + TURN
            elif now >= until:
                return


_crew: Crew | None = None


def _join_crew() -> Crew:
    """The crew that there is, or a new one, with a line more."""
    global _crew
    with _lock:
        if _crew is None:
            _crew = Crew()
        crew = _crew
        crew.lines += 1
    try:
        crew.start_first()
    except BaseException:
        with _lock:
            crew.leave()
        raise
    return crew


def _forget(crew: Crew) -> None:
    """Lines to come have other threads: those of ``crew`` end."""
    global _crew
    if _crew is crew:
        _crew = None


def _start_afresh() -> None:
    """In a forked child: none of the threads is there, but for the one that forked."""
    global _crew, _lock
    _crew = None
    _lock = threading.RLock()
    reply_idents.intersection_update({threading.get_ident()})


_exit.unlock_after_fork(_start_afresh)
