"""Messages to the workers and results from them."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Callable, Protocol

from analyze.facts import CRASHED, FAILED, FileFacts, Problem
from analyze.task import Finding
from analyze.totals import Totals
from pytoweb.errors import WorkerCrashedError, WorkerError
from pytoweb.workers import WorkerPool

ANALYZE = "analyze"
"""The message type that asks for the facts about a file; processes get several of them as one batch."""

ALONE = "analyze alone"
"""The same for a file that is in no batch."""

LARGE_BYTES = 16 << 10
"""A file of this size takes as long as a batch of small ones, which would only wait for it."""

MAX_BATCH = 8
"""Files that a batch has at most: so many are read once more where one of them ends its process, and so
many results are lost where a stop comes while they are read."""

BATCHES_PER_WORKER = 8
"""A tree with fewer batches than that for each worker gets smaller ones: at its end no worker is to have
many files left when the others have none."""

IN_FLIGHT_PER_WORKER = 4
MIN_IN_FLIGHT = 64
"""Messages that are posted and not yet taken back: enough that no worker waits for this thread, and so
few that memory stays flat, that a mailbox never fills up and that posting never blocks a signal. With
batches it is as many batches."""

POLL_SECONDS = 0.1
"""How often a request to stop is looked for while no file gets done. Python runs signal handlers only in
the main thread, and not every system interrupts its wait for them."""

GRACE_SECONDS = 0.5
"""How long a stop waits for the files that are being read right now."""


def batch_size(files: int, workers: int) -> int:
    """How many small files make one batch."""
    return max(1, min(MAX_BATCH, files // (BATCHES_PER_WORKER * workers)))


def errand(root: str, path: str) -> str:
    """The message type for a file: `ALONE` if it is large."""
    try:
        size = os.stat(os.path.join(root, path)).st_size
    except (OSError, ValueError):
        # The worker will find it unreadable, which takes no time.
        size = 0
    return ALONE if size >= LARGE_BYTES else ANALYZE


def in_flight(workers: int, batch: int) -> int:
    """How many messages are posted and not yet taken back."""
    return max(MIN_IN_FLIGHT, IN_FLIGHT_PER_WORKER * workers * batch)


class StopRequest(Protocol):
    """What says that the work shall stop; see `stop.StopSignals`."""

    def requested(self) -> bool:
        """True from the moment on when it shall."""


class Courier:
    """Posts paths and takes the results back, in any order.

    The results arrive through a queue that the futures' callbacks fill, so that taking one costs the
    same however many are under way.
    """

    def __init__(
        self,
        pool: WorkerPool,
        root: str,
        totals: Totals,
        noted: Callable[[int], object] = lambda taken: None,
        *,
        batch: int = 1,
    ) -> None:
        """Posts nothing yet.

        Args:
            pool: Answers the messages.
            root: What the paths are relative to.
            totals: Where to add what is found.
            batch: How many messages of the type `ANALYZE` may go to a process as one batch.
            noted: Is called after each file with the number of files so far.
        """
        self.totals = totals
        self.taken = 0
        self.again = 0
        """How many files were asked for again, alone, since a process ended that had them in a batch."""
        self.pending: dict[Future[Any], tuple[str, str]] = {}
        """The messages under way, each with its type and its path."""
        self.messages: Counter[tuple[int, int]] = Counter()
        """How many messages each worker answered."""
        self._pool = pool
        self._root = root
        self._noted = noted
        self.batch = batch
        self._limit = in_flight(pool.size, batch)
        self._stopped = False
        self._done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def deliver(self, errands: Iterable[tuple[str, str]], stop: StopRequest) -> None:
        """Posts every file and takes every result, until all are there or a stop is requested.

        Args:
            errands: Message types and paths.
            stop: Is asked after every file, and ten times a second.
        """
        waiting = iter(errands)
        following = next(waiting, None)
        while not stop.requested() and (following is not None or self.pending):
            while following is not None and len(self.pending) < self._limit:
                self._post(*following)
                following = next(waiting, None)
            if self.pending:
                self._take(POLL_SECONDS)

    def cancel(self, grace: float) -> None:
        """Gives up what is queued, and what still runs after `grace` seconds."""
        deadline = time.monotonic() + grace
        self._stopped = True
        # The newest first: what is cancelled makes no room for what is to be cancelled next.
        for future in reversed(list(self.pending)):
            if not future.running():
                future.cancel()
        while self.pending and self._take(max(0.0, deadline - time.monotonic())):
            pass
        # A process is killed for it. A thread cannot be: its file stays pending.
        for future in list(self.pending):
            future.cancel()
        while any(future.done() for future in self.pending):
            self._take(POLL_SECONDS)

    def _post(self, message_type: str, path: str) -> None:
        try:
            future: Future[Any] = self._pool.ask(message_type, os.path.join(self._root, path))
        except WorkerError as error:
            # The pool's processes could not be kept alive.
            self._add(FileFacts(path, problem=Problem(FAILED, _reason(error))))
            return
        self.pending[future] = message_type, path
        future.add_done_callback(self._done.put)

    def _take(self, timeout: float) -> bool:
        """Adds up the next result; false if none came within `timeout` seconds."""
        try:
            future = self._done.get(timeout=timeout)
        except queue.Empty:
            return False
        message_type, path = self.pending.pop(future)
        if future.cancelled():
            return True
        error = future.exception()
        if error is None:
            finding: Finding = future.result()
            self.messages[finding.worker] += 1
            self._add(finding.facts._replace(path=path))
        elif isinstance(error, WorkerCrashedError) and message_type == ANALYZE and self.batch > 1:
            # Some file of its batch was the end of the process, and the error does not say which: alone,
            # each ends its own process or none.
            if not self._stopped:
                self.again += 1
                self._post(ALONE, path)
        elif isinstance(error, WorkerCrashedError):
            self._add(FileFacts(path, problem=Problem(CRASHED, _end(error), signal=error.signal)))
        else:
            self._add(FileFacts(path, problem=Problem(FAILED, _reason(error))))
        return True

    def _add(self, facts: FileFacts) -> None:
        self.taken += 1
        self.totals.add(facts)
        self._noted(self.taken)


def _end(error: WorkerCrashedError) -> str:
    if error.signal is not None:
        try:
            return f"signal {error.signal} ({signal.Signals(error.signal).name})"
        except ValueError:  # a real-time signal, say
            return f"signal {error.signal}"
    if error.exitcode is not None:
        return f"exit code {error.exitcode}"
    return _reason(error)


def _reason(error: BaseException) -> str:
    # What a process wrote about its end follows in further lines.
    return f"{type(error).__name__}: {error}".splitlines()[0]
