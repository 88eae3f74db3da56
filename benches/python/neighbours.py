"""Rows of quiet workers beside a greedy one: how long a call takes while another worker always has messages.

Ten thousand workers in one pool. The greedy one gives itself more messages for as long as it is asked to;
the others are asked one at a time. Both sides are ours: with the greedy worker, and with all of them quiet.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

from many_workers import WORKERS, start_workers
from pytoweb.workers import PythonWorker, WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

CALLS = 2_000
REFILL = 1_000
"""Messages that the greedy worker gives itself at once: some turns."""
TIMES = 10


class Greed:
    """Keeps one worker busy from :meth:`begin` to :meth:`end`."""

    def __init__(self, worker: PythonWorker) -> None:
        self._worker = worker
        self._goes_on = False
        worker.on_message("refill", self._refill)

    def _refill(self, data: Any) -> None:
        if self._goes_on:
            self._worker.post_messages("work", range(REFILL))
            self._worker.post_message("refill")

    def begin(self) -> None:
        """Returns once it is at work."""
        self._goes_on = True
        self._worker.ask("refill").result()

    def end(self) -> None:
        """Returns once it has nothing more to do."""
        self._goes_on = False
        self._worker.ask("work", None).result()
        self._worker.run_until_idle(timeout=60)


@contextlib.contextmanager
def quiet_calls(size: int, *, greedy: bool) -> Iterator[Run]:
    """Asks quiet workers in turn and waits; the 99th percentile in microseconds."""
    with WorkerPool(size) as pool:
        first, *quiet = start_workers(pool, WORKERS)
        greed = Greed(first)

        def run(count: int) -> float:
            taken = []
            if greedy:
                greed.begin()
            for worker in quiet[:count]:
                begin = time.perf_counter()
                worker.ask("work", None).result()
                taken.append(time.perf_counter() - begin)
            if greedy:
                greed.end()
            return statistics.quantiles(taken, n=100)[98] * 1e6

        yield run


def rows(plan: Plan) -> Iterator[Row]:
    """One row for each size of the pool."""
    for size in (1, 2):
        beside, alone = "beside a greedy one", "all others quiet"
        taken = alternate(
            {
                beside: functools.partial(quiet_calls, size, greedy=True),
                alone: functools.partial(quiet_calls, size, greedy=False),
            },
            count=plan.count(CALLS),
            plan=plan,
            peers=(alone,),
        )
        # The interpreter lets another thread run after its switch interval, whatever the pool does.
        interval = sys.getswitchinterval() * 1e6
        quiet = statistics.median(taken[alone]) if taken[alone] else interval
        yield Row(
            f"greedy-neighbour-{size}",
            f"ask one quiet worker of {WORKERS:,} and wait, p99, in a pool of {size}",
            "us",
            Side(beside, taken[beside]),
            [Side(alone, taken[alone])],
            bound=AT_MOST,
            target=max(TIMES, interval / quiet),
            notes=[
                f"target: {TIMES}x, or the interpreter's switch interval, {interval:,.0f} us, if that is more"
            ],
        )


if __name__ == "__main__":
    main([rows])
