"""Handlers for `analyze_tree` that a child process can import: what they do is in the name of the file."""

from __future__ import annotations

import os
import signal
import time

from analyze.facts import FileFacts
from analyze.source import analyze_file
from pytoweb import _child

WAIT = 10.0


def by_name(path: str) -> FileFacts:
    """Ends its process for `exits` and `killed`, raises for `raises`, and gives empty facts otherwise."""
    name = os.path.basename(path)
    if "raises" in name:
        raise ValueError("gone\nfor good")
    if "exits" in name or "killed" in name:
        if not _child.is_child:
            raise AssertionError(f"{name} was read in the host")
        if "exits" in name:
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    return FileFacts(path)


def slow(path: str) -> FileFacts:
    """Takes ten milliseconds in which other threads may run."""
    time.sleep(0.01)
    return FileFacts(path)


def read_one_and_wait(path: str) -> FileFacts:
    """Reads the first file that any process asks for; waits for ever with the others.

    The file that `PYTOWEB_TEST_MARK` names says that there was a first one.
    """
    try:
        os.close(os.open(os.environ["PYTOWEB_TEST_MARK"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        while True:
            time.sleep(WAIT)
    return analyze_file(path)
