"""The live view of ``python -m pytoweb top``: a screen that is drawn anew for each answer and each key."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from pytoweb._top_client import ProgramConnection, ProgramEnded
from pytoweb._top_screen import SHOWN_FAILURES, ScreenView
from pytoweb._top_text import printable

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["keys_of", "pause_of", "watch"]

#: The share of a processor that the view may cost the program; and seconds after which it asks all the same.
MOST_COST = 0.01
LONGEST = 5.0

#: What terminals send for keys that are no letters.
KEYS = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}


def keys_of(text: str) -> Iterator[str]:
    """The keys in what the terminal has sent, by name."""
    while text:
        if text[0] == "\x1b" and text[1:2] in ("[", "O"):
            end = next(
                (at for at in range(2, len(text)) if text[at].isalpha() or text[at] == "~"), len(text) - 1
            )
            key, text = text[: end + 1], text[end + 1 :]
            # One that means nothing here is no escape.
            if key in KEYS:
                yield KEYS[key]
        else:
            key, text = text[0], text[1:]
            yield KEYS.get(key, key)


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """Has the terminal bring each key as it is pressed; None where the input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _leave(number: int, frame: object) -> None:
    # As an exception, which gives the terminal back.
    raise SystemExit(128 + number)


def watch(program: ProgramConnection, interval: float) -> int:
    """Shows a program until it ends or the user leaves. Returns the exit code."""
    view = ScreenView()
    signal.signal(signal.SIGTERM, _leave)
    try:
        # `rich` leaves colours out for NO_COLOR.
        console = Console(highlight=False)
        with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            _Watching(view, program, interval, console, live).run(keys)
    except ProgramEnded:
        seen = view.snapshot
        name = f"process {seen['pid']}, {printable(seen['program'])}" if seen else program.path
        print(f"the program has ended ({name})")
        for failure in (seen or {"failures": ()})["failures"][-SHOWN_FAILURES:]:
            print("  failed:", *(printable(failure[name]) for name in ("worker", "type", "error")))
    return 0


def pause_of(interval: float, snapshot: dict[str, Any] | None) -> float:
    """Seconds to the next look: more than the user said, where the answers of many workers cost too much."""
    cost = 0.0 if snapshot is None else snapshot.get("cost_seconds", 0.0)
    return max(interval, min(LONGEST, cost / MOST_COST))


class _Watching:
    """The loop of the live view: it waits for keys, answers, and the time of the next look."""

    def __init__(
        self, view: ScreenView, program: ProgramConnection, interval: float, console: Console, live: Live
    ) -> None:
        self.view = view
        self.program = program
        self.interval = interval
        self.console = console
        self.live = live
        #: What was asked and is not answered.
        self.asked: list[str] = []
        self.asked_at = 0.0

    def run(self, keys: int | None) -> None:
        """Runs until the user leaves."""
        view, due = self.view, 0.0
        while not view.is_over:
            now = time.monotonic()
            if now >= due:
                due = now + pause_of(self.interval, view.snapshot)
                if not self.asked and not view.is_paused:
                    self._ask(now)
                self._draw(now)
            sources: list[Any] = [self.program.socket] if keys is None else [self.program.socket, keys]
            ready, _, _ = select.select(sources, [], [], max(0.0, due - time.monotonic()))
            if self.program.socket in ready and self._take():
                self._draw(time.monotonic())
            if keys is not None and keys in ready:
                was = view.is_detail
                self._press(os.read(keys, 1024))
                if view.is_detail and not was:
                    # Its stacks are wanted now.
                    due = 0.0
                self._draw(time.monotonic())

    @staticmethod
    def _size() -> tuple[int, int]:
        # Of the terminal itself: COLUMNS and LINES may be those of the shell before a change of its window.
        try:
            return os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24

    def _ask(self, now: float) -> None:
        self.asked = ["snapshot", "stacks"] if self.view.is_detail else ["snapshot"]
        self.asked_at = now
        self.program.request(self.asked[0])

    def _take(self) -> bool:
        """Takes in what has come. Returns whether there is something new to draw."""
        answer = self.program.answer()
        if answer is None:
            return False
        if "stacks" in answer:
            self.view.stacks = answer["stacks"]
        elif not self.view.is_paused:
            self.view.take(answer["snapshot"])
        del self.asked[:1]
        if self.asked:
            self.program.request(self.asked[0])
        return True

    def _press(self, received: bytes) -> None:
        if not received:
            # The terminal is gone.
            self.view.is_over = True
        width, height = self._size()
        for key in keys_of(received.decode(errors="replace")):
            self.view.press(key, width, max(1, height - 8))

    def _draw(self, now: float) -> None:
        width, height = self._size()
        self.console.size = ConsoleDimensions(width, height)
        silence = now - self.asked_at if self.asked else 0.0
        self.live.update(self.view.draw(width, height, silence), refresh=True)
