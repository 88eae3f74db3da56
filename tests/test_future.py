"""WorkerFuture: a real concurrent.futures.Future, in every use the standard library makes of one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from pytoweb.workers import WorkerFuture, WorkerStoppedError, current_message

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""


@pytest.fixture
def echoing(worker):
    """Returns a started worker that returns its data, or raises it."""
    one = worker("echoing")
    one.on_message("echo", lambda data: data)
    one.on_message("fail", fail)
    one.on_error(lambda error: None)
    return one.start()


def fail(data):
    """Raises what it gets."""
    raise data


@pytest.fixture
def held(blocked):
    """Returns a worker that stands in the gate and will return its data after it."""
    one = blocked("held")
    one.on_message("echo", lambda data: data)
    one.on_message("fail", fail)
    one.on_error(lambda error: None)
    return one


def test_it_is_the_real_type(echoing):
    future = echoing.ask("echo", 1)
    assert isinstance(future, Future)
    assert isinstance(future, WorkerFuture)
    assert issubclass(WorkerFuture, Future)
    assert future.result(WAIT) == 1


def test_its_states(worker, gates):
    first, second = gates(), gates()
    one = worker()
    one.on_message("first", first)
    one.on_message("second", second)
    running, queued = one.start().ask("first", 1), one.ask("second", 2)
    first.wait_entered()

    assert (running.running(), running.done(), running.cancelled()) == (True, False, False)
    assert (queued.running(), queued.done(), queued.cancelled()) == (False, False, False)
    first.open()
    second.wait_entered()
    assert (running.running(), running.done(), running.cancelled()) == (False, True, False)
    assert queued.running()
    second.open()
    assert (running.result(WAIT), queued.result(WAIT)) == (1, 2)


def test_its_representation_tells_the_state(held, gate):
    pending, cancelled = held.ask("echo", 1), held.ask("echo")
    assert cancelled.cancel()
    assert "WorkerFuture" in repr(pending)
    assert "pending" in repr(pending)
    assert "cancelled" in repr(cancelled)
    gate.open()
    pending.result(WAIT)
    assert "returned int" in repr(pending)
    failed = held.ask("fail", KeyError(1))
    failed.exception(WAIT)
    assert "raised KeyError" in repr(failed)


def test_result_and_exception_may_be_asked_again(echoing):
    good, bad = echoing.ask("echo", [1]), echoing.ask("fail", KeyError("gone"))
    for _ in range(3):
        assert good.result(WAIT) is good.result()
        assert good.exception(WAIT) is None
        assert bad.exception(WAIT) is bad.exception()
        with pytest.raises(KeyError):
            bad.result(WAIT)


def test_a_wait_that_runs_out_does_not_touch_the_message(held, gate):
    future = held.ask("echo", 1)
    for timeout in (0, NEVER):
        with pytest.raises(FutureTimeout):
            future.result(timeout)
        with pytest.raises(FutureTimeout):
            future.exception(timeout=timeout)
    assert not future.done()
    gate.open()
    assert future.result(WAIT) == 1


def test_many_threads_wait_for_one_future(held, gate, spawn):
    future = held.ask("echo", "shared")
    barrier = threading.Barrier(17)

    def result(timeout):
        barrier.wait(WAIT)
        return future.result(timeout)

    waiting = [spawn(result, WAIT if number % 2 else None) for number in range(16)]
    barrier.wait(WAIT)
    gate.open()
    assert [outcome.result(WAIT) for outcome in waiting] == ["shared"] * 16


def test_many_threads_ask_and_wait(echoing, spawn):
    def produce(producer):
        return [echoing.ask("echo", (producer, number)).result(WAIT) for number in range(100)]

    for producer, outcome in enumerate([spawn(produce, producer) for producer in range(8)]):
        assert outcome.result(WAIT) == [(producer, number) for number in range(100)]


def test_a_result_posted_by_one_thread_is_taken_by_another(echoing, spawn):
    futures = [echoing.ask("echo", number) for number in range(100)]
    taken = spawn(lambda: [future.result(WAIT) for future in futures])
    assert taken.result(WAIT) == list(range(100))


def test_wait_for_all(held, gate):
    futures = [held.ask("echo", number) for number in range(10)]
    assert wait(futures, timeout=0) == (set(), set(futures))
    gate.open()
    assert wait(futures, timeout=WAIT, return_when=ALL_COMPLETED) == (set(futures), set())
    assert wait(futures, timeout=0) == (set(futures), set())


def test_wait_for_the_first(held, echoing, gate):
    slow, fast = held.ask("echo", "slow"), echoing.ask("echo", "fast")
    assert wait([slow, fast], timeout=WAIT, return_when=FIRST_COMPLETED) == ({fast}, {slow})
    gate.open()
    assert wait([slow, fast], timeout=WAIT).not_done == set()


def test_wait_for_the_first_exception(held, echoing):
    slow, good, bad = held.ask("echo"), echoing.ask("echo"), echoing.ask("fail", KeyError(1))
    done, not_done = wait([slow, good, bad], timeout=WAIT, return_when=FIRST_EXCEPTION)
    assert (done, not_done) == ({good, bad}, {slow})


@pytest.mark.parametrize("return_when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
def test_wait_runs_out(held, return_when):
    futures = {held.ask("echo"), held.ask("echo")}
    assert wait(futures, timeout=NEVER, return_when=return_when) == (set(), futures)


def test_wait_in_a_thread_before_anything_is_done(held, gate, spawn):
    futures = [held.ask("echo", number) for number in range(10)]
    waiting = spawn(wait, futures, WAIT)
    gate.open()
    assert waiting.result(WAIT).done == set(futures)


def test_as_completed_yields_each_once(held, echoing, gate):
    slow, fast = held.ask("echo", "slow"), echoing.ask("echo", "fast")
    done = as_completed([slow, fast, fast], timeout=WAIT)
    assert next(done) is fast
    gate.open()
    assert list(done) == [slow]
    assert {future.result() for future in as_completed([slow, fast])} == {"slow", "fast"}


def test_as_completed_runs_out(held, echoing):
    slow, fast = held.ask("echo"), echoing.ask("echo")
    done = as_completed([slow, fast], timeout=NEVER)
    assert next(done) is fast
    with pytest.raises(FutureTimeout):
        next(done)


def test_ours_and_the_standard_librarys_are_waited_for_together(echoing):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = {threads.submit(pow, 2, 3), echoing.ask("echo", 8)}
        assert wait(futures, timeout=WAIT).done == futures
        assert [future.result() for future in as_completed(futures, timeout=WAIT)] == [8, 8]


def test_callbacks_before_and_after_the_end(held, gate):
    called, ran = [], threading.Event()
    future = held.ask("echo", 1)
    future.add_done_callback(lambda done: called.append(("first", done)))
    future.add_done_callback(lambda done: called.append(("second", done)))
    future.add_done_callback(lambda done: ran.set())
    assert called == []
    gate.open()
    assert ran.wait(WAIT)
    assert called == [("first", future), ("second", future)]

    future.add_done_callback(lambda done: called.append(("late", threading.get_ident())))
    assert called[2:] == [("late", threading.get_ident())]


def test_a_callback_sees_the_result(held, gate):
    seen, ran = [], threading.Event()
    for future in (held.ask("echo", 1), held.ask("fail", KeyError(1))):
        future.add_done_callback(lambda done: seen.append((done.done(), done.exception(0))))
    future.add_done_callback(lambda done: ran.set())
    gate.open()
    assert ran.wait(WAIT)
    assert [done for done, _ in seen] == [True, True]
    assert [type(error) for _, error in seen] == [type(None), KeyError]


def test_a_callback_that_raises_is_logged_and_the_others_run(held, gate, caplog):
    ran = threading.Event()
    future = held.ask("echo", 1)
    future.add_done_callback(lambda done: fail(ValueError("in the callback")))
    future.add_done_callback(lambda done: ran.set())
    with caplog.at_level(logging.ERROR):
        gate.open()
        assert ran.wait(WAIT)
        future.add_done_callback(lambda done: fail(ValueError("in the late callback")))
    assert future.result(WAIT) == 1
    assert held.ask("echo", 2).result(WAIT) == 2
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, ValueError]


def test_a_callback_may_ask_again(echoing):
    results, ran = [], threading.Event()

    def chain(done):
        results.append(done.result(0))
        if len(results) < 50:
            echoing.ask("echo", len(results)).add_done_callback(chain)
        else:
            ran.set()

    echoing.ask("echo", 0).add_done_callback(chain)
    assert ran.wait(WAIT)
    assert results == list(range(50))


def test_cancelling_a_queued_message_removes_it(worker, gate):
    handled, called = [], []
    one = worker(capacity=1, overflow="reject")
    one.on_message("gate", gate)
    one.on_message("echo", handled.append)
    one.start().post_message("gate")
    gate.wait_entered()
    future = one.ask("echo", "removed")
    future.add_done_callback(called.append)

    assert future.cancel() is True
    assert future.cancel() is True
    assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
    assert called == [future]
    for question in (future.result, future.exception):
        with pytest.raises(CancelledError):
            question(WAIT)
    assert one.stats().depth == 0
    one.post_message("echo", "has room")
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == ["has room"]
    assert one.stats().cancelled == 1


def test_wait_and_as_completed_see_a_cancelled_future(held, spawn):
    waited, iterated = held.ask("echo"), held.ask("echo")
    waiting = spawn(wait, [waited], WAIT)
    iterating = spawn(lambda: list(as_completed([iterated], WAIT)))
    assert waited.cancel()
    assert iterated.cancel()
    assert waiting.result(WAIT).done == {waited}
    assert iterating.result(WAIT) == [iterated]
    assert wait([waited], timeout=WAIT).done == {waited}


def test_cancelling_wakes_a_thread_that_waits(held, spawn):
    future = held.ask("echo")
    waiting = spawn(future.result, WAIT)
    assert future.cancel()
    assert isinstance(waiting.exception(WAIT), CancelledError)


def test_cancelling_a_running_message_is_a_signal(worker, until):
    entered = threading.Event()
    one = worker()

    @one.on_message("listen")
    def listen(data):
        assert current_message().cancelled is False
        entered.set()
        until(lambda: current_message().cancelled, "the signal")
        return "left early"

    future = one.start().ask("listen")
    assert entered.wait(WAIT)
    assert future.cancel() is False
    assert not future.cancelled()
    assert future.result(WAIT) == "left early"
    assert one.stats().completed == 1


def test_cancelling_a_finished_future_does_nothing(echoing):
    future = echoing.ask("echo", 1)
    future.result(WAIT)
    assert future.cancel() is False
    assert future.result() == 1


def test_cancelling_races_with_the_start(echoing):
    for number in range(300):
        future = echoing.ask("echo", number)
        if future.cancel():
            with pytest.raises(CancelledError):
                future.result(WAIT)
        else:
            assert future.result(WAIT) == number
    stats = echoing.stats()
    assert stats.completed + stats.cancelled == 300


def test_cancelling_an_abandoned_future_does_nothing(held):
    future = held.ask("echo")
    held.terminate()
    assert isinstance(future.exception(WAIT), WorkerStoppedError)
    assert future.cancel() is False


def test_wrap_future(echoing):
    async def main():
        wrapped = [asyncio.wrap_future(echoing.ask("echo", number)) for number in range(10)]
        failed = asyncio.wrap_future(echoing.ask("fail", KeyError(1)))
        with pytest.raises(KeyError):
            await asyncio.wait_for(failed, WAIT)
        return await asyncio.wait_for(asyncio.gather(*wrapped), WAIT)

    assert asyncio.run(main()) == list(range(10))
