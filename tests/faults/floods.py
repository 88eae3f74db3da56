"""A producer that is a hundred times too fast: memory stays within what the mailbox may hold."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import Any, Callable

from .handlers import pattern, pid, take_time
from .row import MIB, Trial, memory, row, threads

CAPACITY = 4096
PAYLOAD = 10_000
OVERHEAD = 256
"""Bytes that a queued message may take besides its payload."""
ROOM = 32 * MIB
LIMIT = 16 * MIB
LARGE = 1 << 16
"""Bytes of a message where the bytes are limited: of processes it goes into shared memory."""
TARGET, WINDOW = 0.05, 0.5
"""Seconds of the row that refuses messages since the queue is late."""
SECONDS = 60.0
LEAST = 3.0
"""What that is in a short run."""
FLAT = 10.0
"""Seconds after which memory is to grow no more."""
LEAST_FLAT = 2.0
"""What that is in a short run: an allocator needs so long to have what it needs."""
FLAT_ROOM = 4 * MIB
"""What counts as no growth: measured memory comes and goes by pages of the allocator."""
LOOK = 0.01
"""Seconds between two looks at the memory."""

POLICIES = ("block", "reject", "drop_newest", "drop_oldest")


class Producer:
    """Posts as fast as it can, until it is over."""

    def __init__(self, worker: Any, payload: int) -> None:
        self.worker = worker
        self.payload = payload
        self.over = False
        self.offered = 0

    def __call__(self) -> None:
        from pytoweb.workers import MailboxFullError

        while not self.over:
            with contextlib.suppress(MailboxFullError):
                # A new object each time, as from a socket.
                self.worker.post_message("take_time", pattern(self.payload))
            self.offered += 1


def own_memory(pid: int) -> int:
    """Bytes of resident memory of a child without large payloads: those lie in memory of the host."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))


class Watched:
    """The memory of a process that the messages of a row may make grow."""

    def __init__(self, name: str, size: Callable[[], int]) -> None:
        self.name = name
        self._size = size
        self._before = size()
        self.early = self.late = 0

    def look(self, early: bool) -> None:
        """Looks how many bytes more it has than before."""
        grown = self._size() - self._before
        if early:
            self.early = max(self.early, grown)
        else:
            self.late = max(self.late, grown)


def flood(trial: Trial, backend: str, limit: int, payload: int, **options: Any) -> None:
    """Lets a producer run, and looks at the memory; `limit` is what the queued messages may take."""
    seconds, flat = max(SECONDS * trial.scale, LEAST), max(FLAT * trial.scale, LEAST_FLAT)
    worker = trial.worker("flooded", [take_time, pid], backend=backend, **options).start()
    child = trial.outcome(worker.ask("pid")).value
    trial.outcome(worker.ask("take_time", pattern(payload)))
    watched = [Watched("host", memory)]
    if backend == "process":
        watched.append(Watched("child", lambda: own_memory(child)))
    before = worker.stats()
    producer = Producer(worker, payload)
    with threads(producer):
        began = time.monotonic()
        try:
            while (passed := time.monotonic() - began) < seconds:
                for one in watched:
                    one.look(early=passed < flat)
                time.sleep(LOOK)
        finally:
            producer.over = True
    after = worker.stats()
    handled = after.completed - before.completed
    trial.injected += producer.offered
    trial.tell("offered for each that was handled", producer.offered / max(1, handled))
    trial.tell("handled", handled)
    trial.exactly("none was handled", handled == 0)
    # One offer may be under way as this looks.
    refused = after.posted + after.rejected + after.shed - before.posted - before.rejected - before.shed
    trial.exactly("offers that are counted nowhere", max(0, producer.offered - 1 - refused))
    trial.tell("refused as too late", after.shed)
    for one in watched:
        trial.at_most(f"{one.name}: growth", max(one.early, one.late) / MIB, (limit + ROOM) / MIB, " MiB")
        grown = (one.late - one.early) / MIB
        trial.at_most(f"{one.name}: growth after {flat:g} s", grown, FLAT_ROOM / MIB, " MiB")


def flood_of_messages(trial: Trial, backend: str, policy: str) -> None:
    """A limit of messages."""
    flood(trial, backend, CAPACITY * (PAYLOAD + OVERHEAD), PAYLOAD, overflow=policy, capacity=CAPACITY)


def flood_of_bytes(trial: Trial, backend: str, policy: str) -> None:
    """A limit of bytes, which is used up long before that of messages."""
    from pytoweb.workers import Limits

    flood(trial, backend, LIMIT, LARGE, overflow=policy, limits=Limits(bytes=LIMIT))


def flood_that_is_shed(trial: Trial, backend: str) -> None:
    """A limit of messages, and of the time for which the queue may be late."""
    from pytoweb.workers import Limits, Shed

    limits = Limits(messages=CAPACITY, shed=Shed(target=TARGET, window=WINDOW))
    flood(trial, backend, CAPACITY * (PAYLOAD + OVERHEAD), PAYLOAD, limits=limits)


for _backend in ("thread", "process"):
    for _policy in POLICIES:
        _messages = functools.partial(flood_of_messages, backend=_backend, policy=_policy)
        row(f"flood-{_backend}-{_policy}", 75)(_messages)
        _bytes = functools.partial(flood_of_bytes, backend=_backend, policy=_policy)
        row(f"flood-{_backend}-bytes-{_policy}", 75)(_bytes)
    row(f"flood-{_backend}-shed", 75)(functools.partial(flood_that_is_shed, backend=_backend))
