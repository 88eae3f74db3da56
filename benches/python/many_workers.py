"""Rows of many named workers in one small pool: time per message, memory per idle one, a look at all.

Both sides of the time rows are ours: ten thousand workers against one, with the same number of
messages, the same number waiting at any moment and the same pool. Never more than ten thousand
replies are open, so neither side meets a full mailbox.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

from pytoweb._core import program_numbers
from pytoweb.workers import PythonWorker, WorkerPool
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

WORKERS = 10_000
MESSAGES_EACH = 100
WAVE = 10_000
POOL_SIZE = 2
IDLE_BYTES = 4096
STATM = Path("/proc/self/statm")
RESIDENT_FIELD = 1


def noop(data: Any) -> Any:
    """The handler of every worker: hands its argument back."""
    return data


def start_workers(pool: WorkerPool, count: int, prefix: str = "bench") -> list[PythonWorker]:
    """Creates and starts workers with one handler each."""
    workers = []
    for number in range(count):
        worker = pool.create_worker(f"{prefix}-{number}")
        worker.on_message("work", noop)
        worker.start()
        workers.append(worker)
    return workers


def _ask_and_wait(addresses: Sequence[PythonWorker]) -> None:
    futures = [worker.ask("work", None) for worker in addresses]
    for future in futures:
        future.result()


@contextlib.contextmanager
def spread(workers: int, in_a_row: int) -> Iterator[Run]:
    """Asks in waves of ``WAVE`` messages, ``in_a_row`` to one worker before the next one."""
    with WorkerPool(POOL_SIZE) as pool:
        started = start_workers(pool, workers)
        turns = [started[index // in_a_row % workers] for index in range(WORKERS * MESSAGES_EACH)]

        def run(count: int) -> float:
            waves = [turns[start : start + WAVE] for start in range(0, count, WAVE)]
            begin = time.perf_counter()
            for wave in waves:
                _ask_and_wait(wave)
            return (time.perf_counter() - begin) / sum(map(len, waves)) * 1e6

        yield run


def message_rows(plan: Plan) -> Iterator[Row]:
    """Time per message, once with one message per turn of a worker and once with all in a row."""
    shapes = (
        ("many-workers-spread", 1, "one message to each worker at a time"),
        ("many-workers-bursts", MESSAGES_EACH, f"{MESSAGES_EACH} to one worker, then the next"),
    )
    for name, in_a_row, shape in shapes:
        many, one = f"{WORKERS:,} workers", "one worker"
        taken = alternate(
            {
                many: functools.partial(spread, WORKERS, in_a_row),
                one: functools.partial(spread, 1, in_a_row),
            },
            count=plan.count(WORKERS * MESSAGES_EACH),
            plan=plan,
            peers=(one,),
        )
        yield Row(
            name,
            f"{plan.count(WORKERS * MESSAGES_EACH):,} asked and replied in a pool of {POOL_SIZE}, {shape}",
            "us",
            Side(many, taken[many]),
            [Side(one, taken[one])],
            bound=AT_MOST,
            target=2,
        )


def resident_bytes() -> int:
    """Returns the resident memory of this process in bytes, after a run of the collector."""
    gc.collect()
    pages = int(STATM.read_text(encoding="ascii").split()[RESIDENT_FIELD])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_rows(plan: Plan) -> Iterator[Row]:
    """Growth of the resident memory per worker, idle from the start and idle after its messages.

    Names, handles and handlers' entries count as well; what the first workers of a process set up
    once does not, nor do the messages, since few are under way at a time.
    """
    if not STATM.exists():
        return
    each = plan.count(MESSAGES_EACH)
    with WorkerPool(POOL_SIZE) as pool:
        for worker in start_workers(pool, 100, "warm-up"):
            worker.post_messages("work", range(each))
        pool.run_until_idle(timeout=60)
        before = resident_bytes()
        started = start_workers(pool, WORKERS)
        fresh = (resident_bytes() - before) / WORKERS
        for worker in started:
            for item in range(each):
                worker.post_message("work", item)
            worker.ask("work", None).result()
        used = (resident_bytes() - before) / WORKERS
    for name, label, value in (
        ("idle-worker-memory", "created and started", fresh),
        ("idle-worker-memory-used", f"after {each} messages each", used),
    ):
        yield Row(
            name,
            f"resident memory per idle worker, {WORKERS:,} {label}",
            "B",
            Side("PythonWorker in a pool", [value]),
            bound=AT_MOST,
            target=IDLE_BYTES,
        )


def numbers_rows(plan: Plan) -> Iterator[Row]:
    """Time of one look at the numbers of all workers of the program, each of which has handled messages."""
    with WorkerPool(POOL_SIZE) as pool:
        for worker in start_workers(pool, WORKERS):
            worker.post_messages("work", range(plan.count(MESSAGES_EACH)))
        pool.run_until_idle(timeout=60)
        taken = []
        for _ in range(plan.count(50)):
            begin = time.perf_counter()
            told = program_numbers()
            taken.append((time.perf_counter() - begin) * 1e3)
            assert told["workers"] == WORKERS
    yield Row(
        "read-numbers",
        f"the numbers of all workers, {WORKERS:,}, without the interpreter lock",
        "ms",
        Side("program_numbers", taken),
        bound=AT_MOST,
        target=10,
    )


if __name__ == "__main__":
    # Memory first: it wants a process in which nothing else has grown the heap.
    main([memory_rows, message_rows, numbers_rows])
