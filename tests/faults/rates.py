"""Rates in real time: over ten seconds as many messages begin as the rate allows."""

from __future__ import annotations

import time
from typing import Any

from .handlers import now
from .row import WAIT, Trial, row

SECONDS = 10.0
LEAST = 1.0
OFF = 2.0
"""Per cent by which a rate may be missed."""
RATES = (20, 100, 1000)
BURSTS_A_SECOND = 100
"""A rate's burst is as much as it allows in 10 ms."""


def begin(trial: Trial, backend: str, rate: int, seconds: float, of_type: bool) -> list[Any]:
    """Posts more messages to a worker than its rate allows in a time; futures of when they begin."""
    from pytoweb.workers import Limits

    messages = round(rate * (seconds + 1))
    limits = Limits(messages=messages, rate=None if of_type else rate)
    worker = trial.worker(f"{backend}-{rate}-{of_type}", [], backend=backend, limits=limits)
    worker.on_message("now", now, **({"rate": rate} if of_type else {}))
    worker.on_message("start", now)
    worker.start()
    trial.outcome(worker.ask("start"))
    # After this its child is there, and its rate is as if it had done nothing.
    time.sleep(2 / rate)
    return [worker.ask("now") for _ in range(messages)]


def missed_by(trial: Trial, futures: list[Any], rate: int, seconds: float) -> float:
    """How far from its rate a worker was, in per cent."""
    times = [trial.outcome(future, seconds + WAIT).value for future in futures]
    trial.injected += len(times)
    burst = max(1, rate // BURSTS_A_SECOND)
    begun = sum(moment - min(times) < seconds for moment in times) - burst
    # A message on the edge of the time counts or does not.
    return max(0.0, abs(begun - rate * seconds) - 1) / (rate * seconds) * 100


@row("rates", 90)
def rates(trial: Trial) -> None:
    """Rates of a worker and of a type, with threads and with children; all rates at the same time."""
    seconds = max(LEAST, SECONDS * trial.scale)
    for backend in ("thread", "process"):
        for of_type in (False, True):
            running = [begin(trial, backend, rate, seconds, of_type) for rate in RATES]
            for rate, futures in zip(RATES, running):
                name = f"{backend}, {'type' if of_type else 'worker'}, {rate}/s: off by"
                trial.at_most(name, missed_by(trial, futures, rate, seconds), OFF, " per cent")
