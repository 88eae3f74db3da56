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
    import asyncio
    from types import FrameType
    from typing import Any, Optional

    from pytoweb._aio import RunningCoroutine
    from pytoweb._core import WorkerMessage
    from pytoweb._loops import LoopThread, LoopTurn

    #: The type, id and attempt of a message, as far as they are known.
    About = tuple[Optional[str], Optional[str], Optional[int]]

#: The environment variable that switches the watchdog off: ``0``, ``off``, ``no`` or ``false``.
VARIABLE = "PYTOWEB_WATCHDOG"
_OFF = ("0", "off", "no", "false")

NO_STACK = "  (its stack is not known)"
NOT_BEGUN = "  (its first step is to come)"
_UNKNOWN: About = (None, None, None)

#: Seconds for which an event loop has to be at the same step before it counts as held up by that.
HELD_UP = 0.1

#: Runs that were told of, by thread: the number of the message there, or of the loop's turn. No more than so
#: many.
_told: dict[int, int] = {}
MOST_TOLD = 1000
#: Coroutines that were told of. They are kept, so that no other one has their places; their messages are not.
_told_runs: dict[int, RunningCoroutine] = {}

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


def _about(message: WorkerMessage | None) -> About:
    return _UNKNOWN if message is None else (message.type, message.id, message.attempt)


def _is_news(place: tuple[int, int]) -> bool:
    """Whether a run was told of for the first time."""
    ident, number = place
    if _told.get(ident) == number:
        return False
    while len(_told) >= MOST_TOLD:
        _told.pop(next(iter(_told)), None)
    _told[ident] = number
    return True


def _is_news_of(running: RunningCoroutine) -> bool:
    """The same of a coroutine."""
    if id(running) in _told_runs:
        return False
    while len(_told_runs) >= MOST_TOLD:
        _told_runs.pop(next(iter(_told_runs)), None)
    _told_runs[id(running)] = running
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


def _log_of_loop(name: str, seconds: float, text: str) -> None:
    """The same of code on an event loop of which it is not known for which worker it runs."""
    logging.getLogger("pytoweb.worker").error(
        "event loop %r: a task or callback %s", name, text,
        extra={
            "worker_name": None, "message_id": None, "message_type": None, "attempt": None,
            "seconds": seconds,
        },
    )  # fmt: skip


def tell_held(told: list[tuple[int, int, str | None, str | None, float, float, str]]) -> None:
    """Logs handlers that held the lock, or ran while it was held, once it can be had.

    Args:
        told: of each its thread, its number there, the worker where it is known, the event loop where it runs
            on one, the seconds that it had run, those without the lock, and the stack.
    """
    # First: a loop goes on as soon as it gets the lock.
    turns = {ident: _turn_on(ident) for ident, _, _, loop, *_ in told if loop is not None}
    here = _running()
    for ident, number, worker, loop, ran, waited, stack in told:
        if not _is_news((ident, number)):
            continue
        text = (
            f"had run for {ran:.1f} s when the interpreter lock could not be had for the last "
            f"{waited:.1f} s; it was at, most recent call first:\n{stack.rstrip() or NO_STACK}"
        )
        if loop is None:
            contained(_log, worker or "?", here.get((ident, number), _UNKNOWN), ran, text)
            continue
        turn = turns[ident]
        running = None if turn is None or turn.number != number else turn.running
        if running is None and worker is not None:
            # Its turn is over. All coroutines there are of that worker.
            run = _coroutine_of(worker, 0)
            running = None if run is None else run[1]
        about = _UNKNOWN
        if running is not None:
            if not _is_news_of(running):
                continue
            worker, about = _name_of(running) or worker, _about(running.message)
        if worker is None:
            contained(_log_of_loop, loop, ran, text)
        else:
            contained(_log, worker, about, ran, text)


def _name_of(running: RunningCoroutine) -> str | None:
    """The name of the worker whose handler or hook that is, if it still exists."""
    owner: Any = None if running.owner is None else running.owner()
    return None if owner is None else owner._pytoweb.name


def _turn_on(ident: int) -> LoopTurn | None:
    loops: Any = sys.modules.get("pytoweb._loops")
    return None if loops is None else loops.turn_on(ident)


def tell_stuck(
    worker: str,
    limit: float | None,
    lasted: float,
    kind: str | None,
    place: tuple[int, int] | None,
    owner: Any,
    at: int,
) -> None:
    """Logs a handler that has run for ``lasted``, longer than ``limit``; without one, past its deadline.

    Args:
        worker: the name.
        limit: seconds, or None.
        lasted: seconds.
        kind: the type of the message, where it is known.
        place: the thread that runs it, and its number there; None where no thread does, or it is not known.
        owner: the worker or pool, or None where it is gone.
        at: by what a coroutine is found that runs it; 0 where it has no future, id or deadline.
    """
    if is_off():
        return
    about: About = (kind, None, None)
    stack, held_up = NO_STACK, ""
    if place is None:
        found = _coroutine_of(worker, at)
        if found is not None:
            home, running, task = found
            if not _is_news_of(running):
                return
            about = _about(running.message)
            stack = NOT_BEGUN if task is None else _of_coroutine(home, task) or NO_STACK
            held_up = _held_up(home, task)
    elif _is_news(place):
        about, stack = _on_thread(place)
    else:
        return
    if limit is None:
        text = f"still runs {lasted:.1f} s after the deadline of its message"
    else:
        text = f"has run for {lasted:.1f} s, and counts as stuck after {limit:g} s"
    if stack is NO_STACK and (in_children := _in_children(owner, kind)):
        about, pids = in_children
        text = f"{text}; it runs in process {' or '.join(map(str, pids))}"
    else:
        text = f"{text}; it is at, most recent call last:\n{stack.rstrip()}{held_up}"
    contained(_log, worker, about, lasted, text)


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


def _coroutine_of(worker: str, at: int) -> tuple[Any, Any, Any] | None:
    """The coroutine of a message, or the only one of a worker; the task is None before it begins."""
    loops: Any = sys.modules.get("pytoweb._loops")
    if loops is None:
        return None
    runs = loops.runs_now()
    own = [run for run in runs if at and run[1].pending is not None and run[1].pending.is_of(at)]
    found = own or [run for run in runs if run[1].message is not None and run[1].message.worker == worker]
    return found[0] if len(found) == 1 else None


def _of_coroutine(home: LoopThread, task: asyncio.Task[Any]) -> str:
    """The stack of a coroutine: what it awaits, or computes."""
    outer = sys.modules["pytoweb._loops"].Tenant._drive.__code__
    frames = [frame for frame in awaited_frames(task.get_coro()) if frame.f_code is not outer]
    if not frames:
        # It computes, and awaits nothing.
        frames = frames_within(sys._current_frames().get(home.ident or 0), outer)[-MOST_FRAMES:]
    return _text(frames)


def _held_up(home: LoopThread, task: asyncio.Task[Any] | None) -> str:
    """What keeps the event loop from going on with a task, where something else does."""
    turn = _turn_on(home.ident or 0)
    if turn is None or turn.task is task or not turn.goes_on(HELD_UP):
        return ""
    by = "another task"
    running = turn.running
    name = None if running is None else _name_of(running)
    if running is not None and name is not None:
        kind, _, _ = _about(running.message)
        by = f"the handler of {name!r}" + ("" if kind is None else f" for {kind!r}")
    frames = _within_loop(home)
    return (
        f"\nIts event loop, {home.name}, is held up by {by}, which is at, most recent call last:\n"
        f"{_text(frames).rstrip()}"
    )


def _within_loop(home: LoopThread) -> list[FrameType]:
    """The frames of what an event loop runs, without its own."""
    from asyncio.events import Handle

    frame = sys._current_frames().get(home.ident or 0)
    frames = frames_within(frame, type(home).run.__code__)
    starts = [at for at, one in enumerate(frames) if one.f_code is Handle._run.__code__]
    if starts:
        frames = frames[starts[0] + 1 :]
    tenant = sys.modules["pytoweb._loops"].Tenant
    ours = tenant._drive.__code__, tenant._drive_hook.__code__
    return [one for one in frames if one.f_code not in ours][-MOST_FRAMES:]


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
