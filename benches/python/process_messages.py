"""Rows of messages to child processes: how many in a second, and how long one takes there and back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable

import process_peers
from process_tasks import noop
from pytoweb.workers import DEFAULT_CAPACITY, PythonWorker, WorkerPool
from round_trip import MEDIAN, TAIL, quantile
from rounds import Competitor, Plan, alternate, main
from row import AT_MOST, RATE, Row, Side

ASKED = 20_000
TRIPS = 5_000
CHILDREN = process_peers.CHILDREN

WORKER = "PythonWorker.ask"
POOL = f"WorkerPool({CHILDREN}).submit"
POST = "PythonWorker.post_message"
CAPACITY_NOTE = (
    f"ours: default mailbox of {DEFAULT_CAPACITY:,} messages, overflow 'block'; the peers' are unbounded"
)
ONE_CHILD_NOTE = f"ours: one worker, so one child; the peers have {CHILDREN}"


@contextlib.contextmanager
def _worker(name: str) -> Iterator[PythonWorker]:
    worker = PythonWorker(name, backend="process")
    worker.on_message("work", noop)
    with worker:
        worker.ask("work").result()
        yield worker


@contextlib.contextmanager
def ask_ours() -> Iterator[Callable[[int], float]]:
    """All asked, then all results taken, one worker."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        futures = [worker.ask("work", item) for item in range(count)]
        for future in futures:
            future.result()
        return count / (time.perf_counter() - begin)

    with _worker("bench-process-ask") as worker:
        yield run


def record(item: int) -> dict[str, object]:
    """Data as programs have it: no pickle of a fixed form, as that of a number is."""
    return {"id": item, "name": "a customer", "tags": ["a", "b"]}


@contextlib.contextmanager
def ask_records_ours() -> Iterator[Callable[[int], float]]:
    """The same with a record each."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        futures = [worker.ask("work", record(item)) for item in range(count)]
        for future in futures:
            future.result()
        return count / (time.perf_counter() - begin)

    with _worker("bench-process-records") as worker:
        yield run


@contextlib.contextmanager
def submit_records() -> Iterator[Callable[[int], float]]:
    """The same with a record each, in the standard library's executor."""
    with process_peers.executor() as (submit, take):

        def run(count: int) -> float:
            begin = time.perf_counter()
            futures = [submit(noop, record(item)) for item in range(count)]
            for future in futures:
                take(future)
            return count / (time.perf_counter() - begin)

        yield run


@contextlib.contextmanager
def submit_ours() -> Iterator[Callable[[int], float]]:
    """All submitted, then all results taken, our pool."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        futures = [pool.submit(noop, item) for item in range(count)]
        for future in futures:
            future.result()
        return count / (time.perf_counter() - begin)

    with WorkerPool(CHILDREN, backend="process") as pool:
        yield run


@contextlib.contextmanager
def post_ours() -> Iterator[Callable[[int], float]]:
    """All posted without futures; a worker handles in order, so the reply to the last one ends them all."""

    def run(count: int) -> float:
        replied.clear()
        begin = time.perf_counter()
        for item in range(count - 1):
            worker.post_message("work", item)
        worker.post_message("work", None, "last")
        replied.wait()
        return count / (time.perf_counter() - begin)

    replied = threading.Event()
    with _worker("bench-process-post") as worker:
        worker.on_message("response", lambda reply: replied.set())
        yield run


def _submit_all(peer: process_peers.Peer) -> Competitor[float]:
    @contextlib.contextmanager
    def competitor() -> Iterator[Callable[[int], float]]:
        with peer() as (submit, take):

            def run(count: int) -> float:
                begin = time.perf_counter()
                futures = [submit(noop, item) for item in range(count)]
                for future in futures:
                    take(future)
                return count / (time.perf_counter() - begin)

            yield run

    return competitor


@contextlib.contextmanager
def trips_ours() -> Iterator[Callable[[int], list[float]]]:
    """``ask(...).result()``, each in microseconds, sorted."""

    def run(count: int) -> list[float]:
        taken = []
        for item in range(count):
            begin = time.perf_counter()
            worker.ask("work", item).result()
            taken.append((time.perf_counter() - begin) * 1e6)
        return sorted(taken)

    with _worker("bench-process-trip") as worker:
        yield run


def _trips_of(peer: process_peers.Peer) -> Competitor[list[float]]:
    @contextlib.contextmanager
    def competitor() -> Iterator[Callable[[int], list[float]]]:
        with peer() as (submit, take):

            def run(count: int) -> list[float]:
                taken = []
                for item in range(count):
                    begin = time.perf_counter()
                    take(submit(noop, item))
                    taken.append((time.perf_counter() - begin) * 1e6)
                return sorted(taken)

            yield run

    return competitor


def _with_peers(
    ours: Mapping[str, Competitor[Any]], of: Callable[[process_peers.Peer], Competitor[Any]]
) -> dict[str, Competitor[Any]]:
    # The peers first: those that fork do it before ours have threads.
    return {**{label: of(peer) for label, peer in process_peers.installed().items()}, **ours}


def _sides(taken: Mapping[str, list[float]], ours: set[str]) -> list[Side]:
    return [Side(label, samples) for label, samples in taken.items() if label not in ours]


def rate_rows(plan: Plan) -> Iterator[Row]:
    """Ask and result, the row with the target; submit and post with the same peers, for context."""
    count = plan.count(ASKED)
    ours = {WORKER: ask_ours, POOL: submit_ours, POST: post_ours}
    sides = _with_peers(ours, _submit_all)
    taken = alternate(sides, count=count, plan=plan, peers=set(sides) - set(ours))
    peers = _sides(taken, set(ours))
    named = [side for side in peers if side.label == process_peers.EXECUTOR]
    notes = [CAPACITY_NOTE, ONE_CHILD_NOTE]
    title = f"processes, ask + result of {count:,}"
    yield Row("process-ask", title, RATE, Side(WORKER, taken[WORKER]), named, target=40, notes=notes)
    yield Row("process-ask-others", "the same, all peers", RATE, Side(WORKER, taken[WORKER]), peers)
    yield Row(
        "process-submit", f"processes, submit + result of {count:,}", RATE, Side(POOL, taken[POOL]), peers
    )
    yield Row(
        "process-post",
        f"processes, post + handled of {count:,}",
        RATE,
        Side(POST, taken[POST]),
        named,
        notes=["context only: the peer has no task without a future"],
    )


def record_rows(plan: Plan) -> Iterator[Row]:
    """Ask and result of small dictionaries: numbers, which the other rows send, are the cheapest data."""
    count = plan.count(ASKED)
    sides = {process_peers.EXECUTOR: submit_records, WORKER: ask_records_ours}
    taken = alternate(sides, count=count, plan=plan, peers=(process_peers.EXECUTOR,))
    peer = Side(process_peers.EXECUTOR, taken[process_peers.EXECUTOR])
    title = f"the same of {count:,} dictionaries of three items"
    yield Row("process-ask-records", title, RATE, Side(WORKER, taken[WORKER]), [peer])


def trip_rows(plan: Plan) -> Iterator[Row]:
    """Median and tail of the same trips; a sample is the quantile of one round."""
    count = plan.count(TRIPS)
    sides = _with_peers({WORKER: trips_ours}, _trips_of)
    taken = alternate(sides, count=count, plan=plan, peers=set(sides) - {WORKER})
    for name, share, target in (("p50", MEDIAN, 1 / 20), ("p99", TAIL, 1 / 10)):
        samples = {label: [quantile(trips, share) for trips in rounds] for label, rounds in taken.items()}
        peers = _sides(samples, {WORKER})
        mine = Side(WORKER, samples[WORKER])
        yield Row(
            f"process-trip-{name}",
            f"processes, round trip {name} of {count:,}",
            "us",
            mine,
            [side for side in peers if side.label == process_peers.EXECUTOR],
            bound=AT_MOST,
            target=target,
        )
        yield Row(f"process-trip-{name}-others", "the same, all peers", "us", mine, peers, bound=AT_MOST)


if __name__ == "__main__":
    main([rate_rows, record_rows, trip_rows])
