"""Rows about the memory of a call that waits: asked of a worker that is not started, with its future."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from many_workers import STATM, resident_bytes
from process_tasks import noop
from pytoweb.workers import PythonWorker
from rounds import Plan, main
from row import AT_MOST, Row, Side

ASKED = 200_000
WARM_UP = 1_000
BACKENDS = (("thread", "queued-ask-memory", 450), ("process", "queued-ask-memory-process", 600))
"""Backend, its row, and the bytes that a queued call may take."""


def rows(plan: Plan) -> Iterator[Row]:
    """Growth of the resident memory per queued call; what the first ones set up does not count."""
    if not STATM.exists():
        return
    # Kept to the end, so that no backend gets the memory that the one before has given back.
    kept: list[Any] = []
    for backend, name, limit in BACKENDS:
        count = plan.count(ASKED)
        worker = PythonWorker(f"bench-{name}", backend=backend, capacity=count + WARM_UP)
        worker.on_message("work", noop)
        kept.append(worker)
        futures: list[Any] = [None] * count
        kept.append([worker.ask("work", 1) for _ in range(WARM_UP)])
        before = resident_bytes()
        for index in range(count):
            futures[index] = worker.ask("work", 1)
        grown = resident_bytes() - before
        kept.append(futures)
        yield Row(
            name,
            f"resident memory per queued ask with its future, {count:,} of them, {backend}",
            "B",
            Side("PythonWorker", [grown / count]),
            bound=AT_MOST,
            target=limit,
        )
    for worker in kept:
        if isinstance(worker, PythonWorker):
            worker.terminate()


if __name__ == "__main__":
    main([rows])
