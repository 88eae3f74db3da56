"""The mailbox of a process worker: exact, however much was sent ahead of its turn, also beside crashes."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for_all

import process_handlers as handlers
import pytest

from pytoweb.workers import DeadlineError, MailboxFullError, WorkerCrashedError, WorkerStoppedError

WAIT = 15.0
CAPACITY = 10


@pytest.fixture
def standing(remote, remote_gate):
    """Returns `standing(**options)`: a worker whose child stands in the gate.

    It handled quick messages before, so messages are sent to the child before their turn.
    """

    def make(**options):
        one = remote(start=False, **options)
        one.on_message("gate", remote_gate)
        one.on_error(lambda error: None)
        one.start()
        for _ in range(200):
            one.ask("echo").result(WAIT)
        one.post_message("gate")
        one.handled = 201
        remote_gate.wait_entered()
        return one

    return make


@pytest.mark.parametrize("capacity", [1, 2, 64])
def test_exactly_capacity_messages_wait_beside_the_running_one(standing, capacity):
    one = standing(capacity=capacity, overflow="reject")
    for number in range(capacity):
        one.post_message("echo", number)
    for post in (one.post_message, one.ask):
        with pytest.raises(MailboxFullError):
            post("echo", capacity)
    stats = one.stats()
    assert (stats.depth, stats.running, stats.rejected) == (capacity, 1, 2)
    assert stats.posted == one.handled + capacity


@pytest.mark.parametrize("capacity", [1, 30])
def test_what_is_posted_in_one_go_with_the_blocked_one_counts(remote, remote_gate, capacity):
    one = remote(start=False, capacity=capacity + 1, overflow="reject")
    one.on_message("gate", remote_gate)
    one.start()
    for _ in range(200):
        one.ask("echo").result(WAIT)
    accepted = one.post_messages("gate", range(10 * capacity + 10))
    remote_gate.wait_entered()
    accepted += one.post_messages("echo", range(10 * capacity + 10))
    assert accepted == capacity + 2
    assert (one.stats().depth, one.stats().running) == (capacity + 1, 1)
    remote_gate.open()


def test_reject_counts_what_it_refuses(standing, remote_gate, tmp_path):
    one, path = standing(capacity=CAPACITY, overflow="reject"), str(tmp_path / "handled")
    assert one.post_messages("write", [(path, number) for number in range(25)]) == CAPACITY
    remote_gate.open()
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(CAPACITY)]
    stats = one.stats()
    assert (stats.completed, stats.rejected, stats.dropped) == (one.handled + CAPACITY, 15, 0)


def test_drop_newest_counts_what_it_drops(standing, remote_gate, tmp_path):
    one, path = standing(capacity=CAPACITY, overflow="drop_newest"), str(tmp_path / "handled")
    futures = [one.ask("write", (path, number)) for number in range(25)]
    assert [isinstance(future.exception(WAIT), MailboxFullError) for future in futures[CAPACITY:]] == [
        True
    ] * 15
    remote_gate.open()
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(CAPACITY)]
    stats = one.stats()
    assert (stats.completed, stats.dropped, stats.drops["newest"]) == (one.handled + CAPACITY, 15, 15)


def test_drop_oldest_drops_what_has_not_begun(standing, remote_gate, tmp_path):
    one, path = standing(capacity=CAPACITY, overflow="drop_oldest"), str(tmp_path / "handled")
    futures = [one.ask("write", (path, number)) for number in range(25)]
    assert all(isinstance(future.exception(WAIT), MailboxFullError) for future in futures[:15])
    remote_gate.open()
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(15, 25)]
    stats = one.stats()
    assert (stats.completed, stats.dropped, stats.drops["oldest"]) == (one.handled + CAPACITY, 15, 15)


def test_block_waits_until_there_is_room(standing, remote_gate, spawn, tmp_path):
    one, path = standing(capacity=CAPACITY), str(tmp_path / "handled")
    one.post_messages("write", [(path, number) for number in range(CAPACITY)])
    posting = spawn(one.post_messages, "write", [(path, number) for number in range(CAPACITY, 100)])
    remote_gate.open()
    assert posting.result(WAIT) == 90
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(100)]


def test_the_depth_is_what_waits(standing, remote_gate):
    one = standing()
    for number in range(100):
        one.post_message("echo", number)
        assert (one.stats().depth, one.stats().running) == (number + 1, 1)
    remote_gate.open()
    one.run_until_idle(WAIT)
    assert (one.stats().depth, one.stats().running) == (0, 0)


@pytest.mark.slow
def test_an_expired_message_makes_room(standing, remote_gate):
    one = standing(capacity=1, overflow="reject")
    assert isinstance(one.ask("echo", timeout=0.05).exception(WAIT), DeadlineError)
    fits = one.ask("echo", "fits")
    remote_gate.open()
    assert fits.result(WAIT) == "fits"


def test_only_one_message_runs_at_a_time(standing, remote_gate):
    one = standing()
    one.post_messages("gate", range(50))
    stats = one.stats()
    assert (stats.running, stats.depth) == (1, 50)
    assert len(remote_gate.pids()) == 1
    remote_gate.open()


@pytest.mark.slow
def test_every_kind_of_end_is_counted_once(remote, remote_gates, adds_up, until):
    first, second = remote_gates(), remote_gates()
    one = remote(start=False, capacity=4, overflow="drop_oldest", max_restarts=1000)
    one.on_message("first", first)
    one.on_message("second", second)
    one.on_error(lambda error: None)
    one.start()
    for _ in range(50):
        one.ask("echo").result(WAIT)
    blocked = one.ask("first")
    first.wait_entered()
    assert one.ask("echo").cancel()
    one.ask("echo", timeout=0.02).exception(WAIT)
    one.post_messages("echo", range(6))
    adds_up(one.stats())
    first.open()
    blocked.result(WAIT)
    one.run_until_idle(WAIT)
    one.ask("fail").exception(WAIT)
    one.ask("exit_with", 1).exception(WAIT)
    one.ask("loop_forever", timeout=0.3).exception(WAIT)
    one.run_until_idle(WAIT)
    running = one.ask("second")
    second.wait_entered()
    assert running.cancel()
    one.run_until_idle(WAIT)
    stats = one.stats()
    counted = stats.completed, stats.failed, stats.dropped, stats.cancelled, stats.expired
    assert counted == (50 + 1 + 4, 2, 2, 2, 2)
    adds_up(stats)


@pytest.mark.slow
def test_the_numbers_add_up_at_every_moment(remote, adds_up, spawn):
    one, over = remote(capacity=64, overflow="drop_oldest", max_restarts=1000, start=False), threading.Event()
    one.on_error(lambda error: None)
    one.start()

    def watch():
        looks = 0
        while not over.is_set():
            adds_up(one.stats())
            looks += 1
        return looks

    watching = spawn(watch)
    futures = []
    for number in range(1500):
        if number % 500 == 250:
            futures.append(one.ask("exit_with", 1))
        elif number % 7 == 3:
            futures.append(one.ask("fail", number, timeout=5))
        else:
            futures.append(one.ask("echo", number))
        if number % 11 == 5:
            futures[-1].cancel()
    done = wait_for_all(futures, WAIT)
    over.set()
    assert watching.result(WAIT) > 0
    assert not done.not_done
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert stats.posted == 1500
    counts = {"completed": 0, "failed": 0, "dropped": 0, "cancelled": 0}
    for future in futures:
        counts[kind_of_end(future)] += 1
    assert {name: getattr(stats, name) for name in counts} == counts


def kind_of_end(future):
    """What a future counts as."""
    try:
        error = future.exception(0)
    except CancelledError:
        return "cancelled"
    if error is None:
        return "completed"
    if isinstance(error, MailboxFullError):
        return "dropped"
    assert isinstance(error, (ValueError, WorkerCrashedError)), error
    return "failed"


def test_terminate_counts_what_it_abandons(standing, adds_up):
    one = standing()
    futures = [one.ask("echo", number) for number in range(20)]
    one.terminate()
    assert all(isinstance(future.exception(WAIT), WorkerStoppedError) for future in futures)
    one.stop(timeout=WAIT)
    stats = one.stats()
    assert (stats.failed, stats.depth, stats.running) == (21, 0, 0)
    adds_up(stats)
