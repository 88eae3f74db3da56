"""Rows that count messages per second through one worker or one pool, handled one by one.

Every handler is the same no-op. Ours runs with the default mailbox (16 384 messages, a full one
makes the poster wait); the peers' queues have no limit.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Callable

from pytoweb.workers import DEFAULT_CAPACITY, PythonWorker, WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, RATE, Row, Side
from seed_design import SeedWorker

Run = Callable[[int], float]

POSTED = 500_000
ASKED = 50_000
POOL_SIZE = 4
CAPACITY_NOTE = (
    f"ours: default mailbox of {DEFAULT_CAPACITY:,} messages, overflow 'block'; the peer's queue is unbounded"
)


def noop(data: Any) -> Any:
    """The handler of every side: hands its argument back."""
    return data


def _post_all(post: Callable[..., Any], handled: threading.Event, count: int) -> float:
    handled.clear()
    begin = time.perf_counter()
    for item in range(count):
        post("work", item)
    post("last")
    handled.wait()
    return count / (time.perf_counter() - begin)


@contextlib.contextmanager
def post_ours() -> Iterator[Run]:
    """One ``post_message`` per message."""
    handled = threading.Event()
    worker = PythonWorker("bench-post")
    worker.on_message("work", noop)
    worker.on_message("last", lambda data: handled.set())
    with worker:
        yield lambda count: _post_all(worker.post_message, handled, count)


@contextlib.contextmanager
def post_batch_ours() -> Iterator[Run]:
    """The same messages through ``post_messages``, in one call."""
    handled = threading.Event()
    worker = PythonWorker("bench-post-batch")
    worker.on_message("work", noop)
    worker.on_message("last", lambda data: handled.set())

    def run(count: int) -> float:
        handled.clear()
        begin = time.perf_counter()
        worker.post_messages("work", range(count))
        worker.post_message("last")
        handled.wait()
        return count / (time.perf_counter() - begin)

    with worker:
        yield run


@contextlib.contextmanager
def post_seed() -> Iterator[Run]:
    """One ``post_message`` per message, into a thread with a ``queue.Queue``."""
    handled = threading.Event()
    worker = SeedWorker("seed-post")
    worker.on_message("work", noop)
    worker.on_message("last", lambda data: handled.set())
    worker.start()
    try:
        yield lambda count: _post_all(worker.post_message, handled, count)
    finally:
        worker.stop()


@contextlib.contextmanager
def ask_ours() -> Iterator[Run]:
    """All asked, then all results taken, one worker."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        futures = [worker.ask("work", item) for item in range(count)]
        for future in futures:
            future.result()
        return count / (time.perf_counter() - begin)

    worker = PythonWorker("bench-ask")
    worker.on_message("work", noop)
    with worker:
        yield run


def _submit_all(executor: Executor, count: int) -> float:
    begin = time.perf_counter()
    futures = [executor.submit(noop, item) for item in range(count)]
    for future in futures:
        future.result()
    return count / (time.perf_counter() - begin)


@contextlib.contextmanager
def submit_ours() -> Iterator[Run]:
    """All submitted, then all results taken, our pool."""
    with WorkerPool(POOL_SIZE) as pool:
        yield lambda count: _submit_all(pool, count)


@contextlib.contextmanager
def submit_one_thread() -> Iterator[Run]:
    """All submitted, then all results taken, the standard library's executor with one thread."""
    with ThreadPoolExecutor(1) as executor:
        yield lambda count: _submit_all(executor, count)


@contextlib.contextmanager
def submit_threads() -> Iterator[Run]:
    """All submitted, then all results taken, the standard library's executor."""
    with ThreadPoolExecutor(POOL_SIZE) as executor:
        yield lambda count: _submit_all(executor, count)


@contextlib.contextmanager
def call_bare() -> Iterator[Run]:
    """The handler called in a loop, without anything around it."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        for item in range(count):
            noop(item)
        return count / (time.perf_counter() - begin)

    yield run


def _times(side: str, rates: Sequence[float]) -> Side:
    return Side(side, [1e6 / rate for rate in rates])


def post_rows(plan: Plan) -> Iterator[Row]:
    """Post and handled, singly (the row with the target) and in one call; and next to a bare call."""
    single, batch, seed = "PythonWorker.post_message", "PythonWorker.post_messages", "seed design"
    bare = "a bare Python call"
    competitors = {single: post_ours, batch: post_batch_ours, seed: post_seed, bare: call_bare}
    taken = alternate(competitors, count=plan.count(POSTED), plan=plan, peers=(seed, bare))
    peer = Side(seed, taken[seed])
    yield Row(
        "thread-post",
        f"post + handled of {plan.count(POSTED):,}",
        RATE,
        Side(single, taken[single]),
        [peer],
        target=20,
        notes=[CAPACITY_NOTE],
    )
    yield Row(
        "thread-post-batch",
        "the same in one post_messages call",
        RATE,
        Side(batch, taken[batch]),
        [peer],
        notes=["context only: the peer has no such call"],
    )
    yield Row(
        "thread-post-call",
        "post + handled, per message",
        "us",
        _times(single, taken[single]),
        [_times(bare, taken[bare])],
        bound=AT_MOST,
        target=8,
    )


def ask_rows(plan: Plan) -> Iterator[Row]:
    """Ask and result through one worker."""
    ours, peer = "PythonWorker.ask", "ThreadPoolExecutor(1)"
    sides = {ours: ask_ours, peer: submit_one_thread}
    taken = alternate(sides, count=plan.count(ASKED), plan=plan, peers=(peer,))
    yield Row(
        "thread-ask",
        f"ask + result of {plan.count(ASKED):,}",
        RATE,
        Side(ours, taken[ours]),
        [Side(peer, taken[peer])],
        target=12,
        notes=[CAPACITY_NOTE],
    )


def submit_rows(plan: Plan) -> Iterator[Row]:
    """Submit and result through a pool."""
    ours, peer = f"WorkerPool({POOL_SIZE}).submit", f"ThreadPoolExecutor({POOL_SIZE})"
    sides = {ours: submit_ours, peer: submit_threads}
    taken = alternate(sides, count=plan.count(ASKED), plan=plan, peers=(peer,))
    yield Row(
        "pool-submit",
        f"submit + result of {plan.count(ASKED):,}, {POOL_SIZE} threads",
        RATE,
        Side(ours, taken[ours]),
        [Side(peer, taken[peer])],
        target=10,
        notes=[CAPACITY_NOTE],
    )


if __name__ == "__main__":
    main([post_rows, ask_rows, submit_rows])
