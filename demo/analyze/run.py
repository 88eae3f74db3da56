"""The work: one message per file to a pool of workers, results taken as they complete."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Protocol

from analyze import courier as couriers
from analyze.courier import ALONE, ANALYZE, Courier, StopRequest, batch_size, errand
from analyze.facts import CRASHED, FAILED, FileFacts
from analyze.source import analyze_file
from analyze.speed import SpeedUp, measure_speed_up
from analyze.spread import spread
from analyze.task import Task, quiet_parser
from analyze.totals import Totals
from analyze.tree import SourceTree
from pytoweb.workers import Batch, Limits, PoolStats, WorkerPool

if TYPE_CHECKING:
    from typing import Literal

    Backend = Literal["process", "thread"]


RESTART_WINDOW_SECONDS = 3600.0
"""Crashes without a file between them that are further apart than this do not add up."""

BYTE_LIMIT = 8 << 20
"""Bytes of messages that the pool takes at a time: many more than the paths that are under way need, and so
few that a mistake in that does not cost the memory of the machine."""


class Display(Protocol):
    """What shows the progress; see `progress.Progress`."""

    def start(self, total: int) -> None:
        """Begins."""

    def update(self, done: int) -> None:
        """Counts."""

    def compare(self) -> None:
        """Says that all files are done, and the comparison with one thread begins."""


@dataclass(frozen=True)
class Analysis:
    """What came out.

    Attributes:
        tree: What was asked for.
        totals: What was found, paths relative to the tree's root.
        backend: Where the workers were: `process` or `thread`.
        stats: How the workers did, when the last file was done.
        messages: How many messages each worker answered, most first. A process that took the place of
            one that crashed is another worker.
        wall_seconds: From the first message to the last result, the start of the workers included.
        batch: How many small files went to a process as one batch, at most; 1 for threads.
        byte_limit: Bytes of messages that the pool took at a time.
        asked_again: Files that were asked for once more, alone, since a process ended that had them in
            a batch.
        complete: False if a request to stop left files out.
        abandoned: Files that were still being read when a stop gave up waiting.
        speed_up: Against one thread; None if that was not measured.
    """

    tree: SourceTree
    totals: Totals
    backend: Backend
    stats: PoolStats
    messages: tuple[int, ...]
    wall_seconds: float
    batch: int
    byte_limit: int
    asked_again: int
    complete: bool
    abandoned: int
    speed_up: SpeedUp | None = None

    @property
    def workers_lost(self) -> bool:
        """Whether the crashes ended the run: no process could be kept alive."""
        return self.stats.own.state == "failed"

    @property
    def crashes(self) -> int:
        """Files whose worker crashed."""
        return self.totals.count(CRASHED)


def open_pool(
    backend: Backend,
    size: int | None,
    handler: Callable[[str], FileFacts],
    *,
    files: int,
    crashing: Collection[str] = (),
) -> tuple[WorkerPool, int]:
    """Makes the pool that analyses files.

    Args:
        backend: Where the workers are.
        size: How many files at the same time; None for the CPUs that it may use.
        handler: Takes a path, returns the facts about the file.
        files: How many there will be.
        crashing: Paths of files that end their process instead. With processes only.

    Returns:
        A pool that answers the messages `analyze` and `analyze alone`, and how many of the former may be
        one batch.
    """
    limits, task = Limits(bytes=BYTE_LIMIT), Task(handler, crashing)
    if backend == "process":
        # A crash costs the file that was read, which may have ended the process of its batch before: there
        # cannot be more than two for each, and each file is a line of the report, not the end of the run.
        pool = WorkerPool(
            size,
            backend=backend,
            name=ANALYZE,
            limits=limits,
            initializer=quiet_parser,
            max_restarts=2 * files,
            restart_window=RESTART_WINDOW_SECONDS,
        )
        batch = batch_size(files, pool.size)
    else:
        pool, batch = WorkerPool(size, backend=backend, name=ANALYZE, limits=limits), 1
    if batch > 1:
        pool.on_message(ANALYZE, task.together, batch=Batch(batch))
    else:
        pool.on_message(ANALYZE, task.alone)
    pool.on_message(ALONE, task.alone)
    # The futures carry the failures and the report names them: no log record for each.
    pool.on_error(lambda error: None)
    return pool, batch


def analyze_tree(
    tree: SourceTree,
    totals: Totals,
    *,
    backend: Backend = "process",
    size: int | None = None,
    crashes: int = 0,
    compare: bool = False,
    progress: Display,
    stop: StopRequest,
    handler: Callable[[str], FileFacts] = analyze_file,
    report: str | None = None,
) -> Analysis:
    """Analyses the files of a tree in workers; returns when all are done, or soon after a stop.

    Args:
        tree: The files.
        totals: Where to add what is found.
        backend: Where the workers are.
        size: How many files at the same time; None for the CPUs that it may use.
        crashes: How many files end the process of their worker instead of being read, spread over the
            tree. With processes only.
        compare: Whether to measure how much faster the workers are than one thread.
        progress: Is told about every file.
        stop: Is asked after every file, and ten times a second.
        handler: Runs in the workers, once per file. It must pickle for processes.
        report: The file of a page that shows how the workers did; the comparison is not in it.

    Returns:
        What was found, and how the workers did.
    """
    with _quiet_parser():
        crashing = [os.path.join(tree.root, tree.files[place]) for place in spread(crashes, len(tree.files))]
        pool, batch = open_pool(backend, size, handler, files=len(tree.files), crashing=crashing)
        courier = Courier(pool, tree.root, totals, progress.update, batch=batch)
        try:
            recorded = (
                nullcontext() if report is None else pool.report(report, title=f"Analysis of {tree.root}")
            )
            with recorded:
                analysis = _drive(courier, pool, tree, progress, stop)
            if compare and analysis.complete:
                progress.compare()
                lost = {facts.path for facts in totals.problems if _is_lost(facts)}
                files = [path for path in tree.files if path not in lost]
                speed_up = measure_speed_up(pool, tree.root, files, stop, handler, batch=batch)
                analysis = replace(analysis, speed_up=speed_up)
            return analysis
        finally:
            pool.shutdown(wait=not courier.pending, cancel_futures=True)


def _drive(
    courier: Courier, pool: WorkerPool, tree: SourceTree, progress: Display, stop: StopRequest
) -> Analysis:
    errands = ((errand(tree.root, path), path) for path in tree.files)
    progress.start(len(tree.files))
    started = time.perf_counter()
    courier.deliver(errands, stop)
    if courier.pending:
        courier.cancel(couriers.GRACE_SECONDS)
    return Analysis(
        tree=tree,
        totals=courier.totals,
        backend=pool.backend,
        stats=pool.stats(),
        messages=tuple(sorted(courier.messages.values(), reverse=True)),
        wall_seconds=time.perf_counter() - started,
        batch=courier.batch,
        byte_limit=BYTE_LIMIT,
        asked_again=courier.again,
        complete=tree.complete and courier.taken == len(tree.files),
        abandoned=len(courier.pending),
    )


def _is_lost(facts: FileFacts) -> bool:
    """Whether its worker came to harm: reading it on this thread may end the program."""
    return facts.problem is not None and facts.problem.kind in (CRASHED, FAILED)


@contextmanager
def _quiet_parser() -> Iterator[None]:
    """Silences the parser in this process.

    Once around everything: the filters belong to the process, and changing them in each handler would
    race between the workers.
    """
    with warnings.catch_warnings():
        quiet_parser()
        yield
