"""Handlers of the fault run: what child processes import, so nothing heavy stands here."""

from __future__ import annotations

import faulthandler
import os
import time
from typing import Any

from pytoweb.workers import current_message

from .book import BEGUN, ENDED, Book

BUSY = 0.0002
"""Seconds that a handler works: most kills meet one that runs."""


class Work:
    """Notes its begin and its end, and works in between."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def __call__(self, number: int) -> tuple[int, int]:
        self.book.add(number, BEGUN)
        end = time.perf_counter() + BUSY
        while time.perf_counter() < end:
            pass
        self.book.add(number, ENDED)
        return number, os.getpid()


class Die:
    """Notes the time, and ends its process."""

    def __init__(self, times: Book) -> None:
        self.times = times

    def __call__(self, data: tuple[int, str, Any]) -> None:
        place, way, code = data
        self.times.stamp(place)
        if way == "exit":
            os._exit(code)
        if way == "abort":
            os.abort()
        faulthandler._sigsegv()  # type: ignore[attr-defined]


def run_out_of_memory(data: Any) -> None:
    """Asks for more memory than the system lets this process have."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), usual[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


def echo(data: Any) -> Any:
    return data


def pid(data: Any) -> int:
    return os.getpid()


def pattern(size: int) -> bytes:
    """Bytes that are different at each place where a mistake could put them."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Announce:
    """Notes the time just before it returns much."""

    def __init__(self, times: Book) -> None:
        self.times = times

    def __call__(self, size: int) -> bytes:
        data = pattern(size)
        self.times.stamp(0)
        return data


def append(path: str, what: object) -> None:
    """Adds a line to a file, in one write, so that processes do not mix theirs."""
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, f"{what}\n".encode())
    finally:
        os.close(number)


def note(data: tuple[str, object]) -> None:
    append(*data)


def die_noting(path: str) -> None:
    """Notes the attempt, and ends the process."""
    message = current_message()
    append(path, None if message is None else message.attempt)
    os._exit(77)


def leave_at_start(path: str) -> None:
    append(path, os.getpid())
    os._exit(77)


class DiesWhereUnpickled:
    """A handler that ends the child that gets it."""

    def __init__(self, path: str) -> None:
        self.path, self.home = path, os.getpid()

    def __call__(self, data: Any) -> None:
        """Never called."""

    def __setstate__(self, state: Any) -> None:
        if os.getpid() != state["home"]:
            leave_at_start(state["path"])
        self.__dict__.update(state)


def take_time(data: Any) -> None:
    """Handles as many messages as a slow consumer does."""
    time.sleep(0.002)


class Last:
    """Takes a time, and notes when it was over."""

    def __init__(self, times: Book) -> None:
        self.times = times

    def __call__(self, seconds: float) -> None:
        time.sleep(seconds)
        self.times.stamp(0)


def waited(posted: float) -> float:
    """Seconds that a message waited that was posted at a time: all processes share the clock."""
    return time.monotonic() - posted


def pause(seconds: float) -> None:
    time.sleep(seconds)


def now(data: Any) -> float:
    return time.monotonic()
