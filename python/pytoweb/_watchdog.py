"""The side of the watchdog that has the interpreter lock: what it needs beforehand, and what it logs.

The thread itself is native: ``crates/python/src/interpreter/watchdog.rs``.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import tempfile

from pytoweb._core import running_in_child, running_on_threads

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

#: The environment variable that switches the watchdog off: ``0``, ``off``, ``no`` or ``false``.
VARIABLE = "PYTOWEB_WATCHDOG"
_OFF = ("0", "off", "no", "false")

#: The process that is armed, its signal, and the descriptor that the signal's handler writes the stacks to.
_armed: tuple[int, int, int] | None = None


def arm() -> tuple[tuple[int, int] | None, bool] | None:
    """Prepares a dump of all stacks without the interpreter lock; called before the watchdog starts.

    Returns:
        None where the environment switches the watchdog off. Else the number of the signal and the
        descriptor that its handler writes to, or None where the platform has no real-time signals or all are
        taken; and whether there is a standard error.
    """
    if os.environ.get(VARIABLE, "").strip().lower() in _OFF:
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
    """The descriptor of a file in memory, where there are such; of a pipe the watchdog would have to read as it fills.

    It is open until the process ends: a signal may come at any time.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pytoweb-watchdog")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def tell_held(told: list[tuple[int, int, str, float, float, str]]) -> None:
    """Logs handlers that held the lock, or ran while it was held, once it can be had."""
    running: dict[tuple[int, int], Any] = {
        (ident, number): rest for ident, number, _, *rest in running_on_threads()
    }
    running.update({(ident, number): rest for ident, number, *rest in running_in_child()})
    for ident, number, worker, ran, waited, stack in told:
        _, kind, message_id, attempt = running.get((ident, number), (None, None, None, None))
        logging.getLogger(f"pytoweb.worker.{worker}").error(
            "worker %r: its handler%s had run for %.1f s when the interpreter lock could not be had for the last "
            "%.1f s; it was at, most recent call first:\n%s",
            worker,
            "" if kind is None else f" of {kind!r}",
            ran,
            waited,
            stack.rstrip() or "  (its stack is not known)",
            extra={
                "worker_name": worker, "message_id": message_id, "message_type": kind, "attempt": attempt,
                "seconds": ran,
            },
        )  # fmt: skip
