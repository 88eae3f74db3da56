"""The limits of child processes: crashes, messages, memory."""

from __future__ import annotations

import operator
import os
import signal
import time

import process_handlers as handlers
import pytest

from pytoweb.workers import WorkerCrashedError, WorkerError

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
def test_a_worker_that_only_crashes_fails_after_three_restarts(limited, tmp_path, until):
    one, path = limited("hopeless"), str(tmp_path / "begun")
    futures = [one.ask("crash_noting", path) for _ in range(10)]
    errors = [future.exception(WAIT) for future in futures]
    assert all(isinstance(error, WorkerCrashedError) for error in errors)
    assert len(handlers.noted(path)) == 4, "the first child and three more"
    assert ["crash_noting" in str(error) for error in errors[:4]] == [True] * 4
    for error in errors[4:]:
        for word in ("hopeless", "3 restarts", "77"):
            assert word in str(error)
        assert error.exitcode == 77
    until(lambda: one.state == "failed", "the failure")
    assert one.is_alive() is False
    assert one.stats().failed == 10
    assert len(one.errors) == 10


@pytest.mark.slow
def test_who_is_told_that_a_worker_has_failed_finds_it_failed(limited):
    one = limited(max_restarts=0)
    one.ask("exit_with", 1)
    error = one.ask("echo").exception(WAIT)
    assert "has failed" in str(error)
    assert one.state == "failed"
    with pytest.raises(WorkerError):
        one.post_message("echo")


@pytest.fixture
def failed(limited, until):
    """A worker that has failed."""
    one = limited("failed", max_restarts=0)
    one.ask("exit_with", 9).exception(WAIT)
    until(lambda: one.state == "failed", "the failure")
    return one


def test_a_failed_worker_refuses_posts_and_says_why(failed):
    before = failed.stats().posted
    for post in (
        lambda: failed.ask("echo", 1),
        lambda: failed.post_message("echo", 1),
        lambda: failed.post_messages("echo", [1]),
    ):
        with pytest.raises(WorkerError) as caught:
            post()
        assert isinstance(caught.value, WorkerCrashedError), "it did not stop, it failed"
        for word in ("failed", "exited with code 9"):
            assert word in str(caught.value)
    assert failed.stats().posted == before


def test_a_failed_worker_may_be_stopped(failed):
    before = time.monotonic()
    failed.stop(timeout=WAIT)
    failed.terminate()
    assert time.monotonic() - before < 1.0
    assert failed.is_alive() is False


def test_a_failed_worker_says_so_in_its_statistics(failed):
    assert failed.stats().state == "failed"
    assert "failed" in repr(failed)


def test_a_failed_worker_is_told_to_the_log(limited, caplog, until):
    one = limited("in the log", max_restarts=0)
    one.ask("exit_with", 9).exception(WAIT)
    until(lambda: one.state == "failed", "the failure")
    until(lambda: [record for record in caplog.records if record.name == "pytoweb.pool"], "the record")
    (record,) = [record for record in caplog.records if record.name == "pytoweb.pool"]
    assert record.levelname == "CRITICAL"
    assert "in the log" in record.getMessage()
    assert "code 9" in record.getMessage()
    assert '""' not in record.getMessage(), "no empty names"


def test_a_failed_worker_leaves_its_name_free(pool, until):
    some = pool(1, backend="process", max_restarts=0)
    one = some.create_worker("again")
    one.on_message("exit_with", handlers.exit_with)
    one.on_error(lambda error: None)
    one.start().ask("exit_with", 1).exception(WAIT)
    until(lambda: one.state == "failed", "the failure")
    some.remove_worker("again")
    assert some.get_worker("again") is None


@pytest.mark.slow
def test_one_failed_child_of_a_pool_does_not_take_the_others_along(pool, until):
    some = pool(2, backend="process", max_restarts=0)
    some.on_error(lambda error: None)
    workers = [some.create_worker(name) for name in ("one", "other")]
    for worker in workers:
        worker.on_message("exit_with", handlers.exit_with)
        worker.on_message("pid", handlers.pid)
        worker.on_error(lambda error: None)
        worker.start()
    pids = [worker.ask("pid").result(WAIT) for worker in workers]
    assert len(set(pids)) == 2
    workers[0].ask("exit_with", 1).exception(WAIT)
    until(lambda: workers[0].state == "failed", "the failure")
    assert workers[1].ask("pid").result(WAIT) == pids[1]
    assert [some.submit(operator.neg, number).result(WAIT) for number in range(20)] == [
        -number for number in range(20)
    ]


@pytest.mark.slow
def test_messages_that_are_handled_in_between_reset_the_count(limited):
    one = limited()
    for number in range(8):
        assert one.ask("exit_with", 1).exception(WAIT).exitcode == 1
        assert one.ask("echo", number).result(WAIT) == number
    assert one.state == "running"
    assert len(one.errors) == 8


@pytest.mark.slow
def test_a_message_that_fails_counts_as_handled(limited):
    one = limited(max_restarts=1)
    for number in range(4):
        one.ask("exit_with", 1).exception(WAIT)
        assert isinstance(one.ask("fail", number).exception(WAIT), ValueError)
    assert one.state == "running"


@pytest.mark.slow
def test_crashes_that_are_further_apart_than_the_window_do_not_add_up(limited):
    one = limited(max_restarts=1, restart_window=0.001)
    for _ in range(5):
        assert one.ask("exit_with", 1).exception(WAIT).exitcode == 1
    assert one.state == "running"
    assert one.ask("echo", "alive").result(WAIT) == "alive"


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
def test_an_initializer_that_crashes_is_tried_three_times_more(pool, tmp_path):
    path = tmp_path / "begun"
    some = pool(1, backend="process", initializer=handlers.crash_at_start, initargs=(str(path),))
    futures = [some.submit(operator.neg, number) for number in range(5)]
    for future in futures:
        error = future.exception(WAIT)
        assert isinstance(error, WorkerCrashedError)
        assert error.exitcode == 77
        assert "3 restarts" in str(error)
    assert len(handlers.noted(path)) == 4
    with pytest.raises(WorkerCrashedError):
        some.submit(operator.neg, 1).result(WAIT)


@pytest.mark.slow
def test_a_child_handles_max_messages_and_no_more(limited):
    one = limited(max_messages=5)
    pids = [one.ask("pid").result(WAIT) for _ in range(20)]
    children = list(dict.fromkeys(pids))
    assert [pids.count(child) for child in children] == [5, 5, 5, 5]
    assert (one.errors, one.stats().completed) == ([], 20)


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
def test_memory_below_the_limit_is_nobody_s_business(limited):
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
