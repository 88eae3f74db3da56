"""What a program says, as text for a terminal."""

from __future__ import annotations

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["printable", "seconds_text", "stack_lines"]


#: Of short times: what is below so many seconds, times so much, has this unit.
UNITS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (100.0, 1.0, "s"))


def printable(text: object) -> str:
    """Text of the program without what would move the cursor of this terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def seconds_text(seconds: float | None) -> str:
    """A time in a few letters."""
    if seconds is None:
        return "-"
    if seconds < 100:
        factor, unit = next((factor, unit) for limit, factor, unit in UNITS if seconds < limit)
        part = seconds * factor
        return f"{part:.3g}{unit}" if part < 100 else f"{part:.0f}{unit}"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def stack_lines(stacks: list[dict[str, Any]]) -> Iterator[str]:
    """The stacks of handlers as a traceback shows them."""
    if not stacks:
        yield "no handler runs"
    for number, entry in enumerate(stacks):
        if number:
            yield ""
        worker, pool = entry["worker"], entry["pool"]
        place = repr(worker) if pool in (None, worker) else f"{worker!r} of pool {pool!r}"
        where = (
            f"process {entry['pid']}"
            if entry["where"] == "process"
            else f"{entry['where']}, {entry['thread'] or 'a thread'}"
        )
        parts = [f"{printable(entry['type'])!r} in {printable(place)} ({printable(where)})"]
        if entry["id"] is not None:
            parts.append(f"id {printable(entry['id'])!r}")
        if entry["attempt"] > 1:
            parts.append(f"attempt {entry['attempt']}")
        if entry["seconds"] is not None:
            parts.append(f"for {seconds_text(entry['seconds'])} or longer")
        yield ", ".join(parts)
        for frame in entry["stack"]:
            file, line, function = printable(frame["file"]), frame["line"], printable(frame["function"])
            yield f'  File "{file}", line {line}, in {function}'
            if frame["code"]:
                yield f"    {printable(frame['code'])}"
        if not entry["stack"]:
            child = entry["where"] == "process"
            yield "  its stack is in the child" if child else "  no Python code: a native function runs"
