"""pytoweb.testing.plugin: the fixtures that users have, in test runs of their own."""

from __future__ import annotations

import os
import sys

import pytest

pytest_plugins = ["pytester"]

needs_processes = pytest.mark.skipif(os.name != "posix", reason="process workers need a POSIX system")

# A run of its own takes about a second.
pytestmark = pytest.mark.slow

IMPATIENT = """
from pytoweb.testing import _tools

_tools.LEAK_TIMEOUT = 0.05
"""


@pytest.fixture
def run(pytester):
    """Returns `run(tests, conftest="")`: runs them in an interpreter of its own."""

    def run_tests(tests, conftest=""):
        pytester.makeconftest(conftest)
        pytester.makepyfile(tests)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", timeout=50)

    return run_tests


def test_workers_and_pools_are_made_and_ended(run):
    done = run("""
import pytest
from pytoweb.workers import PythonWorker, WorkerDecorators

made = []

class Doubler(PythonWorker):
    @WorkerDecorators.worker_method("double")
    def double(self, number):
        return 2 * number

def test_worker(pytoweb_worker):
    made.append(pytoweb_worker())
    made.append(pytoweb_worker("second", cls=Doubler, capacity=3))
    made.append(pytoweb_worker(handlers={"negate": lambda number: -number}))
    assert made[1].ask("double", 21).result(10) == 42
    assert made[2].ask("negate", 1).result(10) == -1
    assert [one.state for one in made] == ["running"] * 3
    assert len({one.name for one in made}) == 3

def test_pool(pytoweb_pool, pytoweb_worker):
    assert [one.state for one in made] == ["stopped"] * 3
    made.append(pytoweb_pool())
    assert made[-1].size == 2
    assert made[-1].submit(int).result(10) == 0
    made.append(made[-1].create_worker("member").start())
    made[-1].post_message("in an hour", delay=3600)

def test_end():
    assert "shut down" in repr(made[-2])
    assert made[-1].state == "stopped"
""")
    done.assert_outcomes(passed=3)


def test_a_test_that_leaves_a_worker_fails_and_no_other_does(run):
    done = run("""
from pytoweb.workers import PythonWorker, WorkerPool

kept = []

def test_leaking(pytoweb_worker):
    pytoweb_worker().ask("unknown").exception(10)
    kept.append(PythonWorker("forgotten").start())
    kept[-1].ask("unknown").exception(10)
    kept.append(WorkerPool(2, name="waiting"))
    kept[-1].submit(int).result(10)

def test_the_next(pytoweb_pool):
    pytoweb_pool()

def test_that_uses_none_of_them():
    kept.append(PythonWorker("mine").start())
""")
    done.assert_outcomes(passed=3, errors=1)
    done.stdout.fnmatch_lines(["*left running: *"])
    text = done.stdout.str()
    assert "PythonWorker 'forgotten' running> (threads: pytoweb-forgotten-1)" in text
    assert "WorkerPool 'waiting' of 2, 0 workers, open> (threads: pytoweb-waiting-1" in text
    assert "'mine'" not in text


def test_a_handler_that_hangs_fails_its_test(run):
    done = run(
        """
import threading

entered = threading.Event()

def hang(data):
    entered.set()
    threading.Event().wait()

def test_hanging(pytoweb_worker):
    pytoweb_worker("hanging", handlers={"hang": hang}).post_message("hang")
    assert entered.wait(10)

def test_hanging_pool(pytoweb_pool):
    entered.clear()
    pytoweb_pool(name="stuck").submit(hang, 1)
    assert entered.wait(10)
""",
        IMPATIENT,
    )
    done.assert_outcomes(passed=2, errors=2)
    text = done.stdout.str()
    assert "(threads: pytoweb-hanging-1)" in text
    assert "(threads: pytoweb-stuck-1)" in text


@needs_processes
def test_child_processes_are_named(run):
    done = run("""
import os
from pytoweb.workers import PythonWorker

kept = []

def test_leaking(pytoweb_worker):
    assert pytoweb_worker(backend="process", handlers={"pid": os.getpgid}).ask("pid", 0).result(30)
    kept.append(PythonWorker("forgotten", backend="process").start())
    kept[-1].on_message("pid", os.getpgid)
    kept[-1].ask("pid", 0).result(30)
""")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.re_match_lines([r".*PythonWorker 'forgotten' running> \(.*child processes: \d+\)"])


def test_the_clock_moves_when_the_test_moves_it(run):
    done = run("""
import pytest
from pytoweb.testing import wait_until_idle
from pytoweb.workers import DeadlineError

seen = []

@pytest.mark.parametrize("backend", ["thread", "process"])
def test_reminder(pytoweb_clock, pytoweb_worker, backend):
    worker = pytoweb_worker(backend=backend, handlers={"remind": len})
    future = worker.ask("remind", "text", delay=3600)
    pytoweb_clock.advance(3599)
    assert not future.done()
    pytoweb_clock.advance(1)
    assert future.result(30) == 4
    assert pytoweb_clock.now() == 3600

def test_that_the_worker_came_first(pytoweb_worker, pytoweb_clock):
    worker = pytoweb_worker(handlers={"tick": seen.append})
    worker.every(60, "tick", "tock")
    for _ in range(3):
        pytoweb_clock.advance(60)
        wait_until_idle(worker)
    assert seen == ["tock"] * 3
""")
    done.assert_outcomes(passed=3)


def test_it_costs_next_to_nothing_until_it_is_used(run_python):
    done = run_python("""
import sys
import pytest
before = set(sys.modules)
import pytoweb.testing.plugin
print(sorted(set(sys.modules) - before))
""")
    assert done.rc == 0, done
    mine = {"pytoweb", "pytoweb._core", "pytoweb.testing", "pytoweb.testing.plugin"}
    assert set(eval(done.stdout)) <= mine, done.stdout


def test_pytest_has_it_by_itself():
    assert "pytoweb.testing.plugin" in sys.modules
