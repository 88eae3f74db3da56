"""Rows of a million small items out of a generator, next to ``imap`` of one process of ``multiprocessing``,
and to the same generator on a thread whose items are pulled through a ``queue.SimpleQueue``.

That queue has no bound, so its generator never waits for the reader. The streams have the window that they
get unasked.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from rounds import Plan, alternate, main
from row import RATE, Row, Side
from streams import Run, count, imap, ours, timed

ITEMS = 1_000_000
IMAP = "multiprocessing.Pool(1).imap"
QUEUE = "thread and queue.SimpleQueue"


@contextlib.contextmanager
def _simple_queue() -> Iterator[Run]:
    def read(number: int) -> Iterator[int]:
        items: queue.SimpleQueue[Any] = queue.SimpleQueue()

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


def rows(plan: Plan) -> Iterator[Row]:
    """Both backends next to ``imap``, and the thread next to the queue, from the same rounds."""
    sides = {
        "thread": lambda: ours("thread"),
        "process": lambda: ours("process"),
        QUEUE: _simple_queue,
        IMAP: imap,
    }
    taken = alternate(sides, count=plan.count(ITEMS), plan=plan, peers=(QUEUE, IMAP))
    for name, side, peer, target in (
        ("stream-million-thread", "thread", IMAP, 10.0),
        ("stream-million-thread-queue", "thread", QUEUE, 0.5),
        ("stream-million-process", "process", IMAP, 10.0),
    ):
        yield Row(
            name,
            f"a million items of a generator, one by one, from a {side}",
            RATE,
            Side("worker.stream", taken[side]),
            [Side(peer, taken[peer])],
            target=target,
        )


if __name__ == "__main__":
    main([rows])
