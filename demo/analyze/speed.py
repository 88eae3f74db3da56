"""How much faster the workers are than one thread: measured, on the same files, by turns."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Callable, NamedTuple

from analyze.courier import Courier, StopRequest, errand
from analyze.facts import FileFacts
from analyze.spread import spread_order
from analyze.totals import Totals
from pytoweb.workers import WorkerPool

ROUNDS = 6
ROUND_SECONDS = 0.35
"""How often one thread and the workers take turns, and how long one thread works in each turn: all in
all some three seconds on two cores. Short turns, because what else the machine does changes by the second
and shall meet both."""

MIN_SECONDS = 0.1
"""With less work for one thread than this, what is measured is mostly chance."""


class SpeedUp(NamedTuple):
    """What was measured.

    Attributes:
        files: How many files both of them read.
        one_thread_seconds: What a loop on one thread took for them.
        workers_seconds: What the workers took, from the first message to the last result.
    """

    files: int
    one_thread_seconds: float
    workers_seconds: float

    @property
    def ratio(self) -> float | None:
        """How many times faster the workers were; None if there was too little to do to tell."""
        if self.one_thread_seconds < MIN_SECONDS:
            return None
        return self.one_thread_seconds / self.workers_seconds


def measure_speed_up(
    pool: WorkerPool,
    root: str,
    files: Sequence[str],
    stop: StopRequest,
    handler: Callable[[str], FileFacts],
    *,
    batch: int = 1,
) -> SpeedUp | None:
    """Reads a sample of files on this thread and then with the workers, and times both.

    Both add up what they find, as the whole analysis does. The files were read before: for both they come
    from memory, and the workers have started.

    Args:
        pool: The workers.
        root: What the files are relative to.
        files: Those that may be chosen, none of which ends the process that reads it.
        stop: Is asked after every file.
        handler: What the workers run, once per file.
        batch: How many small files may go to a process as one batch.

    Returns:
        The times; None if a stop was requested.
    """
    order = [files[place] for place in spread_order(len(files))]
    one_thread = workers = 0.0
    done = 0
    while done < len(order) and one_thread < ROUNDS * ROUND_SECONDS and not stop.requested():
        totals, elapsed = Totals(), 0.0
        sample: list[tuple[int, str]] = []
        started = time.perf_counter()
        while done < len(order) and elapsed < ROUND_SECONDS and not stop.requested():
            facts = handler(os.path.join(root, order[done]))
            totals.add(facts)
            sample.append((facts.size_bytes, order[done]))
            done += 1
            elapsed = time.perf_counter() - started
        one_thread += elapsed
        # The largest first: one that came last would keep one worker busy while the others have nothing
        # left, which counts for much in a sample and for nothing in a whole tree.
        sample.sort(reverse=True)
        courier = Courier(pool, root, Totals(), batch=batch)
        started = time.perf_counter()
        courier.deliver(((errand(root, path), path) for _, path in sample), stop)
        workers += time.perf_counter() - started
        if courier.pending:
            courier.cancel(grace=0.0)
            return None
    return None if stop.requested() else SpeedUp(done, one_thread, workers)
