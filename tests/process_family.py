"""Handlers that use `multiprocessing` in a child, imported by children from here."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

given: dict[str, Any] = {}
"""What the initializer of this process got."""


def describe_process(data: Any) -> dict[str, Any]:
    """What `multiprocessing` says of this process."""
    import multiprocessing

    process, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    return {
        "name": process.name,
        "identity": process._identity,
        "pid": process.pid == os.getpid(),
        "alive": process.is_alive(),
        "daemon": process.daemon,
        "parent": (parent.name, parent.pid, parent.is_alive()),
        "authkey": bytes(process.authkey),
        "method": multiprocessing.get_start_method(),
    }


def has_multiprocessing(data: Any) -> bool:
    """Whether this child has imported it: none needs to."""
    return "multiprocessing" in sys.modules


def log_with(how: str) -> None:
    """Logs with `multiprocessing` imported, or without."""
    if how == "imported":
        import multiprocessing  # noqa: F401
    logging.getLogger("tests.family").warning("from a child")


def report_progress(given: tuple[Any, Any, Any]) -> int:
    """Uses what a manager serves."""
    queue, numbers, lock = given
    for step in range(3):
        with lock:
            numbers["sum"] = numbers.get("sum", 0) + step
        queue.put(step)
    return os.getpid()


def keep_named(names: tuple[str, ...], *things: Any) -> None:
    """The same, of arguments."""
    given.update(zip(names, things))


def use_kept(text: str) -> int:
    """Sends a text by everything that the initializer got."""
    with given["lock"]:
        given["queue"].put(text)
        given["connection"].send(text)
        given["event"].set()
    return os.getpid()


def attach(name: str) -> int:
    """The first byte of a block of shared memory."""
    from multiprocessing.shared_memory import SharedMemory

    block = SharedMemory(name)
    try:
        return block.buf[0]
    finally:
        block.close()


def create_block(value: int) -> str:
    """Makes a block of shared memory, and returns its name."""
    from multiprocessing.shared_memory import SharedMemory

    block = SharedMemory(create=True, size=16)
    block.buf[0] = value
    block.close()
    return block.name


def tracker_of(data: Any) -> bool:
    """Whether the resource tracker that this process uses is one of its own."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    return resource_tracker._resource_tracker._pid is not None


def run_processes(method: str) -> list[int]:
    """Runs a process of `multiprocessing` in a child, and a pool."""
    import multiprocessing

    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        return pool.map(abs, [-1, -2, 3])


def kill_this(data: Any) -> None:
    """Crashes."""
    os.kill(os.getpid(), signal.SIGKILL)
