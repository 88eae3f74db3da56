"""The handlers of `test_stream_model.py`, in a module that a child process imports in no time."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from pytoweb.workers import current_message

Life = tuple[int, str]
"""How many numbers come before the end, and which end that is."""


def end(how: str) -> None:
    """Ends the handler in its way."""
    if how == "raise":
        raise ZeroDivisionError
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)


def numbers(life: Life) -> Any:
    count, how = life
    number = 0
    while number < count or how == "for ever":
        yield number
        number += 1
    if how == "unsendable":
        yield (item for item in ())
    while how == "stall" and not current_message().cancelled:  # type: ignore[union-attr]
        pass
    end(how)


async def numbers_later(life: Life) -> Any:
    count, how = life
    number = 0
    while number < count or how == "for ever":
        yield number
        if number % 3 == 0:
            await asyncio.sleep(0)
        number += 1
    if how == "unsendable":
        yield (item for item in ())
    if how == "stall":
        await asyncio.get_running_loop().create_future()
    end(how)
