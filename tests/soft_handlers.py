"""Handlers that run for too long, for tests of soft limits; at module level, so that children find them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pytoweb.workers import DeadlineError

LONG = 60.0


def compute(data: Any) -> str:
    """Runs Python code until it is interrupted, and tells of what it cleaned up.

    The loop is in a function of its own: Python 3.13.0 lets such an exception past a `try` whose block is a
    `while` loop.
    """
    try:
        let_through(data)
    except DeadlineError:
        return "cleaned up"
    return "never interrupted"


def let_through(data: Any) -> None:
    """The same, without a clean-up."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        pass


async def wait(data: Any) -> str:
    """Awaits for too long."""
    try:
        await asyncio.sleep(LONG)
    except DeadlineError:
        await asyncio.sleep(0)
        return "cleaned up"
    return "never interrupted"


async def wait_through(data: Any) -> None:
    """The same, without a clean-up."""
    await asyncio.sleep(LONG)


def double(data: Any) -> Any:
    """A quick one."""
    return 2 * data


async def double_later(data: Any) -> Any:
    """A quick coroutine."""
    await asyncio.sleep(0)
    return 2 * data
