"""The end of the interpreter: everything queued is finished, quietly, with the right exit code."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time

import pytest

WAIT = 20.0
"""Seconds within which an interpreter must start, work and end."""

PRELUDE = """
import os, signal, sys, threading
from pytoweb.workers import *

def say(*words):
    # One write, so that threads do not mix their lines.
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

worker = PythonWorker("exiting")
worker.on_message("say", say)
"""


@pytest.fixture
def run(run_python):
    """Returns `run(code)`: the exit code, the lines of stdout and stderr of a script with the prelude."""

    def start(code, timeout=WAIT):
        done = run_python(PRELUDE + code, timeout=timeout)
        return done.rc, done.stdout.split(), done.stderr

    return start


def test_what_is_queued_is_finished(run):
    rc, lines, stderr = run("worker.start().post_messages('say', range(1000))")
    assert (rc, stderr) == (0, "")
    assert lines == [str(number) for number in range(1000)]


def test_what_runs_is_finished(run):
    rc, lines, stderr = run("""
import time
entered = threading.Event()

@worker.on_message("slow")
def slow(data):
    entered.set()
    time.sleep(0.1)  # the work
    say("worked")

worker.start().post_message("slow")
assert entered.wait(10)
say("end")
""")
    assert (rc, lines, stderr) == (0, ["end", "worked"], "")


def test_what_is_queued_in_many_workers_of_a_pool_is_finished(run):
    rc, lines, stderr = run("""
pool = WorkerPool(2)
for number in range(1000):
    one = pool.create_worker(f"worker-{number}")
    one.on_message("say", say)
    one.start().post_messages("say", [number, number])
pool.on_message("say", say)
pool.post_messages("say", ["own"] * 10)
futures = [pool.submit(say, "submitted") for _ in range(10)]
""")
    assert (rc, stderr) == (0, "")
    assert sorted(lines) == sorted(
        [str(number) for number in range(1000) for _ in range(2)] + ["own", "submitted"] * 10
    )


def test_who_is_blocked_in_a_full_mailbox_gets_through_or_is_told(run):
    rc, lines, stderr = run("""
small = PythonWorker("small", capacity=1)
gate = threading.Event()
small.on_message("say", lambda data: (gate.wait(10), say(data)))

def produce():
    try:
        for number in range(20):
            small.post_message("say", number)
    except WorkerStoppedError:
        pass

small.start().post_messages("say", ["first", "second"])
producers = [threading.Thread(target=produce) for _ in range(4)]
for producer in producers:
    producer.start()
threading.Timer(0.05, gate.set).start()
""")
    assert (rc, stderr) == (0, "")
    assert lines[:2] == ["first", "second"], "what was queued is finished"
    handled = [lines.count(str(number)) for number in range(20)]
    assert handled == sorted(handled, reverse=True), "each producer is cut off once, not in the middle"


def test_a_daemon_thread_that_is_blocked_does_not_hold_the_exit(run):
    rc, lines, stderr = run("""
small = PythonWorker("small", capacity=1)
small.on_message("say", say)

def produce():
    try:
        while True:
            small.post_message("say", "x")
    except WorkerStoppedError:
        pass

small.start()
threading.Thread(target=produce, daemon=True).start()
""")
    assert (rc, stderr) == (0, "")
    assert set(lines) <= {"x"}


def test_async_handlers_are_finished(run):
    rc, lines, stderr = run("""
import asyncio

@worker.on_message("later")
async def later(data):
    await asyncio.sleep(0)
    say(data)

worker.start().post_messages("later", range(50))
""")
    assert (rc, lines, stderr) == (0, [str(number) for number in range(50)], "")


def test_callbacks_of_futures_still_run(run):
    rc, lines, stderr = run("""
worker.on_message("echo", lambda data: data)
worker.start()
for number in range(50):
    worker.ask("echo", number).add_done_callback(lambda done: say(done.result()))
""")
    assert (rc, lines, stderr) == (0, [str(number) for number in range(50)], "")


def test_decorated_functions_are_finished(run):
    rc, lines, stderr = run("""
@WorkerDecorators.run_in_worker("background")
def work(number):
    say(number)

for number in range(50):
    work.submit(number)
""")
    assert (rc, lines, stderr) == (0, [str(number) for number in range(50)], "")


def test_a_worker_that_was_never_started_does_not_hold_the_exit(run):
    rc, lines, stderr = run(
        "worker.post_messages('say', range(10))\nfuture = worker.ask('say', 11)\nsay('end')"
    )
    assert (rc, lines) == (0, ["end"])
    assert "was never started: 10 messages" in stderr


def test_messages_that_are_not_handled_are_told_of_at_the_exit(run):
    rc, lines, stderr = run("""
worker.post_messages("say", range(100))
held = worker.ask("say", "held")
worker.ask("say", "its future is dropped")
late, pool = PythonWorker("late").start(), WorkerPool(1, name="shop")
for one in (late, pool):
    one.on_message("say", say)
    one.post_message("say", 1, delay=3600)
never = pool.create_worker("never")
never.post_message("say", 1)
""")
    assert (rc, lines) == (0, [])
    told = sorted(stderr.splitlines())
    assert len(told) == 4, stderr
    assert told[0].startswith("pool 'shop' stops before the time of delayed messages: 1 message will not be")
    assert told[1].startswith("worker 'exiting' was never started: 101 messages posted to it will not be")
    assert told[2].startswith("worker 'late' stops before the time of delayed messages: 1 message will not")
    assert told[3].startswith("worker 'never' was never started: 1 message posted to it will not be handled")


def test_an_idle_worker_does_not_hold_the_exit(run):
    rc, lines, stderr = run("""
worker.start()
pool = WorkerPool(4)
pool.submit(say, "idle").result()
default_pool().submit(say, "idle").result()
""")
    assert (rc, lines, stderr) == (0, ["idle", "idle"], "")


def test_everything_at_once_in_a_with_block(run):
    rc, lines, stderr = run("""
with WorkerPool(2) as pool, worker:
    pool.submit(say, "pool").result()
    worker.ask("say", "worker").result()
""")
    assert (rc, lines, stderr) == (0, ["pool", "worker"], "")


def test_sys_exit_keeps_its_code(run):
    rc, lines, stderr = run("worker.start().post_messages('say', range(100))\nsys.exit(7)")
    assert (rc, lines, stderr) == (7, [str(number) for number in range(100)], "")


def test_sys_exit_in_a_handler_is_not_the_end_of_the_process(run):
    rc, lines, stderr = run("""
worker.on_message("exit", sys.exit)
worker.on_error(lambda error: say(type(error).__name__))
worker.start().post_message("exit", 7)
worker.post_message("say", "alive")
""")
    assert (rc, lines, stderr) == (0, ["SystemExit", "alive"], "")


def test_an_unhandled_exception_is_the_only_thing_shown(run):
    rc, lines, stderr = run("worker.start().post_messages('say', range(100))\nraise ValueError('boom')")
    assert (rc, lines) == (1, [str(number) for number in range(100)])
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("ValueError: boom")


def test_a_failed_handler_is_visible_without_any_set_up(run):
    rc, lines, stderr = run("""
worker.on_message("fail", lambda data: 1 / 0)
worker.start().post_message("fail")
""")
    assert (rc, lines) == (0, [])
    assert "ZeroDivisionError" in stderr
    assert stderr.count("Traceback") == 1


def test_ctrl_c_in_result_is_raised_there(run):
    rc, lines, stderr = run("""
waits = threading.Event()

@worker.on_message("interrupt")
def interrupt(data):
    waits.wait()
    os.kill(os.getpid(), signal.SIGINT)
    while not current_message().cancelled:
        threading.Event().wait(0.001)

future = worker.start().ask("interrupt")
try:
    waits.set()
    future.result()
except KeyboardInterrupt:
    say("interrupted", future.cancel())
worker.ask("say", "alive").result()
""")
    assert (rc, lines, stderr) == (0, ["interrupted", "False", "alive"], "")


@pytest.mark.parametrize(
    "wait",
    [
        "small.post_message('say', 1)",
        "small.stop()",
        "small.run_until_idle()",
        "pool.shutdown()",
        "pool.run_until_idle()",
        "small.ask('say', 1)",
        "list(pool.map(gate, range(9)))",
    ],
)
def test_ctrl_c_is_raised_in_every_wait(run, wait):
    rc, lines, stderr = run(f"""
opened, entered = threading.Event(), threading.Event()

def gate(data=None):
    entered.set()
    opened.wait(10)

pool = WorkerPool(1)
small = pool.create_worker("small", capacity=1)
small.on_message("gate", gate)
small.on_message("say", lambda data: None)
small.start().post_message("gate")
entered.wait(10)
small.post_message("say")
interrupter = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
interrupter.start()
try:
    {wait}
    say("returned")
except KeyboardInterrupt:
    say("interrupted")
opened.set()
""")
    assert (rc, lines, stderr) == (0, ["interrupted"], "")


def test_an_unhandled_ctrl_c_ends_with_the_signal(run):
    rc, lines, stderr = run("""
@worker.on_message("interrupt")
def interrupt(data):
    assert posted.wait(10)
    os.kill(os.getpid(), signal.SIGINT)

posted = threading.Event()
worker.start().ask("interrupt")
worker.post_messages("say", range(100))
posted.set()
threading.Event().wait(10)
""")
    assert rc == -signal.SIGINT
    assert lines == [str(number) for number in range(100)]
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("KeyboardInterrupt")


HANDLERS_WITHOUT_END = {
    "waits": "threading.Event().wait(300)",
    "loops": "while True: pass",
    "goes on whatever is raised": """
        while True:
            try:
                while True: pass
            except BaseException:
                pass""",
}


@pytest.mark.parametrize("body", HANDLERS_WITHOUT_END.values(), ids=HANDLERS_WITHOUT_END)
def test_ctrl_c_breaks_the_wait_at_the_exit(body, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        PRELUDE
        + f"""
import atexit
atexit.register(say, "cleaned up")

def endless(data):
        say("running")
        {body.strip()}

worker.on_message("endless", endless)
worker.start().post_message("endless")
""",
        encoding="utf-8",
    )
    child = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        try:
            assert child.stdout.readline() == "running\n"
            deadline = time.monotonic() + WAIT
            # Nothing tells that the script is over, so the signal is sent until it is heard: at the exit, or
            # in the last lines of the script.
            while child.poll() is None:
                assert time.monotonic() < deadline, "Ctrl-C does not break the wait at the exit"
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(2.0)
                except subprocess.TimeoutExpired:
                    continue
            assert child.returncode in (130, -signal.SIGINT)
            assert child.stdout.read() == "cleaned up\n"
        finally:
            child.kill()


@pytest.mark.parametrize("interrupted", [True, False], ids=["interrupted", "not interrupted"])
def test_the_end_says_what_it_waits_for(run, interrupted):
    rc, lines, stderr = run(f"""
import logging
from pytoweb import _leaving

_leaving.SOON = _leaving.STILL = 0.05
gate, entered = threading.Event(), threading.Event()
pool = WorkerPool(1, name="shop")

class Opens(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        gate.set()

logging.getLogger("pytoweb").addHandler(Opens())

@worker.on_message("wait")
def wait(data):
    entered.set()
    gate.wait({WAIT})

worker.start().post_messages("wait", range(4))
pool.submit(wait, 1)
assert entered.wait(10)
if {interrupted}:
    sys.last_type = KeyboardInterrupt
""")
    assert (rc, lines) == (0, [])
    (text,) = stderr.splitlines()
    assert text.startswith("the program ends once ")
    assert "worker 'exiting' (queued messages: 3, running: 1)" in text
    assert "pool 'shop' (queued messages: 0, running: 1)" in text
    press = "a second Ctrl-C" if interrupted else "Ctrl-C"
    assert text.endswith(f" have ended; {press} ends the wait at once, and what is queued is not handled")


def test_a_worker_made_in_an_atexit_function_harms_nothing(run):
    rc, lines, stderr = run("""
import atexit

def late():
    try:
        late = PythonWorker("late")
        late.on_message("say", say)
        late.start().ask("say", "handled", timeout=5).exception()
        late.stop()
    except RuntimeError:
        say("refused")
    say("over")

worker.start()
atexit.register(late)
""")
    assert (rc, stderr) == (0, "")
    assert lines in (["handled", "over"], ["refused", "over"])


@pytest.mark.slow
def test_the_exit_of_a_loaded_process_many_times(run):
    for _ in range(20):
        rc, lines, _ = run("""
pool = WorkerPool(4)
pool.on_message("say", lambda data: None)
for number in range(50):
    one = pool.create_worker(f"worker-{number}")
    one.on_message("ask", lambda data: pool.ask("say", data))
    one.start().post_messages("ask", range(20))
say("end")
""")
        assert (rc, lines) == (0, ["end"])


@pytest.mark.slow
@pytest.mark.parametrize("then", ["", "worker = pool = None"], ids=["kept", "dropped"])
@pytest.mark.parametrize(
    "end",
    ["pool.shutdown(timeout=0.1)", "worker.stop(timeout=0.1)", "pool.terminate()", "worker.terminate()"],
)
@pytest.mark.parametrize(
    "job",
    [
        "time.sleep(600)",
        "while True: pass",
        "while True:\n        with contextlib.suppress(BaseException):\n            while True: pass",
    ],
    ids=["sleeps", "computes", "cannot be interrupted"],
)
def test_the_end_does_not_wait_for_a_job_that_its_owner_gave_up(run_python, end, job, then):
    done = run_python(
        "import contextlib, sys, threading, time\n"
        "from pytoweb.workers import DeadlineError, PythonWorker, WorkerPool\n"
        "started = threading.Event()\n"
        "def job(data=None):\n"
        "    started.set()\n"
        f"    {job}\n"
        f"if {end.startswith('pool')}:\n"
        "    pool = WorkerPool(2)\n"
        "    pool.submit(job)\n"
        "else:\n"
        "    worker = PythonWorker('worker')\n"
        "    worker.on_message('job', job)\n"
        "    worker.start().post_message('job')\n"
        "assert started.wait(10)\n"
        "with contextlib.suppress(DeadlineError):\n"
        f"    {end}\n"
        f"{then}\n"
        "print('ends')\n"
        "sys.exit(3)\n"
    )
    assert (done.rc, done.stdout, done.stderr) == (3, "ends\n", "")


@pytest.mark.slow
def test_the_end_after_a_terminated_pool_of_processes_is_silent(run_python):
    done = run_python(
        "import sys, time\n"
        "from pytoweb.workers import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool(2, backend='process').start()\n"
        "    futures = [pool.submit(time.sleep, 600) for _ in range(100)]\n"
        "    pool.terminate()\n"
        "    sys.exit(3)\n"
    )
    assert (done.rc, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.slow
def test_more_ctrl_c_at_the_exit_says_nothing(backend, start_interrupted):
    for _ in range(5):
        assert start_interrupted(
            PRELUDE
            + f"""
import time

if __name__ == "__main__":
    impatient = PythonWorker("impatient", backend={backend!r})
    impatient.on_message("sleep", time.sleep)
    impatient.start().post_message("sleep", 300)

    def watch():
        while impatient.state != "stopping":
            time.sleep(0.001)
        say("exiting")

    threading.Thread(target=watch, daemon=True).start()
"""
        ) == (130, "")


@pytest.fixture
def start_interrupted(tmp_path, snippet_env):
    """Returns `start_interrupted(code)`: exit code and stderr of a script with many a Ctrl-C at its exit."""

    def start(code):
        script = tmp_path / "impatient.py"
        script.write_text(code, encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=snippet_env,
        ) as child:  # fmt: skip
            try:
                assert child.stdout.readline() == "exiting\n"
                deadline = time.monotonic() + WAIT
                while child.poll() is None:
                    assert time.monotonic() < deadline, "Ctrl-C does not break the wait at the exit"
                    child.send_signal(signal.SIGINT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(0.001)
                return child.returncode, child.stderr.read()
            finally:
                child.kill()

    return start


INTERRUPTED_IMPORT = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
try:
    import pytoweb.workers
except KeyboardInterrupt:
    print("interrupted")
import pytoweb.workers
with pytoweb.workers.WorkerPool(1) as pool:
    print(pool.submit(abs, -1).result(10))
"""


@pytest.mark.parametrize("name", ["pytoweb._core", "pytoweb.errors", "concurrent.futures", "pytoweb._exit"])
def test_ctrl_c_while_importing_is_raised_there(run_python, name):
    done = run_python(INTERRUPTED_IMPORT.format(name=name))
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["interrupted", "1"], "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["worker", "pool"])
def test_the_second_ctrl_c_breaks_off_the_end_of_a_block(start_twice, backend, kind):
    rc, lines = start_twice(f"""
import os, signal, sys, threading, time
from pytoweb.workers import *

def ring():
    # Once the first one has left the block, the queue is being finished.
    while not stopping():
        time.sleep(0.001)
    time.sleep(0.1)
    print("again", flush=True)

if __name__ == "__main__":
    if {kind!r} == "pool":
        with WorkerPool(1, backend={backend!r}) as pool:
            stopping = lambda: pool._pytoweb.shut_down
            threading.Thread(target=ring, daemon=True).start()
            futures = [pool.submit(time.sleep, 30) for _ in range(16)]
            print("started", flush=True)
            futures[0].result()
    else:
        with PythonWorker("worker", backend={backend!r}) as worker:
            stopping = lambda: worker.state == "stopping"
            threading.Thread(target=ring, daemon=True).start()
            worker.on_message("sleep", time.sleep)
            futures = [worker.ask("sleep", 30) for _ in range(16)]
            print("started", flush=True)
            futures[0].result()
""")
    assert rc == -signal.SIGINT
    assert lines == ["started", "again"]


@pytest.fixture
def start_twice(tmp_path, snippet_env):
    """Returns `start_twice(code)`: exit code and lines of a script that gets Ctrl-C for each of two lines."""

    def start(code):
        script = tmp_path / "twice.py"
        script.write_text(code, encoding="utf-8")
        lines = []
        with subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=snippet_env,
        ) as child:  # fmt: skip
            try:
                for _ in range(2):
                    lines.append(child.stdout.readline().rstrip())
                    child.send_signal(signal.SIGINT)
                return child.wait(WAIT), lines
            finally:
                child.kill()

    return start
