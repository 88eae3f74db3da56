"""Handlers and hooks that the contract sends to workers, wherever those run: they import little.

A handler tells its test through files: they look the same from every thread and every process.

Past 600 lines, because children import one module of handlers, with a few lines for each promise.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time

from pytoweb.workers import BatchItemError, current_message, current_worker

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

WAIT = 10.0
"""Seconds after which a handler gives up that waits for its test."""

POLL = 0.002
"""Seconds between two looks at a file."""

color = contextvars.ContextVar("color", default="none")


def wait_for(path: Any) -> None:
    """Waits until something stands in a file, which all processes see at once."""
    deadline = time.monotonic() + WAIT
    while not os.path.exists(path) or os.path.getsize(path) == 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} never came")
        time.sleep(POLL)


def note(path: Any, *words: object) -> None:
    """Adds a line to a file, in one write, so that processes do not mix theirs."""
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(number)


def noted(path: Any) -> list[str]:
    """The lines of such a file."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


class Gate:
    """A handler that says that it was entered, waits to be let through, and returns its data."""

    def __init__(self, directory: Any) -> None:
        self.directory = str(directory)

    def path(self, name: str) -> str:
        """A file of the gate."""
        return os.path.join(self.directory, name)

    def __call__(self, data: Any = None) -> Any:
        """Handles a message."""
        note(self.path("entered"), os.getpid(), data)
        wait_for(self.path("opened"))
        return data

    def wait_entered(self) -> None:
        """Waits until a handler stands in the gate."""
        wait_for(self.path("entered"))

    def pids(self) -> list[int]:
        """The processes that came here, in order."""
        return [int(line.split()[0]) for line in noted(self.path("entered"))]

    def open(self) -> None:
        """Lets through all that stand here or come later."""
        note(self.path("opened"), "from now on")


# Handlers of the contract's workers.


def echo(data: Any) -> Any:
    """Returns its data."""
    return data


def add_one(number: int) -> int:
    """Returns something else than its data."""
    return number + 1


def write(data: Any) -> None:
    """Adds the second of its data to the file that the first one names."""
    note(data[0], data[1])


def come_and_go(path: Any, number: int) -> int:
    """Says that it begins and that it ends, and gives others the time to be between the two."""
    note(path, "in", number)
    time.sleep(0.001)
    note(path, "out", number)
    return number


def come_and_go_with(data: Any) -> Any:
    """The same of a message."""
    return come_and_go(*data)


def stay() -> int:
    """Takes half a millisecond of its process, whose number it returns."""
    until = time.perf_counter() + 0.0005
    while time.perf_counter() < until:
        pass
    return os.getpid()


def fail_until(data: Any) -> int:
    """Writes down which attempt it is, and fails before that of the second of its data."""
    message = current_message()
    assert message is not None
    note(data[0], message.attempt)
    if message.attempt < data[1]:
        raise ValueError(f"attempt {message.attempt}")
    return message.attempt


def fail(data: Any) -> None:
    """Raises."""
    raise ValueError(data)


def look(data: Any) -> str:
    """Returns the color of its context."""
    return color.get()


def note_color(path: Any) -> None:
    """Writes the color of its context to a file."""
    note(path, color.get())


def change_color(data: Any) -> str:
    """Returns the color of its context, and changes it."""
    seen = color.get()
    color.set(data)
    return seen


def describe(data: Any) -> dict[str, Any]:
    """Returns all that a handler can know of its message."""
    message, worker = current_message(), current_worker()
    assert message is not None
    return {
        "type": message.type,
        "data": message.data,
        "id": message.id,
        "worker": message.worker,
        "attempt": message.attempt,
        "cancelled": message.cancelled,
        "current_worker": getattr(worker, "name", None),
    }


def listen(path: Any) -> str:
    """Notes that it has begun, and ends once it is asked to."""
    message = current_message()
    assert message is not None
    note(path, "entered")
    deadline = time.monotonic() + WAIT
    while not message.cancelled:
        if time.monotonic() > deadline:
            raise TimeoutError("it was never asked to stop")
        time.sleep(POLL)
    note(path, "asked")
    return "left early"


# The same as coroutines.


async def echo_later(data: Any) -> Any:
    """Returns its data."""
    await asyncio.sleep(0)
    return data


async def meet(data: Any) -> Any:
    """Returns once so many are here as it says."""
    path, count = data
    note(path, "here")
    deadline = time.monotonic() + WAIT
    while len(noted(path)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the others never came")
        await asyncio.sleep(POLL)
    return count


async def fail_later(data: Any) -> None:
    """Raises."""
    await asyncio.sleep(0)
    raise ValueError(data)


async def look_later(data: Any) -> str:
    """Returns the color of its context."""
    await asyncio.sleep(0)
    return color.get()


async def describe_later(data: Any) -> dict[str, Any]:
    """Returns all that a coroutine can know of its message."""
    await asyncio.sleep(0)
    return describe(data)


async def pass_gate(data: Any) -> Any:
    """Notes its begin and its end, and waits in between without holding up the event loop."""
    directory, name = data
    steps = os.path.join(directory, "steps")
    note(steps, "begin", name)
    deadline = time.monotonic() + WAIT
    try:
        while not os.path.exists(os.path.join(directory, "opened")):
            if time.monotonic() > deadline:
                raise TimeoutError("the gate was never opened")
            await asyncio.sleep(POLL)
    except asyncio.CancelledError:
        note(steps, "cancelled", name)
        raise
    note(steps, "end", name)
    return name


# Hooks.


def initialize(path: Any, word: str) -> None:
    """An initializer."""
    note(path, word)


def fail_to_initialize() -> None:
    """An initializer that raises."""
    raise OSError("no database today")


class NotingHook:
    """A start hook that notes that it ran, and raises as often as it is told."""

    def __init__(self, path: Any, failures: int = 0) -> None:
        self.path = str(path)
        self.failures = failures

    def __call__(self) -> None:
        """Runs before the first message."""
        note(self.path, "start")
        starts = len(noted(self.path))
        if starts <= self.failures:
            raise RuntimeError(f"start {starts} failed")


PLAIN = (echo, add_one, write, fail, look, change_color, describe, listen)
"""The handlers that the workers of the contract have, each by its name."""


def note_batch(items: list[Any]) -> list[Any]:
    """Writes the numbers of a batch down as a line, and returns them."""
    numbers = [number for _, number in items]
    note(items[0][0], *numbers)
    return numbers


class Constant:
    """A handler that returns always the same."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, data: Any) -> Any:
        """Handles a message, or a batch."""
        return self.result


def fail_odd(items: list[int]) -> list[int]:
    """Fails a batch that begins with an odd number."""
    if items[0] % 2:
        raise ValueError(f"odd: {items[0]}")
    return items


def fail_odd_items(items: list[int]) -> list[Any]:
    """Fails each odd number of a batch."""
    return [BatchItemError(0, ValueError(f"odd: {item}")) if item % 2 else item for item in items]


def fail_batch_until(items: list[Any]) -> list[Any]:
    """Writes a batch down as a line, and fails it before the attempt that its first message says."""
    message = current_message()
    assert message is not None
    path, _, attempt = items[0]
    note(path, *(number for _, number, _ in items))
    if message.attempt < attempt:
        raise ValueError(f"attempt {message.attempt}")
    return [number for _, number, _ in items]


def fail_each_until(items: list[Any]) -> list[Any]:
    """Writes a batch down as a line; each message fails so many times as it says."""
    note(items[0][0], *(number for _, number, _ in items))
    for path, number, _ in items:
        note(f"{path}.{number}", "tried")

    def result(path: Any, number: int, times: int) -> Any:
        if len(noted(f"{path}.{number}")) > times:
            return number
        return BatchItemError(0, ValueError(f"{number} failed"))

    return [result(*item) for item in items]


def crash_once_together(items: list[Any]) -> list[Any]:
    """Writes a batch down as a line, and ends its process the first time."""
    path = items[0][0]
    first = not noted(path)
    note(path, *(number for _, number in items))
    if first:
        os._exit(3)
    return [number for _, number in items]


class Unsendable(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.held = open(os.devnull, "rb")  # noqa: SIM115

    def __del__(self) -> None:
        self.held.close()


class Unmade(Exception):
    """One that can, and cannot be made again."""

    def __init__(self, text: str, more: int) -> None:
        super().__init__(text)


def reply_strangely(items: list[str]) -> list[Any]:
    """Returns errors and results that no other process gets."""
    replies = {
        "plain": "plain",
        "error": BatchItemError(0, Unsendable("on purpose")),
        "unmade": BatchItemError(0, Unmade("on purpose", 1)),
        "result": threading.Lock(),
    }
    return [replies[item] for item in items]


def crash_together(items: list[Any]) -> None:
    """Ends its process."""
    os._exit(3)


def raise_item(items: list[int]) -> None:
    """Fails the message of a batch at the index that it has as its data."""
    raise BatchItemError(items[0], KeyError("on purpose"))


def until_cancelled(items: list[Any]) -> None:
    """Notes its looks at whether it is cancelled, until it is."""
    message = current_message()
    assert message is not None
    deadline = time.monotonic() + WAIT
    while not message.cancelled and time.monotonic() < deadline:
        note(items[0], "goes on")
        time.sleep(POLL)
    note(items[0], "cancelled")


def wait_for_more(path: Any, lines: int = 5) -> None:
    """Waits until so many more lines stand in a file."""
    before = len(noted(path))
    deadline = time.monotonic() + WAIT
    while len(noted(path)) < before + lines:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} does not go on")
        time.sleep(POLL)


async def double_later(items: list[int]) -> list[Any]:
    """Doubles a batch, on an event loop; a negative number fails, and a batch that begins with 0 does."""
    await asyncio.sleep(0.001)
    if items[0] == 0:
        raise ZeroDivisionError
    return [BatchItemError(0, ValueError("negative")) if item < 0 else item * 2 for item in items]


async def sleep_and_note(items: list[Any]) -> None:
    """Sleeps until it is cancelled."""
    note(items[0], "begun")
    try:
        await asyncio.sleep(WAIT)
    except asyncio.CancelledError:
        note(items[0], "cancelled")
        raise


def emit_each(events: list[tuple[str, Any]]) -> int:
    """Emits events, each by name with its data."""
    worker = current_worker()
    assert worker is not None
    for name, data in events:
        worker.emit(name, data)
    return len(events)


async def emit_each_later(events: list[tuple[str, Any]]) -> int:
    """The same from a coroutine."""
    worker = current_worker()
    assert worker is not None
    for name, data in events:
        worker.emit(name, data)
        await asyncio.sleep(0)
    return len(events)


def emit_many(limit: int) -> int:
    """Emits so many numbers."""
    worker = current_worker()
    assert worker is not None
    for number in range(limit):
        worker.emit("number", number)
    return limit


def emit_wrongly(how: str) -> str:
    """Emits what cannot be, and says what that raised."""
    worker = current_worker()
    assert worker is not None
    try:
        if how == "name":
            worker.emit(5)  # type: ignore[arg-type]
        else:
            worker.emit("number", (number for number in [5]))
    except Exception as error:
        return type(error).__name__
    return "nothing"


def _progress(*report: Any) -> None:
    worker = current_worker()
    assert worker is not None
    worker.progress(*report)


def report_each(reports: list[tuple[Any, ...]]) -> int:
    """Reports its progress, each time with what it gets."""
    for report in reports:
        _progress(*report)
    return len(reports)


async def report_each_later(reports: list[tuple[Any, ...]]) -> int:
    """The same from a coroutine."""
    for report in reports:
        _progress(*report)
        await asyncio.sleep(0)
    return len(reports)


def report_and_pass(gate: Gate) -> str:
    """Reports its progress before a gate and after it."""
    for done in (1, 2):
        _progress(done)
    _progress(3, None, "before the gate")
    gate()
    _progress(4, 4)
    return "passed"


def report_much(limit: int) -> int:
    """Reports its progress so many times."""
    for done in range(1, limit + 1):
        _progress(done, limit)
    return limit


class _Nan:
    """A number of another type."""

    def __float__(self) -> float:
        return float("nan")


def report_wrongly(how: str) -> str:
    """Reports what is none, and says what that raised."""
    reports: dict[str, tuple[Any, ...]] = {
        "done": ("1",),
        "total": (1, "2"),
        "text": (1, 2, 3),
        "bool": (True,),
        "nan": (float("nan"),),
        "infinite": (float("inf"), 2),
        "negative": (-1,),
        "long": (-(10**30),),
        "converted": (_Nan(),),
        "nan total": (1, float("nan")),
        "infinite total": (1, float("inf")),
        "negative total": (1, -0.5),
    }
    report = reports[how]
    try:
        _progress(*report)
    except Exception as error:
        return type(error).__name__
    return "nothing"


def report_and_yield(limit: int) -> Any:
    """Answers with so many numbers, and reports the progress of that."""
    for number in range(limit):
        _progress(number + 1, limit)
        yield number


def count(data: Any) -> Any:
    """Yields as many numbers as it is asked for."""
    yield from range(data)


async def count_later(data: Any) -> Any:
    """The same, and lets others run in between."""
    for number in range(data):
        if number % 3 == 0:
            await asyncio.sleep(0)
        yield number


def count_and_fail(data: Any) -> Any:
    """Yields numbers, and fails."""
    yield from range(data)
    raise ValueError("no more")


async def count_and_fail_later(data: Any) -> Any:
    """The same, as a coroutine."""
    for number in range(data):
        yield number
    raise ValueError("no more")


def count_on(path: Any) -> Any:
    """Yields numbers without end, and notes each, and its own end."""
    number = 0
    try:
        while True:
            note(path, number)
            yield number
            number += 1
    finally:
        note(path, "closed")


async def count_on_later(path: Any) -> Any:
    """The same, as a coroutine."""
    number = 0
    try:
        while True:
            note(path, number)
            yield number
            number += 1
            await asyncio.sleep(0)
    finally:
        note(path, "closed")


async def stand_still(path: Any) -> Any:
    """Yields once, and awaits for ever."""
    note(path, "begun")
    try:
        yield 0
        await asyncio.get_running_loop().create_future()
    finally:
        note(path, "closed")


def pass_item(data: Any) -> Any:
    """Yields before and after it passes the gate."""
    yield "before"
    data()
    yield "after"


def describe_stream(data: Any) -> Any:
    """Yields what it finds around itself, twice."""
    for _ in range(2):
        message = current_message()
        assert message is not None
        yield message.type, message.data, color.get(), os.getpid()


def note_item(data: Any) -> None:
    """Notes a number in a file."""
    path, number = data
    note(path, number)
