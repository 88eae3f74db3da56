"""What the workers run: picklable, and light to import in a child process."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from typing import Callable, NamedTuple

from analyze.facts import FileFacts
from analyze.source import analyze_file


class Finding(NamedTuple):
    """The reply to one message.

    Attributes:
        worker: Process and thread that worked on it.
        facts: About the file.
    """

    worker: tuple[int, int]
    facts: FileFacts


class Task:
    """The handler of the message `analyze`: the facts about a file, and who found them."""

    def __init__(self, handler: Callable[[str], FileFacts] = analyze_file) -> None:
        """Takes what finds the facts about the file at a path."""
        self._handler = handler

    def __call__(self, path: str) -> Finding:
        """Works on the file at `path`."""
        return Finding((os.getpid(), threading.get_ident()), self._handler(path))


def crash(path: str) -> None:
    """Ends its process with a segmentation fault: the handler of the message `crash`, for process workers.

    Args:
        path: Where the message stands for a file; nothing is read.
    """
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
