"""The threads of a pool look like Python's own: their stacks, names, hooks and ends."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytoweb.workers import PythonWorker, WorkerDecorators

WAIT = 10.0
CALLS = 200
MIB = 1 << 20
DEFAULT_STACK = 8 * MIB

#: Runs in a fresh interpreter, because a failure of these is a segmentation fault.
DEEP = """
import json, threading
from pytoweb.workers import PythonWorker, WorkerPool

def sort_in_sort(data=None):
    return sorted([1], key=sort_in_sort)

def dump_nested(levels):
    nested = []
    for _ in range(levels):
        nested = [nested]
    return len(json.dumps(nested))

def compile_long(operands):
    compile("+".join(["a"] * operands), "long", "eval")

TASKS = {"sort": (sort_in_sort, 1), "dumps": (dump_nested, 9_000), "compile": (compile_long, 20_000)}

def ending(call, *args):
    try:
        call(*args)
    except (RecursionError, MemoryError, SyntaxError) as error:
        return type(error).__name__
    return "done"

function, argument = TASKS[TASK]
theirs = []
thread = threading.Thread(target=lambda: theirs.append(ending(function, argument)))
thread.start()
thread.join()

with WorkerPool(1) as pool:
    ours = ending(lambda: pool.submit(function, argument).result(20))
print(ours, *theirs)

with PythonWorker("deep") as worker:
    worker.on_message("deep", function)
    # Handled by `on_error`, or in the callback of a deadline, it is as deep.
    worker.on_error(lambda error: ending(function, argument))
    ours = ending(lambda: worker.ask("deep", argument, timeout=20).result())
print(ours, *theirs)
"""


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sort", "dumps", "compile"])
def test_deep_recursion_ends_as_in_a_thread_of_python(run_python, task):
    done = run_python(DEEP.replace("TASK]", f"{task!r}]"), timeout=40)

    assert done.rc == 0, done
    for line in done.stdout.splitlines():
        ours, theirs = line.split()
        assert ours == theirs


def stack_bytes(data=None):
    """The size of the calling thread's stack."""
    libc = ctypes.CDLL(None)
    attributes, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
    libc.pthread_self.restype = ctypes.c_ulong
    assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes) == 0
    assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    libc.pthread_attr_destroy(attributes)
    return size.value


@pytest.fixture
def stack_size():
    """`threading.stack_size`, put back afterwards."""
    before = threading.stack_size()
    yield threading.stack_size
    threading.stack_size(before)


def test_stacks_are_as_large_as_python_says_when_the_thread_starts(worker, pool, stack_size, require):
    require(sys.platform == "linux", "pthread_getattr_np")
    one, many = worker("own"), pool(1)
    one.on_message("size", stack_bytes)

    stack_size(32 * MIB)

    assert one.start().ask("size").result(WAIT) == pytest.approx(32 * MIB, rel=0.1)
    assert many.submit(stack_bytes).result(WAIT) == pytest.approx(32 * MIB, rel=0.1)


def test_stacks_are_those_of_a_main_thread_where_python_says_nothing(pool, stack_size, require):
    require(sys.platform == "linux", "pthread_getattr_np")
    stack_size(0)

    assert pool(1).submit(stack_bytes).result(WAIT) == pytest.approx(DEFAULT_STACK, rel=0.1)


STACKS = """
import os, threading
from pytoweb.workers import WorkerPool

def memory():
    with open("/proc/self/statm") as file:
        return [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in file.read().split()[:2]]

together = threading.Barrier(33)
space, resident = memory()
with WorkerPool(32) as pool:
    waiting = [pool.submit(together.wait, 10) for _ in range(32)]
    together.wait(10)
    more_space, more_resident = memory()
    for future in waiting:
        future.result(10)
print(more_space - space, more_resident - resident)
"""


def test_a_stack_is_address_space_until_it_is_used(run_python, require):
    require(os.path.exists("/proc/self/statm"), "/proc/self/statm")
    done = run_python(STACKS)
    assert (done.rc, done.stderr) == (0, "")
    space, resident = map(int, done.stdout.split())
    assert space >= 32 * DEFAULT_STACK
    assert resident < 32 * DEFAULT_STACK / 16


def run_handler(backend_thread, function):
    """Runs `function` in a handler, or in a task of the standard library's pool; returns what it returned."""
    if backend_thread == "ours":
        with PythonWorker("hooks") as one:
            one.on_message("run", lambda data: function())
            return one.ask("run").result(WAIT)
    with ThreadPoolExecutor(1) as theirs:
        return theirs.submit(function).result(WAIT)


def traced():
    """A line that a tracer can see."""
    return sys.gettrace(), sys.getprofile()


@pytest.fixture
def hooks():
    """`threading`'s hooks, taken out afterwards."""
    before = sys.gettrace(), threading._trace_hook, threading._profile_hook
    yield threading
    sys.settrace(before[0])
    threading.settrace(before[1])
    threading.setprofile(before[2])


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_hooks_of_threading_reach_handlers(hooks, side):
    called, profiled = [], []

    def trace(frame, event, arg):
        called.append(frame.f_code.co_name)

    def profile(frame, event, arg):
        profiled.append((frame.f_code.co_name, event))

    hooks.settrace(trace)
    hooks.setprofile(profile)
    installed = run_handler(side, traced)

    assert installed == (trace, profile)
    assert "traced" in called
    assert ("traced", "call") in profiled
    assert ("traced", "return") in profiled


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_hooks_set_after_the_start_of_a_thread_do_not_reach_it(hooks, side):
    def set_late():
        hooks.settrace(lambda *event: None)
        hooks.setprofile(lambda *event: None)
        return traced()

    assert run_handler(side, set_late) == (None, None)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_tracer_that_a_handler_sets_is_that_of_its_thread(pool, hooks, side):
    pools = {"ours": lambda: pool(1), "theirs": lambda: ThreadPoolExecutor(1)}

    def tracer(frame, event, arg):
        return None

    with pools[side]() as one:
        one.submit(sys.settrace, tracer).result(WAIT)
        assert one.submit(sys.gettrace).result(WAIT) is tracer
        one.submit(sys.settrace, None).result(WAIT)
        assert one.submit(sys.gettrace).result(WAIT) is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_settrace_all_threads_reaches_threads_that_run(pool, hooks, gate):
    called = []
    many = pool(1)
    waiting = many.submit(gate)
    gate.wait_entered()

    def trace(frame, event, arg):
        called.append(frame.f_code.co_name)

    threading.settrace_all_threads(trace)
    gate.open()
    waiting.result(WAIT)
    many.submit(traced).result(WAIT)
    threading.settrace_all_threads(None)

    assert "traced" in called


DEBUGGED = """
import bdb, sys, threading
from pytoweb.workers import PythonWorker

def handler(data):
    doubled = data * 2  # the breakpoint
    return doubled

class Debugger(bdb.Bdb):
    seen = []
    def user_line(self, frame):
        if self.break_here(frame):
            self.seen.append((frame.f_code.co_name, frame.f_locals["data"]))
            self.set_continue()

debugger = Debugger()
line = handler.__code__.co_firstlineno + 1
assert debugger.set_break(__file__, line) is None
debugger.reset()
threading.settrace(debugger.trace_dispatch)
with PythonWorker("debugged") as worker:
    worker.on_message("double", handler)
    assert worker.ask("double", 21).result(10) == 42
print(debugger.seen)
"""


def test_a_debugger_stops_in_a_handler(run_python):
    done = run_python(DEBUGGED)
    assert (done.rc, done.stdout, done.stderr) == (0, "[('handler', 21)]\n", "")


COVERED = """
import coverage
measured = coverage.Coverage(data_file=None, branch=True, include=[__file__])
measured.start()

from pytoweb.workers import PythonWorker, WorkerPool

def handler(data):
    if data:
        return "covered"
    return "not covered"

async def coroutine(data):
    return data

def function():
    return 1

with PythonWorker("covered") as worker:
    worker.on_message("work", handler)
    worker.on_message("await", coroutine)
    worker.ask("work", 1).result(10)
    worker.ask("await", 1).result(10)
with WorkerPool(1) as pool:
    pool.submit(function).result(10)
measured.stop()
_, lines, missing, _ = measured.analysis(__file__)
source = open(__file__).read().splitlines()
print([source[line - 1].strip() for line in missing])
"""


def test_coverage_sees_handlers(run_python, require):
    require(importlib.util.find_spec("coverage") is not None, "coverage")
    done = run_python(COVERED)
    assert (done.rc, done.stderr) == (0, "")
    missing = done.stdout.splitlines()[0]
    assert "not covered" in missing
    for line in ('return "covered"', "return data", "return 1"):
        assert line not in missing.replace('"not covered"', "")


def test_the_thread_of_a_handler_ends_with_its_pool(pool):
    many = pool(1)
    thread = many.submit(threading.current_thread).result(WAIT)
    assert thread.is_alive()
    assert thread.daemon
    assert thread.name == many.submit(lambda: threading.current_thread().name).result(WAIT)
    assert thread in threading.enumerate()

    many.shutdown()

    thread.join(WAIT)
    assert not thread.is_alive()
    assert "stopped" in repr(thread)
    assert thread not in threading.enumerate()


def test_a_handler_cannot_join_its_own_thread(worker):
    one = worker("join")
    one.on_message("join", lambda data: threading.current_thread().join(1))
    with pytest.raises(RuntimeError, match="join"):
        one.start().ask("join").result(WAIT)


def test_a_pool_thread_can_be_joined_while_it_runs(pool, gate, spawn):
    many = pool(1)
    thread = many.submit(threading.current_thread).result(WAIT)
    many.submit(gate)
    gate.wait_entered()
    joining = spawn(thread.join, WAIT)

    many.shutdown(wait=False)
    gate.open()

    joining.result(WAIT)
    assert not thread.is_alive()


def test_the_thread_of_a_handler_that_forks_is_the_main_one_of_the_child(run_python, require):
    require(hasattr(os, "fork"), "os.fork")
    done = run_python("""
import os, sys, threading, warnings
from pytoweb.workers import PythonWorker

warnings.simplefilter("ignore")

def fork(data):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            thread = threading.current_thread()
            code = 0 if thread is threading.main_thread() and thread.is_alive() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

with PythonWorker("fork") as worker:
    worker.on_message("fork", fork)
    print(worker.ask("fork").result(10))
""")
    assert (done.rc, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.parametrize("kind", ["submit", "ask", "worker", "run_in_worker", "await"])
def test_calls_that_follow_each_other_start_one_thread(pool, kind):
    started = []
    many = pool(16, initializer=lambda: started.append(threading.get_ident()))
    many.on_message("work", lambda data: data)
    named = many.create_worker("named")
    named.on_message("work", lambda data: data)
    named.start()
    decorated = WorkerDecorators.run_in_worker("decorated", pool=many)(abs)

    async def awaiting():
        for number in range(CALLS):
            assert await many.submit(abs, number) == number

    for number in range(CALLS):
        if kind == "submit":
            assert many.submit(abs, number).result(WAIT) == number
        elif kind == "ask":
            assert many.ask("work", number).result(WAIT) == number
        elif kind == "worker":
            assert named.ask("work", number).result(WAIT) == number
        elif kind == "run_in_worker":
            assert decorated(number) == number
    if kind == "await":
        asyncio.run(awaiting())

    assert len(started) == 1


def test_calls_at_the_same_time_get_a_thread_each(pool):
    together = threading.Barrier(8)
    many = pool(8)
    waiting = [many.submit(together.wait, WAIT) for _ in range(8)]
    assert sorted(future.result(WAIT) for future in waiting) == list(range(8))


def test_initializers_of_threads_that_are_needed_run_at_the_same_time(pool):
    together = threading.Barrier(4)
    many = pool(4, initializer=lambda: together.wait(WAIT))
    waiting = [many.submit(abs, number) for number in range(4)]
    assert [future.result(WAIT) for future in waiting] == list(range(4))


def test_the_name_of_a_thread_says_whose_handler_runs_on_it(pool, worker):
    some = pool(1, name="some")

    def name(data=None):
        return threading.current_thread().name

    one, pinned, own = some.create_worker("one"), some.create_worker("two", pin=True), worker("own")
    for each in (one, pinned, own):
        each.on_message("name", name)
        each.start()
    assert some.submit(name).result(WAIT) == "pytoweb-some-1"
    assert one.ask("name").result(WAIT) == "pytoweb-some-1 (one)"
    assert pinned.ask("name").result(WAIT) == "pytoweb-some-two-1"
    assert own.ask("name").result(WAIT) == "pytoweb-own-1"
    # From another thread, and renamed.
    thread = some.submit(threading.current_thread).result(WAIT)
    assert thread.name == "pytoweb-some-1"
    thread.name = "renamed"
    assert one.ask("name").result(WAIT) == "renamed (one)"
    assert some.submit(name).result(WAIT) == "renamed"


FIFTY = """
import os, threading, time
from pytoweb.workers import PythonWorker

def count():
    return len(os.listdir("/proc/self/task"))

async def later(data):
    return data

replied = threading.Semaphore(0)
workers = []
for number in range(50):
    one = PythonWorker(f"own {number}")
    one.on_message("now", lambda data: data)
    one.on_message("later", later)
    one.on_message("response", lambda message: replied.release())
    workers.append(one.start())
for one in workers:
    assert one.ask("later", 1, timeout=60).result(10) == 1
    assert one.ask("now", 1, timeout=60).result(10) == 1
    one.post_message("now", 1, "an id")
    one.post_message("later", 1, "another")
for _ in range(100):
    assert replied.acquire(timeout=10)
# Reply threads that a busy machine made necessary end after a second.
end = time.monotonic() + 10
while count() > 60 and time.monotonic() < end:
    time.sleep(0.01)
print(count())
for one in workers:
    one.stop()
"""


def test_fifty_workers_of_their_own_have_few_threads(run_python, require):
    require(os.path.exists("/proc/self/task"), "/proc/self/task")
    done = run_python(FIFTY, timeout=40)
    assert (done.rc, done.stderr) == (0, "")
    assert 50 < int(done.stdout) <= 60
