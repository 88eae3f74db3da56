"""What the workers run: picklable, and light to import in a child process."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Collection
from typing import Callable, NamedTuple

from analyze.facts import FileFacts
from analyze.source import analyze_file
from pytoweb.workers import BatchItemError


class Finding(NamedTuple):
    """The reply to one message.

    Attributes:
        worker: Process and thread that worked on it.
        facts: About the file.
    """

    worker: tuple[int, int]
    facts: FileFacts


class Task:
    """The handlers of the pool: the facts about files, and who found them."""

    def __init__(
        self,
        handler: Callable[[str], FileFacts] = analyze_file,
        crashing: Collection[str] = (),
    ) -> None:
        """Makes the handlers.

        Args:
            handler: Finds the facts about the file at a path.
            crashing: Paths of files that end the process that works on them: none of them is read.
        """
        self._handler = handler
        self._crashing = frozenset(crashing)

    def alone(self, path: str) -> Finding:
        """Works on the file at `path`."""
        if path in self._crashing:
            crash()
        return Finding((os.getpid(), threading.get_ident()), self._handler(path))

    def together(self, paths: list[str]) -> list[Finding | BatchItemError]:
        """Works on the files of a batch, one after the other; each fails for itself."""
        found: list[Finding | BatchItemError] = []
        for place, path in enumerate(paths):
            try:
                found.append(self.alone(path))
            except (Exception, SystemExit) as error:
                found.append(BatchItemError(place, error))
        return found


def crash() -> None:
    """Ends its process with a segmentation fault."""
    import ctypes

    with contextlib.suppress(ImportError, OSError, ValueError):
        # This end is wanted: it needs no image of the memory in the file system.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def quiet_parser() -> None:
    """Keeps the warnings that the parser has about other people's code off the screen."""
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
