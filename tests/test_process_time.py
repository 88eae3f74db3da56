"""Time and process workers: what runs too long is ended for real, and what cooperates keeps its child."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout

import process_handlers as handlers
import process_starts as starts
import pytest

from pytoweb.workers import DeadlineError, WorkerDecorators, WorkerStoppedError

WAIT = 10.0
DEADLINE = 0.3
"""Seconds of a deadline that is meant to pass, after the child is up."""
NAMES = [one.__name__ for one in handlers.ENDLESS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_a_handler_that_never_ends_is_ended_at_its_deadline(timed, kind, until, is_running):
    one = timed()
    queued = one.ask("echo", "before")
    before = time.monotonic()
    future = one.ask(kind, timeout=DEADLINE)
    error = future.exception(WAIT)
    took = time.monotonic() - before
    assert isinstance(error, DeadlineError)
    assert took >= DEADLINE * 0.9
    until(lambda: not is_running(one.pid), "the end of the child")
    assert queued.result(WAIT) == "before"
    assert one.ask("echo", "serves again").result(WAIT) == "serves again"
    assert one.ask("pid").result(WAIT) != one.pid
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert (stats.expired, stats.failed) == (1, 0)
    assert [type(told) for told in one.errors] == [DeadlineError]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_a_bare_post_with_a_deadline_is_ended_too(timed, kind, until, is_running):
    one = timed()
    one.post_message(kind, timeout=DEADLINE)
    behind = one.ask("echo", "behind")
    assert behind.result(WAIT) == "behind"
    assert not is_running(one.pid)
    one.run_until_idle(WAIT)
    assert one.stats().expired == 1


@pytest.mark.slow
def test_what_stands_behind_the_ended_message_is_handled(timed, tmp_path):
    one, path = timed(), str(tmp_path / "handled")
    running = one.ask("loop_forever", timeout=DEADLINE)
    for number in range(200):
        one.post_message("write", (path, number))
    assert isinstance(running.exception(WAIT), DeadlineError)
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(200)]


@pytest.mark.slow
def test_a_handler_that_looks_keeps_its_child(timed, tmp_path, until):
    one, path = timed(), str(tmp_path / "steps")
    for end in ("deadline", "cancel"):
        future = one.ask("listen", path, timeout=DEADLINE if end == "deadline" else None)
        until(lambda: handlers.noted(path), "the handler")
        if end == "cancel":
            assert future.cancel()
            with pytest.raises(CancelledError):
                future.result(WAIT)
        else:
            assert isinstance(future.exception(WAIT), DeadlineError)
        assert one.ask("pid").result(WAIT) == one.pid, "it ended by itself"
        assert handlers.noted(path) == [f"entered {one.pid}", f"asked {one.pid}"]
        os.unlink(path)
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert (stats.expired, stats.cancelled, stats.failed) == (1, 1, 0)


@pytest.mark.slow
def test_a_worker_is_stuck_only_until_its_child_is_replaced(timed, until):
    one = timed()
    one.ask("loop_forever", timeout=0.1).exception(WAIT)
    until(lambda: one.state == "running", "the recovery", timeout=WAIT)
    assert one.ask("echo", 1).result(WAIT) == 1
    assert one.stats().stuck is False


def test_a_deadline_that_is_met_does_nothing(timed):
    one = timed()
    futures = [one.ask("echo", number, timeout=WAIT) for number in range(200)]
    assert [future.result(WAIT) for future in futures] == list(range(200))
    assert one.ask("pid", timeout=float("inf")).result(WAIT) == one.pid
    assert one.stats().expired == 0


def test_a_plain_wait_that_runs_out_leaves_the_message_alone(remote_blocked, remote_gate):
    one = remote_blocked()
    future = one.ask("echo", "patience")
    with pytest.raises(FutureTimeout):
        future.result(0.05)
    remote_gate.open()
    assert future.result(WAIT) == "patience"


@pytest.mark.slow
def test_what_was_sent_ahead_and_expires_never_runs(timed, tmp_path, remote_gate):
    one, path = timed(), str(tmp_path / "handled")
    one.on_message("gate", remote_gate)
    # Quick messages first, so that the next ones are sent to the child before their turn.
    for _ in range(3):
        for future in [one.ask("echo", number) for number in range(100)]:
            future.result(WAIT)
    blocked = one.ask("gate", "through")
    futures = [one.ask("write", (path, number), timeout=0.05) for number in range(30)]
    remote_gate.wait_entered()
    assert all(isinstance(future.exception(WAIT), DeadlineError) for future in futures)
    remote_gate.open()
    assert blocked.result(WAIT) == "through"
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == []
    assert one.ask("pid").result(WAIT) == one.pid
    assert one.stats().expired == 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_terminate_ends_the_child_at_once(timed, kind, tmp_path, until, is_running):
    one, path = timed(), tmp_path / "entered"
    running = one.ask(kind, str(path))
    queued = [one.ask("echo", number) for number in range(5)]
    handlers.wait_for(path)
    before = time.monotonic()
    one.terminate()
    assert time.monotonic() - before < WAIT / 2, "it does not wait"
    for future in [running, *queued]:
        assert isinstance(future.exception(WAIT), WorkerStoppedError)
    until(lambda: not is_running(one.pid), "the end of the child")
    with pytest.raises(WorkerStoppedError):
        one.ask("echo")


@pytest.mark.slow
def test_a_timeout_of_run_in_worker_ends_the_call(pool, until, is_running):
    some = pool(1, backend="process")
    child = some.submit(handlers.pid, None).result(WAIT)
    endless = WorkerDecorators.run_in_worker("endless", pool=some, timeout=DEADLINE)(handlers.deadlock)
    with pytest.raises(DeadlineError):
        endless()
    until(lambda: not is_running(child), "the end of the child")
    assert some.submit(handlers.pid, None).result(WAIT) != child


@pytest.mark.slow
def test_other_workers_of_the_child_go_on_in_the_new_one(pool, tmp_path):
    some = pool(1, backend="process")
    workers = [some.create_worker(name) for name in ("endless", "neighbour")]
    for worker in workers:
        for kind in ("loop_forever", "echo", "pid"):
            worker.on_message(kind, handlers.ANSWERING[kind])
        worker.on_error(lambda error: None)
        worker.start()
    endless, neighbour = workers
    before, path = neighbour.ask("pid").result(WAIT), tmp_path / "entered"
    running = endless.ask("loop_forever", str(path), timeout=DEADLINE)
    handlers.wait_for(path)
    queued = [neighbour.ask("echo", number) for number in range(50)]
    assert isinstance(running.exception(WAIT), DeadlineError)
    assert [future.result(WAIT) for future in queued] == list(range(50))
    assert neighbour.ask("pid").result(WAIT) != before
    assert neighbour.stats().failed == 0


@pytest.mark.slow
def test_a_deadline_passes_although_the_host_is_busy(timed):
    one, over = timed(), threading.Event()

    def work():
        while not over.is_set():
            sum(range(1000))

    busy = threading.Thread(target=work, daemon=True)
    busy.start()
    assert isinstance(one.ask("loop_forever", timeout=DEADLINE).exception(WAIT), DeadlineError)
    over.set()
    busy.join(WAIT)


@pytest.mark.slow
@pytest.mark.parametrize(("grace", "lives"), [(WAIT, True), (0.1, False), (0, False)])
def test_the_grace_is_an_option(timed, tmp_path, grace, lives):
    one, path = timed(grace=grace), str(tmp_path / "entered")
    one.on_message("linger", starts.linger)
    for end in ("deadline", "cancel"):
        before = one.ask("pid").result(WAIT)
        future = one.ask("linger", path, timeout=DEADLINE if end == "deadline" else None)
        handlers.wait_for(path)
        if end == "cancel":
            assert future.cancel()
        with pytest.raises((DeadlineError, CancelledError)):
            future.result(WAIT)
        assert (one.ask("pid").result(WAIT) == before) is lives
        os.unlink(path)
