"""What the person at the terminal sees while the workers work; always on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import Any

LINE_SECONDS = 1.0
"""Time between two lines of `PlainProgress`."""


class Progress:
    """Shows nothing; the base of the others. A context manager that closes the display."""

    def start(self, total: int) -> None:
        """Begins, with the number of files that will come."""

    def update(self, done: int) -> None:
        """Says how many files are done; called once per file."""

    def compare(self) -> None:
        """Says that the files are done, and that the comparison with one thread begins."""

    def close(self) -> None:
        """Ends the display; harmless if it never began."""

    def __enter__(self) -> Progress:
        """Returns itself; `start` begins the display."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the display."""
        self.close()


class PlainProgress(Progress):
    """Prints a line for the first file, for the last, and about once a second between them."""

    def __init__(self) -> None:
        """Prints nothing yet."""
        self._total = 0
        self._next = 0.0

    def start(self, total: int) -> None:
        """Remembers the total."""
        self._total = total

    def update(self, done: int) -> None:
        """Prints a line if it is time for one."""
        now = time.monotonic()
        if now < self._next and done < self._total:
            return
        self._next = now + LINE_SECONDS
        self._print(f"analysed {done} of {self._total} files")

    def compare(self) -> None:
        """Prints a line."""
        self._print("comparing with one thread")

    def _print(self, text: str) -> None:
        # A progress output that is closed is no reason to stop working.
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


class BarProgress(Progress):
    """A bar with the rate and the remaining time, by rich."""

    def __init__(self) -> None:
        """Draws nothing yet.

        Raises:
            ImportError: rich is not installed.
        """
        from rich import progress
        from rich.console import Console

        self._task: Any = None
        self._console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("analysing"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
        )

    def start(self, total: int) -> None:
        """Draws the bar at zero."""
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def update(self, done: int) -> None:
        """Moves the bar; rich redraws it ten times a second."""
        self._bar.update(self._task, completed=done)

    def compare(self) -> None:
        """Ends the bar, whose redrawing would cost the one thread time, and writes a line."""
        self.close()
        self._console.print("comparing with one thread")

    def close(self) -> None:
        """Draws the last state, and leaves it there."""
        if self._bar.live.is_started:
            self._bar.stop()


def open_progress(kind: str) -> Progress:
    """Chooses a display.

    Args:
        kind: `none`, `plain`, or `auto`: a bar if standard error is a terminal, plain lines if rich is
            missing, nothing if it is no terminal.

    Returns:
        The display, not started.
    """
    if kind == "plain":
        return PlainProgress()
    if kind == "auto" and sys.stderr is not None and sys.stderr.isatty():
        try:
            return BarProgress()
        except ImportError:
            return PlainProgress()
    return Progress()
