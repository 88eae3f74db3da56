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
        return self.trial.outcome(self.worker.ask(kind, data), LIMIT).error

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
        return self.trial.outcome(self.pool.submit(function, data), LIMIT).error

    def wait(self, kind: str, data: Any) -> Any:
        async def main() -> Any:
            try:
                return await asyncio.wait_for(self.worker.ask(kind, data), LIMIT)
            except Exception as error:
                return error

        return asyncio.run(main())

    def in_callback(self, kind: str, data: Any) -> Any:
        """Asked in the callback of another future; and the callback of this one asks again."""
        told: list[Any] = []
        over = threading.Event()

        def second(future: Any) -> None:
            told.append(future.exception())
            # Whoever calls callbacks must be able to go on.
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
            if kind == "give" and way == "post":
                # Nobody asked for the result, so it is not pickled.
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
