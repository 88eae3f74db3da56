"""Workers that handle several messages at the same time: ``Limits(concurrency=n)``."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pytoweb.workers import Limits, PythonWorker, WorkerPool, WorkerStoppedError, current_message

WAIT = 20


def several(name="several", **options):
    """A worker of three at a time."""
    return PythonWorker(name, limits=Limits(concurrency=3), **options)


def test_coroutine_handlers_run_side_by_side():
    """All of them are inside at the same time, and one more is not."""
    inside, most, through = [], [], threading.Event()

    async def handle(data):
        inside.append(data)
        most.append(len(inside))
        while not through.is_set():
            await asyncio.sleep(0.001)
        inside.remove(data)
        return data

    with several() as worker:
        worker.on_message("work", handle)
        futures = [worker.ask("work", number) for number in range(7)]
        while len(inside) < 3:
            threading.Event().wait(0.001)
        assert worker.stats().running == 3
        assert worker.stats().depth == 4
        through.set()
        assert [future.result(WAIT) for future in futures] == list(range(7))
    assert max(most) == 3


def test_a_hundred_waits_take_the_time_of_one():
    """Each waits for all the others, so that one after the other they would never end."""
    barrier = []

    async def handle(data):
        barrier.append(data)
        while len(barrier) < 100:
            await asyncio.sleep(0.001)
        return data

    with PythonWorker("hundred", limits=Limits(concurrency=100)) as worker:
        worker.on_message("work", handle)
        futures = [worker.ask("work", number) for number in range(100)]
        assert [future.result(WAIT) for future in futures] == list(range(100))


@pytest.mark.parametrize("pooled", [False, True])
def test_plain_handlers_run_on_as_many_threads(pooled):
    """Of the worker's own, or of its pool."""
    barrier = threading.Barrier(3, timeout=WAIT)
    with WorkerPool(3) as pool:
        worker = pool.create_worker("w", limits=Limits(concurrency=3)) if pooled else several()
        worker.on_message("meet", lambda data: barrier.wait() is not None)
        with worker:
            futures = [worker.ask("meet") for _ in range(6)]
            assert [future.result(WAIT) for future in futures] == [True] * 6


def test_messages_with_a_key_keep_their_order():
    """One at a time, beside those of other keys."""
    seen, inside = [], set()

    def handle(data):
        key, _ = data
        assert key not in inside
        inside.add(key)
        threading.Event().wait(0.001)
        seen.append(data)
        inside.remove(key)

    with several() as worker:
        worker.on_message("work", handle)
        futures = [worker.ask("work", (n % 4, n), key=n % 4) for n in range(80)]
        for future in futures:
            future.result(WAIT)
    for key in range(4):
        assert [number for which, number in seen if which == key] == list(range(key, 80, 4))


def test_a_start_hook_runs_once_and_before_all():
    """Messages that come meanwhile wait for it, though there are threads for them."""
    started, begun = [], threading.Event()

    with several() as worker:

        @worker.on_start
        def start():
            begun.wait(WAIT)
            started.append(True)

        worker.on_message("look", lambda data: list(started))
        futures = [worker.ask("look") for _ in range(3)]
        assert not any(future.done() for future in futures)
        begun.set()
        assert [future.result(WAIT) for future in futures] == [[True]] * 3


def test_the_end_of_one_does_not_stop_the_others():
    """A failure, a cancel and a deadline are of their message alone."""
    entered, through = threading.Semaphore(0), threading.Event()

    async def handle(data):
        entered.release()
        while not through.is_set():
            await asyncio.sleep(0.001)
        if data == "fails":
            raise ValueError(data)
        return current_message().data

    with several() as worker:
        worker.on_message("work", handle)
        stays, cancelled = worker.ask("work", "stays"), worker.ask("work", "cancelled")
        fails = worker.ask("work", "fails")
        for _ in range(3):
            assert entered.acquire(timeout=WAIT)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(asyncio.wait_for(cancelled, WAIT))
        through.set()
        assert stays.result(WAIT) == "stays"
        assert isinstance(fails.exception(WAIT), ValueError)


def test_an_end_hook_runs_once_when_all_are_over():
    """Last of all."""
    ended = []
    worker = several()
    worker.on_message("work", ended.append)
    worker.on_stop(lambda: ended.append("end"))
    worker.start()
    for number in range(20):
        worker.post_message("work", number)
    worker.stop(timeout=WAIT)
    assert sorted(ended[:-1]) == list(range(20))
    assert ended[-1] == "end"


def test_it_is_refused_where_it_means_nothing():
    """By name, at the call."""
    for make in (
        lambda: WorkerPool(2, limits=Limits(concurrency=2)),
        lambda: PythonWorker("w", backend="process", limits=Limits(concurrency=5_000)),
        lambda: Limits(concurrency=0),
    ):
        with pytest.raises(ValueError, match="concurrency"):
            make()
    with pytest.raises(TypeError, match="concurrency"):
        Limits(concurrency=1.5)


def test_a_worker_that_runs_several_is_called_a_worker(worker):
    one = worker("several", limits=Limits(concurrency=3))
    one.on_message("work", abs)
    future = one.ask("work", 1)
    one.start()
    late = one.ask("work", 1, delay=60)
    one.stop(timeout=WAIT)
    assert future.result(WAIT) == 1
    with pytest.raises(WorkerStoppedError, match="worker 'several'"):
        late.result(WAIT)
