"""User code on threads of ours: what it raises ends there and is told, and the thread goes on.

Reply handlers, hooks and callbacks are such code, and so is all logging: a filter or a handler of the user's
may raise.
"""

from __future__ import annotations

from pytoweb._core import write_unraisable

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def contained(function: Callable[..., object], *args: Any) -> None:
    """Calls ``function(*args)``; what it raises goes to ``sys.unraisablehook``."""
    try:
        function(*args)
    except BaseException as error:
        write_unraisable(error, function)
