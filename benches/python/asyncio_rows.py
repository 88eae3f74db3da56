"""Row of replies awaited in an event loop: 64 tasks, each awaiting one reply after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from pytoweb.workers import PythonWorker
from rounds import Plan, alternate, main
from row import RATE, Row, Side

Run = Callable[[int], float]

TASKS = 64
AWAITED = 25_600
EXECUTOR_THREADS = 4


def noop(data: Any) -> Any:
    """The handler of both sides: hands its argument back."""
    return data


async def _await_all(call: Callable[[int], Awaitable[Any]], count: int) -> float:
    async def task(number: int) -> None:
        for item in range(number, count, TASKS):
            await call(item)

    begin = time.perf_counter()
    await asyncio.gather(*(task(number) for number in range(TASKS)))
    return count / (time.perf_counter() - begin)


@contextlib.contextmanager
def ask_ours() -> Iterator[Run]:
    """``await worker.ask(...)`` of one worker."""
    worker = PythonWorker("bench-asyncio")
    worker.on_message("work", noop)

    def call(item: int) -> Awaitable[Any]:
        return worker.ask("work", item)

    with worker:
        yield lambda count: asyncio.run(_await_all(call, count))


@contextlib.contextmanager
def run_in_executor() -> Iterator[Run]:
    """``await loop.run_in_executor(executor, ...)`` of a pool of threads."""

    async def run(count: int) -> float:
        loop = asyncio.get_running_loop()
        return await _await_all(lambda item: loop.run_in_executor(executor, noop, item), count)

    with ThreadPoolExecutor(EXECUTOR_THREADS) as executor:
        yield lambda count: asyncio.run(run(count))


def asyncio_rows(plan: Plan) -> Iterator[Row]:
    """Replies per second; each side starts its loop anew every round, untimed."""
    ours, peer = "await worker.ask", f"run_in_executor(ThreadPoolExecutor({EXECUTOR_THREADS}))"
    taken = alternate({ours: ask_ours, peer: run_in_executor}, count=plan.count(AWAITED), plan=plan)
    yield Row(
        "asyncio-ask",
        f"asyncio, {TASKS} at a time, {plan.count(AWAITED):,} awaited",
        RATE,
        Side(ours, taken[ours]),
        [Side(peer, taken[peer])],
        target=8,
    )


if __name__ == "__main__":
    main([asyncio_rows])
