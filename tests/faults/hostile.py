"""Exceptions that resist: what handlers of the fault run raise, and what must be told of it."""

from __future__ import annotations

import threading
from typing import Any


class Halt(BaseException):
    """None of `Exception`'s kind."""


OUTSIDERS: dict[str, type[BaseException]] = {
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "own": Halt,
}


def raise_outsider(name: str) -> None:
    raise OUTSIDERS[name](3)


async def raise_outsider_later(name: str) -> None:
    raise OUTSIDERS[name](3)


def raise_again(kind: Any, *args: Any) -> Any:
    """What a pickle calls that raises where it is read."""
    raise kind(*args)


class TwoArguments(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str failed")


class ExitingStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)

    __repr__ = __str__


class BadRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("repr failed")


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("reduce failed")


class ExitingReduce(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(5)


class BadRebuild(Exception):
    def __reduce__(self) -> Any:
        return raise_again, (RuntimeError, "rebuild failed")


class ExitingRebuild(Exception):
    def __reduce__(self) -> Any:
        return raise_again, (SystemExit, 5)


class InterruptingRebuild(Exception):
    def __reduce__(self) -> Any:
        return raise_again, (KeyboardInterrupt,)


class BadState(Exception):
    def __reduce__(self) -> Any:
        return BadState, self.args, {"state": 1}

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("setstate failed")


class NoException(Exception):
    def __reduce__(self) -> Any:
        return str, ("no exception",)


class BadGetattr(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("getattr failed")


class OddNames(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__"):
            raise RuntimeError(f"{name} failed")
        return super().__getattribute__(name)


class OddName(Exception, metaclass=OddNames):
    pass


def chained(length: int) -> BaseException:
    error: BaseException = ValueError("text")
    for _ in range(length):
        outer = ValueError("text")
        outer.__cause__ = error
        error = outer
    return error


def circular() -> BaseException:
    first, second = ValueError("text"), ValueError("text")
    first.__cause__, second.__cause__ = second, first
    return first


def nested() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


RAISED: dict[str, Any] = {
    "two arguments": lambda: TwoArguments("text", "more"),
    "str raises": lambda: BadStr("text"),
    "str exits": lambda: ExitingStr("text"),
    "repr raises": lambda: BadRepr("text"),
    "reduce raises": lambda: BadReduce("text"),
    "reduce exits": lambda: ExitingReduce("text"),
    "rebuild raises": lambda: BadRebuild("text"),
    "rebuild exits": lambda: ExitingRebuild("text"),
    "rebuild interrupts": lambda: InterruptingRebuild("text"),
    "setstate raises": lambda: BadState("text"),
    "no exception": lambda: NoException("text"),
    "getattr raises": lambda: BadGetattr("text"),
    "names raise": lambda: OddName("text"),
    "a lock": lambda: ValueError("text", threading.Lock()),
    "half a character": lambda: ValueError("text \ud800"),
    "half a character and a lock": lambda: ValueError("text \ud800", threading.Lock()),
    "a null character": lambda: ValueError("text \0"),
    "ten megabytes": lambda: ValueError("text" * 2_500_000),
    "ten megabytes and a lock": lambda: ValueError("text" * 2_500_000, threading.Lock()),
    "a long chain": lambda: chained(5000),
    "a circle": circular,
    "too deep to pickle": lambda: ValueError("text", nested()),
}

HOSTILE: dict[str, tuple[str, str]] = {
    **dict.fromkeys(RAISED, ("ValueError", "text")),
    "two arguments": ("TwoArguments", "text and more"),
    "str raises": ("BadStr", ""),
    "str exits": ("ExitingStr", ""),
    "repr raises": ("BadRepr", "text"),
    "reduce raises": ("BadReduce", "text"),
    "reduce exits": ("ExitingReduce", "text"),
    "rebuild raises": ("BadRebuild", "text"),
    "rebuild exits": ("ExitingRebuild", "text"),
    "rebuild interrupts": ("InterruptingRebuild", "text"),
    "setstate raises": ("BadState", "text"),
    "no exception": ("NoException", "text"),
    "getattr raises": ("BadGetattr", "text"),
    "names raise": ("OddName", ""),
    "too deep to pickle": ("ValueError", ""),
}
"""What an error must show of each: the name of its type, and its text where it has one."""


def raise_hostile(name: str) -> None:
    raise RAISED[name]()
