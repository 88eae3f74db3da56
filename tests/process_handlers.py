"""What the tests of process workers send to child processes, which import it from here by name.

A handler that waits gives up after `WAIT`; only those that are meant to be stopped go on forever.

Long because each handler is a few lines, and a child finds all of them by one name.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import faulthandler
import itertools
import logging
import os
import re
import signal
import threading
import time
from typing import Any

from pytoweb.testing._handlers import (
    POLL,
    WAIT,
    Gate,
    add_one,
    change_color,
    color,
    echo,
    echo_later,
    fail,
    look,
    note,
    noted,
    wait_for,
    write,
)
from pytoweb.workers import PythonWorker, WorkerDecorators, current_message, current_worker

__all__ = [
    "POLL", "WAIT", "Gate", "add_one", "change_color", "color", "echo", "echo_later", "fail", "look", "note",
    "noted", "wait_for", "write",
]  # fmt: skip
"""Those of `pytoweb.testing` have their place here too: a test needs one name for all."""

MIB = 1 << 20

shape: contextvars.ContextVar[Any] = contextvars.ContextVar("shape")
log = logging.getLogger("tests.process")
state: dict[str, Any] = {"count": 0}
"""The state of one child process."""


# Handlers that just answer.


def emit_half(data):
    """Emits events whose names are no text; returns what that raised."""
    raised = []
    for name in ("half \ud800", "\udfff"):
        try:
            current_worker().emit(name, 1)
        except Exception as error:
            raised.append(type(error).__name__)
    return raised


def pid(data: Any) -> int:
    return os.getpid()


def pids(batch: list[Any]) -> list[int]:
    return [os.getpid()] * len(batch)


def count(data: Any) -> int:
    state["count"] += 1
    return state["count"]


def length(data: Any) -> int:
    return len(data)


def thread_name(data: Any) -> str:
    return threading.current_thread().name


def describe_message(data: Any) -> dict[str, Any]:
    """What a handler can know of its message."""
    message, worker = current_message(), current_worker()
    assert message is not None
    return {
        "type": message.type,
        "data": message.data,
        "id": message.id,
        "worker": message.worker,
        "attempt": message.attempt,
        "cancelled": message.cancelled,
        "worker_name": getattr(worker, "name", None),
        "worker_type": type(worker).__name__,
        "worker_backend": getattr(worker, "backend", None),
    }


def attempt(path: str) -> int:
    """Notes and returns the attempt."""
    message = current_message()
    assert message is not None
    note(path, message.attempt, os.getpid())
    return message.attempt


def log_records(data: Any) -> None:
    """Logs at two levels, with extras and with an exception."""
    log.debug("a detail of %s", data)
    log.warning("a warning of %s", data, extra={"shop": "corner", "unpicklable": threading.Lock()})
    try:
        raise ValueError("logged, not raised")
    except ValueError:
        log.exception("it failed for %s", data)


def log_line(text: str) -> None:
    log.info("%s", text)


# Handlers that fail.


def raise_it(error: BaseException) -> None:
    raise error


def fail_deeply(data: Any) -> None:
    def innermost_function() -> None:
        raise KeyError(data)

    innermost_function()


# Handlers that end their process.


def segfault(data: Any = None) -> None:
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def abort(data: Any = None) -> None:
    os.abort()


def exit_with(code: int) -> None:
    os._exit(code)


def kill_self(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(WAIT)  # the signal comes first


def crash_noting(path: str) -> None:
    """Notes that it was begun, and ends the process."""
    attempt(path)
    os._exit(77)


def crash_first(path: str) -> int:
    """Ends the process at the first attempt, and returns the number of the second."""
    tried = attempt(path)
    if tried == 1:
        os._exit(77)
    return tried


def grow_memory(limit: int) -> str:
    """Uses more and more memory, up to `limit` bytes."""
    kept = []
    for _ in range(limit // MIB):
        kept.append(bytearray(os.urandom(4096) * 256))
    return "survived"


def grow_memory_later(data: Any) -> int:
    """Leaves a thread behind that uses `size` bytes once `path` is there."""
    path, size = data

    def grow() -> None:
        wait_for(path)
        state["kept"] = bytearray(os.urandom(4096) * (size // 4096))

    threading.Thread(target=grow, daemon=True).start()
    return os.getpid()


# Handlers that never end, each in its own way.


def loop_forever(path: Any = None) -> None:
    if path is not None:
        note(path, os.getpid())
    while True:
        pass


async def block_forever(path: Any = None) -> None:
    """Blocks the event loop, which cannot cancel it then."""
    loop_forever(path)


def hold_the_interpreter(path: Any = None) -> None:
    """A loop in C that neither lets others run nor looks at signals."""
    if path is not None:
        note(path, os.getpid())
    collections.deque(itertools.repeat(None), maxlen=0)


def backtrack(path: Any = None) -> None:
    if path is not None:
        note(path, os.getpid())
    re.match(r"(a+)+$", "a" * 100 + "b")


def deadlock(path: Any = None) -> None:
    if path is not None:
        note(path, os.getpid())
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


ENDLESS = (loop_forever, hold_the_interpreter, backtrack, deadlock)


def listen(path: str) -> str:
    """Ends once it is asked to."""
    message = current_message()
    assert message is not None
    note(path, "entered", os.getpid())
    deadline = time.monotonic() + WAIT
    while not message.cancelled:
        if time.monotonic() > deadline:
            raise TimeoutError("it was not asked to stop")
        time.sleep(POLL)
    note(path, "asked", os.getpid())
    return "left early"


# Coroutines.


async def wait_later(path: str) -> None:
    """Notes that it has begun, and waits to be cancelled."""
    note(path, "entered")
    await asyncio.sleep(WAIT)


async def pass_gate(data: Any) -> Any:
    """Notes its start and its end, and waits in between without holding up the event loop."""
    directory, name = data
    note(os.path.join(directory, "steps"), "begin", name)
    deadline = time.monotonic() + WAIT
    try:
        while not os.path.exists(os.path.join(directory, "opened")):
            if time.monotonic() > deadline:
                raise TimeoutError("the gate was never opened")
            await asyncio.sleep(POLL)
    except asyncio.CancelledError:
        note(os.path.join(directory, "steps"), "cancelled", name)
        raise
    note(os.path.join(directory, "steps"), "end", name)
    return name, os.getpid()


async def crash_later(data: Any) -> None:
    await asyncio.sleep(0)
    os._exit(77)


# What runs before messages do.


def start_with_color() -> None:
    state["color"] = "started"


def started_color(data: Any) -> Any:
    return state.get("color")


def initialize(path: str, word: str) -> None:
    state["initialized"] = word
    note(path, os.getpid(), word)


def initialized(data: Any) -> tuple[int, Any]:
    return os.getpid(), state.get("initialized")


def fail_to_initialize(path: str) -> None:
    note(path, os.getpid())
    raise ValueError("no database today")


def crash_at_start(path: str) -> None:
    note(path, os.getpid())
    os._exit(77)


class NotingHook:
    """A start hook that notes where it ran, and fails as often as it is told."""

    def __init__(self, path: Any, failures: int = 0) -> None:
        self.path = str(path)
        self.failures = failures

    def __call__(self) -> None:
        note(self.path, os.getpid())
        state["hooks"] = state.get("hooks", 0) + 1
        if state["hooks"] <= self.failures:
            raise RuntimeError(f"start {state['hooks']} failed")


class Counter(PythonWorker):
    """A worker with methods and attributes."""

    def __init__(self, name: str, first: int = 0, **options: Any) -> None:
        super().__init__(name, **options)
        self.total = first
        self.added: list[int] = []

    @WorkerDecorators.worker_method("add")
    def add(self, number: int) -> int:
        self.added.append(number)
        self.total += number
        return self.total

    @WorkerDecorators.worker_method("report")
    def report(self, data: Any) -> Any:
        return self.total, self.added, os.getpid(), self.name, current_worker() is self

    @WorkerDecorators.worker_method("both")
    @WorkerDecorators.worker_method("either")
    def name_type(self, data: Any) -> str:
        message = current_message()
        assert message is not None
        return message.type


class TenTimes(Counter):
    """Replaces a method."""

    def add(self, number: int) -> int:
        return super().add(10 * number)


@WorkerDecorators.worker_method("marked")
def marked(self: Any, data: Any) -> tuple[str, Any]:
    return self.name, data


ANSWERING = {
    one.__name__: one
    for one in (
        echo, add_one, pid, count, length, write, look, change_color, describe_message, attempt, log_records,
        log_line, fail, raise_it, fail_deeply, segfault, abort, exit_with, kill_self, crash_noting,
        crash_first, grow_memory, grow_memory_later, listen, started_color, thread_name, initialized,
        *ENDLESS,
    )
}  # fmt: skip
"""The handlers that are no coroutines, by the type of message that the fixture `remote` gives them."""


# Payloads.


def describe_payload(data: Any) -> tuple[str, Any]:
    """Type and content, as the child got them."""
    return type(data).__name__, bytes(data)


def overwrite(data: Any) -> Any:
    """Writes into what it got, and returns it."""
    data[0] = 255
    return data


def is_writable(data: Any) -> bool:
    return not memoryview(data).readonly


def make_bytes(size: int) -> bytes:
    return pattern(size)


def make_lock(data: Any) -> Any:
    return threading.Lock()


def make_explosive(data: Any) -> Any:
    """Something that the host cannot unpickle."""
    return ExplodesElsewhere()


def make_deadly(data: Any) -> Any:
    return KillsWhenPickled(os.getpid())


def pattern(size: int) -> bytes:
    """Bytes that are different at each place where a mistake could put them."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def explode_unless_in(pid: int, what: str) -> str:
    if os.getpid() != pid:
        raise LookupError(f"{what} cannot be unpickled in {os.getpid()}")
    return what


class ExplodesElsewhere:
    """Can be unpickled only in the process where it was made."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __reduce__(self) -> Any:
        return explode_unless_in, (self.home, "a delicate thing")


class CannotBePickled:
    """Refuses, with an error of its own."""

    def __reduce__(self) -> Any:
        raise ArithmeticError("not for export")


def exit_unless_in(pid: int) -> None:
    if os.getpid() != pid:
        os._exit(66)


class KillsWhenUnpickled:
    """Ends the process that unpickles it, but for the one where it was made."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __reduce__(self) -> Any:
        return exit_unless_in, (self.home,)


class KillsWhenPickled:
    """Ends the process that pickles it, if that is the one named."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> Any:
        if os.getpid() == self.pid:
            os._exit(67)
        return KillsWhenPickled, (self.pid,)


# Exceptions.


class Plain(Exception):
    """Like most."""


class WithAttributes(Exception):
    """Has more than arguments."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 0


class TwoArguments(Exception):
    """Cannot be made again from its args, so pickle fails when it is read."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str failed")


class BadRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("repr failed")


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("reduce failed")


class NotAnException(Exception):
    def __reduce__(self) -> Any:
        return str, ("not an exception",)


class Halt(BaseException):
    """None of Exception's kind."""


EXCEPTIONS = {
    "plain": lambda: Plain("text", 1),
    "attributes": lambda: WithAttributes("text"),
    "two arguments": lambda: TwoArguments("this", "that"),
    "bad str": lambda: BadStr("text"),
    "bad repr": lambda: BadRepr("text"),
    "bad reduce": lambda: BadReduce("text"),
    "not an exception": lambda: NotAnException("text"),
    "with a lock": lambda: Plain("text", threading.Lock()),
    "halt": lambda: Halt("text"),
    "system exit": lambda: SystemExit(3),
    "keyboard interrupt": lambda: KeyboardInterrupt("text"),
    "generator exit": lambda: GeneratorExit("text"),
}


def raise_named(name: str) -> None:
    raise EXCEPTIONS[name]()


def raise_with_code(code: int) -> None:
    error = WithAttributes("text")
    error.code = code
    raise error


def raise_chained(data: Any) -> None:
    try:
        raise KeyError("the first one")
    except KeyError as first:
        raise Plain("the second one") from first


for extra in (
    describe_payload, overwrite, is_writable, make_bytes, make_lock, make_explosive, make_deadly,
    raise_named, raise_with_code, raise_chained,
):  # fmt: skip
    ANSWERING[extra.__name__] = extra


def wait_until_cancelled() -> None:
    """Goes on until it is asked to stop."""
    while not current_message().cancelled:
        time.sleep(0.001)


def wait_until_cancelled_with(data: Any) -> None:
    """The same for one item."""
    wait_until_cancelled()


def refuse_to_initialize() -> None:
    """An initializer that raises."""
    raise OSError("not here")


def surround() -> Any:
    """Surrounds handlers: counts how deep they are."""
    state["depth"] = state.get("depth", 0) + 1
    yield
    state["depth"] -= 1


def look_around(data: Any) -> tuple[int, int]:
    """Says where it is and how often it is surrounded."""
    return os.getpid(), state.get("depth", 0)


async def look_around_later(data: Any) -> tuple[int, int]:
    """The same in a coroutine."""
    await asyncio.sleep(0)
    return look_around(data)
