"""``every`` beyond the contract: its threads, its references, forks, and the end of the program."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from pytoweb.testing import frozen_clock, wait_until_idle
from pytoweb.workers import PythonWorker, WorkerTimer

WAIT = 10.0


@pytest.fixture
def clock():
    with frozen_clock() as clock:
        yield clock


def test_a_handler_may_cancel_its_own_timer(clock, worker):
    timers, seen = [], []

    def tick(data):
        seen.append(data)
        if len(seen) == 2:
            timers[0].cancel()

    one = worker("one").start()
    one.on_message("tick", tick)
    timers.append(one.every(10, "tick", "tock"))
    for _ in range(4):
        clock.advance(10)
        one.run_until_idle(WAIT)
    assert seen == ["tock", "tock"]
    assert not timers[0].active


def test_a_handler_may_set_a_timer(clock, worker):
    seen = []
    one = worker("one").start()
    one.on_message("tick", seen.append)
    one.on_message("set", lambda data: one.every(10, "tick", data) and None)
    one.ask("set", 1).result(WAIT)
    clock.advance(10)
    one.run_until_idle(WAIT)
    assert seen == [1]


def test_a_coroutine_runs_to_its_end_before_the_next(clock, worker):
    import asyncio

    begun, go_on = threading.Event(), threading.Event()

    async def tick(data):
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0.001)

    one = worker("one").start()
    one.on_message("tick", tick)
    timer = one.every(10, "tick")
    clock.advance(10)
    assert begun.wait(WAIT)
    clock.advance(10)
    assert (timer.posted, timer.skipped) == (1, 1)
    go_on.set()
    one.run_until_idle(WAIT)
    clock.advance(10)
    assert timer.posted == 2


def test_many_steps_lose_no_tick(backend, worker):
    """Whichever thread does what is due: that of the test, or the one that watches."""
    with frozen_clock() as clock:
        one = worker("one", backend=backend).start()
        one.on_message("tick", str)
        timer = one.every(0.002, "tick")
        for _ in range(500):
            clock.advance(0.002)
            wait_until_idle(one)
        assert (timer.posted, timer.skipped) == (500, 0)


def test_a_thousand_timers_have_no_thread_each(worker):
    one = worker("one").start()
    one.on_message("tick", lambda data: None)
    one.ask("tick").result(WAIT)
    threads = threading.active_count()
    timers = [one.every(3600, "tick") for _ in range(1000)]
    assert threading.active_count() == threads
    for timer in timers:
        timer.cancel()
    assert one._pytoweb.timers == ()


def test_timers_of_a_worker_that_is_collected_go_with_it(clock):
    one = PythonWorker("one")
    timer = one.every(10, "tick", "data")
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    clock.advance(10)
    assert not timer.active
    assert "gone" in repr(timer)


@pytest.mark.filterwarnings("ignore:unstopped worker:ResourceWarning")
def test_a_message_that_waits_for_room_keeps_no_worker(clock, gates):
    for was_let_in in (False, True):
        gate = gates()
        one = PythonWorker("one", capacity=1)
        one.on_message("gate", gate)
        one.start().post_message("gate")
        gate.wait_entered()
        one.post_message("gate")
        timer = one.every(10, "gate")
        clock.advance(10)
        assert timer.posted == 1
        if was_let_in:
            gate.open()
            one.run_until_idle(WAIT)
            assert len(gate.calls) == 3
        gone = weakref.ref(one)
        del one
        assert gone() is None
        assert not timer.active
        gate.open()


def test_a_timer_lets_go_of_its_data_when_it_is_cancelled(worker):
    class Data:
        pass

    data = Data()
    gone = weakref.ref(data)
    timer = worker("one").every(10, "tick", data)
    assert gone() is data
    del data
    timer.cancel()
    gc.collect()
    assert gone() is None


def test_a_failure_without_an_error_handler_is_logged_as_that_of_a_post(clock, worker, logged):
    one = worker("one").start()
    one.every(10, "unknown")
    clock.advance(10)
    one.run_until_idle(WAIT)
    assert [record.getMessage() for record in logged()] == [
        "worker 'one' failed to handle a message of type 'unknown'"
    ]


def test_data_that_can_be_sent_no_more_is_logged_and_the_timer_goes_on(clock, remote, logged):
    one = remote()
    data = [1]
    timer = one.every(10, "echo", data)
    data.append(threading.Lock())
    clock.advance(10)
    assert (timer.posted, timer.skipped) == (0, 1)
    assert ["could not post" in record.getMessage() for record in logged()] == [True]
    data.pop()
    clock.advance(10)
    assert timer.posted == 1


def test_what_a_timer_says(clock, worker):
    timer = worker("one").every(10, "tick")
    assert isinstance(timer, WorkerTimer)
    assert "'tick' every 10 s, active" in repr(timer)
    timer.cancel()
    assert "ended" in repr(timer)
    with pytest.raises(AttributeError):
        timer.seconds = 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_timer_of_a_worker_that_starts_in_a_forked_child_begins_there(run_python):
    done = run_python("""
import os, threading
from pytoweb.workers import PythonWorker, WorkerPool

worker, pool, ticked = PythonWorker("one"), WorkerPool(1), threading.Semaphore(0)
worker.on_message("tick", lambda data: ticked.release())
pool.on_message("tick", lambda data: ticked.release())
timers = worker.every(0.01, "tick"), pool.every(3600, "tick")
pid = os.fork()
if pid == 0:
    worker.start()
    pool.every(0.01, "tick")
    assert all(ticked.acquire(timeout=10) for _ in range(4))
    assert all(timer.active for timer in timers)
    worker.stop()
    pool.shutdown()
    os._exit(0)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status) if hasattr(os, "waitstatus_to_exitcode") else status)
""")
    assert (done.rc, done.stdout.strip()) == (0, "0"), done


def test_the_program_ends_with_timers_that_run(run_python):
    done = run_python("""
import threading
from pytoweb.workers import PythonWorker, WorkerPool

ticked = threading.Event()
worker, pool = PythonWorker("one").start(), WorkerPool(1)
worker.on_message("tick", lambda data: ticked.set())
pool.on_message("tick", lambda data: None)
worker.every(0.001, "tick")
pool.every(0.001, "tick")
assert ticked.wait(10)
print("over")
""")
    assert (done.rc, done.stdout, done.stderr) == (0, "over\n", "")
