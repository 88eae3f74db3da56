"""Rows about one child process, for context: its memory, and how long it takes to come up and come back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Callable

from process_tasks import noop, process_id
from pytoweb.workers import PythonWorker
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

OURS = "PythonWorker"
STARTS = 5
"""Starts or deaths a sample; their mean is one sample."""
METHODS = ("spawn", "fork")


def _worker(name: str) -> PythonWorker:
    # A child is killed once a sample and more: none of them is to count as too many.
    worker = PythonWorker(name, backend="process", max_restarts=1_000_000)
    worker.on_message("work", noop)
    worker.on_message("pid", process_id)
    return worker


def _executor(method: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context(method))


def _label(method: str) -> str:
    return f"ProcessPoolExecutor(1), {method}"


def memory_bytes(process: int) -> dict[str, int]:
    """Resident and proportional memory of a process; shared pages count in part in the second."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    fields = (line.split() for line in rollup.splitlines()[1:])
    kib = {parts[0].rstrip(":"): int(parts[1]) for parts in fields}
    return {name: kib[name] << 10 for name in ("Rss", "Pss")}


def memory_rows(plan: Plan) -> Iterator[Row]:
    """A child that has handled one message and sleeps, five children one after the other."""
    taken: dict[str, list[dict[str, int]]] = {OURS: [], **{_label(method): [] for method in METHODS}}
    for _ in range(plan.rounds):
        with _worker("bench-process-memory") as worker:
            taken[OURS].append(memory_bytes(worker.ask("pid").result()))
        for method in () if plan.alone else METHODS:
            with _executor(method) as executor:
                taken[_label(method)].append(memory_bytes(executor.submit(process_id).result()))
    for field, what in (("Rss", "resident"), ("Pss", "proportional share")):
        kib = {label: [float(sample[field] >> 10) for sample in samples] for label, samples in taken.items()}
        yield Row(
            f"process-memory-{field.lower()}",
            f"memory of one idle child, {what}",
            "KiB",
            Side(OURS, kib.pop(OURS)),
            [Side(label, samples) for label, samples in kib.items()],
            bound=AT_MOST,
        )


@contextlib.contextmanager
def start_ours() -> Iterator[Run]:
    """From ``start()`` to the first reply, in milliseconds."""

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            worker = _worker("bench-process-start")
            begin = time.perf_counter()
            worker.start()
            worker.ask("work").result()
            taken += time.perf_counter() - begin
            worker.stop()
        return taken / count * 1e3

    yield run


def _start_executor(method: str) -> Callable[[], contextlib.AbstractContextManager[Run]]:
    @contextlib.contextmanager
    def competitor() -> Iterator[Run]:
        def run(count: int) -> float:
            taken = 0.0
            for _ in range(count):
                begin = time.perf_counter()
                executor = _executor(method)
                executor.submit(noop, None).result()
                taken += time.perf_counter() - begin
                executor.shutdown()
            return taken / count * 1e3

        yield run

    return competitor


@contextlib.contextmanager
def kill_ours() -> Iterator[Run]:
    """From ``kill -9`` of an idle child to the next reply, in milliseconds."""

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            process = worker.ask("pid").result()
            begin = time.perf_counter()
            os.kill(process, signal.SIGKILL)
            worker.ask("work").result()
            taken += time.perf_counter() - begin
        return taken / count * 1e3

    with _worker("bench-process-kill") as worker:
        yield run


def start_rows(plan: Plan) -> Iterator[Row]:
    """Start to first reply, and death to next reply, which no peer has: its executor is broken then."""
    competitors = {OURS: start_ours, **{_label(method): _start_executor(method) for method in METHODS}}
    taken = alternate(competitors, count=STARTS, plan=plan, peers=set(competitors) - {OURS})
    ours = Side(OURS, taken.pop(OURS))
    spawned, forked = (Side(label, taken[label]) for label in map(_label, ("spawn", "fork")))
    title = "start to first reply, one child"
    yield Row("process-start", title, "ms", ours, [spawned], bound=AT_MOST, target=0.7)
    yield Row(
        "process-start-fork",
        "the same, next to a forked one",
        "ms",
        ours,
        [forked],
        bound=AT_MOST,
        notes=["fork copies this process instead of starting an interpreter, which is unsafe beside threads"],
    )
    after = alternate({OURS: kill_ours}, count=STARTS, plan=plan)
    yield Row(
        "process-kill",
        "kill -9 of the child to the next reply",
        "ms",
        Side(OURS, after[OURS]),
        bound=AT_MOST,
        notes=["no peer: ProcessPoolExecutor is broken after it"],
    )


if __name__ == "__main__":
    main([memory_rows, start_rows])
