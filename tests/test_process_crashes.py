"""Children that end: what ran fails, and says how; everything else goes on."""

from __future__ import annotations

import os
import signal

import process_handlers as handlers
import pytest

from pytoweb.workers import WorkerCrashedError, WorkerError

WAIT = 10.0


@pytest.fixture
def crashing(remote):
    """Returns `crashing(**options)`: a started worker, and in `errors` what its owner was told."""

    def make(name="crashing", **options):
        one = remote(name, start=False, **options)
        one.errors = []
        one.on_error(one.errors.append)
        return one.start()

    return make


ENDINGS = [
    ("segfault", None, None, signal.SIGSEGV),
    ("abort", None, None, signal.SIGABRT),
    ("exit_with", 0, 0, None),
    ("exit_with", 1, 1, None),
    ("exit_with", 77, 77, None),
    ("kill_self", signal.SIGKILL, None, signal.SIGKILL),
    ("kill_self", signal.SIGUSR1, None, signal.SIGUSR1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "data", "exitcode", "number"), ENDINGS)
def test_the_message_that_ran_fails_and_the_error_says_how(crashing, kind, data, exitcode, number):
    one = crashing("the victim")
    before = one.ask("pid").result(WAIT)
    queued = one.ask("echo", "before")
    error = one.ask(kind, data).exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert (error.exitcode, error.signal) == (exitcode, number)
    for word in ("the victim", kind, str(before), number.name if exitcode is None else f"code {exitcode}"):
        assert word in str(error)
    assert queued.result(WAIT) == "before"
    assert one.ask("pid").result(WAIT) != before
    assert one.errors == [error]
    assert (one.state, one.stats().failed) == ("running", 1)


def test_a_segfault_comes_with_the_python_stack(crashing):
    error = crashing().ask("segfault").exception(WAIT)
    for word in ("Segmentation fault", "segfault", "process_handlers.py"):
        assert word in str(error)


def test_an_abort_comes_with_the_python_stack(crashing):
    error = crashing().ask("abort").exception(WAIT)
    assert "Aborted" in str(error)
    assert "in abort" in str(error)


@pytest.mark.slow
def test_a_crash_says_nothing_on_the_terminal(crashing, capfd):
    one = crashing()
    for kind in ("segfault", "abort"):
        one.ask(kind).exception(WAIT)
    assert capfd.readouterr() == ("", "")


def test_a_kill_from_outside_fails_the_running_message_only(remote_blocked, remote_gate):
    one, errors = remote_blocked("outside"), []
    one.on_error(errors.append)
    queued = [one.ask("echo", number) for number in range(20)]
    os.kill(remote_gate.pids()[0], signal.SIGKILL)
    assert [future.result(WAIT) for future in queued] == list(range(20))
    one.run_until_idle(WAIT)
    (error,) = errors
    assert (error.exitcode, error.signal) == (None, signal.SIGKILL)
    assert "gate" in str(error)
    stats = one.stats()
    assert (stats.failed, stats.completed) == (1, 20)


def test_a_kill_while_nothing_runs_fails_nothing(crashing, until):
    one = crashing()
    before = one.ask("pid").result(WAIT)
    os.kill(before, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{before}"), "the end of the child")
    assert one.ask("pid").result(WAIT) != before
    assert one.errors == []
    assert one.stats().failed == 0


@pytest.mark.parametrize("ahead", [1, 100])
def test_what_is_queued_goes_on_in_the_next_child_in_order(crashing, tmp_path, ahead):
    one, path = crashing(), str(tmp_path / "handled")
    # Quick messages first, so that many are sent ahead of those before them.
    for number in range(200):
        one.post_message("write", (path, number))
    one.run_until_idle(WAIT)
    for number in range(ahead):
        one.post_message("write", (path, number + 200))
    one.post_message("exit_with", 5)
    for number in range(300):
        one.post_message("write", (path, number + 200 + ahead))
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(500 + ahead)], "each once, none lost"
    assert len(one.errors) == 1
    assert one.stats().failed == 1


def test_replies_that_were_sent_before_the_crash_count(crashing):
    one = crashing()
    for _ in range(2):
        futures = [one.ask("echo", number) for number in range(50)]
        crash = one.ask("exit_with", 1)
        assert [future.result(WAIT) for future in futures] == list(range(50))
        assert isinstance(crash.exception(WAIT), WorkerCrashedError)


def test_a_crash_is_told_to_the_error_handler_of_a_message_id(crashing, until):
    one, told = crashing(), []
    one.on_message("error", lambda message: told.append(message.data))
    one.post_message("exit_with", 9, message_id="task-9")
    until(lambda: told, "the error")
    assert told[0]["id"] == "task-9"
    assert told[0]["error"].exitcode == 9


def test_without_on_error_a_crash_is_logged_once(remote, caplog):
    one = remote("logged")
    one.post_message("exit_with", 9)
    one.run_until_idle(WAIT)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.name == "pytoweb.worker.logged"
    assert "exited with code 9" in caplog.text


def test_an_idle_worker_gets_its_next_child_at_once(crashing, until):
    one = crashing()
    one.ask("exit_with", 1).exception(WAIT)
    until(lambda: one.stats().restarts == one.stats().processes == 1, "the next child, without a message")
    assert one.ask("echo", "soon").result(WAIT) == "soon"


def test_a_message_is_tried_again_if_it_may(crashing, tmp_path):
    one, path = crashing(max_attempts=2), str(tmp_path / "attempts")
    assert one.ask("crash_first", path).result(WAIT) == 2
    lines = [line.split() for line in handlers.noted(path)]
    assert [attempt for attempt, _ in lines] == ["1", "2"]
    assert lines[0][1] != lines[1][1], "each in a child of its own"
    assert one.errors == []
    assert (one.stats().completed, one.stats().failed) == (1, 0)


@pytest.mark.slow
def test_what_runs_out_of_attempts_fails_once(crashing, tmp_path):
    one, path = crashing(max_attempts=3), str(tmp_path / "attempts")
    error = one.ask("crash_noting", path).exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert error.exitcode == 77
    assert [line.split()[0] for line in handlers.noted(path)] == ["1", "2", "3"]
    assert one.errors == [error]
    assert one.ask("echo", "alive").result(WAIT) == "alive"


@pytest.mark.slow
def test_the_neighbours_of_a_poisonous_message_are_handled_once(crashing, tmp_path):
    one, path, poison = crashing(max_attempts=2), str(tmp_path / "handled"), str(tmp_path / "poison")
    futures = [one.ask("write", (path, number)) for number in range(20)]
    crash = one.ask("crash_noting", poison)
    futures += [one.ask("write", (path, number)) for number in range(20, 40)]
    assert [future.result(WAIT) for future in futures] == [None] * 40
    assert isinstance(crash.exception(WAIT), WorkerCrashedError)
    assert handlers.noted(path) == [str(number) for number in range(40)]
    assert len(handlers.noted(poison)) == 2


def test_the_order_is_kept_when_a_message_is_tried_again(crashing, tmp_path):
    one, path = crashing(max_attempts=2), str(tmp_path / "attempts")
    first, second = one.ask("crash_first", path), one.ask("attempt", path)
    assert (first.result(WAIT), second.result(WAIT)) == (2, 1)
    assert [line.split()[0] for line in handlers.noted(path)] == ["1", "2", "1"]


def test_messages_that_fail_otherwise_are_not_tried_again(crashing, tmp_path):
    one = crashing(max_attempts=5)
    assert isinstance(one.ask("fail", "once").exception(WAIT), ValueError)
    assert len(one.errors) == 1


@pytest.mark.slow
def test_a_pool_tries_its_own_messages_again(pool, tmp_path):
    some, path = pool(2, backend="process", max_attempts=2), str(tmp_path / "attempts")
    assert some.submit(handlers.crash_first, path).result(WAIT) == 2
    some.on_message("crash", handlers.crash_noting)
    some.on_error(lambda error: None)
    assert isinstance(some.ask("crash", path).exception(WAIT), WorkerCrashedError)
    assert [line.split()[0] for line in handlers.noted(path)] == ["1", "2", "1", "2"]


@pytest.mark.slow
def test_a_named_worker_of_a_pool_has_attempts_of_its_own(pool, tmp_path):
    some = pool(1, backend="process")
    for name, attempts in (("patient", 2), ("impatient", 1)):
        one, path = some.create_worker(name, max_attempts=attempts), str(tmp_path / name)
        one.on_message("crash", handlers.crash_noting)
        one.on_error(lambda error: None)
        assert isinstance(one.start().ask("crash", path).exception(WAIT), WorkerCrashedError)
        assert len(handlers.noted(path)) == attempts


@pytest.mark.slow
def test_what_is_given_up_is_not_tried_again(crashing, tmp_path):
    one, path = crashing(max_attempts=5), str(tmp_path / "attempts")
    future = one.ask("loop_forever", path)
    handlers.wait_for(path)
    assert future.cancel()
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    assert len(handlers.noted(path)) == 1


@pytest.mark.slow
def test_all_kinds_of_ends_at_once_leave_the_numbers_right(pool, tmp_path, adds_up):
    some = pool(2, backend="process", max_restarts=1000)
    some.on_error(lambda error: None)
    some.on_message("exit_with", handlers.exit_with)
    some.on_message("echo", handlers.echo)
    futures = [
        some.ask("exit_with", 3) if number % 25 == 12 else some.ask("echo", number) for number in range(100)
    ]
    outcomes = [future.exception(WAIT) for future in futures]
    failed = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    assert failed == [number for number in range(100) if number % 25 == 12]
    stats = some.stats()
    assert (stats.completed, stats.failed) == (96, 4)
    adds_up(stats)


def test_crash_errors_are_worker_errors(crashing):
    error = crashing().ask("exit_with", 1).exception(WAIT)
    assert isinstance(error, WorkerError)


DYING_AT_ONCE = """
import logging, os, signal
from pytoweb.workers import WorkerCrashedError, WorkerPool

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
logging.disable()
# Each child is gone before its host has sent it anything.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["PYTOWEB_PYTHON"] = "/bin/false"
for _ in range(20):
    pool = WorkerPool(1, backend="process", max_restarts=0)
    failed = pool.submit(abs, -1).exception(20)
    pool.shutdown()
print(isinstance(failed, WorkerCrashedError))
"""


@pytest.mark.slow
def test_a_child_that_dies_at_its_start_does_not_end_a_host_that_dies_of_broken_pipes(run_python, require):
    require(hasattr(os, "sched_setaffinity"), "os.sched_setaffinity")
    done = run_python(DYING_AT_ONCE, timeout=60)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout == "True\n"
