"""Replies awaited in an event loop: by 64 tasks one after the other, and 64 at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable

from pytoweb.workers import PythonWorker, gather
from rounds import Competitor, Plan, alternate, main
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


async def _gather_all(
    collect: Callable[..., Awaitable[list[Any]]], call: Callable[[int], Awaitable[Any]], count: int
) -> float:
    begin = time.perf_counter()
    for first in range(0, count, TASKS):
        await collect(*(call(item) for item in range(first, first + TASKS)))
    return count / (time.perf_counter() - begin)


Loop = Callable[[Callable[[int], Awaitable[Any]], int], Awaitable[float]]


def ours_in(loop: Loop) -> Competitor[float]:
    """``worker.ask(...)`` of one worker."""

    @contextlib.contextmanager
    def set_up() -> Iterator[Run]:
        worker = PythonWorker("bench-asyncio")
        worker.on_message("work", noop)

        async def run(count: int) -> float:
            return await loop(lambda item: worker.ask("work", item), count)

        with worker:
            yield lambda count: asyncio.run(run(count))

    return set_up


def executor_in(loop: Loop) -> Competitor[float]:
    """``loop.run_in_executor(executor, ...)`` of a pool of threads."""

    @contextlib.contextmanager
    def set_up() -> Iterator[Run]:
        async def run(count: int) -> float:
            running = asyncio.get_running_loop()
            return await loop(lambda item: running.run_in_executor(executor, noop, item), count)

        with ThreadPoolExecutor(EXECUTOR_THREADS) as executor:
            yield lambda count: asyncio.run(run(count))

    return set_up


def asyncio_rows(plan: Plan) -> Iterator[Row]:
    """Replies per second; each side starts its loop anew every round, untimed."""
    ours, peer = "await worker.ask", f"run_in_executor(ThreadPoolExecutor({EXECUTOR_THREADS}))"
    sides = {ours: ours_in(_await_all), peer: executor_in(_await_all)}
    taken = alternate(sides, count=plan.count(AWAITED), plan=plan, peers=(peer,))
    yield Row(
        "asyncio-ask",
        f"asyncio, {TASKS} at a time, {plan.count(AWAITED):,} awaited",
        RATE,
        Side(ours, taken[ours]),
        [Side(peer, taken[peer])],
        target=8,
    )
    own, standard = partial(_gather_all, gather), partial(_gather_all, asyncio.gather)
    ours, theirs = "gather of worker.ask", "asyncio.gather of worker.ask"
    peer = f"asyncio.gather of {peer}"
    taken = alternate(
        {ours: ours_in(own), theirs: ours_in(standard), peer: executor_in(standard)},
        count=plan.count(AWAITED),
        plan=plan,
        peers=(peer,),
    )
    title = f"asyncio, {TASKS} gathered again and again"
    against = [Side(peer, taken[peer])]
    yield Row("asyncio-gather", title, RATE, Side(ours, taken[ours]), against, target=6)
    # `asyncio.gather` makes a task for each future that is not its own, which bounds this one.
    yield Row("asyncio-gather-tasks", f"{title}, a task for each", RATE, Side(theirs, taken[theirs]), against)


if __name__ == "__main__":
    main([asyncio_rows])
