"""Row of computing on two cores: the same pure Python loops in two children and on one thread here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Callable

import process_peers
from process_tasks import spin
from pytoweb.workers import WorkerPool
from rounds import Plan, alternate, main
from row import RATE, Row, Side

MESSAGES = 400
SPIN_SECONDS = 0.005
CALIBRATION_LOOPS = 200_000
CHILDREN = process_peers.CHILDREN


def loops_of(seconds: float) -> int:
    """How many loops of :func:`spin` take that long here: the best of five, as a loaded machine only adds."""
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        spin(CALIBRATION_LOOPS)
        best = min(best, time.perf_counter() - begin)
    return int(CALIBRATION_LOOPS * seconds / best)


def compute_rows(plan: Plan) -> Iterator[Row]:
    """Messages per second."""
    loops = loops_of(SPIN_SECONDS)

    @contextlib.contextmanager
    def here() -> Iterator[Callable[[int], float]]:
        def run(count: int) -> float:
            begin = time.perf_counter()
            for _ in range(count):
                spin(loops)
            return count / (time.perf_counter() - begin)

        yield run

    @contextlib.contextmanager
    def ours() -> Iterator[Callable[[int], float]]:
        def run(count: int) -> float:
            begin = time.perf_counter()
            futures = [pool.submit(spin, loops) for _ in range(count)]
            for future in futures:
                future.result()
            return count / (time.perf_counter() - begin)

        with WorkerPool(CHILDREN, backend="process") as pool:
            yield run

    @contextlib.contextmanager
    def executor() -> Iterator[Callable[[int], float]]:
        def run(count: int) -> float:
            begin = time.perf_counter()
            futures = [submit(spin, loops) for _ in range(count)]
            for future in futures:
                take(future)
            return count / (time.perf_counter() - begin)

        with process_peers.executor() as (submit, take):
            yield run

    mine, thread = f"WorkerPool({CHILDREN}).submit", "one thread"
    # The peer first: it forks before ours has threads.
    competitors = {process_peers.EXECUTOR: executor, mine: ours, thread: here}
    peers = (process_peers.EXECUTOR, thread)
    taken = alternate(competitors, count=plan.count(MESSAGES), plan=plan, peers=peers)
    other = Side(process_peers.EXECUTOR, taken[process_peers.EXECUTOR])
    yield Row(
        "process-compute",
        f"{plan.count(MESSAGES)} loops of {SPIN_SECONDS * 1e3:g} ms on {CHILDREN} cores",
        RATE,
        Side(mine, taken[mine]),
        [Side(thread, taken[thread])],
        target=1.85,
        notes=[f"in the same run {other.label} {other.median:.0f} /s"],
    )


if __name__ == "__main__":
    main([compute_rows])
