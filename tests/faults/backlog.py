"""A producer that is much faster than the handler: memory stays within what the mailbox may hold."""

from __future__ import annotations

import time
from typing import Any

from .handlers import pattern, take_time
from .row import MIB, Trial, memory, row, threads

CAPACITY = 4096
PAYLOAD = 10_000
OVERHEAD = 256
"""Bytes that a queued message may take besides its payload."""
ROOM = 32 * MIB
SECONDS = 60.0
FLAT = 10.0
"""Seconds after which memory is to grow no more."""
LEAST_FLAT = 2.0
"""What that is at least: an allocator needs so long to have what it needs, however long it goes on."""
FLAT_ROOM = 4 * MIB
"""What counts as no growth: measured memory comes and goes by pages of the allocator."""
LOOK = 0.01
"""Seconds between two looks at the memory."""


class Producer:
    """Posts as fast as it can, until it is over."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.over = False
        self.posted = 0

    def __call__(self) -> None:
        while not self.over:
            # A new object each time, as from a socket.
            self.worker.post_message("take_time", pattern(PAYLOAD))
            self.posted += 1


def backlog(trial: Trial, policy: str, seconds: float, flat: float) -> None:
    """Lets a producer run, and looks at the memory of this process."""
    worker = trial.worker(f"slow-{policy}", [take_time], overflow=policy, capacity=CAPACITY).start()
    trial.outcome(worker.ask("take_time", pattern(PAYLOAD)))
    start, early, late = memory(), 0, 0
    done = worker.stats().completed
    producer = Producer(worker)
    with threads(producer):
        began = time.monotonic()
        try:
            while (passed := time.monotonic() - began) < seconds:
                if passed < flat:
                    early = max(early, memory())
                else:
                    late = max(late, memory())
                time.sleep(LOOK)
        finally:
            producer.over = True
    stats = worker.stats()
    limit = (CAPACITY * (PAYLOAD + OVERHEAD) + ROOM) / MIB
    handled = max(1, stats.completed - done)
    trial.injected += producer.posted
    trial.tell(f"{policy}: times faster", producer.posted / handled)
    trial.at_most(f"{policy}: growth", (max(early, late) - start) / MIB, limit, " MiB")
    trial.at_most(f"{policy}: growth after {flat:g} s", (late - early) / MIB, FLAT_ROOM / MIB, " MiB")


@row("backlog", 180)
def backlogs(trial: Trial) -> None:
    """Posts that drop others, and posts that wait."""
    seconds = max(6.0, SECONDS * trial.scale)
    backlog(trial, "drop_oldest", seconds, max(FLAT * trial.scale, LEAST_FLAT))
    backlog(trial, "block", seconds / 2, max(FLAT * trial.scale, LEAST_FLAT))
