"""Handlers whose work shows only at the orderly end of their process, imported by children from here."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import threading
from typing import Any

from process_handlers import note

opened: dict[str, Any] = {}
"""Files by path, written through their buffers and never closed."""

last_words: Any = None
"""What is alive until the modules of the process are cleared."""


class Noting:
    """Leaves a word when it is freed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.note = note

    def __del__(self) -> None:
        self.note(self.path, "freed")


def write_line(given: tuple[str, int]) -> None:
    """Writes a line into a buffer."""
    path, number = given
    if path not in opened:
        opened[path] = open(path, "w", encoding="utf-8")  # noqa: SIM115
    opened[path].write(f"line {number}\n")


def prepare_last_words(path: str) -> None:
    """Prepares a word at each of the places where a program says one at its end."""
    global last_words
    last_words = Noting(path)
    atexit.register(note, path, "atexit")
    thread = threading.Thread(target=note_at_the_end, args=(path,))
    thread.start()
    memory = logging.handlers.MemoryHandler(1000, target=NoteHandler(path))
    opened["handler"] = memory
    log = logging.getLogger("tests.ends")
    log.propagate = False
    log.addHandler(memory)
    log.warning("logged")


def hang() -> None:
    """An end hook that does not end."""
    threading.Event().wait()


def fail_at_the_end() -> None:
    """An end hook that raises."""
    raise ValueError("in the end hook")


def log_a_word(data: object = None) -> None:
    """Logs, as a handler."""
    logging.getLogger("tests.process_ends").warning("a word")


def note_at_the_end(path: str) -> None:
    """Outlives the handler: a thread that the interpreter waits for."""
    threading.main_thread().join()
    note(path, "thread")


class NoteHandler(logging.Handler):
    """Notes records in a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        note(self.path, record.getMessage())


def hang_at_the_end(how: str) -> int:
    """Leaves something that never lets the process end."""
    if how == "atexit":
        atexit.register(threading.Event().wait)
    else:
        threading.Thread(target=threading.Event().wait).start()
    return os.getpid()
