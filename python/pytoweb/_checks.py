"""What callers may pass to workers and pools, checked at the call that passes it."""

from __future__ import annotations

import operator
import os
import sys
import types

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    C = TypeVar("C", bound=type)

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_PROCESSES",
    "MAX_THREADS",
    "PROCESS_OPTIONS",
    "checked_backend",
    "checked_count",
    "checked_initargs",
    "checked_name",
    "checked_options",
    "checked_overflow",
    "checked_size",
    "checked_text",
    "named_by_themselves",
    "refuse_process_options",
]

#: How many times a message can be begun.
MAX_ATTEMPTS = 2**32 - 1

#: How large a pool can be: far more than a system runs side by side.
MAX_PROCESSES = 4_096
MAX_THREADS = 1_000_000

OVERFLOWS = ("block", "reject", "drop_newest", "drop_oldest")


def named_by_themselves(cls: C) -> C:
    """A decorator for classes that users do not know: wrong calls of their methods name these alone."""
    for name, method in vars(cls).items():
        if not name.startswith("_") and isinstance(method, types.FunctionType):
            method.__qualname__ = name
    return cls


def checked_options(options: Mapping[str, object], taken: Mapping[str, object], call: str) -> None:
    """Refuses keywords that ``call`` passes on to one that does not take them."""
    for name in options:
        if name not in taken or name.startswith("_"):
            raise TypeError(f"{call} got an unexpected keyword argument {name!r}")


def checked_name(name: object) -> str:
    """``name``, if it can name a worker or a pool."""
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a name must not be empty")
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(
            f"a name must be text that threads can have, without NUL and lone surrogates, not {name!r}"
        )
    return name


def checked_text(text: object, what: str) -> str:
    """``text``, if it can name something that others read: a log, a page, another process."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        # As the native half says it of what is posted.
        raise ValueError(f"{what} must be text without lone surrogates, not {text!r}")
    return text


def checked_backend(backend: object) -> str:
    """``backend``, if it can run here."""
    if backend not in ("thread", "process"):
        raise ValueError(f"unknown backend {backend!r}: use 'thread' or 'process'")
    if backend == "process" and os.name != "posix":
        raise ValueError("the backend 'process' needs a POSIX system; use 'thread' here")
    return str(backend)


#: Options that only process workers have, and their defaults.
PROCESS_OPTIONS: dict[str, Any] = {
    "max_attempts": 1,
    "max_messages": None,
    "max_memory": None,
    "max_restarts": 3,
    "restart_window": 5.0,
    "grace": 0.1,
    "start_timeout": 60.0,
    "transport": None,
}


def refuse_process_options(given: dict[str, Any]) -> None:
    """Refuses options that would do nothing for threads."""
    for name, value in given.items():
        if value != PROCESS_OPTIONS[name]:
            raise ValueError(
                f"{name} is for backend='process': a thread is not replaced, and does not crash alone"
            )


def checked_count(value: object, what: str, least: int = 1, most: int = sys.maxsize) -> int:
    """``value``, if it is a whole number in these limits, of any type that has an ``__index__``."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    count = operator.index(value)  # type: ignore[arg-type]
    if count < least:
        raise ValueError(f"{what} must be at least {least}, not {count}")
    if count > most:
        raise ValueError(f"{what} must be at most {most}, not {count}")
    return count


def checked_size(value: object, backend: str) -> int:
    """``value``, if a pool can have so many threads or processes."""
    most = MAX_PROCESSES if backend == "process" else MAX_THREADS
    return checked_count(value, "size", most=most)


def checked_initargs(initargs: object) -> tuple[Any, ...]:
    """``initargs`` as a tuple, if they are arguments."""
    try:
        return tuple(initargs)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"initargs must be a tuple of arguments, not {type(initargs).__name__}") from None


def checked_overflow(overflow: object) -> str:
    """``overflow``, if it names a policy."""
    if overflow not in OVERFLOWS:
        raise ValueError(f"unknown overflow {overflow!r}: use one of {', '.join(map(repr, OVERFLOWS))}")
    return str(overflow)
