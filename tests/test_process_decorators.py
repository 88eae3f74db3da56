"""run_in_worker and default_pool with processes: where the functions run, and what they may call there."""

from __future__ import annotations

import asyncio
import importlib.util
import os

import process_handlers as handlers
import pytest

from pytoweb.workers import DeadlineError, WorkerDecorators, WorkerStoppedError, default_pool

WAIT = 10.0
SCRIPT = 25.0
run_in_worker = WorkerDecorators.run_in_worker


@run_in_worker("crunching", backend="process")
def where(data=None):
    return os.getpid(), data


@run_in_worker("crunching", backend="process")
def factorial(number):
    """Calls itself: inline, in the same worker."""
    return 1 if number == 0 else number * factorial(number - 1)


@run_in_worker("crunching", backend="process")
def call_a_neighbour(data=None):
    return os.getpid(), where(data)


@run_in_worker("somewhere else", backend="process")
def elsewhere(data=None):
    return os.getpid()


@run_in_worker("crunching", backend="process")
def call_elsewhere(submit):
    return elsewhere.submit(1).result(WAIT) if submit else elsewhere(1)


@run_in_worker("a thread of the child")
def on_a_thread(data=None):
    return os.getpid()


@run_in_worker("crunching", backend="process")
def call_a_thread(data=None):
    return os.getpid(), on_a_thread()


@run_in_worker("crunching", backend="process")
async def later(data):
    return data, os.getpid()


@run_in_worker("crunching", backend="process", timeout=0.3)
def endless():
    handlers.deadlock()


@run_in_worker("crunching", backend="process")
def failing(text):
    raise ValueError(text)


class Owner:
    """Has a method that runs in a process; goes there as an argument."""

    def __init__(self, factor):
        self.factor = factor

    @run_in_worker("crunching", backend="process")
    def times(self, number):
        return self.factor * number, os.getpid()


def test_the_function_runs_in_a_process():
    pid, data = where("data")
    assert pid != os.getpid()
    assert data == "data"
    assert where.submit("more").result(WAIT) == (pid, "more")
    assert where(data="by keyword") == (pid, "by keyword")


def test_functions_of_one_worker_share_a_process():
    pid, (neighbour, data) = call_a_neighbour("passed on")
    assert pid == neighbour == where()[0]
    assert data == "passed on"


def test_a_function_may_call_itself():
    assert factorial(10) == 3_628_800


def test_exceptions_come_back():
    with pytest.raises(ValueError, match="from there") as caught:
        failing("from there")
    assert "in failing" in str(caught.value.__cause__)


def test_a_coroutine_function_runs_in_the_process():
    data, pid = asyncio.run(later("data"))
    assert later.submit("data").result(WAIT) == (data, pid)
    assert data == "data"
    assert pid != os.getpid()


def test_a_method_runs_in_the_process():
    value, pid = Owner(6).times(7)
    assert value == 42
    assert pid != os.getpid()


@pytest.mark.slow
def test_a_timeout_ends_the_call():
    before = where()[0]
    with pytest.raises(DeadlineError):
        endless()
    assert where()[0] != before


@pytest.mark.parametrize("submit", [False, True])
def test_another_process_worker_cannot_be_reached_from_there_and_the_error_says_so(submit):
    with pytest.raises(RuntimeError, match=r"crunching.*somewhere else.*from the host"):
        call_elsewhere(submit)
    assert elsewhere() != where()[0] or default_pool("process").size == 1


def test_a_thread_worker_of_the_process_can_be_reached_from_there():
    pid, thread_pid = call_a_thread()
    assert pid == thread_pid != os.getpid()


def test_local_functions_go_by_value(require):
    require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")
    factor = 3

    @run_in_worker("crunching", backend="process")
    def times(number):
        return factor * number, os.getpid()

    value, pid = times(14)
    assert value == 42
    assert pid == where()[0]


def test_the_backend_is_that_of_the_pool_unless_it_is_another(pool):
    some = pool(1, backend="process")
    assert run_in_worker("mine", pool=some)(handlers.pid)(None) != os.getpid()
    assert run_in_worker("mine", pool=some, backend="process")(handlers.pid)(None) != os.getpid()
    with pytest.raises(ValueError, match="process"):
        run_in_worker("mine", pool=some, backend="thread")
    with pytest.raises(ValueError, match="thread"):
        run_in_worker("mine", pool=pool(1), backend="process")


@pytest.mark.parametrize("backend", ["", "Process", "fork", 3])
def test_an_unknown_backend_is_refused_at_the_decoration(backend):
    with pytest.raises(ValueError, match="backend"):
        run_in_worker("refused", backend=backend)
    with pytest.raises(ValueError, match="backend"):
        default_pool(backend)


def test_there_is_one_default_pool_for_each_backend():
    processes, threads = default_pool("process"), default_pool()
    assert processes is default_pool("process")
    assert threads is default_pool("thread")
    assert (processes.backend, threads.backend) == ("process", "thread")
    assert processes.size == threads.size
    where()
    assert processes.get_worker("crunching").backend == "process"
    assert threads.get_worker("crunching") is None


def test_a_default_pool_that_was_shut_down_is_made_anew():
    before = default_pool("process")
    pid = where()[0]
    before.shutdown()
    with pytest.raises(WorkerStoppedError):
        before.submit(handlers.pid, None)
    assert default_pool("process") is not before
    assert where()[0] != pid


GUARDED = """
import os
from pytoweb.workers import WorkerDecorators

@WorkerDecorators.run_in_worker("crunching", backend="process")
def double(number):
    return 2 * number, os.getpid()

@WorkerDecorators.run_in_worker("crunching", backend="process")
def twice(number):
    return double(double(number)[0])

if __name__ == "__main__":
    value, pid = double(21)
    print(value, pid != os.getpid())
    print(twice(10)[0], double.submit(4).result(20)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["installed", "absent", "broken"])
def test_a_script_decorates_its_own_functions(run_python, cloudpickle_is, state):
    cloudpickle_is(state)
    done = run_python(GUARDED, timeout=SCRIPT)
    assert (done.rc, done.stdout.splitlines(), done.stderr) == (0, ["42 True", "40 8"], "")
