"""Handlers of `test_containment.py`, on either backend: they end a run of their event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

TASKS: list[Any] = []


async def exit_later() -> None:
    """Exits, in a task of its own."""
    raise SystemExit("from a background task")


async def interrupt_later() -> None:
    """Interrupts, in a task of its own."""
    raise KeyboardInterrupt


async def leave_an_exit(data: Any) -> Any:
    """Leaves a task behind that raises `SystemExit`."""
    TASKS.append(asyncio.ensure_future(exit_later()))
    return data


async def leave_an_interrupt(data: Any) -> Any:
    """Leaves a task behind that raises `KeyboardInterrupt`."""
    TASKS.append(asyncio.ensure_future(interrupt_later()))
    return data


async def stop_the_loop(data: Any) -> Any:
    """Stops the loop, as some libraries do."""
    asyncio.get_running_loop().stop()
    return data


async def exit_in_a_callback(data: Any) -> Any:
    """Has the loop call a function that raises `SystemExit`."""

    def leave() -> None:
        raise SystemExit("from a callback")

    asyncio.get_running_loop().call_soon(leave)
    return data


BREAKERS = {
    handler.__name__: handler
    for handler in (leave_an_exit, leave_an_interrupt, stop_the_loop, exit_in_a_callback)
}


async def echo_later(data: Any) -> Any:
    """Returns its data, after a turn of the loop."""
    await asyncio.sleep(0)
    return data


def log_as(named: tuple[str, str]) -> None:
    """Logs a line with the logger of that name."""
    name, text = named
    logging.getLogger(name).warning(text)
