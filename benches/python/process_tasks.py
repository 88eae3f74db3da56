"""What the children of every side run: in a module of its own, so that each of them can import it."""

from __future__ import annotations

import os
from typing import Any


def noop(data: Any) -> Any:
    """The handler of the rows about messages: hands its argument back."""
    return data


def spin(loops: int) -> int:
    """The handler of the row about computing: a loop that holds the interpreter lock all the time."""
    total = 0
    for number in range(loops):
        total = (total * 31 + number) & 0xFFFF
    return total


def process_id(_data: Any = None) -> int:
    """Tells which process it runs in."""
    return os.getpid()
