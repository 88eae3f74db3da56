"""The limits of child processes: messages, memory, and time to end."""

from __future__ import annotations

import os
import signal

import process_handlers as handlers
import pytest

from pytoweb.workers import Batch, WorkerCrashedError, WorkerPool

WAIT = 15.0
MIB = 1 << 20


@pytest.fixture
def limited(remote):
    """Returns `limited(**options)`: a started worker, and in `errors` what its owner was told."""

    def make(name="limited", **options):
        one = remote(name, start=False, **options)
        one.errors = []
        one.on_error(one.errors.append)
        return one.start()

    return make


@pytest.mark.slow
def test_kills_of_what_is_given_up_are_no_crashes(limited, tmp_path):
    one = limited(max_restarts=1)
    for number in range(4):
        future = one.ask("loop_forever", str(tmp_path / str(number)))
        handlers.wait_for(tmp_path / str(number))
        assert future.cancel()
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    assert one.state == "running"


@pytest.mark.slow
def test_a_child_handles_max_messages_and_no_more(limited):
    one = limited(max_messages=5)
    pids = [one.ask("pid").result(WAIT) for _ in range(20)]
    children = list(dict.fromkeys(pids))
    assert [pids.count(child) for child in children] == [5, 5, 5, 5]
    assert (one.errors, one.stats().completed) == ([], 20)


@pytest.mark.slow
def test_each_message_of_a_batch_counts(remote):
    """A batch that goes past the limit is handled all the same, and is the child's last."""
    one = remote("batched", start=False, max_messages=10)
    one.on_message("pids", handlers.pids, batch=Batch(4, 0.05))
    one.start()
    pids = [future.result(WAIT) for future in [one.ask("pids", number) for number in range(24)]]
    *counts, last = (pids.count(child) for child in dict.fromkeys(pids))
    assert counts and all(10 <= count <= 13 for count in counts)
    assert last <= 13


@pytest.mark.slow
def test_no_message_is_lost_and_the_order_is_kept_when_children_are_replaced(limited, tmp_path):
    one, path = limited(max_messages=100), str(tmp_path / "handled")
    assert one.post_messages("write", ((path, number) for number in range(500))) == 500
    futures = [one.ask("pid") for _ in range(200)]
    pids = [future.result(WAIT) for future in futures]
    assert handlers.noted(path) == [str(number) for number in range(500)]
    assert [pids.count(child) for child in dict.fromkeys(pids)] == [100, 100]
    assert one.errors == []


@pytest.mark.slow
def test_replaced_children_are_no_crashes(limited):
    one = limited(max_messages=1, max_restarts=1)
    pids = [one.ask("pid").result(WAIT) for _ in range(5)]
    assert len(set(pids)) == 5
    assert (one.state, one.errors) == ("running", [])


@pytest.mark.slow
def test_a_start_hook_runs_in_each_replaced_child(remote, tmp_path):
    one = remote(start=False, max_messages=2)
    one.on_start(handlers.NotingHook(tmp_path / "hooks"))
    one.start()
    pids = [one.ask("pid").result(WAIT) for _ in range(6)]
    assert handlers.noted(tmp_path / "hooks") == [str(pid) for pid in dict.fromkeys(pids)]
    assert len(set(pids)) == 3


@pytest.mark.slow
def test_max_messages_counts_all_workers_of_a_child(pool):
    some = pool(1, backend="process", max_messages=4)
    workers = [some.create_worker(name) for name in ("one", "other")]
    for worker in workers:
        worker.on_message("pid", handlers.pid)
        worker.start()
    pids = [workers[number % 2].ask("pid").result(WAIT) for number in range(8)]
    assert [pids.count(child) for child in dict.fromkeys(pids)] == [4, 4]


@pytest.fixture
def measured(require):
    """Needs a system that tells how much memory a process uses."""
    require(os.path.exists("/proc/self/statm"), "Linux's account of memory")


@pytest.mark.slow
@pytest.mark.usefixtures("measured")
def test_a_handler_that_uses_too_much_memory_is_ended(limited):
    one = limited(max_memory=200 * MIB)
    before = one.ask("pid").result(WAIT)
    queued = one.ask("echo", "before")
    error = one.ask("grow_memory", 4096 * MIB).exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert error.signal == signal.SIGKILL
    for word in ("grow_memory", "memory", str(200 * MIB)):
        assert word in str(error)
    assert queued.result(WAIT) == "before"
    assert one.ask("pid").result(WAIT) != before
    assert one.errors == [error]


@pytest.mark.slow
@pytest.mark.usefixtures("measured")
def test_memory_below_the_limit_is_left_alone(limited):
    one = limited(max_memory=400 * MIB)
    before = one.ask("pid").result(WAIT)
    assert one.ask("grow_memory", 100 * MIB).result(WAIT) == "survived"
    assert one.ask("pid").result(WAIT) == before


@pytest.mark.slow
@pytest.mark.usefixtures("measured")
def test_a_child_that_has_grown_is_replaced_between_messages(limited, tmp_path, until, is_running):
    one, path = limited(max_memory=200 * MIB), tmp_path / "grow"
    before = one.ask("grow_memory_later", (str(path), 300 * MIB)).result(WAIT)
    handlers.note(path, "now")
    until(lambda: not is_running(before), "the end of the child")
    assert one.ask("pid").result(WAIT) != before
    assert one.errors == []
    assert (one.stats().failed, one.stats().completed) == (0, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("measured")
def test_ends_for_too_much_memory_are_no_crashes(limited):
    one = limited(max_memory=200 * MIB, max_restarts=0)
    for _ in range(2):
        assert isinstance(one.ask("grow_memory", 4096 * MIB).exception(WAIT), WorkerCrashedError)
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    assert one.state == "running"


@pytest.mark.slow
def test_messages_that_went_to_another_child_do_not_count():
    """A child that is sent many and gives them back is not replaced for them."""
    with WorkerPool(3, backend="process", max_messages=20) as pool:
        pool.on_message("pid", handlers.pid)
        futures = [pool.ask("pid") for _ in range(200)]
        pids = [future.result(WAIT) for future in futures]
        counts = [pids.count(child) for child in set(pids)]
        assert max(counts) <= 20
        # One of the last three may not have begun any.
        assert pool.stats().restarts <= 200 // 20
