"""Rows of the blocking round trip: one question at a time, from the call to its result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from pytoweb.workers import PythonWorker
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], list[float]]

TRIPS = 10_000
MEDIAN = 0.50
TAIL = 0.99


def noop(data: Any) -> Any:
    """The handler of both sides: hands its argument back."""
    return data


def quantile(ordered: list[float], share: float) -> float:
    """Returns the sample below which ``share`` of the ordered samples lie."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@contextlib.contextmanager
def ask_ours() -> Iterator[Run]:
    """``ask(...).result()``, each in microseconds, sorted."""

    def run(count: int) -> list[float]:
        taken = []
        for item in range(count):
            begin = time.perf_counter()
            worker.ask("work", item).result()
            taken.append((time.perf_counter() - begin) * 1e6)
        return sorted(taken)

    worker = PythonWorker("bench-round-trip")
    worker.on_message("work", noop)
    with worker:
        yield run


@contextlib.contextmanager
def submit_executor() -> Iterator[Run]:
    """``submit(...).result()``, each in microseconds, sorted."""

    def run(count: int) -> list[float]:
        taken = []
        for item in range(count):
            begin = time.perf_counter()
            executor.submit(noop, item).result()
            taken.append((time.perf_counter() - begin) * 1e6)
        return sorted(taken)

    with ThreadPoolExecutor(1) as executor:
        yield run


def round_trip_rows(plan: Plan) -> Iterator[Row]:
    """Median and tail of the same trips; a sample is the quantile of one round."""
    ours, peer = "PythonWorker.ask", "ThreadPoolExecutor(1)"
    sides = {ours: ask_ours, peer: submit_executor}
    taken = alternate(sides, count=plan.count(TRIPS), plan=plan, peers=(peer,))
    for name, share, target in (("p50", MEDIAN, 0.35), ("p99", TAIL, 0.5)):
        yield Row(
            f"round-trip-{name}",
            f"round trip {name} of {plan.count(TRIPS):,}",
            "us",
            Side(ours, [quantile(trips, share) for trips in taken[ours]]),
            [Side(peer, [quantile(trips, share) for trips in taken[peer]])],
            bound=AT_MOST,
            target=target,
        )


if __name__ == "__main__":
    main([round_trip_rows])
