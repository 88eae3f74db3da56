"""The Executor contract: WorkerPool does what ThreadPoolExecutor does, test by test on both."""

from __future__ import annotations

import asyncio
import itertools
import queue
import sys
import threading
import weakref
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from pytoweb.workers import WorkerCrashedError, WorkerFuture, WorkerPool, WorkerStoppedError

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""


@pytest.fixture(params=[ThreadPoolExecutor, WorkerPool])
def make(request):
    """Returns a factory of executors of both kinds, shut down after the test."""
    made = []

    def factory(*args, **kwargs):
        made.append(request.param(*args, **kwargs))
        return made[-1]

    yield factory
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def executor(make):
    """An executor of two threads."""
    return make(2)


@pytest.fixture
def door(executor):
    """A gate whose functions are let go before the executor is waited for."""

    class Door:
        entered = threading.Semaphore(0)
        opened = threading.Event()

        def __call__(self, value=None):
            self.entered.release()
            assert self.opened.wait(WAIT)
            return value

        def block(self, count=2):
            futures = [executor.submit(self, number) for number in range(count)]
            for _ in range(count):
                assert self.entered.acquire(timeout=WAIT)
            return futures

    one = Door()
    yield one
    one.opened.set()


def fail(error):
    """Raises what it gets."""
    raise error


def test_it_is_an_executor(executor):
    assert isinstance(executor, Executor)


def test_submit(executor):
    future = executor.submit(pow, 2, exp=10)
    assert isinstance(future, Future)
    assert future.result(WAIT) == 1024


def test_keyword_arguments_may_have_any_name(executor):
    def echo(**kwargs):
        return kwargs

    names = {"self": 1, "fn": 2, "timeout": 3, "function": 4, "data": 5, "args": 6, "message_type": 7}
    assert executor.submit(echo, **names).result(WAIT) == names


def test_a_failure_is_raised_again(executor):
    raised = KeyError("original")
    future = executor.submit(fail, raised)
    assert future.exception(WAIT) is raised
    with pytest.raises(KeyError):
        future.result(WAIT)


def test_a_base_exception_fails_its_call_only(executor):
    assert isinstance(executor.submit(fail, SystemExit(1)).exception(WAIT), SystemExit)
    assert executor.submit(pow, 2, 2).result(WAIT) == 4


def test_as_many_run_at_a_time_as_there_are_threads(executor):
    barrier = threading.Barrier(2)
    futures = [executor.submit(barrier.wait, WAIT) for _ in range(20)]
    assert sorted(future.result(WAIT) for future in futures) == [0] * 10 + [1] * 10


def test_no_more_run_at_a_time_than_there_are_threads(executor, door):
    door.block(2)
    third = executor.submit(door, 3)
    assert not door.entered.acquire(timeout=NEVER)
    assert not third.running()
    door.opened.set()
    assert third.result(WAIT) == 3


def test_map(executor):
    assert list(executor.map(pow, range(10), itertools.repeat(2))) == [number**2 for number in range(10)]
    assert list(executor.map(pow, [2, 3], [5], timeout=WAIT, chunksize=3)) == [32]
    assert list(executor.map(pow, [], [])) == []
    assert list(executor.map(str, range(1000), chunksize=7)) == [str(number) for number in range(1000)]


def test_map_raises_where_the_call_failed(executor):
    results = executor.map(lambda value: 6 // value, [3, 2, 0, 1], timeout=WAIT)
    assert (next(results), next(results)) == (2, 3)
    with pytest.raises(ZeroDivisionError):
        next(results)


class Made:
    """Something that a weak reference can tell the end of."""


def make_one(_):
    return Made()


def test_map_keeps_no_result_that_was_taken_from_a_chunk(pool, until):
    for made in pool(2, backend="process").map(make_one, range(10), chunksize=3):
        reference = weakref.ref(made)
        del made
        # The iterator stands still meanwhile; a thread of the pool may just be letting go.
        until(lambda gone=reference: gone() is None, "the end of what was taken")


def test_map_submits_before_it_is_iterated(executor):
    ran = queue.Queue()
    results = executor.map(ran.put, range(3))
    assert sorted(ran.get(timeout=WAIT) for _ in range(3)) == [0, 1, 2]
    assert list(results) == [None] * 3


def test_map_runs_out(executor, door):
    results = executor.map(door, range(2), timeout=NEVER)
    with pytest.raises(FutureTimeout):
        next(results)


def test_leaving_a_map_cancels_the_rest(executor, door):
    door.block(2)
    ran = []
    results = executor.map(ran.append, range(100), timeout=NEVER)
    with pytest.raises(FutureTimeout):
        next(results)
    results.close()
    door.opened.set()
    executor.shutdown()
    # Before Python 3.10 the standard library forgets the one that was waited for, instead of cancelling it.
    forgets = sys.version_info < (3, 10) and not isinstance(executor, WorkerPool)
    assert ran == ([0] if forgets else [])


def test_wait_and_as_completed(executor, door):
    blocked = door.block(1)
    quick = executor.submit(pow, 2, 2)
    assert next(as_completed([*blocked, quick], timeout=WAIT)) is quick
    door.opened.set()
    assert wait([*blocked, quick], timeout=WAIT).done == {*blocked, quick}


def test_cancelling_what_waits(executor, door):
    running = door.block(2)
    waiting = executor.submit(pow, 2, 2)
    assert running[0].running()
    assert running[0].cancel() is False
    assert waiting.cancel() is True
    with pytest.raises(CancelledError):
        waiting.result(WAIT)
    door.opened.set()
    assert [future.result(WAIT) for future in running] == [0, 1]


def test_leaving_the_with_block_waits(make):
    with make(2) as executor:
        futures = [executor.submit(pow, number, 2) for number in range(200)]
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [number**2 for number in range(200)]


def test_submit_after_shutdown_is_refused(executor):
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 2)
    with pytest.raises(RuntimeError):
        list(executor.map(str, [1]))
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


def test_shutdown_without_waiting_finishes_what_is_queued(executor, door):
    running = door.block(2)
    waiting = [executor.submit(pow, number, 2) for number in range(10)]
    executor.shutdown(wait=False)
    assert not any(future.done() for future in running + waiting)
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 2)
    door.opened.set()
    assert [future.result(WAIT) for future in waiting] == [number**2 for number in range(10)]


def test_shutdown_may_cancel_what_is_queued(executor, door, spawn):
    running = door.block(2)
    waiting = [executor.submit(pow, number, 2) for number in range(10)]
    closing = spawn(executor.shutdown, cancel_futures=True)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(WAIT)
    assert not closing.done()
    door.opened.set()
    closing.result(WAIT)
    assert [future.result(0) for future in running] == [0, 1]


def test_shutdown_from_two_threads_waits_in_both(executor, door, spawn):
    door.block(1)
    closing = [spawn(executor.shutdown) for _ in range(2)]
    with pytest.raises(FutureTimeout):
        closing[0].result(NEVER)
    assert not closing[1].done()
    door.opened.set()
    assert [outcome.result(WAIT) for outcome in closing] == [None, None]


def test_the_initializer_runs_once_on_each_thread(make):
    local, ran = threading.local(), queue.Queue()

    def prepare(name, number):
        ran.put(threading.get_ident())
        local.prepared = (name, number)

    barrier = threading.Barrier(2)

    def look():
        barrier.wait(WAIT)
        return threading.get_ident(), local.prepared

    executor = make(2, initializer=prepare, initargs=("name", 7))
    seen = [future.result(WAIT) for future in [executor.submit(look) for _ in range(20)]]
    executor.shutdown()

    assert {prepared for _, prepared in seen} == {("name", 7)}
    threads = [ran.get_nowait() for _ in range(ran.qsize())]
    assert len(threads) == len(set(threads)) == 2
    assert {ident for ident, _ in seen} == set(threads)


@pytest.mark.parametrize("initializer", [3, "name"])
def test_an_initializer_that_is_not_callable_is_refused(make, initializer):
    with pytest.raises(TypeError):
        make(2, initializer=initializer)


def test_an_initializer_that_fails_breaks_the_executor(make, caplog):
    executor = make(2, initializer=fail, initargs=(ValueError("in the initializer"),))
    for _ in range(3):
        with pytest.raises(BrokenExecutor):
            executor.submit(pow, 2, 2).result(WAIT)
    executor.shutdown()
    assert ValueError in [record.exc_info[0] for record in caplog.records if record.exc_info]


def test_an_initializer_that_fails_later_breaks_what_waits(make):
    opened = threading.Event()

    def initializer():
        assert opened.wait(WAIT)
        raise ValueError("in the initializer")

    executor = make(2, initializer=initializer)
    futures = [executor.submit(pow, 2, 2) for _ in range(5)]
    opened.set()
    for future in futures:
        assert isinstance(future.exception(WAIT), BrokenExecutor)


def test_run_in_executor(executor):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, pow, number, 2) for number in range(64)]
        with pytest.raises(KeyError):
            await loop.run_in_executor(executor, fail, KeyError(1))
        return await asyncio.wait_for(asyncio.gather(*calls), WAIT)

    assert asyncio.run(main()) == [number**2 for number in range(64)]


def test_submit_from_many_threads(executor, spawn):
    def produce(producer):
        return [executor.submit(max, producer, number).result(WAIT) for number in range(50)]

    for producer, outcome in enumerate([spawn(produce, producer) for producer in range(8)]):
        assert outcome.result(WAIT) == [max(producer, number) for number in range(50)]


def test_what_only_ours_promises(pool):
    two = pool(2)
    assert isinstance(two.submit(pow, 2, 2), WorkerFuture)
    two.shutdown()
    with pytest.raises(WorkerStoppedError):
        two.submit(pow, 2, 2)
    broken = pool(2, initializer=fail, initargs=(ValueError("in the initializer"),))
    with pytest.raises(WorkerCrashedError):
        broken.submit(pow, 2, 2).result(WAIT)


def test_the_size_has_the_name_that_libraries_look_at(pool, backend):
    assert pool(3, backend=backend)._max_workers == 3


def test_a_subclass_may_use_that_name_for_itself():
    class Limited(WorkerPool):
        def __init__(self):
            super().__init__(2)
            self._max_workers = 1

    with Limited() as limited:
        assert (limited._max_workers, limited.size) == (1, 2)
