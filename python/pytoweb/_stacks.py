"""The frames of handlers: on a thread from the handler on, and of a coroutine that waits."""

from __future__ import annotations

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

__all__ = ["MOST_FRAMES", "awaited_frames", "frames_within"]

#: Frames of one stack; of a deeper one the outer ones are left out.
MOST_FRAMES = 60


def frames_within(frame: FrameType | None, outer: object) -> list[FrameType]:
    """The frames from ``frame`` out to the one that runs the code ``outer``, which is left out."""
    frames = []
    while frame is not None and frame.f_code is not outer:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def awaited_frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, and of what it waits for."""
    for _ in range(MOST_FRAMES * 2):
        for prefix, after in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                awaited = getattr(awaited, after, None)
                break
        else:
            return
