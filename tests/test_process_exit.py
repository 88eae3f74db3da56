"""Process workers at the end of the interpreter, and after os.fork()."""

from __future__ import annotations

import os
import signal

import process_handlers as handlers
import pytest

WAIT = 10.0
SCRIPT = 25.0
"""Seconds within which an interpreter with children must start, work and end."""

PRELUDE = f"""
import os, signal, sys, threading, time
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
import process_handlers as handlers
from pytoweb.workers import *

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

worker = PythonWorker("exiting", backend="process")
for kind, handler in handlers.ANSWERING.items():
    worker.on_message(kind, handler)
"""


@pytest.fixture
def run(run_python):
    """Returns `run(code)`: the exit code, the lines of stdout and stderr of a script with the prelude."""

    def start(code):
        done = run_python(PRELUDE + code, timeout=SCRIPT)
        return done.rc, done.stdout.splitlines(), done.stderr

    return start


def test_a_handler_s_output_is_there_after_the_stop(run):
    rc, lines, stderr = run("""
worker.on_message("print", print)
worker.start()
for number in range(100):
    worker.post_message("print", number)
worker.stop()
""")
    assert (rc, stderr) == (0, "")
    assert lines == [str(number) for number in range(100)]


@pytest.mark.slow
def test_what_is_queued_at_the_end_of_the_interpreter_is_finished(run, tmp_path):
    path = str(tmp_path / "handled")
    code = (
        f"worker.start()\nfor number in range(300):\n    worker.post_message('write', ({path!r}, number))\n"
    )
    assert run(code) == (0, [], "")
    assert handlers.noted(path) == [str(number) for number in range(300)]


@pytest.mark.slow
def test_what_is_queued_in_a_pool_at_the_end_is_finished(run, tmp_path):
    path = str(tmp_path / "handled")
    code = f"""
pool = WorkerPool(2, backend="process")
named = pool.create_worker("named")
named.on_message("write", handlers.write)
named.start()
for number in range(50):
    named.post_message("write", ({path!r}, number))
    pool.submit(handlers.write, ({path!r}, number))
"""
    assert run(code) == (0, [], "")
    assert len(handlers.noted(path)) == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", ["pass", "worker.start()", "future = worker.ask('echo')", "worker.start().terminate()"]
)
def test_an_interpreter_ends_whatever_its_worker_does(run, end):
    assert run(end + "\n") == (0, [], "")


@pytest.mark.slow
def test_the_end_waits_for_a_thread_that_is_about_to_start_a_child(run):
    # One that came back to the interpreter while that is torn down would be the end of the process.
    assert run("""
import atexit
from pytoweb._core import wait_for_threads

runtime = type(worker._pytoweb.runtime)
set_up, reached = runtime.child_setup, threading.Event()

def late(self, place):
    reached.set()
    time.sleep(0.2)  # longer than the main thread goes on
    return set_up(self, place)

# Called after the end of threads.
atexit.register(lambda: say(wait_for_threads(0.0)))
runtime.child_setup = late
worker.start()
reached.wait()
worker.terminate()
""") == (0, ["True"], "")


@pytest.mark.slow
def test_the_exit_code_is_the_script_s(run):
    assert run("worker.start().ask('echo').result(20)\nsys.exit(3)\n") == (3, [], "")


@pytest.mark.slow
def test_replies_at_the_end_of_the_interpreter_are_delivered(run):
    rc, lines, stderr = run("""
worker.on_message("response", lambda message: say(message.data["id"], message.data["result"]))
worker.start()
for number in range(5):
    worker.post_message("add_one", number, message_id=f"task-{number}")
""")
    assert (rc, stderr) == (0, "")
    assert lines == [f"task-{number} {number + 1}" for number in range(5)]


@pytest.mark.slow
def test_a_crash_at_the_end_of_the_interpreter_is_not_the_end_of_the_queue(run, tmp_path):
    path = str(tmp_path / "handled")
    rc, lines, stderr = run(f"""
worker.on_error(lambda error: say(type(error).__name__))
worker.start()
worker.post_message("write", ({path!r}, "before"))
worker.post_message("exit_with", 1)
worker.post_message("write", ({path!r}, "behind"))
""")
    assert (rc, lines, stderr) == (0, ["WorkerCrashedError"], "")
    assert handlers.noted(path) == ["before", "behind"]


@pytest.mark.slow
def test_ctrl_c_breaks_off_the_end_of_the_interpreter(start_python, tmp_path, until, is_running):
    path = tmp_path / "entered"
    host = start_python(
        PRELUDE
        + f"""
worker.start().post_message("loop_forever", {str(path)!r})
handlers.wait_for({str(path)!r})
threading._register_atexit(lambda: say("ending"))
"""
    )
    handlers.wait_for(path)
    child = int(handlers.noted(path)[0])
    assert host.line() == "ending"

    def interrupt():
        # Again and again, so that one comes while the queue is being waited for.
        if host.process.poll() is None:
            os.killpg(host.pid, signal.SIGINT)
        return host.process.returncode is not None

    until(interrupt, "the exit")
    assert host.process.returncode != 0
    until(lambda: not is_running(child), "the end of the child")


@pytest.mark.slow
def test_a_host_that_leaves_without_a_word_takes_its_children_along(run, until, is_running):
    rc, lines, stderr = run("say(worker.start().ask('pid').result(20))\nos._exit(5)\n")
    assert (rc, stderr) == (5, "")
    until(lambda: not is_running(int(lines[0])), "the end of the child")


FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
warnings.simplefilter("ignore", RuntimeWarning)

def forked(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except ForkedProcessError:
        return True
    return False

def fork(child):
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

pool = WorkerPool(1, backend="process")
before = worker.start().ask("pid").result(20)
assert pool.submit(pow, 2, 2).result(20) == 4
"""


@pytest.mark.slow
def test_every_handle_says_so_after_a_fork_and_the_parent_goes_on(run):
    rc, lines, stderr = run(
        FORK
        + """
queued = worker.ask("echo", "queued")

def child():
    say(forked(worker.post_message, "echo", 1), forked(worker.ask, "echo", 1), forked(worker.start),
        forked(worker.stop), forked(worker.on_message, "late", handlers.echo))
    say(forked(pool.submit, pow, 2, 2), forked(pool.create_worker, "late"))

say(fork(child))
say(queued.result(20), worker.ask("pid").result(20) == before, pool.submit(pow, 2, 3).result(20))
worker.stop()
pool.shutdown()
"""
    )
    assert (rc, stderr) == (0, "")
    assert lines == ["True True True True True", "True True", "0", "queued True 8"]


@pytest.mark.slow
def test_a_forked_process_may_have_process_workers_of_its_own(run):
    rc, lines, stderr = run(
        FORK
        + """
def child():
    with PythonWorker("new", backend="process") as new:
        new.on_message("pid", handlers.pid)
        new.on_message("echo", handlers.echo)
        large = new.ask("echo", b"x" * 10**6).result(20)
        say(new.ask("pid").result(20) not in (before, os.getpid()), len(large))

say(fork(child))
say(worker.ask("pid").result(20) == before, len(worker.ask("echo", b"x" * 10**6).result(20)))
"""
    )
    assert (rc, stderr) == (0, "")
    assert lines == ["True 1000000", "0", "True 1000000"]


@pytest.mark.slow
def test_a_forked_process_that_forgets_the_handles_does_not_end_the_children(run):
    rc, lines, stderr = run(
        FORK
        + """
import gc

def child():
    global worker, pool
    del worker, pool
    gc.collect()

say(fork(child))
say(worker.ask("pid").result(20) == before, pool.submit(pow, 2, 3).result(20))
"""
    )
    assert (rc, stderr) == (0, "")
    assert lines == ["0", "True 8"]


DROPPED = """
import gc, warnings
warnings.simplefilter("ignore", DeprecationWarning)

def shared():
    with open("/proc/self/maps") as maps:
        return sum("/memfd:" in line for line in maps)

def drop_a_pool(size):
    pool = WorkerPool(size, backend="process")
    futures = [pool.submit(handlers.pid, None) for _ in range(4 * size)]
    assert all(future.result(20) for future in futures)
"""


@pytest.mark.slow
def test_a_pool_that_was_dropped_frees_its_memory_without_another_call(run, require):
    require(os.path.exists("/proc/self/maps"), "/proc")
    rc, lines, stderr = run(
        DROPPED
        + """
del worker
drop_a_pool(2)
gc.collect()
end = time.monotonic() + 10
while shared() and time.monotonic() < end:
    time.sleep(0.01)
say(shared())
"""
    )
    assert (rc, stderr) == (0, "")
    assert lines == ["0"]


@pytest.mark.slow
def test_a_fork_while_a_dropped_pool_ends_is_harmless(run):
    rc, lines, stderr = run(
        DROPPED
        + """
def fork_and_leave():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)[1]

codes = set()
for _ in range(3):
    drop_a_pool(8)
    gc.collect()
    codes.update(fork_and_leave() for _ in range(50))
say(codes)
"""
    )
    assert (rc, stderr) == (0, "")
    assert lines == ["{0}"]
