"""Rows of large data: to a child process and back, one at a time."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

import process_peers
from process_tasks import noop
from pytoweb.workers import PythonWorker
from rounds import Competitor, Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]
Same = Callable[[Any, Any], bool]

BYTES = 1 << 20
BYTES_TRIPS = 200
ARRAY_BYTES = 8 << 20
ARRAY_TRIPS = 20
QUICK_DIVISOR = 10
LIMIT = 1 / 10
OURS = "PythonWorker.ask"


def _trips(trip: Callable[[Any], Any], payload: Any, same: Same) -> Run:
    """Microseconds per trip; that what came back is right is looked at after the clock has stopped."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            back = trip(payload)
        taken = time.perf_counter() - begin
        if not same(back, payload):
            raise AssertionError("what came back is not what was sent")
        return taken / count * 1e6

    return run


@contextlib.contextmanager
def ask_ours(payload: Any, same: Same) -> Iterator[Run]:
    """``ask(...).result()`` of one worker."""
    worker = PythonWorker("bench-process-payload", backend="process")
    worker.on_message("work", noop)
    with worker:
        yield _trips(lambda data: worker.ask("work", data).result(), payload, same)


@contextlib.contextmanager
def submit_peer(peer: process_peers.Peer, payload: Any, same: Same) -> Iterator[Run]:
    """The same through a peer."""
    with peer() as (submit, take):
        yield _trips(lambda data: take(submit(noop, data)), payload, same)


def _rows(name: str, title: str, trips: int, payload: Any, same: Same, plan: Plan) -> Iterator[Row]:
    # The peers first: those that fork do it before ours have threads.
    competitors: dict[str, Competitor[float]] = {
        label: functools.partial(submit_peer, peer, payload, same)
        for label, peer in process_peers.installed().items()
    }
    competitors[OURS] = functools.partial(ask_ours, payload, same)
    # Large payloads need no thousand trips, so a smoke run has fewer than `Plan.count` would give it.
    count = max(trips // QUICK_DIVISOR, 2) if plan.quick else trips
    taken = alternate(competitors, count=count, plan=plan, peers=set(competitors) - {OURS})
    ours = Side(OURS, taken.pop(OURS))
    peers = [Side(label, samples) for label, samples in taken.items()]
    named = [side for side in peers if side.label == process_peers.EXECUTOR]
    yield Row(name, title, "us", ours, named, bound=AT_MOST, target=LIMIT)
    yield Row(f"{name}-others", "the same, all peers", "us", ours, peers, bound=AT_MOST)


def bytes_rows(plan: Plan) -> Iterator[Row]:
    """Random bytes."""
    payload = os.urandom(BYTES)
    title = f"processes, {BYTES >> 20} MiB of bytes there and back"
    yield from _rows("process-bytes", title, BYTES_TRIPS, payload, lambda back, sent: back == sent, plan)


def array_rows(plan: Plan) -> Iterator[Row]:
    """An array of floats, where numpy is installed."""
    if importlib.util.find_spec("numpy") is None:
        print("numpy is not installed: no row process-array", file=sys.stderr)
        return
    import numpy

    payload = numpy.random.default_rng(1).random(ARRAY_BYTES // 8)
    title = f"processes, {ARRAY_BYTES >> 20} MiB of numpy there and back"
    same = numpy.array_equal
    yield from _rows("process-array", title, ARRAY_TRIPS, payload, same, plan)


if __name__ == "__main__":
    main([bytes_rows, array_rows])
