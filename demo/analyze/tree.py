"""Which files of a directory tree are analysed."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Callable

SUFFIX = ".py"

INSTALLED = frozenset(["site-packages", "dist-packages"])
"""Directories below the standard library that hold installed packages, not the library."""


@dataclass
class SourceTree:
    """The Python files below a directory.

    Attributes:
        root: The directory, absolute.
        files: Paths relative to the root, sorted.
        unreadable: Directories that could not be listed, relative to the root, with the reason.
        complete: False if the search was stopped before its end.
    """

    root: str
    files: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True


def standard_library() -> str:
    """The directory of the running interpreter's standard library."""
    return sysconfig.get_path("stdlib")


def find_python_files(
    root: str, *, skip: Collection[str] = (), stopped: Callable[[], bool] = lambda: False
) -> SourceTree:
    """Lists the `.py` files below a directory.

    Directories named `__pycache__` or starting with a dot (`.git`, `.venv`) are passed over. Symbolic
    links to directories are not followed, so a loop of them does no harm; links to files are listed.

    Args:
        root: Where to begin; its own name may be anything.
        skip: More names of directories to pass over.
        stopped: Asked before each directory; true ends the search there.

    Returns:
        What was found.
    """
    tree = SourceTree(os.path.abspath(root))
    # A stack instead of os.walk, which before Python 3.12 recurses once per level.
    waiting = [""]
    while waiting:
        if stopped():
            tree.complete = False
            break
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(tree.root, below)) as entries:
                for entry in entries:
                    path = os.path.join(below, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        hidden = entry.name.startswith(".") or entry.name == "__pycache__"
                        if not hidden and entry.name not in skip:
                            waiting.append(path)
                    elif entry.name.endswith(SUFFIX) and not _leads_to_directory(entry):
                        tree.files.append(path)
        except OSError as error:
            tree.unreadable.append((below or ".", error.strerror or str(error)))
    tree.files.sort()
    tree.unreadable.sort()
    return tree


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will say what is wrong
        return False
