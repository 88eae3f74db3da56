"""Deadlines and cycles: no wait is forever."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from pytoweb.workers import (
    AskCycleError,
    DeadlineError,
    WorkerDecorators,
    current_message,
)

WAIT = 10.0
SHORT = 0.05
"""Seconds of a deadline that is meant to pass."""


@pytest.fixture
def listening(worker, until):
    """Returns a worker whose "listen" runs until it is asked to stop, whose "echo" returns its data."""
    one = worker("listening")
    one.noticed = []

    @one.on_message("listen")
    def listen(data):
        until(lambda: current_message().cancelled, "the signal")
        one.noticed.append(data)
        return data

    one.on_message("echo", lambda data: data)
    one.on_error(lambda error: None)
    return one.start()


def test_a_message_that_expires_in_the_queue_never_runs(blocked, gate):
    one, handled = blocked(), []
    one.on_message("echo", handled.append)
    one.on_error(lambda error: None)
    one.post_message("echo", "expires too", timeout=SHORT)
    one.post_message("echo", "stays", timeout=WAIT)
    future = one.ask("echo", "expires", timeout=SHORT)

    with pytest.raises(DeadlineError) as caught:
        future.result(WAIT)
    assert isinstance(caught.value, TimeoutError)
    gate.open()
    one.run_until_idle(WAIT)

    assert handled == ["stays"]
    stats = one.stats()
    assert (stats.expired, stats.completed, stats.failed) == (2, 2, 0)


def test_a_deadline_does_not_wait_for_the_running_handler(blocked, gate):
    one = blocked()
    before = time.monotonic()
    with pytest.raises(DeadlineError):
        one.ask("gate", timeout=SHORT).result(WAIT)
    assert SHORT * 0.9 <= time.monotonic() - before < WAIT / 2
    assert not gate.opened.is_set()


def test_a_deadline_of_zero_is_over_at_once(blocked, gate):
    one = blocked()
    one.on_error(lambda error: None)
    assert isinstance(one.ask("gate", "never", timeout=0).exception(WAIT), DeadlineError)
    gate.open()
    one.run_until_idle(WAIT)
    assert gate.calls == [None]


def test_a_deadline_before_the_start_counts_too(worker):
    one, handled = worker(), []
    one.on_message("echo", handled.append)
    one.on_error(lambda error: None)
    assert isinstance(one.ask("echo", timeout=SHORT).exception(WAIT), DeadlineError)
    one.start().run_until_idle(WAIT)
    assert handled == []
    assert one.stats().expired == 1


def test_a_message_that_expires_while_it_runs_is_told(listening):
    future = listening.ask("listen", "told", timeout=SHORT)
    assert isinstance(future.exception(WAIT), DeadlineError)
    listening.run_until_idle(WAIT)

    assert listening.noticed == ["told"]
    stats = listening.stats()
    assert (stats.expired, stats.completed, stats.failed, stats.running) == (1, 0, 0, 0)
    assert listening.ask("echo", "alive").result(WAIT) == "alive"


def test_a_worker_that_runs_past_a_deadline_is_stuck_until_it_returns(worker, gate, until):
    one = worker()
    one.on_message("gate", gate)
    one.on_error(lambda error: None)
    future = one.start().ask("gate", timeout=SHORT)
    assert isinstance(future.exception(WAIT), DeadlineError)

    until(lambda: one.state == "stuck", "the report")
    assert one.stats().stuck is True
    assert one.stats().state == "stuck"
    assert one.is_alive()
    gate.open()
    one.run_until_idle(WAIT)
    assert one.state == "running"
    assert one.stats().stuck is False


def test_a_deadline_that_is_met_does_nothing(listening):
    futures = [listening.ask("echo", number, timeout=WAIT) for number in range(100)]
    assert [future.result(WAIT) for future in futures] == list(range(100))
    assert listening.ask("echo", 1, timeout=math.inf).result(WAIT) == 1
    stats = listening.stats()
    assert (stats.completed, stats.expired) == (101, 0)


def test_many_deadlines_in_any_order(blocked):
    one = blocked()
    timeouts = [0.01 * (1 + number * 37 % 11) for number in range(100)]
    futures = [one.ask("gate", timeout=timeout) for timeout in timeouts]
    assert all(isinstance(future.exception(WAIT), DeadlineError) for future in futures)
    assert one.stats().expired == 100
    assert one.stats().depth == 0


def test_an_expired_message_makes_room(blocked, gate):
    one = blocked(capacity=1)
    one.on_message("echo", lambda data: data)
    one.ask("echo", timeout=SHORT).exception(WAIT)
    future = one.ask("echo", "fits", timeout=WAIT)
    gate.open()
    assert future.result(WAIT) == "fits"


def test_a_sooner_deadline_is_not_held_up_by_a_later_one(blocked):
    one = blocked()
    late = one.ask("gate", timeout=WAIT * 10)
    soon = one.ask("gate", timeout=SHORT)
    assert isinstance(soon.exception(WAIT), DeadlineError)
    assert not late.done()


def test_the_deadline_of_a_pool_message(pool, gate):
    one_thread = pool(1)
    one_thread.on_message("gate", gate)
    one_thread.on_error(lambda error: None)
    running = one_thread.ask("gate", timeout=SHORT)
    queued = one_thread.ask("gate", timeout=SHORT)
    assert isinstance(running.exception(WAIT), DeadlineError)
    assert isinstance(queued.exception(WAIT), DeadlineError)
    gate.open()
    one_thread.run_until_idle(WAIT)
    assert one_thread.stats().own.expired == 2


def ask_round(workers):
    """Makes each worker ask the next one and wait, the last one asks the first."""
    for number, one in enumerate(workers):
        after = workers[(number + 1) % len(workers)]
        one.on_message("call", lambda data, after=after: after.ask("call", data).result())
        one.on_error(lambda error: None)
        one.start()


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_workers_that_wait_in_a_circle_are_told_its_names(pool, length, size):
    some = pool(size)
    workers = [some.create_worker(f"link-{number}") for number in range(length)]
    ask_round(workers)

    with pytest.raises(AskCycleError) as caught:
        workers[0].ask("call").result(WAIT)
    assert isinstance(caught.value.cycle, tuple)
    assert set(caught.value.cycle) == {one.name for one in workers}
    assert all(one.name in str(caught.value) for one in workers)


def test_a_worker_of_no_pool_that_waits_for_itself_is_told(worker):
    one = worker("alone")
    ask_round([one])
    with pytest.raises(AskCycleError) as caught:
        one.ask("call").result(WAIT)
    assert set(caught.value.cycle) == {"alone"}
    one.on_message("echo", lambda data: data)
    assert one.ask("echo", "alive").result(WAIT) == "alive"


def test_workers_of_two_pools_in_a_circle_are_told(pool):
    workers = [pool(1).create_worker("here"), pool(1).create_worker("there")]
    ask_round(workers)
    with pytest.raises(AskCycleError) as caught:
        workers[0].ask("call").result(WAIT)
    assert set(caught.value.cycle) == {"here", "there"}


def test_a_circle_with_a_timeout_is_told_before_it_passes(pool):
    two = pool(2)
    one = two.create_worker("timed")
    one.on_message("call", lambda data: one.ask("call", timeout=WAIT).result(WAIT))
    one.on_error(lambda error: None)
    with pytest.raises(AskCycleError):
        one.start().ask("call").result(WAIT)


def test_asking_oneself_without_waiting_is_fine(worker):
    kept = []
    one = worker()
    one.on_message("later", lambda data: data)
    one.on_message("ask", lambda data: kept.append(one.ask("later", data)))
    one.start().ask("ask", 7).result(WAIT)
    assert kept[0].result(WAIT) == 7


def test_waiting_for_the_same_worker_from_two_sides_is_no_circle(pool):
    two = pool(2)
    shared = two.create_worker("shared")
    shared.on_message("call", lambda data: data)
    shared.start()
    futures = []
    for name in ("left", "right"):
        one = two.create_worker(name)
        one.on_message("call", lambda data: [shared.ask("call", data).result() for _ in range(50)])
        futures.append(one.start().ask("call", name))
    assert [future.result(WAIT) for future in futures] == [["left"] * 50, ["right"] * 50]


def test_a_circle_of_decorated_functions_is_told(pool):
    two = pool(2)

    @WorkerDecorators.run_in_worker("ping", pool=two)
    def ping():
        return pong()

    @WorkerDecorators.run_in_worker("pong", pool=two)
    def pong():
        return ping()

    with pytest.raises(AskCycleError) as caught:
        ping.submit().result(WAIT)
    assert set(caught.value.cycle) == {"ping", "pong"}


@pytest.mark.slow
def test_the_wait_for_room_is_part_of_a_deadline(pool, spawn, until):
    first, second = threading.Event(), threading.Event()
    gates, ended = iter((first, second)), []
    some = pool(2)
    one, witness = some.create_worker("slow", capacity=1), some.create_worker("witness")
    one.on_message("gate", lambda data: next(gates).wait(WAIT))
    one.on_error(lambda error: None)
    one.start()
    entered = one.ask("gate")
    one.post_message("gate")

    def post():
        # Over before a message would be whose time begins when there is room.
        between = witness.ask("work", timeout=2.6)
        between.add_done_callback(lambda future: ended.append("witness"))
        return one.ask("work", timeout=2.0)

    posting = spawn(post)
    # There is room after half of the time; then the message waits behind the second gate.
    with pytest.raises(FutureTimeout):
        posting.result(1.0)
    first.set()
    assert entered.result(WAIT)
    future = posting.result(WAIT)
    future.add_done_callback(lambda future: ended.append("waited for room"))
    assert isinstance(future.exception(WAIT), DeadlineError)
    second.set()
    until(lambda: ended, "the callback")
    assert ended[0] == "waited for room"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
def test_fifty_workers_with_deadlines_have_one_thread_more(worker):
    def names():
        found = []
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
                found.append(file.read().strip())
        return found

    before = len(names())
    entered, opened = threading.Barrier(51), threading.Event()

    def wait(data):
        entered.wait(WAIT)
        opened.wait(WAIT)

    futures = []
    for number in range(50):
        one = worker(f"own-{number}")
        one.on_message("wait", wait)
        futures.append(one.start().ask("wait", timeout=60.0))
    entered.wait(WAIT)
    now = names()
    opened.set()
    for future in futures:
        future.result(WAIT)
    assert now.count("pytoweb-timers") == 1
    assert len(now) <= before + 50 + 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_deadlines_pass_in_a_forked_child():
    # The parent watches deadlines at the time of the fork; the child has none of its threads.
    program = """
import os, threading, warnings
from pytoweb.workers import DeadlineError, PythonWorker

def expire(name):
    stop = threading.Event()
    with PythonWorker(name) as one:
        one.on_message("wait", lambda data: stop.wait(10))
        one.on_error(lambda error: None)
        try:
            one.ask("wait", timeout=0.01).result(10)
        except DeadlineError:
            print(name, "expired", flush=True)
        stop.set()

held, stop = PythonWorker("held").start(), threading.Event()
held.on_message("wait", lambda data: stop.wait(10))
future = held.ask("wait", timeout=60)
expire("parent")
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    expire("child")
    os._exit(0)
os.waitpid(child, 0)
expire("again")
stop.set()
future.result(10)
held.stop()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert done.stdout.split("\n")[:3] == ["parent expired", "child expired", "again expired"], done.stderr
    assert done.returncode == 0
