"""Rows of messages that are recorded for a report, next to the same ones while none is recorded."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from pytoweb.workers import WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

MESSAGES = 50_000
BUSY_NANOS = 10_000
MOST = 1.1
"""What a handler of 10 us may take, its message included, while it is recorded."""


def busy(data: object) -> None:
    """A handler of 10 us."""
    end = time.perf_counter_ns() + BUSY_NANOS
    while time.perf_counter_ns() < end:
        pass


def quick(data: object) -> None:
    """A handler that does nothing."""


@contextlib.contextmanager
def _pool(backend: Any, handler: Callable[[object], None], is_recorded: bool) -> Iterator[Run]:
    with (
        WorkerPool(1, backend=backend, capacity=MESSAGES) as pool,
        tempfile.TemporaryDirectory() as directory,
    ):
        pool.on_message("work", handler)
        pool.start()
        path = Path(directory) / "run.html"

        def run(number: int) -> float:
            # The end, when the file is written, is not part of the time.
            with pool.report(path) if is_recorded else contextlib.nullcontext():
                begun = time.perf_counter()
                for _ in range(number):
                    pool.post_message("work")
                pool.run_until_idle()
                took = time.perf_counter() - begun
            return took / number * 1e6

        yield run


def rows(plan: Plan) -> Iterator[Row]:
    """Both backends."""
    for name, backend, handler, what, target in (
        ("report-thread", "thread", quick, "an empty handler", None),
        ("report-thread-10us", "thread", busy, "a handler of 10 us", MOST),
        ("report-process", "process", quick, "an empty handler", None),
        ("report-process-10us", "process", busy, "a handler of 10 us", None),
    ):
        sides = {
            label: lambda is_recorded=is_recorded, backend=backend, handler=handler: _pool(
                backend, handler, is_recorded
            )
            for label, is_recorded in (("recorded", True), ("not recorded", False))
        }
        taken = alternate(sides, count=plan.count(MESSAGES), plan=plan, peers=("not recorded",))
        yield Row(
            name,
            f"a message for {what} in a {backend}, while a report is recorded",
            "us",
            Side("recorded", taken["recorded"]),
            [Side("not recorded", taken["not recorded"])],
            bound=AT_MOST,
            target=target,
        )


if __name__ == "__main__":
    main([rows])
