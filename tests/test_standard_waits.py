"""`concurrent.futures.wait` and `as_completed` in handlers: they lend their place, and circles are found."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future, as_completed, wait

import pytest

from pytoweb.workers import AskCycleError, ThreadLimitError, WorkerPool

WAIT = 10.0

WAYS = {
    "all": lambda futures: wait(futures, WAIT).not_done,
    "first": lambda futures: wait(futures, WAIT, FIRST_COMPLETED).not_done,
    "exception": lambda futures: wait(futures, WAIT, FIRST_EXCEPTION).not_done,
    "as_completed": lambda futures: [one for one in as_completed(futures, WAIT) if not one.done()],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_pool_of_one_thread_goes_on(pool, way, count):
    some = pool(1)
    futures = []

    def start():
        futures.extend(some.submit(abs, -number) for number in range(count))
        left = way(futures)
        return len(left) < count

    assert some.submit(start).result(WAIT)
    assert [future.result(WAIT) for future in futures] == list(range(count))


def test_recursion_in_a_pool_of_one_thread(pool):
    some = pool(1)

    def fibonacci(number):
        if number < 2:
            return number
        parts = [some.submit(fibonacci, number - 1), some.submit(fibonacci, number - 2)]
        return sum(future.result() for future in as_completed(parts, WAIT))

    assert some.submit(fibonacci, 7).result(WAIT) == 13


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("timeout", [None, WAIT])
def test_a_handler_that_waits_for_its_own_worker_is_told(worker, pool, others, timeout):
    one, some = worker("alone"), pool(1)
    one.on_message("echo", lambda data: data)

    @one.on_message("call")
    def call(data):
        futures = [some.submit(abs, -number) for number in range(others)]
        wait([*futures, one.ask("echo")], timeout, ALL_COMPLETED)

    error = one.start().ask("call").exception(WAIT)
    assert isinstance(error, AskCycleError)
    assert list(error.cycle) == ["alone"]
    # It goes on.
    assert one.ask("echo", 1).result(WAIT) == 1


def test_workers_that_wait_for_each_other_are_told(worker):
    one, other = worker("one"), worker("other")
    one.on_message("call", lambda data: [wait([other.ask("call")])])
    other.on_message("call", lambda data: one.ask("echo").result(WAIT))
    one.on_message("echo", lambda data: data)
    other.start()
    other.on_error(lambda error: None)
    done, _ = one.start().ask("call").result(WAIT)[0]
    assert isinstance(done.pop().exception(), AskCycleError)


def test_functions_of_a_pool_that_wait_for_themselves_are_told(pool):
    some, made, own = pool(2, name="some"), threading.Event(), []

    def call():
        assert made.wait(WAIT)
        wait(own)

    own.append(some.submit(call))
    made.set()
    assert isinstance(own[0].exception(WAIT), AskCycleError)


@pytest.mark.parametrize("where", ["loop", "thread"])
def test_a_coroutine_that_blocks_for_its_own_worker_is_told(worker, where):
    one = worker("alone")
    one.on_message("echo", lambda data: data)

    @one.on_message("call")
    async def call(data):
        if where == "loop":
            wait([one.ask("echo")])
        else:
            await asyncio.to_thread(wait, [one.ask("echo")])

    assert isinstance(one.start().ask("call").exception(WAIT), AskCycleError)


def test_futures_of_others_are_waited_for_as_well(pool):
    some, other = pool(1), Future()

    def call():
        mine = some.submit(abs, -1)
        other.set_result(2)
        done, not_done = wait([mine, other], WAIT)
        return sorted(future.result() for future in done), len(not_done)

    assert some.submit(call).result(WAIT) == ([1, 2], 0)


def test_the_limit_of_threads_counts(pool):
    some = pool(1, max_spare_threads=1)

    def call(depth):
        (inner,) = wait([some.submit(call, depth - 1) if depth else some.submit(abs, 0)], WAIT).done
        return inner.exception() or inner.result()

    assert isinstance(some.submit(call, 1).result(WAIT), ThreadLimitError)


def test_a_timeout_passes(pool, gate):
    some, other = pool(1), pool(1)

    def call():
        late = other.submit(gate)
        with pytest.raises(concurrent.futures.TimeoutError):
            list(as_completed([late], 0.01))
        return len(wait([late], 0.01).not_done)

    assert some.submit(call).result(WAIT) == 1
    gate.open()


def test_a_future_that_was_waited_for_is_freed_without_the_collector(pool):
    import gc
    import weakref

    some = pool(1)

    def call():
        future = some.submit(abs, -1)
        wait([future], WAIT)
        return weakref.ref(future)

    gc.disable()
    try:
        gone = some.submit(call).result(WAIT)
        assert gone() is None
    finally:
        gc.enable()


def test_outside_of_handlers_nothing_changes():
    with WorkerPool(1) as some:
        future = some.submit(abs, -1)
        wait([future], WAIT)
        assert [one.result() for one in as_completed([future], WAIT)] == [1]
