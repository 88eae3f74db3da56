"""os.fork() with running workers: the child is told, a new pool works, the parent goes on."""

from __future__ import annotations

import os

import pytest

WAIT = 20.0
"""Seconds within which an interpreter must start, fork, work and end."""

PRELUDE = """
import os, sys, threading, warnings
from pytoweb.workers import *

# From 3.12 on Python warns of every fork with threads; ours is told from it by its category.
warnings.simplefilter("ignore", DeprecationWarning)
warnings.simplefilter("ignore", RuntimeWarning)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def fork(child):
    # The child leaves through the ordinary end of the interpreter; its failure is its exit code.
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def forked(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except ForkedProcessError:
        return True
    return False

"""

HANDLES = """
entered, opened = threading.Event(), threading.Event()

def gate(data=None):
    entered.set()
    opened.wait(10)
    return data

pool = WorkerPool(2)
worker = pool.create_worker("named")
worker.on_message("gate", gate)
worker.on_message("echo", lambda data: data)
alone = PythonWorker("alone")
alone.on_message("echo", lambda data: data)
"""

START = """
worker.start()
alone.start()
assert alone.ask("echo", 1).result(10) == 1
running = worker.ask("gate", "running")
assert entered.wait(10)
queued = worker.ask("echo", "queued")
"""

FINISH = """
opened.set()
assert running.result(10) == "running"
assert queued.result(10) == "queued"
assert alone.ask("echo", "parent").result(10) == "parent"
assert pool.submit(pow, 2, 2).result(10) == 4
say("parent unaffected")
"""


@pytest.fixture
def run(run_python, require):
    """Returns `run(code)`: the lines of a script with the prelude, which must end well and quietly."""
    require(hasattr(os, "fork"), "os.fork")

    def start(code, prelude=PRELUDE + HANDLES):
        done = run_python(prelude + code, timeout=WAIT)
        assert (done.rc, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return start


def test_every_handle_says_so_in_the_child(run):
    lines = run(
        START
        + """
def child():
    for handle in (worker, alone, pool):
        say(type(handle).__name__, forked(handle.post_message, "echo", 1), forked(handle.ask, "echo", 1),
            forked(handle.post_messages, "echo", [1]))
    for handle in (worker, alone):
        say("start", forked(handle.start), "stop", forked(handle.stop))
    say("pool", forked(pool.submit, pow, 2, 2), forked(pool.create_worker, "late"))
    say("future", forked(queued.result, 5), forked(running.exception, 5))

say("exit code", fork(child))
"""
        + FINISH
    )
    assert lines == [
        "PythonWorker True True True",
        "PythonWorker True True True",
        "WorkerPool True True True",
        "start True stop True",
        "start True stop True",
        "pool True True",
        "future True True",
        "exit code 0",
        "parent unaffected",
    ]


def test_a_future_of_the_parent_that_is_open_is_told_of_however_it_is_looked_at(run):
    lines = run(
        START
        + """
import asyncio, concurrent.futures

done = alone.ask("echo", "done")
assert done.result(10) == "done"

async def wait_for(future):
    return await future

async def wait_in(future):
    return await asyncio.wait([asyncio.wrap_future(future)])

async def wait_gathered(*futures):
    return await gather(*futures)

def child():
    for future in (queued, running):
        say(forked(future.done), forked(future.running), forked(future.cancelled), forked(future.cancel),
            forked(future.add_done_callback, say), forked(concurrent.futures.wait, [future], 5),
            forked(lambda: list(concurrent.futures.as_completed([future], 5))),
            forked(asyncio.run, wait_for(future)), forked(asyncio.run, wait_in(future)),
            forked(asyncio.run, wait_gathered(future, queued)))
    say("of the parent process" in repr(queued))
    say(done.done(), done.running(), done.cancelled(), done.result(5), repr(done).split()[-1])
    say(len(concurrent.futures.wait([done], 5).done))

say("exit code", fork(child))
"""
        + FINISH
    )
    assert lines == [
        *[" ".join(["True"] * 10)] * 2,
        "True",
        "True False False done str>",
        "1",
        "exit code 0",
        "parent unaffected",
    ]


UNSTARTED = """
import operator

def answered(message):
    replies.append((message.id, message.data["result"]))
    came.set()

replies, came, hooks = [], threading.Event(), []
pool = WorkerPool(2, name="web", backend=BACKEND)
pool.on_message("negate", operator.neg)
worker = pool.create_worker("named", capacity=3, overflow="reject")
worker.on_message("negate", operator.neg)
worker.on_message("response", answered)
alone = PythonWorker("alone", backend=BACKEND)
alone.on_message("negate", operator.neg)
if BACKEND == "thread":
    alone.on_start(lambda: hooks.append("started"))
    pool.on_message("await", lambda data: data)
# Those of the parent stay with the parent.
queued = alone.ask("negate", 1)
shared = default_pool(BACKEND)
late = WorkerDecorators.run_in_worker("decorated", backend=BACKEND)(operator.neg)

def use(number):
    assert worker.stats().capacity == 3
    alone.start()
    got = [alone.ask("negate", number).result(20), pool.submit(operator.neg, number).result(20),
           pool.ask("negate", number).result(20), worker.start().ask("negate", number).result(20),
           shared.submit(operator.neg, number).result(20), late(number)]
    assert default_pool(BACKEND) is shared
    worker.post_message("negate", number, "id")
    assert came.wait(20)
    say(*got, replies, alone.stats().posted, *hooks)
    pool.shutdown()
    alone.stop()
"""


@pytest.mark.slow
def test_handles_that_have_started_nothing_start_afresh(run, backend):
    lines = run(
        UNSTARTED.replace("BACKEND", repr(backend))
        + """
def child():
    say(forked(queued.result, 5))
    use(2)
    # And once more, from a child that has started them.
    say("grandchild", fork(lambda: say(forked(alone.start), forked(pool.submit, abs, 1))))

def grandparent():
    # A child that starts nothing forks another one.
    say("exit code", fork(lambda: use(4)))

say("exit code", fork(child))
say("exit code", fork(grandparent))
use(3)
assert queued.result(20) == -1
"""
    )
    started = ["started"] if backend == "thread" else []
    assert lines == [
        "True",
        " ".join(["-2 " * 6 + "[('id', -2)]", "1", *started]),
        "True True",
        "grandchild 0",
        "exit code 0",
        " ".join(["-4 " * 6 + "[('id', -4)]", "1", *started]),
        "exit code 0",
        "exit code 0",
        " ".join(["-3 " * 6 + "[('id', -3)]", "2", *started]),
    ]


def test_handles_that_have_started_say_their_names_and_what_to_do(run):
    lines = run(
        START
        + """
def child():
    for call in (alone.start, lambda: worker.ask("echo"), pool.stats, lambda: pool.submit(abs, 1),
                 lambda: queued.result(1)):
        try:
            call()
        except ForkedProcessError as error:
            say(error)

fork(child)
"""
        + FINISH
    )
    says = [line.partition(" was started before os.fork()")[0] for line in lines[:5]]
    assert [says[0], says[1], says[4]] == ["worker 'alone'", "worker 'named'", "worker 'named'"]
    assert says[2].startswith("pool 'pool-")
    assert says[3] == says[2]
    assert all("post_fork" in line for line in lines[:5])


LOCKS = """
holding, forked_once = threading.Event(), threading.Event()

def hold(lock):
    with lock:
        holding.set()
        forked_once.wait(20)

from pytoweb import _decorators, _pool, _replies
fresh, started = WorkerPool(1), WorkerPool(1)
started.submit(abs, 1).result(10)
locks = [_pool._default_lock, _decorators._lock, _replies._lock]
locks += [lock for pool in (fresh, started) for lock in (pool._pytoweb.lock, pool._pytoweb.runtime._lock)]
threads = []
for lock in locks:
    holding.clear()
    threads.append(threading.Thread(target=hold, args=(lock,)))
    threads[-1].start()
    assert holding.wait(10)

def child():
    assert forked(started.create_worker, "late") and forked(started.shutdown)
    worker = fresh.create_worker("late")
    worker.on_message("echo", lambda data: data)
    worker.on_message("response", print)
    assert worker.start().ask("echo", 1).result(10) == 1
    assert WorkerDecorators.run_in_worker("decorated")(abs)(-1) == 1
    say("all free")

say("exit code", fork(child))
forked_once.set()
for thread in threads:
    thread.join(10)
"""


def test_locks_that_another_thread_holds_at_the_fork_are_free_in_the_child(run):
    assert run(LOCKS, prelude=PRELUDE) == ["all free", "exit code 0"]


def test_the_child_may_make_new_workers(run):
    lines = run(
        START
        + """
def child():
    with WorkerPool(2) as new:
        named = new.create_worker("named")
        named.on_message("echo", lambda data: data)
        say("pool", new.submit(pow, 2, 3).result(10), named.start().ask("echo", "child").result(10))
    with PythonWorker("alone") as one:
        one.on_message("echo", lambda data: data)
        say("worker", one.ask("echo", "child").result(10))

say("exit code", fork(child))
"""
        + FINISH
    )
    assert lines == ["pool 8 child", "worker child", "exit code 0", "parent unaffected"]


def test_the_default_pool_is_made_anew(run):
    lines = run(
        """
@WorkerDecorators.run_in_worker("background")
def work(data):
    return (os.getpid(), data)

before = default_pool()
assert work(1) == (os.getpid(), 1)
"""
        + START
        + """
def child():
    say(work(2) == (os.getpid(), 2), default_pool() is before, default_pool().submit(pow, 2, 2).result(10))

say(fork(child))
assert work(3) == (os.getpid(), 3)
"""
        + FINISH
    )
    assert lines == ["True False 4", "0", "parent unaffected"]


def test_the_child_finishes_what_it_queued_at_its_exit(run):
    lines = run(
        START
        + """
def child():
    one = PythonWorker("child")
    one.on_message("say", say)
    one.start().post_messages("say", range(5))

say(fork(child))
"""
        + FINISH
    )
    assert lines == ["0", "1", "2", "3", "4", "0", "parent unaffected"]


def test_a_fork_in_a_handler(run):
    lines = run(
        START
        + """
def child():
    say(forked(worker.post_message, "echo"))

def fork_inside(data):
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

alone.on_message("fork", fork_inside)
say(alone.ask("fork").result(10))
"""
        + FINISH
    )
    assert lines == ["True", "0", "parent unaffected"]


def test_multiprocessing_with_fork(run):
    lines = run(
        START
        + """
import multiprocessing

def child():
    with PythonWorker("child") as one:
        one.on_message("echo", lambda data: data)
        assert one.ask("echo", 1).result(10) == 1
    assert forked(worker.post_message, "echo")

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(10)
say(process.exitcode)
"""
        + FINISH
    )
    assert lines == ["0", "parent unaffected"]


FORK_AND_COUNT = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fork(lambda: None)
ours = [warning for warning in caught if warning.category is RuntimeWarning]
say(len(ours), *["pytoweb" in str(warning.message) or "worker" in str(warning.message) for warning in ours])
"""


def test_a_fork_with_running_threads_warns(run):
    assert run(START + FORK_AND_COUNT + FINISH) == ["1 True", "parent unaffected"]


def test_a_fork_without_running_threads_does_not_warn(run):
    assert run(FORK_AND_COUNT, prelude=PRELUDE) == ["0"]


@pytest.mark.slow
@pytest.mark.parametrize("times", [50])
def test_forks_under_load(run, times):
    lines = run(
        START
        + f"""
done = threading.Event()

def load():
    while not done.is_set():
        alone.ask("echo", 1).result(10)
        pool.submit(pow, 2, 2).result(10)

loading = [threading.Thread(target=load) for _ in range(2)]
for thread in loading:
    thread.start()

def child(number):
    if number % 2:
        assert forked(alone.post_message, "echo")
    else:
        assert default_pool().submit(pow, 2, 2).result(10) == 4

say({{fork(lambda: child(number)) for number in range({times})}})
done.set()
for thread in loading:
    thread.join(10)
"""
        + FINISH
    )
    assert lines == ["{0}", "parent unaffected"]


IMPORTS = """
import sys, threading
from pytoweb.workers import *

class Finder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            print(name, "on", threading.current_thread().name, flush=True)
        return None

sys.meta_path.insert(0, Finder())

def double(data):
    return 2 * data

async def double_later(data):
    return 2 * data

def fail(data):
    raise ValueError(data)

def main():
    for backend in ("thread", "process"):
        with PythonWorker("one", backend=backend) as one:
            one.on_error(lambda error: None)
            for handler in (double, double_later, fail):
                one.on_message(handler.__name__, handler)
            assert [one.ask(kind, 1).result(60) for kind in ("double", "double_later")] == [2, 2]
            assert isinstance(one.ask("fail", 1).exception(60), ValueError)
            one.post_message("double", 1, message_id="7")
    print("done")

if __name__ == "__main__":
    main()
"""


def test_no_thread_of_the_library_imports_a_module(run_python):
    """A fork while it does would leave the child with half of the module."""
    assert run_python(IMPORTS).stdout.splitlines() == ["done"]
