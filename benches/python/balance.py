"""Rows of how long quick messages wait beside slow ones in a pool's own mailbox, next to quick ones alone.

Messages come at random, about one in a millisecond, so that the slow ones keep a small part of the pool's
threads or children busy: what is measured is whether a quick one waits behind a slow one all the same.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any, Callable

from pytoweb.workers import WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

SIZE = 4
"""Threads, or children."""
MESSAGES = 3_000
INTERVAL = 0.001
"""Seconds from one message to the next, on average."""
SLOW_SHARE = 0.01
SLOW_SECONDS = 0.02
SHARE = 0.99
TARGET = 3.0
TIMEOUT = 60.0
"""Longer than any round takes."""


def waited(posted: float) -> float:
    """The quick handler of every side: seconds that its message waited. All processes share the clock."""
    return time.monotonic() - posted


def take_long(posted: float) -> None:
    """The slow handler."""
    time.sleep(SLOW_SECONDS)


@contextlib.contextmanager
def _posting(backend: Any, slow_share: float) -> Iterator[Run]:
    with WorkerPool(SIZE, backend=backend) as pool:
        pool.on_message("quick", waited)
        pool.on_message("slow", take_long)
        pool.start(timeout=TIMEOUT)
        chance = random.Random(1)

        def run(count: int) -> float:
            quick, slow = [], []
            due = time.monotonic()
            for _ in range(count):
                due += chance.expovariate(1 / INTERVAL)
                time.sleep(max(0.0, due - time.monotonic()))
                is_slow = chance.random() < slow_share
                future = pool.ask("slow" if is_slow else "quick", time.monotonic())
                (slow if is_slow else quick).append(future)
            waits = sorted(future.result(TIMEOUT) for future in quick)
            for future in slow:
                future.result(TIMEOUT)
            return waits[int(len(waits) * SHARE)] * 1e6

        yield run


def rows(plan: Plan) -> Iterator[Row]:
    """Both backends, each with slow messages and without."""
    mixed, even = f"{SLOW_SHARE:.0%} of {SLOW_SECONDS * 1e3:.0f} ms", "quick ones alone"
    for name, backend in (("control-balance", "thread"), ("control-balance-process", "process")):
        count = plan.count(MESSAGES)

        def side(share: float, backend: str = backend) -> Callable[[], Any]:
            return lambda: _posting(backend, share)

        sides = {mixed: side(SLOW_SHARE), even: side(0.0)}
        taken = alternate(sides, count=count, plan=plan, peers=(even,))
        yield Row(
            name,
            f"wait of quick messages, p99 of {count:,}, pool of {SIZE} {backend} workers",
            "us",
            Side(mixed, taken[mixed]),
            [Side(even, taken[even])],
            bound=AT_MOST,
            target=TARGET,
        )


if __name__ == "__main__":
    main([rows])
