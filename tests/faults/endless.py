"""Handlers that never end: their future fails at the deadline, and their child is gone soon after."""

from __future__ import annotations

import os
import select
import time

import process_handlers as handlers

from .row import Trial, percentile, row, threads

DEADLINE = 0.2
"""Seconds that each of them gets."""
LIMIT = 5.0
"""Seconds after which a child counts as not ended at all."""


def when_it_ends(pid: int, ends: list[float]) -> None:
    """Waits for the end of a process, and notes when it came."""
    number = os.pidfd_open(pid)
    try:
        if select.select([number], [], [], LIMIT)[0]:
            ends.append(time.monotonic())
    finally:
        os.close(number)


@row("endless-handlers", 300)
def endless_handlers(trial: Trial) -> None:
    """Loops in Python and in C, and a deadlock, each with a deadline."""
    from pytoweb.workers import DeadlineError

    kinds = [one.__name__ for one in handlers.ENDLESS]
    worker = trial.worker("endless", [*handlers.ENDLESS, handlers.pid, handlers.echo]).start()
    late, gone, other, neighbours = [], [], 0, 0
    for number in range(trial.count(100, least=len(kinds))):
        pid = trial.outcome(worker.ask("pid")).value
        ends: list[float] = []
        told: list[float] = []
        with threads(lambda pid=pid, ends=ends: when_it_ends(pid, ends)):
            begun = time.monotonic()
            future = worker.ask(kinds[number % len(kinds)], timeout=DEADLINE)
            future.add_done_callback(lambda _, told=told: told.append(time.monotonic()))
            behind = worker.ask("echo", number)
            other += type(trial.outcome(future).error) is not DeadlineError
        late.append(told[0] - begun - DEADLINE)
        gone.append(ends[0] - begun - DEADLINE if ends else float("inf"))
        neighbours += trial.outcome(behind).value != number
        trial.injected += 1
    stats = worker.stats()
    trial.exactly("other ends", other)
    trial.exactly("counted expired", stats.expired, trial.injected)
    trial.exactly("neighbours failed", neighbours)
    trial.exactly("too early", sum(one < 0 for one in late))
    trial.tell("future past the deadline median", 1e3 * percentile(late, 0.5), " ms")
    trial.at_most("future past the deadline max", 1e3 * max(late), 100, " ms")
    trial.tell("process gone past the deadline median", 1e3 * percentile(gone, 0.5), " ms")
    trial.at_most("process gone past the deadline max", 1e3 * max(gone), 500, " ms")
