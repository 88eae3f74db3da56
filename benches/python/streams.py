"""Rows of items that a generator sends as it yields them, next to what a program does without streams.

On threads that is a thread that puts what a generator yields into a ``queue.Queue`` of the same window;
between processes it is ``multiprocessing.Pool.imap``, which sends results one by one as they come.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

from pytoweb.workers import PythonWorker
from rounds import Plan, alternate, main
from row import RATE, Row, Side

Run = Callable[[int], float]

ITEMS_THREAD = 100_000
ITEMS_PROCESS = 30_000
WINDOW = 32
"""That of ``stream`` where the call does not say; the size of the peer's queue."""
TARGET = 1.0


def count(number: int) -> Iterator[int]:
    """The handler."""
    yield from range(number)


def timed(read: Callable[[int], Iterator[int]], number: int) -> float:
    """Items per second."""
    begun = time.perf_counter()
    items = sum(1 for _ in read(number))
    took = time.perf_counter() - begun
    assert items == number
    return number / took


@contextlib.contextmanager
def ours(backend: Any, window: int | None = None) -> Iterator[Run]:
    with PythonWorker("bench", backend=backend) as worker:
        worker.on_message("count", count)
        assert list(worker.stream("count", 3)) == [0, 1, 2]
        yield lambda number: timed(lambda total: worker.stream("count", total, window=window), number)


@contextlib.contextmanager
def _queue() -> Iterator[Run]:
    def read(number: int) -> Iterator[int]:
        items: queue.Queue[Any] = queue.Queue(WINDOW)

        def put_all() -> None:
            for item in count(number):
                items.put(item)
            items.put(None)

        thread = threading.Thread(target=put_all)
        thread.start()
        while (item := items.get()) is not None:
            yield item
        thread.join()

    yield lambda number: timed(read, number)


@contextlib.contextmanager
def imap() -> Iterator[Run]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(abs, (-1,))
        yield lambda number: timed(lambda total: pool.imap(abs, range(total)), number)


def rows(plan: Plan) -> Iterator[Row]:
    """Both backends."""
    for name, backend, items, label, peer in (
        ("stream-thread", "thread", ITEMS_THREAD, "thread and queue.Queue(32)", _queue),
        ("stream-process", "process", ITEMS_PROCESS, "multiprocessing.Pool(1).imap", imap),
    ):
        sides = {"worker.stream": lambda backend=backend: ours(backend, WINDOW), label: peer}
        taken = alternate(sides, count=plan.count(items), plan=plan, peers=(label,))
        yield Row(
            name,
            f"items of a generator, one by one, from a {backend}",
            RATE,
            Side("worker.stream", taken["worker.stream"]),
            [Side(label, taken[label])],
            target=TARGET,
        )


if __name__ == "__main__":
    main([rows])
