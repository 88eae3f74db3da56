"""Payloads of all sizes, and kills while one is being written."""

from __future__ import annotations

import os
import signal
import threading
import time

from .book import Book
from .handlers import Announce, echo, pattern, pid
from .row import MIB, WAIT, Trial, row, until

EDGES = (4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, MIB)
"""Where payloads take another way, rings end, and blocks and writes of the transports change their size."""
MUCH = 64 * MIB
MOMENT = 0.06
"""Seconds within which a kill comes after a payload of `MUCH` began to be written."""


def sizes() -> list[int]:
    """All of them: around each edge by one byte, and by what a frame takes besides."""
    found = {0, 1}
    for edge in EDGES:
        found.update(edge + more for more in (-256, -128, -64, -32, -16, -8, -1, 0, 1, 8, 64))
    return sorted(found)


@row("payload-sizes", 120)
def payload_sizes(trial: Trial) -> None:
    """Echoes bytes of all sizes, in the kinds of objects that take different ways."""
    worker = trial.worker("sizes", [echo, pid]).start()
    child = trial.outcome(worker.ask("pid")).value
    wrong = 0
    for size in sizes():
        data = pattern(size)
        for sent in (data, bytearray(data), [data, size], data.decode("latin-1")):
            wrong += trial.outcome(worker.ask("echo", sent)).value != sent
            trial.injected += 1
    data = pattern(MUCH)
    for _ in range(trial.count(20, least=2)):
        wrong += trial.outcome(worker.ask("echo", data)).value != data
        trial.injected += 1
    trial.exactly("wrong bytes", wrong)
    trial.exactly("worker replaced", trial.outcome(worker.ask("pid")).value != child)


@row("payload-kills", 200)
def payload_kills(trial: Trial) -> None:
    """Kills children while a large payload is on its way, to them or from them."""
    from pytoweb.workers import WorkerCrashedError

    times = Book(trial.path("times"), 8)
    worker = trial.worker("halves", {"announce": Announce(times), "echo": echo, "pid": pid}).start()
    data = pattern(MUCH)
    wrong = unclear = crashed = dead = 0
    for number in range(trial.count(100, least=10)):
        child = trial.outcome(worker.ask("pid")).value
        before = times.stamped(0)
        if number % 2:
            future = worker.ask("announce", MUCH)
            until(lambda before=before: times.stamped(0) != before)
            time.sleep(trial.random.uniform(0, MOMENT))
            os.kill(child, signal.SIGKILL)
        else:
            killer = threading.Timer(trial.random.uniform(0, MOMENT), os.kill, (child, signal.SIGKILL))
            killer.start()
            future = worker.ask("echo", data)
        value, error, _ = trial.outcome(future)
        if number % 2 == 0:
            killer.join(WAIT)
        crashed += error is not None
        unclear += error is not None and not isinstance(error, WorkerCrashedError)
        wrong += error is None and value != data
        del value, future
        small = trial.outcome(worker.ask("echo", number))
        dead += small.value != number
        trial.injected += 1
    trial.exactly("wrong bytes", wrong)
    trial.exactly("unclear errors", unclear)
    trial.exactly("worker did not serve on", dead)
    trial.tell("kills that hit a message", crashed)
    times.close()
