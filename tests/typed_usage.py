"""What type checkers are to make of the public API; `test_typing.py` has mypy read it, it is never run.

A line with an `ignore` is wrong on purpose: mypy reports an `ignore` that has nothing to silence.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Coroutine
from concurrent.futures import Executor, Future, as_completed, wait
from typing import Any, Callable, Literal, Optional, Union

from typing_extensions import assert_type

from pytoweb.components import AsyncResult, Component
from pytoweb.testing import no_leaks, wait_until_idle
from pytoweb.workers import (
    DeadlineError,
    PoolStats,
    PythonWorker,
    WorkerDecorators,
    WorkerFuture,
    WorkerMessage,
    WorkerPool,
    WorkerStats,
    current_message,
    current_worker,
    default_pool,
    gather,
)


def add(left: int, right: int = 0) -> int:
    return left + right


def no_arguments() -> None: ...


def three_arguments(first: int, second: int, third: int) -> int:
    return first + second + third


def handlers(worker: PythonWorker) -> None:
    def double(number: int) -> int:
        return 2 * number

    async def fetch(url: str) -> bytes:
        return url.encode()

    doubling: Callable[[int], int] = worker.on_message("double", double)
    fetching: Callable[[str], Coroutine[Any, Any, bytes]] = worker.on_message("fetch", fetch)
    wrong: Callable[[str], int] = worker.on_message("double", double)  # type: ignore[assignment]
    print(doubling, fetching, wrong)
    worker.on_message("lambda", lambda data: data + 1)
    worker.on_message("partial", functools.partial(three_arguments, 1, 2))
    worker.on_message("builtin", print)
    worker.on_message("none", no_arguments)  # type: ignore[type-var]
    worker.on_message("three", three_arguments)  # type: ignore[type-var]
    worker.on_message(double)  # type: ignore[call-overload]

    @worker.on_message("decorated")
    def decorated(text: str) -> str:
        return text

    decorated(1)  # type: ignore[arg-type]

    @worker.on_message("response")
    def response(message: WorkerMessage) -> None:
        assert_type(message.id, Optional[str])
        assert_type(message.type, str)
        message.type = "other"  # type: ignore[misc]

    worker.on_error(logging.getLogger().error)
    worker.on_error(no_arguments)  # type: ignore[type-var]

    @worker.on_error
    def failed(error: Exception) -> None: ...

    @worker.on_error()
    def failed_too(error: BaseException) -> None: ...


def posts(worker: PythonWorker) -> None:
    worker.post_message("work", {"a": 1}, "id", timeout=1)
    worker.post_message("work", None, 7)  # type: ignore[arg-type]
    worker.post_message("work", None, None, 7)  # type: ignore[misc]
    assert_type(worker.post_messages("work", range(3)), int)
    assert_type(worker.ask("work", timeout=0.5), WorkerFuture[Any])
    assert_type(worker.state, Literal["new", "running", "stuck", "stopping", "stopped", "failed"])
    assert_type(worker.stats().state, Literal["new", "running", "stuck", "stopping", "stopped", "failed"])


class Counter(PythonWorker):
    @WorkerDecorators.worker_method("add")
    def add(self, data: int) -> int:
        return data


def kinds() -> None:
    with Counter("counter", capacity=10, overflow="drop_oldest") as counter:
        assert_type(counter, Counter)
        assert_type(counter.add(1), int)
    assert_type(Counter("started").start(), Counter)
    assert_type(counter.stats(), WorkerStats)
    assert_type(counter.stats().wait_p99, Optional[float])
    PythonWorker("wrong", overflow="drop")  # type: ignore[arg-type]
    PythonWorker("wrong", backend="fiber")  # type: ignore[arg-type]
    PythonWorker("wrong", 10)  # type: ignore[misc, arg-type]


def pools(pool: WorkerPool) -> None:
    executor: Executor = pool
    future: Future[int] = pool.submit(add, 1)
    assert_type(pool.submit(add, 1, right=2), WorkerFuture[int])
    pool.submit(add, "1")  # type: ignore[arg-type]
    assert_type(list(pool.map(add, [1, 2])), list[int])
    assert_type(wait([future]).done, set[Future[int]])
    assert_type([done.result() for done in as_completed([pool.submit(add, 1)])], list[int])
    pool.create_worker("limited", capacity=10, overflow="reject")
    pool.create_worker("wrong", capacty=10)  # type: ignore[call-arg]
    pool.create_worker("wrong", overflow="drop")  # type: ignore[arg-type]
    assert_type(pool.get_worker("member"), Optional[PythonWorker])
    assert_type(pool.stats(), PoolStats)
    with executor, pool as entered:
        assert_type(entered, WorkerPool)


@WorkerDecorators.run_in_worker("background")
def describe(number: int, *, unit: str = "") -> str:
    return f"{number} {unit}"


@WorkerDecorators.run_in_worker("background", timeout=1)
async def download(url: str) -> bytes:
    return url.encode()


class Report:
    @WorkerDecorators.run_in_worker("reports")
    def line(self, number: int) -> str:
        return str(number)


def functions(report: Report) -> None:
    assert_type(describe(1, unit="m"), str)
    assert_type(describe.submit(1, unit="m"), WorkerFuture[str])
    assert_type(describe.submit(1).result(timeout=1), str)
    assert_type(describe.__name__, str)
    download("url").close()
    assert_type(download.submit("url"), WorkerFuture[bytes])
    assert_type(report.line(1), str)
    assert_type(report.line.submit(1), WorkerFuture[str])
    assert_type(Report.line(report, 1), str)
    report.line.submit("1")  # type: ignore[arg-type]
    describe("1")  # type: ignore[arg-type]
    describe.submit(1, units="m")  # type: ignore[call-arg]
    report.line("1")  # type: ignore[arg-type]


async def coroutines(worker: PythonWorker, pool: WorkerPool) -> None:
    assert_type(await pool.submit(add, 1), int)
    assert_type(await describe.submit(1), str)
    assert_type(await gather(pool.submit(add, 1), pool.submit(add, 2)), list[int])
    both = await gather(pool.submit(add, 1), return_exceptions=True)
    assert_type(both, Union[list[int], list[Union[int, BaseException]]])
    assert_type(await download("url"), bytes)
    await worker.apost_message("work", 1, timeout=1)
    assert_type(await worker.aask("work", 1, timeout=1), Any)
    assert_type(await pool.aask("work"), Any)
    await worker.astop(drain=False, timeout=1)
    await pool.ashutdown(cancel_futures=True)
    async with pool as entered:
        assert_type(entered, WorkerPool)
    async with Counter("counter") as counter:
        assert_type(counter, Counter)


def context() -> None:
    assert_type(current_message(), Optional[WorkerMessage])
    assert_type(current_worker(), Union[PythonWorker, WorkerPool, None])
    assert_type(default_pool(), WorkerPool)
    try:
        wait_until_idle(PythonWorker("idle"), default_pool(), timeout=1)
    except DeadlineError as error:
        timeout: TimeoutError = error
        print(timeout)
    with no_leaks(timeout=1):
        Component().create_worker("owned", capacity=1)
        Component().create_worker("owned", capacty=1)  # type: ignore[call-arg]


async def later(number: int) -> int:
    return number


def components(component: Component, pool: WorkerPool) -> None:
    assert_type(component.run(add, 1, into="sum", exclusive=True, pool=pool), WorkerFuture[int])
    assert_type(component.run(later, 1, pool=pool.options(timeout=1)), WorkerFuture[int])
    result: AsyncResult[int] = AsyncResult("ok", 1)
    assert_type(result.latest, Optional[int])
    assert_type(result.status, Literal["loading", "ok", "failed"])
    component.run(add, 1, pool=1)  # type: ignore[call-overload]
