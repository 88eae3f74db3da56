"""Kills under load: only what ran fails, nothing is handled twice, and the next child serves soon."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import deque
from typing import Any

from .book import BEGUN, ENDED, Book
from .handlers import Die, Work
from .row import WAIT, Trial, percentile, row, threads, until

PRODUCERS = 4
AHEAD = 4
"""Messages that a producer has under way."""
PAUSE = 0.02
"""Seconds within which the next kill comes, once the new child serves."""
ROOM = 8_000_000
"""Messages that the book has room for; its file has holes where nothing is written."""

ENDINGS = (
    ("outside", None, signal.SIGKILL),
    ("segfault", None, signal.SIGSEGV),
    ("exit", 0, None),
    ("exit", 1, None),
    ("exit", 77, None),
    ("abort", None, signal.SIGABRT),
)
"""How children end: the way, the exit code, the signal."""


def pid_of(error: BaseException) -> int:
    """The process that an error tells of; 0 if it tells of none."""
    found = re.search(r"process (\d+)", str(error))
    return int(found.group(1)) if found else 0


class Load:
    """Producers that post to a worker as fast as it handles, and check what comes back."""

    def __init__(self, trial: Trial, worker: Any, kind: str = "work") -> None:
        self.trial, self.worker, self.kind = trial, worker, kind
        self.over = False
        self.pid = 0
        """The child that answered last."""
        self.first_answer: dict[int, float] = {}
        """When each child answered first."""
        self.killed: set[int] = set()
        """Children whose answers may still be taken, but that are gone."""
        self.completed: list[int] = []
        self.failed: list[tuple[int, BaseException]] = []
        self.wrong = 0

    def producers(self, pause: float = 0.0) -> list[Any]:
        """One function for each producer."""
        return [lambda first=first: self._produce(first, pause) for first in range(PRODUCERS)]

    def _produce(self, number: int, pause: float) -> None:
        waiting: deque[tuple[int, Any]] = deque()
        while not self.over:
            waiting.append((number, self.worker.ask(self.kind, number)))
            number += PRODUCERS
            if len(waiting) >= AHEAD:
                self._take(*waiting.popleft())
            if pause:
                time.sleep(pause)
        for one in waiting:
            self._take(*one)

    def _take(self, number: int, future: Any) -> None:
        value, error, _ = self.trial.outcome(future)
        if error is not None:
            self.failed.append((number, error))
            return
        answered, pid = value
        if pid not in self.first_answer:
            self.first_answer[pid] = time.monotonic()
            if pid not in self.killed:
                self.pid = pid
        self.completed.append(number)
        self.wrong += answered != number

    def serves_again(self, before: int) -> bool:
        """Waits until another child than the one before has answered."""
        return until(lambda: self.pid != before)


class Kills:
    """Kills a worker's children, one after another, and keeps the times."""

    def __init__(self, trial: Trial, worker: Any, load: Load, times: Book) -> None:
        self.trial, self.worker, self.load, self.times = trial, worker, load, times
        self.killed: dict[int, float] = {}
        """When each child was killed."""
        self.messages = 0
        self.wrong_ends = 0

    def kill(self, number: int) -> bool:
        """Kills the present child; False if no other one comes."""
        way, code, sent = ENDINGS[number % len(ENDINGS)]
        before = self.load.pid
        time.sleep(self.trial.random.uniform(0, PAUSE))
        if way == "outside":
            at = time.monotonic()
            os.kill(before, signal.SIGKILL)
        else:
            self.messages += 1
            error = self.trial.outcome(self.worker.ask("die", (number, way, code))).error
            at = self.times.stamped(number)
            self.wrong_ends += (getattr(error, "exitcode", 0), getattr(error, "signal", 0)) != (code, sent)
            self.wrong_ends += error is None or pid_of(error) != before
        self.killed[before] = at
        self.load.killed.add(before)
        self.trial.injected += 1
        return self.load.serves_again(before)


@row("kills-under-load", 1500)
def kills_under_load(trial: Trial) -> None:
    """A thousand ends of children while producers post."""
    from pytoweb.workers import WorkerCrashedError

    count = trial.count(1000)
    book, times = Book(trial.path("book"), 2 * ROOM), Book(trial.path("times"), 8 * count)
    worker = trial.worker("victim", {"work": Work(book), "die": Die(times)}).start()
    load = Load(trial, worker)
    kills = Kills(trial, worker, load, times)
    with threads(*load.producers()):
        try:
            if load.serves_again(0):
                for number in range(count):
                    if not kills.kill(number):
                        break
        finally:
            load.over = True
    worker.run_until_idle(WAIT)

    noticed, told = [], {}
    for at, error in worker.errors.all:
        pid = pid_of(error)
        told[pid] = told.get(pid, 0) + 1
        if pid in kills.killed:
            noticed.append(at - kills.killed[pid])
    serving = []
    answers = sorted(load.first_answer.values())
    for at in kills.killed.values():
        serving.append(next((answer for answer in answers if answer > at), float("inf")) - at)
    stats = worker.stats()
    trial.exactly("kills", trial.injected, count)
    trial.exactly("other messages failed", sum(
        more - 1 if pid in kills.killed else more for pid, more in told.items()
    ) + sum(not isinstance(error, WorkerCrashedError) for _, error in load.failed))  # fmt: skip
    trial.exactly("wrong ends told", kills.wrong_ends)
    trial.exactly("wrong answers", load.wrong)
    trial.exactly("not handled exactly once", sum(
        (book.count(number, BEGUN), book.count(number, ENDED)) != (1, 1) for number in load.completed
    ) + sum(book.count(number, BEGUN) > 1 for number, _ in load.failed))  # fmt: skip
    trial.exactly("lost", stats.posted - len(load.completed) - len(load.failed) - kills.messages)
    trial.exactly("counted otherwise", abs(stats.completed - len(load.completed)) + abs(
        stats.failed - len(worker.errors)
    ))  # fmt: skip
    trial.tell("messages handled", stats.completed)
    trial.tell("messages killed", stats.failed)
    trial.at_most("noticed p99", 1e3 * percentile(noticed, 0.99), 100, " ms")
    trial.tell("noticed median", 1e3 * percentile(noticed, 0.5), " ms")
    trial.tell("serving again median", 1e3 * percentile(serving, 0.5), " ms")
    trial.at_most("serving again p99", 1e3 * percentile(serving, 0.99), 500, " ms")
    trial.at_most("serving again max", 1e3 * max(serving, default=float("inf")), 500, " ms")
    book.close()
    times.close()
