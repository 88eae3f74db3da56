"""The fault run: injects what must be survived, many times, and measures what becomes of the rest.

``make faults`` runs it in full, ``tests/test_faults.py`` at a fiftieth of its size. Each fault is a *row*: a
function of one of the modules here, run in an interpreter of its own. README.md beside this file says more.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .row import Row

MODULES = (
    "kills",
    "outofmemory",
    "endless",
    "exceptions",
    "pickles",
    "payloads",
    "restarts",
    "mailboxes",
    "floods",
    "balance",
    "rates",
    "locks",
    "forks",
    "exits",
    "hosts",
    "resources",
    "soak",
)


def rows() -> dict[str, Row]:
    """All rows, in order; imported late, because child processes import this package for their handlers."""
    import importlib

    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    from .row import ROWS

    return ROWS
