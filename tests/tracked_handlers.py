"""Handlers of `test_release.py`, on either backend, and data that is counted for as long as it exists."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

ALIVE: weakref.WeakSet[Tracked] = weakref.WeakSet()
"""What exists in this process."""


class Tracked:
    """Data that is counted, also where it was unpickled."""

    def __init__(self) -> None:
        ALIVE.add(self)

    def __setstate__(self, state: Any) -> None:
        ALIVE.add(self)


def count(data: object = None) -> int:
    """Returns how many exist in the process of the handler."""
    return len(ALIVE)


def echo(data: Any) -> Any:
    """Returns its data."""
    return data


def fail(data: Any) -> None:
    """Fails with its data."""
    raise ValueError(data)


async def echo_later(data: Any) -> Any:
    """Returns its data, a moment later."""
    await asyncio.sleep(0)
    return data


async def fail_later(data: Any) -> None:
    """Fails with its data, a moment later."""
    await asyncio.sleep(0)
    raise ValueError(data)


async def leave_a_task(data: Any) -> Any:
    """Returns its data, and leaves a task behind that has this context."""
    task = asyncio.ensure_future(asyncio.Event().wait())
    TASKS.append(task)
    return data


TASKS: list[Any] = []


async def wait_forever(data: Any) -> None:
    """Waits until it is cancelled."""
    await asyncio.Event().wait()


HANDLERS = {
    handler.__name__: handler
    for handler in (count, echo, fail, echo_later, fail_later, leave_a_task, wait_forever)
}
