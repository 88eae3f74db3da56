"""Modules of others that are used where the program has imported them, and not imported for that."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["imported"]


def imported(name: str) -> Any:
    """The module of that name, or None where the program has not imported it.

    One that another thread is just importing is in ``sys.modules`` without half of its names: this waits for
    it.
    """
    module = sys.modules.get(name)
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        import importlib

        return importlib.import_module(name)
    return module
