"""What a child is told at its start, of its host as that is then."""

from __future__ import annotations

import logging
import os
import sys

from pytoweb import _interpreter, _main, _parentage

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["directories", "setup"]


def setup(name: str, number: int, known: list[str]) -> dict[str, Any]:
    """The first message to a child, but for what its pool adds.

    Args:
        name: the name of its process.
        number: its ordinal in its pool.
        known: directories that relative entries of ``sys.path`` may have meant.
    """
    return {
        "name": name,
        "number": number,
        "path": _path(known),
        "argv": list(sys.argv),
        "main": _main_origin(),
        "levels": _levels(),
        "family": _parentage.of_host(),
    }


def directories() -> list[str]:
    """Where a relative entry of ``sys.path`` may have led to so far, the earliest first."""
    found = [_interpreter.ORIGINAL_DIRECTORY, _interpreter.directory()]
    return list(dict.fromkeys(directory for directory in found if directory is not None))


def _path(known: list[str]) -> list[str]:
    """The host's, where relative entries keep what they have meant so far."""
    path: list[str] = []
    for entry in sys.path:
        path.append(entry)
        if not os.path.isabs(entry):
            # The program may have changed its directory since it imported the handlers.
            path += [os.path.join(directory, entry) if entry else directory for directory in known]
    return list(dict.fromkeys(path))


def _main_origin() -> tuple[str, str] | None:
    """How the main module can be imported again."""
    main = sys.modules.get("__main__")
    if main is None:
        return None
    # In a child of a child, perhaps not imported yet.
    known = _main.origin_of(main)
    if known is not None:
        return known
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return "name", spec.name
    path = getattr(main, "__file__", None)
    # Standard input calls itself "<stdin>".
    if path is None or path.startswith("<"):
        return None
    return "path", os.path.join(_interpreter.ORIGINAL_DIRECTORY or "", path)


def _levels() -> dict[str, int]:
    levels = {"": logging.getLogger().level}
    for name, logger in list(logging.getLogger().manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            levels[name] = logger.level
    return levels
