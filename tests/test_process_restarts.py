"""Children that crash at their start: their worker is given up for a while, and tried again."""

from __future__ import annotations

import logging
import operator
import os
import signal

import process_handlers as handlers
import process_starts as starts
import pytest

from pytoweb.workers import WorkerCrashedError

WAIT = 15.0


class Trouble:
    """A worker whose children start badly until they are healed, and what is known of it."""

    def __init__(self, worker, path, healed):
        self.worker, self.path, self.healed = worker, path, healed

    def starts(self):
        """How often a child was started."""
        return len(handlers.noted(self.path))

    def heal(self):
        """Has the next child start well."""
        self.healed.write_text("from now on")


@pytest.fixture(params=["initializer", "handlers"])
def troubled(request, worker, pool, tmp_path):
    """Returns `troubled(starting, **options)`: a `Trouble`, from a pool or with a process of its own."""

    def make(starting=starts.crash_until, **options):
        path, healed = tmp_path / "starts", tmp_path / "healed"
        if request.param == "initializer":
            some = pool(
                1, backend="process", initializer=starting, initargs=(str(path), str(healed)), **options
            )
            one = some.create_worker("troubled")
            one.on_message("echo", handlers.echo)
        else:
            one = worker("troubled", backend="process", **options)
            one.on_message("echo", starts.Delicate(starting, path, healed))
        one.on_message("exit_with", handlers.exit_with)
        one.on_error(lambda error: None)
        return Trouble(one, path, healed)

    return make


@pytest.mark.slow
def test_a_worker_whose_children_crash_at_their_start_fails_after_three_restarts(troubled):
    trouble = troubled()
    futures = [trouble.worker.ask("echo", number) for number in range(10)]
    trouble.worker.start()
    for future in futures:
        error = future.exception(WAIT)
        assert isinstance(error, WorkerCrashedError)
        assert error.exitcode == 77
        for word in ("troubled", "has failed", "3 restarts", "code 77"):
            assert word in str(error)
    assert trouble.starts() == 4, "the first child and three more"
    assert trouble.worker.state == "failed"
    assert trouble.worker.stats().failed == 10


@pytest.mark.slow
def test_a_failed_worker_refuses_posts_and_says_why_and_until_when(troubled):
    one = troubled(max_restarts=0).worker.start()
    one.ask("echo").exception(WAIT)
    assert (one.state, one.stats().state, one.is_alive()) == ("failed", "failed", False)
    assert "failed" in repr(one)
    before = one.stats().posted
    for post in (
        lambda: one.ask("echo", 1),
        lambda: one.post_message("echo", 1),
        lambda: one.post_messages("echo", [1]),
    ):
        with pytest.raises(WorkerCrashedError, match=r"failed.*code 77.*tried again in \d\.\d s"):
            post()
    assert one.stats().posted == before


@pytest.mark.slow
def test_a_failed_worker_is_tried_again_and_goes_on(troubled, until, caplog):
    trouble = troubled(max_restarts=0)
    one = trouble.worker.start()
    one.ask("echo").exception(WAIT)
    assert one.state == "failed"
    trouble.heal()
    until(lambda: one.state == "running", "another child", timeout=WAIT)
    assert one.ask("echo", "again").result(WAIT) == "again"
    assert one.stats().restarts >= 1
    until(lambda: "is up again" in caplog.text, "the record")
    (given_up,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert given_up.name == "pytoweb.pool"
    assert "tried again in 1 s" in given_up.getMessage()
    assert "code 77" in given_up.getMessage()


@pytest.mark.slow
def test_a_failed_worker_may_be_stopped(troubled):
    one = troubled(max_restarts=0).worker.start()
    one.ask("echo").exception(WAIT)
    one.stop(timeout=WAIT)
    one.terminate()
    assert one.state == "stopped"


def test_a_failed_worker_leaves_its_name_free(pool, tmp_path):
    initargs = (str(tmp_path / "s"), str(tmp_path / "h"))
    some = pool(1, backend="process", max_restarts=0, initializer=starts.crash_until, initargs=initargs)
    one = some.create_worker("again")
    one.on_message("echo", handlers.echo)
    one.on_error(lambda error: None)
    one.start().ask("echo", 1).exception(WAIT)
    assert one.state == "failed"
    some.remove_worker("again")
    assert some.get_worker("again") is None


@pytest.mark.slow
def test_without_a_limit_messages_wait_until_a_child_starts(troubled, until):
    trouble = troubled(max_restarts=None)
    one = trouble.worker.start()
    future = one.ask("echo", "patience")
    until(lambda: trouble.starts() > 4, "the start after the limit that there else is", timeout=WAIT)
    assert (one.state, future.done()) == ("running", False)
    trouble.heal()
    assert future.result(WAIT) == "patience"


@pytest.mark.slow
def test_crashing_messages_fail_alone_however_many_they_are(worker):
    one = worker("unlucky", backend="process", max_restarts=0)
    one.on_message("exit_with", handlers.exit_with)
    one.on_message("echo", handlers.echo)
    one.on_error(lambda error: None)
    one.start()
    crashes = [one.ask("exit_with", number) for number in range(1, 9)]
    assert [crash.exception(WAIT).exitcode for crash in crashes] == list(range(1, 9))
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    stats = one.stats()
    assert (stats.state, stats.failed, stats.processes, stats.restarts) == ("running", 8, 1, 8)


@pytest.mark.slow
def test_crashes_do_not_halve_a_pool(pool, remote_gates):
    some = pool(2, backend="process", max_restarts=0)
    futures = [some.submit(handlers.exit_with, 3) if number % 2 else some.submit(handlers.echo, number)
               for number in range(12)]  # fmt: skip
    assert sum(future.exception(WAIT) is not None for future in futures) == 6
    gates = [remote_gates(), remote_gates()]
    waiting = [some.submit(gate) for gate in gates]
    for gate in gates:
        gate.wait_entered()
    assert some.stats().processes == 2, "both run"
    for gate in gates:
        gate.open()
    assert [future.result(WAIT) for future in waiting] == [None, None]
    assert some.stats().restarts >= 6


@pytest.mark.slow
def test_a_child_that_ends_while_it_is_idle_and_had_lasted_is_none_of_those(worker, until):
    one = worker("idle", backend="process", max_restarts=0, restart_window=0.001)
    one.on_message("pid", handlers.pid)
    first = one.start().ask("pid").result(WAIT)
    os.kill(first, signal.SIGKILL)
    until(lambda: one.stats().restarts == 1 and one.stats().processes == 1, "the second child")
    assert one.ask("pid").result(WAIT) != first


@pytest.mark.slow
def test_one_failed_child_of_a_pool_does_not_take_the_others_along(pool, tmp_path):
    some = pool(2, backend="process", max_restarts=0)
    well, ill = (some.create_worker(name) for name in ("well", "ill"))
    for one in (well, ill):
        one.on_message("pid", handlers.pid)
        one.on_error(lambda error: None)
    ill.on_message("echo", starts.Delicate(starts.crash_until, tmp_path / "s", tmp_path / "h"))
    pid = well.start().ask("pid").result(WAIT)
    assert isinstance(ill.start().ask("echo").exception(WAIT), WorkerCrashedError)
    assert (well.state, ill.state) == ("running", "failed")
    assert well.ask("pid").result(WAIT) == pid
    assert {some.submit(handlers.pid, None).result(WAIT) for _ in range(20)} == {pid}


@pytest.mark.slow
def test_an_initializer_that_raises_is_logged_with_its_traceback_and_tried_again(
    pool, tmp_path, caplog, until
):
    path, healed = tmp_path / "starts", tmp_path / "healed"
    some = pool(2, name="broken", backend="process",
                initializer=starts.raise_until, initargs=(str(path), str(healed)))  # fmt: skip
    error = some.submit(operator.neg, 1).exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert "no database today" in str(error.__cause__)
    assert len(handlers.noted(path)) == 1, "a moment later it would be the same"
    with pytest.raises(WorkerCrashedError, match="no database today; it is tried again"):
        some.submit(operator.neg, 1)
    until(lambda: caplog.records, "the record")
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "broken" in record.getMessage()
    assert "no database today" in caplog.text
    assert "raise_until" in caplog.text, "its traceback"
    healed.write_text("from now on")
    until(lambda: some.stats().own.state == "running", "another try", timeout=WAIT)
    assert some.submit(operator.neg, 1).result(WAIT) == -1


@pytest.mark.slow
def test_an_initializer_that_raises_in_one_child_leaves_the_work_to_the_others(pool, tmp_path, caplog):
    some = pool(2, backend="process", initializer=starts.raise_in_first, initargs=(str(tmp_path / "first"),))
    futures = [some.submit(operator.neg, number) for number in range(20)]
    assert [future.result(WAIT) for future in futures] == [-number for number in range(20)]
    assert "no database for the first one" in caplog.text


def test_stats_count_the_children_that_are_there(pool, worker):
    some = pool(4, backend="process")
    assert (some.stats().processes, some.stats().restarts) == (0, 0), "none before there is work"
    child = some.submit(handlers.pid, None).result(WAIT)
    assert (some.stats().processes, some.stats().own.processes) == (1, 1)
    named = some.create_worker("named")
    named.on_message("pid", handlers.pid)
    assert named.stats().processes == 1, "it is placed where a child is"
    assert named.start().ask("pid").result(WAIT) == child
    assert worker().stats().processes == worker().stats().restarts == 0, "threads"
