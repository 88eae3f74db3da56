"""Slow messages among quick ones in a pool's own mailbox: how long the quick ones wait."""

from __future__ import annotations

import time
from statistics import median

from .handlers import pause, waited
from .row import WAIT, Trial, percentile, row

SIZE = 4
MESSAGES = 10_000
ROUNDS = 5
INTERVAL = 0.001
"""Seconds from one message to the next, on average."""
SLOW_SHARE = 0.01
SLOW_SECONDS = 0.02
SHARE = 0.99
RATIO = 3.0
"""What slow messages may make of the wait of the quick ones."""


def quick_waits(trial: Trial, pool: object, count: int, slow_share: float) -> list[float]:
    """Posts messages at random times; the seconds that each quick one waited."""
    quick, slow = [], []
    due = time.monotonic()
    for _ in range(count):
        due += trial.random.expovariate(1 / INTERVAL)
        time.sleep(max(0.0, due - time.monotonic()))
        if trial.random.random() < slow_share:
            slow.append(pool.ask("pause", SLOW_SECONDS))  # type: ignore[attr-defined]
        else:
            quick.append(pool.ask("waited", time.monotonic()))  # type: ignore[attr-defined]
    trial.injected += len(slow)
    for future in slow:
        trial.outcome(future)
    return [trial.outcome(future).value for future in quick]


def measure(trial: Trial, backend: str) -> None:
    """Takes turns between both mixes: what else the machine does falls on both."""
    pool = trial.pool(SIZE, backend=backend)
    pool.on_message("waited", waited)
    pool.on_message("pause", pause)
    pool.start(timeout=WAIT)
    count = trial.count(MESSAGES // ROUNDS, least=200)
    alone, mixed = [], []
    for _ in range(ROUNDS):
        alone.append(percentile(quick_waits(trial, pool, count, 0.0), SHARE))
        mixed.append(percentile(quick_waits(trial, pool, count, SLOW_SHARE), SHARE))
    trial.tell(f"{backend}: p99 alone", median(alone) * 1e3, " ms")
    trial.tell(f"{backend}: p99 of the mix", median(mixed) * 1e3, " ms")
    trial.at_most(f"{backend}: p99 of the mix", median(mixed) / median(alone), RATIO, " times")


@row("balance", 90)
def balance(trial: Trial) -> None:
    """One message in a hundred takes 20 ms, with threads and with children."""
    for backend in ("thread", "process"):
        measure(trial, backend)
