"""Coroutine hooks of `test_hooks.py`, on either backend."""

from __future__ import annotations

import asyncio
import os
import pathlib
from typing import Any

from pytoweb.workers import current_message, current_worker

STATE: dict[str, Any] = {}


def note(word: str) -> None:
    """Adds a word to this process's list."""
    STATE.setdefault("words", []).append(word)


def words(data: object = None) -> list[str]:
    """Returns the words of this process, and forgets them."""
    return STATE.pop("words", [])


def fail(data: Any) -> None:
    """Fails."""
    raise ValueError(data)


async def fail_later(data: Any) -> None:
    """Fails, a moment later."""
    await asyncio.sleep(0)
    raise ValueError(data)


async def start_later() -> None:
    """A start hook that takes a turn of the loop."""
    await asyncio.sleep(0.001)
    message, worker = current_message(), current_worker()
    assert message is not None
    assert worker is not None
    note(f"started for {message.type} in {worker.name}")


async def fail_to_start_once() -> None:
    """A start hook that fails the first time."""
    await asyncio.sleep(0)
    if "failed" not in STATE:
        STATE["failed"] = True
        raise RuntimeError("not yet")
    note("started")


async def initialize_later(word: str) -> None:
    """An initializer that takes a turn of the loop."""
    await asyncio.sleep(0.001)
    note(word)


async def fail_to_initialize(word: str) -> None:
    """An initializer that fails."""
    await asyncio.sleep(0)
    raise RuntimeError(word)


def pid(data: object = None) -> int:
    """Returns the number of this process."""
    return os.getpid()


class SleepOnce:
    """A start hook that sleeps, the first time, until it is cancelled, and notes that in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def __call__(self) -> None:
        """Sleeps."""
        if "slept" in STATE:
            return
        STATE["slept"] = True
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            pathlib.Path(self.path).write_text("cancelled")
            raise
