"""pytoweb.testing: the tools that users get for their own tests."""

from __future__ import annotations

import sys
import threading

import pytest

import pytoweb.testing
from pytoweb.testing import no_leaks, wait_until_idle, worker_pool  # noqa: F401  # a fixture
from pytoweb.workers import AskCycleError, DeadlineError, PythonWorker, WorkerPool, default_pool

WAIT = 10.0
NEVER = 0.05


def test_an_idle_worker_is_waited_for_no_longer(worker, gate, spawn):
    one = worker("busy")
    one.on_message("gate", gate)
    one.start().post_message("gate")
    gate.wait_entered()
    waiting = spawn(wait_until_idle, one, timeout=WAIT)
    assert not waiting.done()
    gate.open()
    waiting.result(WAIT)
    assert one.stats().completed == 1


def test_nothing_to_wait_for_is_idle(worker, pool):
    wait_until_idle()
    wait_until_idle(worker("new"), worker("running").start(), pool(2), timeout=0)


def test_a_pool_stands_for_its_started_workers(pool, gate, spawn):
    two = pool(2)
    two.create_worker("waiting").post_message("never")
    one = two.create_worker("member").start()
    one.on_message("gate", gate)
    one.post_message("gate")
    gate.wait_entered()
    with pytest.raises(DeadlineError):
        wait_until_idle(two, timeout=NEVER)
    gate.open()
    wait_until_idle(two, timeout=WAIT)
    assert one.stats().completed == 1


def test_work_that_goes_back_and_forth_is_waited_for(worker, pool):
    rounds = 200
    there, back = worker("there"), pool(2)

    def pass_on(number, address):
        if number:
            address.post_message("ball", number - 1)

    there.on_message("ball", lambda number: pass_on(number, back))
    back.on_message("ball", lambda number: pass_on(number, there))
    there.start().post_message("ball", rounds)
    wait_until_idle(there, back, timeout=WAIT)
    assert there.stats().completed + back.stats().completed == rounds + 1


def test_endless_work_meets_the_timeout(worker):
    going = threading.Event()
    going.set()
    first, second = worker("first"), worker("second")
    first.on_message("ball", lambda data: going.is_set() and second.post_message("ball"))
    second.on_message("ball", lambda data: going.is_set() and first.post_message("ball"))
    second.start()
    first.start().post_message("ball")
    try:
        with pytest.raises(DeadlineError, match=r"first|second"):
            wait_until_idle(first, second, timeout=NEVER)
    finally:
        going.clear()
    wait_until_idle(first, second, timeout=WAIT)


def test_a_handler_cannot_wait_for_itself(worker):
    one = worker("itself")
    one.on_message("wait", lambda data: wait_until_idle(one, timeout=WAIT))
    with pytest.raises(AskCycleError):
        one.start().ask("wait").result(WAIT)


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_bad_timeout_is_refused(worker, timeout, error):
    with pytest.raises(error, match="timeout"):
        wait_until_idle(worker(), timeout=timeout)


def test_what_is_stopped_is_no_leak():
    with no_leaks(), PythonWorker("stopped") as one, WorkerPool(2) as two:
        one.on_message("response", print)
        assert one.ask("unknown").exception(WAIT) is not None
        assert two.submit(int).result(WAIT) == 0


def test_what_never_ran_is_no_leak():
    with no_leaks(timeout=0):
        made = PythonWorker("new"), WorkerPool(2)
    del made


def test_what_is_about_to_end_is_waited_for(gate):
    with no_leaks():
        one = PythonWorker("terminated")
        one.on_message("gate", gate)
        one.start().post_message("gate")
        gate.wait_entered()
        one.terminate()
        gate.open()
        two = WorkerPool(2)
        two.submit(int)
        two.shutdown(wait=False)


def test_a_running_worker_is_a_leak():
    with pytest.raises(AssertionError, match=r"PythonWorker 'forgotten' running"), no_leaks(timeout=NEVER):
        one = PythonWorker("forgotten").start()
    one.stop()


def test_a_running_pool_is_a_leak():
    with pytest.raises(AssertionError, match=r"WorkerPool 'forgotten'"), no_leaks(timeout=NEVER):
        two = WorkerPool(2, name="forgotten")
        two.submit(int).result(WAIT)
    two.shutdown()


def test_a_reply_thread_is_a_leak():
    with pytest.raises(AssertionError, match=r"PythonWorker 'owner' new"), no_leaks(timeout=NEVER):
        one = PythonWorker("owner")
        one.on_message("response", print)
    one.stop()


def test_a_reply_handler_that_hangs_is_a_leak(gate):
    with pytest.raises(AssertionError, match=r"PythonWorker 'owner' stopped"), no_leaks(timeout=NEVER):
        one = PythonWorker("owner").start()
        one.on_message("work", lambda data: data)
        one.on_message("response", gate)
        one.post_message("work", message_id="id")
        gate.wait_entered()
        one.terminate()
    gate.open()


def test_a_collected_worker_with_work_to_do_is_a_leak(gate):
    with (
        pytest.raises(AssertionError, match="pytoweb-collected"),
        no_leaks(timeout=NEVER),
    ):
        one = PythonWorker("collected")
        one.on_message("gate", gate)
        one.start().post_message("gate")
        gate.wait_entered()
        with pytest.warns(ResourceWarning, match="collected"):
            del one
    gate.open()


def test_what_was_there_before_and_the_default_pool_are_no_leaks(worker):
    before = worker("before").start()
    with no_leaks(timeout=NEVER):
        before.on_message("response", print)
        assert default_pool().submit(int).result(WAIT) == 0


def test_an_error_of_the_block_is_not_hidden():
    with pytest.raises(KeyError, match="original"), no_leaks(timeout=NEVER):
        one = PythonWorker("forgotten").start()
        raise KeyError("original")
    one.stop()


def test_the_fixture_is_a_pool_of_two(worker_pool):  # noqa: F811
    assert worker_pool.size == 2
    assert worker_pool.submit(int).result(WAIT) == 0
    one = worker_pool.create_worker("member").start()
    one.on_message("double", lambda number: 2 * number)
    assert one.ask("double", 21).result(WAIT) == 42


def test_the_fixture_is_always_the_same_object():
    assert pytoweb.testing.worker_pool is pytoweb.testing.worker_pool


def test_there_is_nothing_else():
    with pytest.raises(AttributeError, match="no attribute 'process_pool'"):
        _ = pytoweb.testing.process_pool


TESTS = """
from pytoweb.testing import worker_pool
from pytoweb.workers import PythonWorker

kept = []

def test_clean(worker_pool):
    assert worker_pool.submit(int).result(10) == 0

def test_leaking(worker_pool):
    kept.append(PythonWorker("forgotten").start())
"""


@pytest.mark.slow
def test_the_fixture_fails_the_test_that_leaves_a_worker(run_python, tmp_path):
    (tmp_path / "test_user.py").write_text(TESTS, encoding="utf-8")
    done = run_python(
        "import pytest, sys; sys.exit(pytest.main(['-p', 'no:cacheprovider', 'test_user.py']))",
        timeout=2 * WAIT,
    )
    assert done.rc == 1, done
    assert "2 passed, 1 error" in done.stdout
    assert "left running: " in done.stdout
    assert "PythonWorker 'forgotten' running" in done.stdout


def test_without_pytest_the_module_works_and_the_fixture_says_what_is_missing(run_python):
    done = run_python("""
import sys
import pytoweb.testing
assert "pytest" not in sys.modules
sys.modules["pytest"] = None
try:
    from pytoweb.testing import worker_pool
except ImportError as error:
    print(error)
""")
    assert (done.rc, done.stderr) == (0, "")
    assert "pytest" in done.stdout


def test_a_star_import_needs_no_pytest():
    assert set(pytoweb.testing.__all__) == {"FrozenClock", "frozen_clock", "no_leaks", "wait_until_idle"}
    assert sys.modules["pytest"] is pytest
