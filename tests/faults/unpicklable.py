"""Things that pickle or unpickle badly, in the host or in a child."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

CHILD = False
"""Set in child processes, by the worker's start hook."""


def in_child() -> None:
    """Says that this process is a child."""
    global CHILD
    CHILD = True


def act(way: str) -> Any:
    """What goes wrong, where it is called."""
    if way == "raises":
        raise ArithmeticError("not here")
    if way == "exits":
        raise SystemExit(5)
    if way == "interrupts":
        raise KeyboardInterrupt
    if way == "leaves":
        os._exit(66)
    if way == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    return "fine"


class AtDump:
    """Acts when it is pickled in a child."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __reduce__(self) -> Any:
        if CHILD:
            act(self.way)
        return AtDump, (self.way,)


class AtHome(AtDump):
    """Acts when it is pickled in the host."""

    def __reduce__(self) -> Any:
        if not CHILD:
            act(self.way)
        return AtHome, (self.way,)


class AtState:
    """Acts when it is unpickled where `there` says: in a child, or in the host."""

    def __init__(self, way: str, there: bool) -> None:
        self.way, self.there = way, there

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        if self.there == CHILD:
            act(self.way)


class Carrier(Exception):
    """An exception with one of them."""


def bad(name: str) -> Any:
    """One of them, by its name."""
    if name == "a lock":
        return threading.Lock()
    where, _, way = name.partition(" ")
    kinds = {"dump": AtDump, "home": AtHome}
    return kinds[where](way) if where in kinds else AtState(way, where == "child")


PAYLOADS = (
    "a lock", "home raises", "home exits", "home interrupts",
    "child raises", "child exits", "child interrupts", "child leaves", "child crashes",
)  # fmt: skip
"""What is posted: refused in the host, or a trouble of the child that unpickles it."""

RESULTS = (
    "a lock", "dump raises", "dump exits", "dump interrupts", "dump leaves", "dump crashes",
    "host raises", "host exits", "host interrupts",
)  # fmt: skip
"""What is returned or raised: a trouble of the child that pickles it, or of the host that unpickles it."""


def take(data: Any) -> str:
    return "taken"


def give(name: str) -> Any:
    return bad(name)


def fail_with(name: str) -> None:
    raise Carrier("text", bad(name))
