"""Children that crash at every start, and messages that crash every child."""

from __future__ import annotations

import os
import time
from typing import Any

from .handlers import DiesWhereUnpickled, die_noting, echo, leave_at_start, note
from .row import Trial, row, until

RESTARTS = 3
WINDOW = 5.0
WAITING = 4
"""Messages that wait besides."""


def lines(path: str) -> list[str]:
    """What was noted in a file."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="ascii") as file:
        return file.read().splitlines()


class Hopeless:
    """A worker or pool whose children crash at every start, in one of several ways."""

    def __init__(self, trial: Trial, number: int) -> None:
        self.trial = trial
        self.path = trial.path(f"starts-{number}")
        self.way = ("initializer", "handlers")[number % 2]
        self.began = time.monotonic()
        if self.way == "initializer":
            self.pool = trial.pool(1, initializer=leave_at_start, initargs=(self.path,))
            self.worker = self.pool.create_worker("hopeless")
            self.worker.on_message("echo", echo)
            self.worker.on_error(lambda error: None)
        else:
            handlers: dict[str, Any] = {"echo": echo, "deadly": DiesWhereUnpickled(self.path)}
            self.worker = trial.worker("hopeless", handlers)
        # Posted before the start, because a worker that has failed refuses posts.
        self.futures = [self.worker.ask("echo", 1) for _ in range(1 + RESTARTS + WAITING)]
        self.worker.start()

    def problems(self) -> list[str]:
        """What is not as it should be."""
        from pytoweb.workers import WorkerCrashedError, WorkerError

        found = []
        errors = [self.trial.outcome(future).error for future in self.futures]
        starts = len(lines(self.path))
        if not until(lambda: self.worker.state == "failed", WINDOW):
            found.append(f"its state is {self.worker.state}")
        if time.monotonic() - self.began > WINDOW:
            found.append("it took too long")
        if not all(isinstance(error, WorkerCrashedError) for error in errors):
            found.append(f"the messages ended with {[type(error).__name__ for error in errors]}")
        if not all("restarts" in str(error) and "77" in str(error) for error in errors):
            found.append(f"no reason is told: {errors[-1]}")
        if starts != 1 + RESTARTS:
            found.append(f"it was started {starts} times")
        try:
            self.worker.post_message("echo", 1)
            found.append("it takes posts")
        except WorkerError:
            pass
        return found


@row("crash-at-every-start", 120)
def crash_at_every_start(trial: Trial) -> None:
    """Each run must end in the state failed, after three restarts."""
    bad = 0
    for number in range(trial.count(100, least=4)):
        hopeless = Hopeless(trial, number)
        problems = hopeless.problems()
        bad += bool(problems)
        trial.logged += [f"{hopeless.way}: {problem}" for problem in problems]
        trial.injected += 1
    trial.exactly("runs that ended otherwise", bad)


@row("poison", 120)
def poison(trial: Trial) -> None:
    """A message that crashes every child fails after its attempts; those around it are handled once."""
    from pytoweb.workers import WorkerCrashedError

    unclear = begun = neighbours = order = 0
    for attempts in (1, 3):
        worker = trial.worker("poisoned", [die_noting, note, echo], max_attempts=attempts).start()
        for number in range(trial.count(50, least=5)):
            deadly, around = (trial.path(f"{what}-{attempts}-{number}") for what in ("deadly", "around"))
            futures = [worker.ask("note", (around, place)) for place in range(10)]
            future = worker.ask("die_noting", deadly)
            futures += [worker.ask("note", (around, place)) for place in range(10, 20)]
            unclear += not isinstance(trial.outcome(future).error, WorkerCrashedError)
            neighbours += sum(trial.outcome(one).error is not None for one in futures)
            begun += lines(deadly) != [str(attempt) for attempt in range(1, 1 + attempts)]
            order += lines(around) != [str(place) for place in range(20)]
            trial.injected += 1
        neighbours += worker.state != "running"
    trial.exactly("unclear errors", unclear)
    trial.exactly("not begun as often as it may", begun)
    trial.exactly("neighbours failed", neighbours)
    trial.exactly("neighbours not handled once, in order", order)
