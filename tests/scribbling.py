"""Handlers that write into the memory that their process shares with its host, as a wild pointer would.

Where what lies is the business of `crates/process/README.md`.
"""

from __future__ import annotations

import ctypes

CLAIMS = (4096, 4096)
BELLS = (640, 192)
COUNTS = (128, 448)
RINGS = (8192, 2 * 262144)


def _ring() -> int:
    """Where the memory begins in this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "pytoweb-ring" in line:
                return int(line.split("-")[0], 16)
    raise LookupError("no memory is shared here")


def fill(what: tuple[int, int, int]) -> str:
    """Fills some bytes of it with one value."""
    offset, length, value = what
    ctypes.memset(_ring() + offset, value, length)
    return "written"
