"""Start, stop, terminate: idempotent, from inside, from many threads at once, never a deadlock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from pytoweb.workers import DeadlineError, WorkerStoppedError, current_message

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""


def echo(one):
    """Registers a handler of "echo"; returns what it handled."""
    handled = []

    @one.on_message("echo")
    def handle(data):
        handled.append(data)
        return data

    return handled


def assert_stopped_to_callers(one):
    """Checks that every way to post says that the worker is stopped."""
    for post in (one.post_message, one.ask):
        with pytest.raises(WorkerStoppedError):
            post("echo")
    with pytest.raises(WorkerStoppedError):
        one.post_messages("echo", [1])


def test_the_states_of_a_life(blocked, gate, spawn, until):
    one = blocked()
    assert (one.state, one.is_alive()) == ("running", True)

    stopping = spawn(one.stop)
    until(lambda: one.state == "stopping", "the stop")
    assert one.is_alive()
    gate.open()
    stopping.result(WAIT)

    assert (one.state, one.is_alive()) == ("stopped", False)


def test_a_block_that_is_left_without_ctrl_c_finishes_its_queue_quietly(
    blocked, gate, spawn, monkeypatch, caplog
):
    monkeypatch.setattr("pytoweb._leaving.SOON", 0.001)
    one = blocked()
    leaving = spawn(one.__exit__, None, None, None)
    with pytest.raises(FutureTimeout):
        leaving.result(NEVER)
    gate.open()
    leaving.result(WAIT)
    assert caplog.records == []


def test_start_is_idempotent_and_returns_the_worker(worker, spawn):
    one = worker()
    handled = echo(one)
    barrier = threading.Barrier(20)

    def start():
        barrier.wait(WAIT)
        return one.start()

    assert all(outcome.result(WAIT) is one for outcome in [spawn(start) for _ in range(20)])
    one.post_messages("echo", range(100))
    one.stop(timeout=WAIT)
    assert handled == list(range(100))


def test_posting_before_the_start_queues(worker):
    one = worker()
    handled = echo(one)
    one.post_message("echo", 1)
    future = one.ask("echo", 2)
    assert one.stats().depth == 2
    assert not future.done()

    assert one.start().state == "running"
    assert future.result(WAIT) == 2
    assert handled == [1, 2]


def test_stop_finishes_what_is_queued(blocked, gate, spawn, until):
    one = blocked()
    handled = echo(one)
    futures = [one.ask("echo", number) for number in range(100)]
    stopping = spawn(one.stop)
    until(lambda: one.state == "stopping", "the stop")
    gate.open()
    stopping.result(WAIT)

    assert handled == list(range(100))
    assert all(future.done() for future in futures)
    assert one.stats().completed == 101


def test_posting_after_and_during_the_stop_is_refused(blocked, gate, spawn, until):
    one = blocked()
    stopping = spawn(one.stop)
    until(lambda: one.state == "stopping", "the stop")
    assert_stopped_to_callers(one)
    gate.open()
    stopping.result(WAIT)
    assert_stopped_to_callers(one)
    assert one.stats().posted == 1


def test_a_stopped_worker_does_not_start_again(worker):
    one = worker().start()
    one.stop(timeout=WAIT)
    with pytest.raises(WorkerStoppedError):
        one.start()
    assert one.state == "stopped"


def test_stop_is_idempotent(worker):
    one = worker().start()
    for _ in range(3):
        assert one.stop(timeout=WAIT) is None
        assert one.stop(drain=False, timeout=WAIT) is None
        assert one.terminate() is None
    assert one.state == "stopped"


def test_a_hundred_stops_at_once(blocked, gate, spawn):
    one = blocked()
    handled = echo(one)
    one.post_messages("echo", range(100))
    barrier = threading.Barrier(101)

    def stop():
        barrier.wait(WAIT)
        return one.stop(timeout=WAIT)

    stops = [spawn(stop) for _ in range(100)]
    barrier.wait(WAIT)
    gate.open()

    assert [outcome.result(WAIT) for outcome in stops] == [None] * 100
    assert one.state == "stopped"
    assert handled == list(range(100))


@pytest.mark.parametrize("drain", [True, False])
def test_stop_before_the_start_fails_what_was_queued(worker, drain):
    one = worker()
    handled = echo(one)
    future = one.ask("echo", 1)
    one.post_message("echo", 2)
    one.stop(drain=drain, timeout=WAIT)

    assert isinstance(future.exception(WAIT), WorkerStoppedError)
    assert one.state == "stopped"
    assert handled == []
    assert one.stats().failed == 2
    assert_stopped_to_callers(one)


def test_stop_without_drain_fails_what_is_queued(blocked, gate, spawn):
    one = blocked()
    handled = echo(one)
    queued = [one.ask("echo", number) for number in range(50)]
    one.post_messages("echo", range(10))
    stopping = spawn(lambda: one.stop(drain=False))
    for future in queued:
        assert isinstance(future.exception(WAIT), WorkerStoppedError)
    with pytest.raises(FutureTimeout):
        stopping.result(NEVER)
    gate.open()
    stopping.result(WAIT)

    stats = one.stats()
    assert handled == []
    assert (stats.completed, stats.failed, stats.depth) == (1, 60, 0)


def test_stop_without_drain_lets_the_running_message_finish(worker, gate, spawn, until):
    one = worker()
    one.on_message("gate", gate)
    running = one.start().ask("gate", "kept")
    gate.wait_entered()
    stopping = spawn(lambda: one.stop(drain=False))
    until(lambda: one.state == "stopping", "the stop")
    assert not running.done()
    gate.open()

    assert running.result(WAIT) == "kept"
    stopping.result(WAIT)


def test_stop_past_its_timeout_fails_the_rest_and_says_so(blocked, gate, until):
    one = blocked()
    handled = echo(one)
    queued = [one.ask("echo", number) for number in range(10)]

    before = time.monotonic()
    with pytest.raises(DeadlineError):
        one.stop(timeout=NEVER)
    assert NEVER * 0.9 <= time.monotonic() - before < WAIT / 2

    for future in queued:
        assert isinstance(future.exception(WAIT), WorkerStoppedError)
    assert one.state != "stopped"
    gate.open()
    until(lambda: one.state == "stopped", "the end")
    assert handled == []
    assert one.stats().failed == 10


def test_stop_with_drain_may_be_followed_by_one_without(blocked, gate, spawn, until):
    one = blocked()
    queued = one.ask("echo")
    patient = spawn(one.stop)
    until(lambda: one.state == "stopping", "the stop")
    hasty = spawn(lambda: one.stop(drain=False))

    assert isinstance(queued.exception(WAIT), WorkerStoppedError)
    gate.open()
    patient.result(WAIT)
    hasty.result(WAIT)


@pytest.mark.parametrize("drain", [True, False])
def test_stop_in_the_own_handler(worker, gate, until, drain):
    one = worker()
    handled = echo(one)

    @one.on_message("quit")
    def leave(data):
        gate(data)
        return one.stop(drain=drain)

    one.start()
    left = one.ask("quit")
    gate.wait_entered()
    queued = [one.ask("echo", number) for number in range(10)]
    gate.open()

    assert left.result(WAIT) is None
    until(lambda: one.state == "stopped", "the stop from inside")
    assert handled == (list(range(10)) if drain else [])
    assert all(future.done() for future in queued)
    assert_stopped_to_callers(one)


def test_stop_in_the_own_error_handler(worker, until):
    one = worker()
    one.on_error(lambda error: one.stop())
    one.start().post_message("unheard")
    until(lambda: one.state == "stopped", "the stop from inside")


@pytest.mark.parametrize("end", ["stop", "terminate"])
def test_a_post_that_waits_for_room_ends_with_the_worker(blocked, gate, spawn, end):
    one = blocked(capacity=1)
    one.post_message("echo")
    waiting = [spawn(one.post_message, "echo", number) for number in range(4)]
    with pytest.raises(FutureTimeout):
        waiting[0].result(NEVER)
    ending = spawn(getattr(one, end))

    for outcome in waiting:
        assert isinstance(outcome.exception(WAIT), WorkerStoppedError)
    gate.open()
    ending.result(WAIT)


def test_terminate_abandons_without_waiting(worker, until):
    one = worker()
    handled = echo(one)
    entered, noticed = threading.Event(), threading.Event()

    @one.on_message("endless")
    def endless(data):
        entered.set()
        until(lambda: current_message().cancelled, "the signal")
        noticed.set()

    running = one.start().ask("endless")
    assert entered.wait(WAIT)
    queued = [one.ask("echo", number) for number in range(10)]
    one.terminate()

    for future in [running, *queued]:
        assert isinstance(future.exception(WAIT), WorkerStoppedError)
    assert noticed.wait(WAIT)
    until(lambda: not one.is_alive(), "the end")
    assert handled == []
    assert one.stats().failed == 11
    assert_stopped_to_callers(one)


def test_terminate_does_not_wait_for_a_handler_that_does_not_listen(blocked, gate, until):
    one = blocked()
    one.terminate()
    one.terminate()
    assert one.is_alive(), "its thread still stands in the handler"
    gate.open()
    until(lambda: one.state == "stopped", "the end")


def test_terminate_before_the_start(worker):
    one = worker()
    future = one.ask("echo")
    one.terminate()
    assert isinstance(future.exception(WAIT), WorkerStoppedError)
    assert one.state == "stopped"


def test_terminate_in_the_own_handler(worker, until):
    one = worker()
    one.on_message("quit", lambda data: one.terminate())
    future = one.start().ask("quit")
    until(lambda: one.state == "stopped", "the end")
    assert future.done()


def test_with_starts_and_drains(worker):
    one = worker()
    handled = echo(one)
    with one as entered:
        assert entered is one
        assert one.state == "running"
        one.post_messages("echo", range(100))
    assert one.state == "stopped"
    assert handled == list(range(100))


def test_with_stops_after_an_exception_and_lets_it_through(worker):
    one = worker()
    handled = echo(one)
    with pytest.raises(ZeroDivisionError), one:
        one.post_message("echo", 1)
        raise ZeroDivisionError
    assert one.state == "stopped"
    assert handled == [1]


def test_run_until_idle_waits_for_the_queue_and_the_running_message(blocked, gate, spawn):
    one = blocked()
    handled = echo(one)
    one.post_messages("echo", range(100))
    waiting = spawn(one.run_until_idle)
    with pytest.raises(FutureTimeout):
        waiting.result(NEVER)
    with pytest.raises(DeadlineError):
        one.run_until_idle(NEVER)
    gate.open()

    assert waiting.result(WAIT) is None
    assert handled == list(range(100))
    one.run_until_idle(0)
