"""Payloads, results and exceptions that pickle or unpickle badly, on either side, by each way in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import process_handlers as handlers

from .row import Trial, row
from .unpicklable import PAYLOADS, RESULTS, bad, fail_with, give, in_child, take

LIMIT = 5.0
"""Seconds within which each of them must be known."""


class Ways:
    """The ways in: each gives the exception that the sender gets."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.worker = trial.worker("pickling", [take, give, fail_with, handlers.echo])
        self.worker.on_start(in_child)
        self.worker.start()
        self.pool = trial.pool(1, initializer=in_child)
        self.replies: list[BaseException] = []
        self.replied = threading.Event()
        self.worker.on_message("error", self._error)
        self.all: dict[str, Callable[[str, Any], Any]] = {
            "ask": self.ask, "post": self.post, "with an id": self.with_id, "submit": self.submit,
            "await": self.wait, "in a callback": self.in_callback,
        }  # fmt: skip

    def _error(self, message: Any) -> None:
        self.replies.append(message.data["error"])
        self.replied.set()

    def ask(self, kind: str, data: Any) -> Any:
        return _error_of(self.worker.ask(kind, data))

    def post(self, kind: str, data: Any) -> Any:
        told = len(self.worker.errors)
        self.worker.post_message(kind, data)
        self.worker.run_until_idle(LIMIT)
        return self.worker.errors.all[-1][1] if len(self.worker.errors) == told + 1 else None

    def with_id(self, kind: str, data: Any) -> Any:
        self.replied.clear()
        self.worker.post_message(kind, data, "an id")
        return self.replies[-1] if self.replied.wait(LIMIT) else None

    def submit(self, kind: str, data: Any) -> Any:
        function = {"take": take, "give": give, "fail_with": fail_with}[kind]
        return _error_of(self.pool.submit(function, data))

    def wait(self, kind: str, data: Any) -> Any:
        async def main() -> Any:
            try:
                return await self.worker.ask(kind, data, timeout=LIMIT)
            except BaseException as error:
                # An interruption is not to end the loop, as it would from a task that wraps the future.
                return error

        return asyncio.run(main())

    def in_callback(self, kind: str, data: Any) -> Any:
        """Asked in the callback of another future; and the callback of this one asks again."""
        told: list[Any] = []
        over = threading.Event()

        def second(future: Any) -> None:
            try:
                told.append(future.exception())
            except BaseException as error:
                told.append(error)
            # The thread that calls callbacks must be able to go on.
            self.worker.ask("echo", 1).add_done_callback(lambda _: over.set())

        def first(_: Any) -> None:
            try:
                self.worker.ask(kind, data).add_done_callback(second)
            except BaseException as error:
                told.append(error)
                over.set()

        self.worker.ask("echo", 0).add_done_callback(first)
        return told[0] if over.wait(LIMIT) and told else None

    def serve(self) -> bool:
        """Whether both still do."""
        asked, called = self.worker.ask("echo", 1), self.pool.submit(pow, 2, 2)
        return self.trial.outcome(asked).value == 1 and self.trial.outcome(called).value == 4


def _error_of(future: Any) -> BaseException | None:
    """What the sender gets; an interruption of the unpickling passes, and comes again when asked again."""
    error: BaseException | None
    try:
        error = future.exception(LIMIT)
    except (SystemExit, KeyboardInterrupt) as interruption:
        try:
            future.result(0)
        except type(interruption):
            return interruption
        raise AssertionError("the reply cannot be asked for again") from None
    return error


def _interruption(kind: str, name: str, way: str) -> type[BaseException] | None:
    """What passes to the sender as it is, because it was raised in the sender's own call.

    Exceptions of handlers, and replies by id, are unpickled on threads of the pool.
    """
    where, _, what = name.partition(" ")
    in_call = where == "home" or (kind == "give" and where == "host" and way != "with an id")
    return {"exits": SystemExit, "interrupts": KeyboardInterrupt}.get(what) if in_call else None


@row("bad-pickles", 120)
def bad_pickles(trial: Trial) -> None:
    """Every combination of what goes wrong, where, and how it was sent."""
    from pytoweb.workers import HandlerError, SerializationError, WorkerCrashedError

    ways = Ways(trial)
    other = late = dead = 0
    cases = [("take", name) for name in PAYLOADS]
    cases += [(kind, name) for kind in ("give", "fail_with") for name in RESULTS]
    for kind, name in cases * trial.count(10):
        for way, send in ways.all.items():
            began = time.monotonic()
            try:
                error = send(kind, bad(name) if kind == "take" else name)
            except BaseException as raised:
                error = raised
            late += time.monotonic() - began > LIMIT
            wanted: Any = HandlerError if kind == "fail_with" else SerializationError
            if name.endswith((" leaves", " crashes")):
                wanted = WorkerCrashedError
            wanted = _interruption(kind, name, way) or wanted
            if kind == "give" and way == "post":
                # No caller asked for the result, so it is not pickled.
                wanted = type(None)
            if not isinstance(error, wanted):
                other += 1
                trial.logged.append(f"{kind} {name}, {way}: {type(error).__name__}: {str(error)[:150]}")
            if not ways.serve():
                dead += 1
                trial.logged.append(f"{kind} {name}, {way}: it serves no more")
            trial.injected += 1
    trial.exactly("other errors", other)
    trial.exactly("later than 5 s", late)
    trial.exactly("worker did not serve on", dead)
