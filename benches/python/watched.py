"""Rows that ask what it costs to be looked at: by Prometheus, and by ``python -m pytoweb top``.

A thread posts to one worker without a pause, as in the row ``thread-post``, in a program with ten other
workers.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

from pytoweb import metrics
from pytoweb.workers import PythonWorker, WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, RATE, Row, Side

Run = Callable[[int], float]

POSTED = 10_000_000
"""For some seconds: a view looks once in each."""
SCRAPE_SECONDS = 0.1
OTHERS = 10
OTHER_TYPES = ("resize", "store", "mail")

VIEW = """
import sys, time
from pytoweb._top_client import ProgramConnection, ProgramEnded

program = ProgramConnection(sys.argv[1])
print("attached", flush=True)
try:
    while True:
        begun = time.monotonic()
        # What the answer before this one took.
        print(program.ask("snapshot")["cost_seconds"], flush=True)
        time.sleep(max(0.0, begun + 1.0 - time.monotonic()))
except ProgramEnded:
    pass
"""
"""Polls as ``top`` does, once a second, and says what the program needed for it."""


class Bench:
    """The program that is looked at, and what the looks took of its processor time."""

    def __init__(self, pool: WorkerPool) -> None:
        self._handled = threading.Event()
        self._worker = PythonWorker("bench-watched")
        self._worker.on_message("work", lambda data: data)
        self._worker.on_message("last", lambda data: self._handled.set())
        self._worker.start()
        for number in range(OTHERS):
            other = pool.create_worker(f"other-{number}")
            for kind in OTHER_TYPES:
                other.on_message(kind, lambda data: data)
                other.post_messages(kind, range(100))
            other.start()
        pool.run_until_idle(60)
        #: Processor time of the looks in per cent of one processor, by round.
        self.scrapes: list[float] = []
        self.views: list[float] = []

    def post_all(self, count: int) -> tuple[float, float]:
        """Returns messages per second, and how many seconds it took."""
        self._handled.clear()
        begin = time.perf_counter()
        post = self._worker.post_message
        for item in range(count):
            post("work", item)
        post("last")
        self._handled.wait()
        took = time.perf_counter() - begin
        return count / took, took

    @contextlib.contextmanager
    def alone(self) -> Iterator[Run]:
        """No look at it."""
        yield lambda count: self.post_all(count)[0]

    @contextlib.contextmanager
    def scraped(self) -> Iterator[Run]:
        """A thread that renders the metrics ten times a second, as a server does for a scrape."""

        def run(count: int) -> float:
            over, spent = threading.Event(), [0.0]

            def scrape() -> None:
                while not over.wait(SCRAPE_SECONDS):
                    metrics.render()
                spent[0] = time.thread_time()

            thread = threading.Thread(target=scrape)
            thread.start()
            rate, took = self.post_all(count)
            over.set()
            thread.join()
            self.scrapes.append(100 * spent[0] / took)
            return rate

        yield run

    @contextlib.contextmanager
    def watched(self) -> Iterator[Run]:
        """Another process that polls once a second."""
        path = self._worker.expose()

        def run(count: int) -> float:
            command = [sys.executable, "-c", VIEW, path]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as view:
                assert view.stdout is not None
                assert view.stdout.readline() == "attached\n"
                rate, _ = self.post_all(count)
                view.terminate()
                # The first one is of a look before its own.
                costs = [float(line) for line in view.stdout.readlines()[1:]]
            if costs:
                # Of one look, and there is one in a second.
                self.views.append(100 * statistics.median(costs))
            return rate

        yield run

    def close(self) -> None:
        """Ends the worker."""
        self._worker.stop()


def watched_rows(plan: Plan) -> Iterator[Row]:
    """Messages per second with and without, and the processor time that it takes."""
    count = plan.count(POSTED)
    alone, scraped, watched = "alone", "scraped 10 times a second", "top attached"
    with WorkerPool(2, name="others") as pool:
        bench = Bench(pool)
        competitors: dict[str, Any] = {alone: bench.alone, scraped: bench.scraped, watched: bench.watched}
        taken = alternate(competitors, count=count, plan=plan, peers=(alone,))
        bench.close()
    title = f"post + handled of {count:,}, in a program of {OTHERS + 2} workers"
    peer = Side(alone, taken[alone])
    note = "context: the noise of most machines is larger; processor time tells"
    for name, label, limit, costs in (
        ("watched-scrape", scraped, 5.0, bench.scrapes),
        ("watched-top", watched, 1.0, bench.views),
    ):
        yield Row(name, title, RATE, Side(label, taken[label]), [peer], notes=[note])
        if costs:
            spent = "processor time of the looks, of one processor"
            yield Row(f"{name}-cpu", spent, "%", Side(label, costs), bound=AT_MOST, target=limit)


if __name__ == "__main__":
    main([watched_rows])
