"""The work: one message per file to a pool of workers, results taken as they complete."""

from __future__ import annotations

import os
import queue
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Protocol

from pytoweb.analyze.facts import FAILED, FileFacts, Problem
from pytoweb.analyze.source import analyze_file
from pytoweb.analyze.totals import Totals
from pytoweb.analyze.tree import SourceTree
from pytoweb.workers import PoolStats, WorkerPool

MESSAGE_TYPE = "analyze"

IN_FLIGHT_PER_WORKER = 4
MIN_IN_FLIGHT = 64
"""Messages that are posted and not yet taken back: enough that no worker waits for this thread, and so
few that memory stays flat, that a mailbox never fills up and that posting never blocks a signal."""

POLL_SECONDS = 0.1
"""How often a request to stop is looked for while no file gets done. Python runs signal handlers only in
the main thread, and not every system interrupts its wait for them."""

GRACE_SECONDS = 0.5
"""How long a stop waits for the files that are being read right now."""


class Display(Protocol):
    """What shows the progress; see `progress.Progress`."""

    def start(self, total: int) -> None:
        """Begins."""

    def update(self, done: int) -> None:
        """Counts."""


class StopRequest(Protocol):
    """What says that the work shall stop; see `stop.StopSignals`."""

    def requested(self) -> bool:
        """True from the moment on when it shall."""


@dataclass(frozen=True)
class Analysis:
    """What came out.

    Attributes:
        tree: What was asked for.
        totals: What was found, paths relative to the tree's root.
        stats: How the workers did, when the last file was done.
        wall_seconds: From the first message to the last result.
        complete: False if a request to stop left files out.
        abandoned: Files that were still being read when a stop gave up waiting.
    """

    tree: SourceTree
    totals: Totals
    stats: PoolStats
    wall_seconds: float
    complete: bool
    abandoned: int


def open_pool(size: int | None, handler: Callable[[str], FileFacts]) -> WorkerPool:
    """Makes the pool that analyses files.

    Args:
        size: How many files at the same time; None for the CPU count.
        handler: Takes a path, returns the facts about the file.

    Returns:
        A pool that answers the message `analyze`.
    """
    pool = WorkerPool(size=size, name=MESSAGE_TYPE)
    pool.on_message(MESSAGE_TYPE, handler)
    # The futures carry the failures and the report names them: no log record for each.
    pool.on_error(lambda error: None)
    return pool


def analyze_tree(
    tree: SourceTree,
    totals: Totals,
    *,
    size: int | None = None,
    progress: Display,
    stop: StopRequest,
    handler: Callable[[str], FileFacts] = analyze_file,
) -> Analysis:
    """Analyses the files of a tree in workers; returns when all are done, or soon after a stop.

    Args:
        tree: The files.
        totals: Where to add what is found.
        size: How many files at the same time; None for the CPU count.
        progress: Is told about every file.
        stop: Is asked after every file, and ten times a second.
        handler: Runs in the workers, once per file.

    Returns:
        What was found, and how the workers did.
    """
    with _quiet_parser():
        pool = open_pool(size, handler)
        courier = _Courier(pool, tree.root, totals)
        try:
            return _drive(courier, pool, tree, progress, stop)
        finally:
            pool.shutdown(wait=not courier.pending, cancel_futures=True)


def _drive(
    courier: _Courier, pool: WorkerPool, tree: SourceTree, progress: Display, stop: StopRequest
) -> Analysis:
    limit = max(MIN_IN_FLIGHT, IN_FLIGHT_PER_WORKER * pool.stats().size)
    files = iter(tree.files)
    posted = 0
    progress.start(len(tree.files))
    started = time.perf_counter()
    while not stop.requested():
        while len(courier.pending) < limit and posted < len(tree.files):
            courier.post(next(files))
            posted += 1
        if not courier.pending:
            break
        if courier.take(POLL_SECONDS):
            progress.update(courier.taken)
    if courier.pending:
        courier.cancel(GRACE_SECONDS)
        progress.update(courier.taken)
    return Analysis(
        tree=tree,
        totals=courier.totals,
        stats=pool.stats(),
        wall_seconds=time.perf_counter() - started,
        complete=tree.complete and courier.taken == len(tree.files),
        abandoned=len(courier.pending),
    )


class _Courier:
    """Posts paths and takes the results back, in any order.

    The results arrive through a queue that the futures' callbacks fill, so that taking one costs the
    same however many are under way.
    """

    def __init__(self, pool: WorkerPool, root: str, totals: Totals) -> None:
        self.totals = totals
        self.taken = 0
        self.pending: dict[Future[FileFacts], str] = {}
        self._pool = pool
        self._root = root
        self._done: queue.SimpleQueue[Future[FileFacts]] = queue.SimpleQueue()

    def post(self, path: str) -> None:
        future: Future[Any] = self._pool.ask(MESSAGE_TYPE, os.path.join(self._root, path))
        self.pending[future] = path
        future.add_done_callback(self._done.put)

    def take(self, timeout: float) -> bool:
        """Adds up the next result; false if none came within `timeout` seconds."""
        try:
            future = self._done.get(timeout=timeout)
        except queue.Empty:
            return False
        path = self.pending.pop(future)
        if future.cancelled():
            return True
        error = future.exception()
        if error is None:
            facts = future.result()._replace(path=path)
        else:
            facts = FileFacts(path, problem=Problem(FAILED, f"{type(error).__name__}: {error}"))
        self.taken += 1
        self.totals.add(facts)
        return True

    def cancel(self, grace: float) -> None:
        """Gives up what is queued and waits up to `grace` seconds for what runs."""
        deadline = time.monotonic() + grace
        for future in list(self.pending):
            future.cancel()
        while self.pending and self.take(max(0.0, deadline - time.monotonic())):
            pass


@contextmanager
def _quiet_parser() -> Iterator[None]:
    """Keeps the warnings that the parser has about other people's code off the screen.

    Once around everything: the filters belong to the process, and changing them in each handler would
    race between the workers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
