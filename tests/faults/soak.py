"""Half load for a long time, with a kill now and then: nothing grows."""

from __future__ import annotations

import time
from typing import NamedTuple

from conftest import descriptors, os_threads

from .book import Book
from .handlers import Die, Work
from .kills import PRODUCERS, Kills, Load
from .row import MIB, Trial, memory, row, threads

HOUR = 3600.0
PAUSE = PRODUCERS * 0.0004
"""Seconds between two posts of a producer: together they keep the child busy for half of the time at most."""
ROOM = 40_000_000
"""Messages that the book has room for."""
SETTLED = 0.3
"""The share of the time after which memory is to grow no more."""
SHORT_GROWTH = 4 * MIB
"""Growth that a run of seconds cannot tell from the allocator's coming and going."""


class Look(NamedTuple):
    """What the host has at one instant."""

    at: float
    memory: int
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Look:
        """Looks."""
        return cls(time.monotonic(), memory(), len(os_threads()), len(descriptors()))


def slope(looks: list[Look]) -> float:
    """Bytes per second, by least squares."""
    middle = sum(look.at for look in looks) / len(looks)
    spread = sum((look.at - middle) ** 2 for look in looks)
    return sum((look.at - middle) * look.memory for look in looks) / spread if spread else 0.0


@row("soak", 300)
def soak(trial: Trial) -> None:
    """An hour with a kill every ten seconds; without ``--soak`` some seconds with a kill each."""
    seconds = HOUR if trial.soak else max(10.0, 200 * trial.scale)
    every = 10.0 if trial.soak else 1.0
    book, times = Book(trial.path("book"), 2 * ROOM), Book(trial.path("times"), 8 * int(seconds / every + 2))
    worker = trial.worker("soaked", {"work": Work(book), "die": Die(times)}).start()
    load = Load(trial, worker)
    kills = Kills(trial, worker, load, times)
    looks: list[Look] = []
    alive = True
    with threads(*load.producers(PAUSE)):
        try:
            alive = load.serves_again(0)
            began = time.monotonic()
            while alive and (passed := time.monotonic() - began) < seconds:
                time.sleep(max(0.0, (trial.injected + 1) * every - passed))
                looks.append(Look.now())
                alive = kills.kill(trial.injected)
                # What they are for is known by then; kept, they would be what grows.
                load.first_answer.clear()
                load.completed.clear()
        finally:
            load.over = True
    stats = worker.stats()
    settled = looks[int(len(looks) * SETTLED) :] or looks
    trial.tell("seconds", looks[-1].at - looks[0].at if looks else 0)
    trial.tell("messages handled", stats.completed)
    trial.tell("share of the time that handlers ran", stats.utilisation)
    trial.exactly("stopped serving", not alive)
    trial.exactly("wrong answers or ends", load.wrong + kills.wrong_ends)
    trial.exactly("failed without a kill", max(0, len(load.failed) + kills.messages - trial.injected))
    trial.tell("memory", settled[-1].memory / MIB, " MiB")
    if trial.soak:
        trial.at_most("memory slope", slope(settled) * HOUR / 1e6, 1, " MB/h")
    else:
        grown = max(look.memory for look in settled) - settled[0].memory
        trial.at_most("memory growth", grown / MIB, SHORT_GROWTH / MIB, " MiB")
    trial.exactly("threads more or less", max(abs(look.threads - settled[0].threads) for look in settled))
    trial.exactly("descriptors more or less", max(
        abs(look.descriptors - settled[0].descriptors) for look in settled
    ))  # fmt: skip
    book.close()
    times.close()
