"""The side of the watchdog that has the interpreter lock: what it needs beforehand, and what it logs.

The thread itself is native: ``crates/python/src/interpreter/watchdog.rs``.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys

from pytoweb._contained import contained
from pytoweb._core import running_in_child, running_on_threads
from pytoweb._pool_thread import PoolThread
from pytoweb._stacks import MOST_FRAMES, awaited_frames, frames_within

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any, Optional

    #: The type, id and attempt of a message, as far as they are known.
    About = tuple[Optional[str], Optional[str], Optional[int]]

#: The environment variable that switches the watchdog off: ``0``, ``off``, ``no`` or ``false``.
VARIABLE = "PYTOWEB_WATCHDOG"
_OFF = ("0", "off", "no", "false")

NO_STACK = "  (its stack is not known)"
_UNKNOWN: About = (None, None, None)

#: Runs that were told of, by thread: the number of the message there. No more than so many.
_told: dict[int, int] = {}
MOST_TOLD = 1000

#: The process that is armed, its signal, and the descriptor that the signal's handler writes the stacks to.
_armed: tuple[int, int, int] | None = None


def arm() -> tuple[tuple[int, int] | None, bool] | None:
    """Prepares a dump of all stacks without the interpreter lock; called before the watchdog starts.

    Returns:
        None where the environment switches the watchdog off. Else the number of the signal and the
        descriptor that its handler writes to, or None where the platform has no real-time signals or all are
        taken; and whether there is a standard error.
    """
    if is_off():
        return None
    speaks = sys.__stderr__ is not None
    try:
        return _arm(), speaks
    except (OSError, RuntimeError, ValueError):
        # It tells of a held lock all the same, without the stack.
        return None, speaks


def _arm() -> tuple[int, int] | None:
    global _armed
    # A forked child writes to a file of its own.
    if _armed is None or _armed[0] != os.getpid():
        number = _free_signal() if _armed is None else _armed[1]
        if number is None:
            return None
        file = _file()
        faulthandler.register(number, file=file, all_threads=True, chain=False)
        if _armed is not None:
            os.close(_armed[2])
        _armed = os.getpid(), number, file
    return _armed[1:]


def _free_signal() -> int | None:
    """A real-time signal that the program does not use; the last ones are the least likely to be."""
    first, last = getattr(signal, "SIGRTMIN", None), getattr(signal, "SIGRTMAX", None)
    if first is None or last is None:
        return None
    numbers = range(int(last), int(first), -1)
    return next((number for number in numbers if signal.getsignal(number) == signal.SIG_DFL), None)


def _file() -> int:
    """The descriptor of a file in memory, where there are such.

    Of a pipe the watchdog would have to read as it fills. It is open until the process ends: a signal may
    come at any time.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pytoweb-watchdog")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def is_off() -> bool:
    """Whether the environment switches the watchdog off."""
    return os.environ.get(VARIABLE, "").strip().lower() in _OFF


def _running() -> dict[tuple[int, int], About]:
    """What runs on threads: by thread and number of the message, its type, id and attempt."""
    here: dict[tuple[int, int], About] = {
        (ident, number): (kind, message_id, attempt)
        for ident, number, _, _, kind, message_id, attempt in running_on_threads()
    }
    for ident, number, _, kind, message_id, attempt in running_in_child():
        here[ident, number] = kind, message_id, attempt
    return here


def _is_news(place: tuple[int, int]) -> bool:
    """Whether a run was told of for the first time."""
    ident, number = place
    if _told.get(ident) == number:
        return False
    while len(_told) >= MOST_TOLD:
        _told.pop(next(iter(_told)), None)
    _told[ident] = number
    return True


def _log(worker: str, about: About, seconds: float | None, text: str) -> None:
    kind, message_id, attempt = about
    of = "" if kind is None else f" of {kind!r}"
    logging.getLogger(f"pytoweb.worker.{worker}").error(
        "worker %r: its handler%s %s", worker, of, text,
        extra={
            "worker_name": worker, "message_id": message_id, "message_type": kind, "attempt": attempt,
            "seconds": seconds,
        },
    )  # fmt: skip


def tell_held(told: list[tuple[int, int, str, float, float, str]]) -> None:
    """Logs handlers that held the lock, or ran while it was held, once it can be had."""
    running = _running()
    for ident, number, worker, ran, waited, stack in told:
        about = running.get((ident, number), _UNKNOWN)
        if _is_news((ident, number)):
            text = (
                f"had run for {ran:.1f} s when the interpreter lock could not be had for the last "
                f"{waited:.1f} s; it was at, most recent call first:\n{stack.rstrip() or NO_STACK}"
            )
            contained(_log, worker, about, ran, text)


def tell_stuck(
    worker: str,
    limit: float | None,
    lasted: float,
    kind: str | None,
    place: tuple[int, int] | None,
    owner: Any,
) -> None:
    """Logs a handler that has run for ``lasted``, longer than ``limit``; without one, past its deadline."""
    if is_off() or (place is not None and not _is_news(place)):
        return
    about: About = (kind, None, None)
    stack = NO_STACK
    if place is not None:
        about, stack = _on_thread(place)
    if stack is NO_STACK:
        about, stack = _on_loop(worker, about)
    if limit is None:
        text = f"still runs {lasted:.1f} s after the deadline of its message"
    else:
        text = f"has run for {lasted:.1f} s, and counts as stuck after {limit:g} s"
    if stack is NO_STACK and (found := _in_children(owner, kind)):
        about, pids = found
        contained(_log, worker, about, lasted, f"{text}; it runs in process {' or '.join(map(str, pids))}")
        return
    contained(_log, worker, about, lasted, f"{text}; it is at, most recent call last:\n{stack.rstrip()}")


def _in_children(owner: Any, kind: str | None) -> tuple[About, list[int]] | None:
    """The message of that type that children of ``owner`` run, and their numbers; of several, any."""
    processes = None if owner is None else getattr(owner._pytoweb.runtime, "processes", None)
    if processes is None:
        return None
    begun = [one for one in processes.begun() if one[2] is owner and kind in (None, one[4])]
    if not begun:
        return None
    _, _, _, _, begun_kind, message_id, attempt = begun[0]
    about = (begun_kind, message_id, attempt) if len(begun) == 1 else (kind, None, None)
    return about, sorted({pid for pid, *_ in begun})


def _on_thread(place: tuple[int, int]) -> tuple[About, str]:
    """What runs there, and its stack."""
    about = _running().get(place)
    frame = sys._current_frames().get(place[0])
    if about is None or frame is None:
        return _UNKNOWN, NO_STACK
    return about, _text(frames_within(frame, PoolThread.run.__code__)[-MOST_FRAMES:])


def _on_loop(worker: str, about: About) -> tuple[About, str]:
    """The same of the coroutine of that worker, if one runs and no other."""
    loops: Any = sys.modules.get("pytoweb._loops")
    if loops is None:
        return about, NO_STACK
    outer = loops.Tenant._drive.__code__
    found = [
        (running.message, task, home)
        for home, running, task in loops.running_now()
        if running.message is not None and running.message.worker == worker
    ]
    if len(found) != 1:
        return about, NO_STACK
    ((message, task, home),) = found
    frames = [frame for frame in awaited_frames(task.get_coro()) if frame.f_code is not outer]
    if not frames:
        # It computes, and awaits nothing.
        frames = frames_within(sys._current_frames().get(home.ident), outer)[-MOST_FRAMES:]
    return (message.type, message.id, message.attempt), _text(frames) or NO_STACK


def _text(frames: list[Any]) -> str:
    import traceback

    return "".join(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames).format())


def tell_killed(
    worker: str, kind: str, message_id: str | None, attempt: int, seconds: float | None, pid: int
) -> None:
    """Logs that the child was ended that ran a message past its deadline."""
    if not is_off():
        after = "" if seconds is None else f" of {seconds:g} s"
        text = f"ran past the deadline{after} of its message, and its process {pid} was ended"
        contained(_log, worker, (kind, message_id, attempt), seconds, text)
