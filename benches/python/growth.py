"""Rows of growth: does a message cost more when more are queued, or when there are more workers?

Both sides are ours. The cost at the smallest size is the peer, the worst of the larger sizes is
ours, so that a ratio of 1 is flat.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

from many_workers import start_workers
from pytoweb.workers import WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

QUEUED = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 10, 100, 1_000, 10_000)
WAVE = 10_000
MESSAGES = 500_000
WAIT_SECONDS = 120
FLAT = 1.3


def noop(data: Any) -> Any:
    """The handler of every worker: hands its argument back."""
    return data


def tell(data: threading.Event | None) -> None:
    """Says that the last message of a wave was handled."""
    if data is not None:
        data.set()


@contextlib.contextmanager
def queue_then_start(depth: int) -> Iterator[Run]:
    """Queues ``depth`` messages, starts the worker and waits until all are handled, repeatedly.

    The pool's thread runs already and the mailbox holds ``depth`` messages, so that posting,
    keeping and running messages is all that is timed. Small depths are repeated until a sample
    has as many messages as the plan asks for.
    """
    with WorkerPool(1) as pool:

        def once(number: int, messages: int) -> float:
            handled = threading.Event()
            worker = pool.create_worker(f"depth-{number}", capacity=messages + 1)
            worker.on_message("work", noop)
            worker.on_message("last", lambda data: handled.set())
            post = worker.post_message
            begin = time.perf_counter()
            for item in range(messages):
                post("work", item)
            post("last")
            worker.start()
            if not handled.wait(WAIT_SECONDS):
                raise TimeoutError(f"{messages} queued messages were not handled in {WAIT_SECONDS} s")
            taken = time.perf_counter() - begin
            pool.remove_worker(worker.name)
            return taken

        def run(count: int) -> float:
            messages = min(depth, count)
            repeats = count // messages
            return sum(once(number, messages) for number in range(repeats)) / (repeats * messages) * 1e6

        yield run


@contextlib.contextmanager
def spread(workers: int) -> Iterator[Run]:
    """Posts to the workers in turn, in waves that end when the last message is handled.

    A wave fits a single worker's mailbox, so that the same number of messages waits at any moment
    however many workers share them. One thread takes the workers in turn, so the message that was
    posted last is handled last.
    """
    with WorkerPool(1) as pool:
        everyone = start_workers(pool, workers)
        for worker in everyone:
            worker.on_message("work", tell)
        posts = [worker.post_message for worker in everyone]
        wave = [posts[index % workers] for index in range(WAVE - 1)]
        last = posts[(WAVE - 1) % workers]

        def run(count: int) -> float:
            waves = max(count // WAVE, 1)
            begin = time.perf_counter()
            for _ in range(waves):
                handled = threading.Event()
                for post in wave:
                    post("work", None)
                last("work", handled)
                if not handled.wait(WAIT_SECONDS):
                    raise TimeoutError(f"a wave was not handled in {WAIT_SECONDS} s")
            return (time.perf_counter() - begin) / (waves * WAVE) * 1e6

        yield run


def _flatness(name: str, title: str, what: str, taken: dict[str, list[float]]) -> Row:
    sides = [Side(f"{label} {what}", samples) for label, samples in taken.items()]
    worst = max(sides[1:], key=lambda side: side.median)
    costs = ", ".join(f"{side.label} {side.median:.3f} us" for side in sides)
    return Row(
        name,
        title,
        "us",
        worst,
        sides[:1],
        bound=AT_MOST,
        target=FLAT,
        notes=[f"cost per message: {costs}"],
    )


def queued_rows(plan: Plan) -> Iterator[Row]:
    """Cost per message by the number of messages queued before the start."""
    most = plan.count(QUEUED[-1])
    depths = [depth for depth in QUEUED if depth <= most]
    taken = alternate(
        {f"{depth:,}": functools.partial(queue_then_start, depth) for depth in depths},
        count=most,
        plan=plan,
    )
    title = "queue, then start, the worst"
    yield _flatness("growth-queued", title, "queued", taken)


def worker_rows(plan: Plan) -> Iterator[Row]:
    """Cost per message by the number of workers that share the messages."""
    taken = alternate(
        {f"{workers:,}": functools.partial(spread, workers) for workers in WORKERS},
        count=plan.count(MESSAGES),
        plan=plan,
    )
    title = "posted in turn to the workers of a pool, the worst"
    yield _flatness("growth-workers", title, "workers", taken)


if __name__ == "__main__":
    main([queued_rows, worker_rows])
