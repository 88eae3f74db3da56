"""Handlers that are stuck are told of: past a deadline or limit, or while they hold the interpreter lock.

Past 600 lines, because it is one promise for threads, coroutines and children.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import process_handlers
import pytest

from pytoweb.errors import DeadlineError
from pytoweb.testing import _handlers, frozen_clock
from pytoweb.workers import Limits, PythonWorker, WorkerPool, current_message, current_worker

WAIT = 20.0

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")

#: Holds the lock: `PyDLL` lets go of it around no call. For so long that the test ends it.
PRELUDE = """
import ctypes, logging, os, sys, threading, time
from pytoweb.workers import PythonWorker, WorkerPool

def hold(seconds):
    ctypes.PyDLL(None).sleep(int(seconds))
    return seconds

"""
HOLD = PRELUDE + 'if __name__ == "__main__":\n'


class Speaking:
    """An interpreter whose standard error is read while it runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stderr is not None
        self._fd = process.stderr.fileno()
        self.text = ""

    def until(self, pattern: str) -> str:
        """What it has said by the time that it has said that."""
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self._fd], [], [], WAIT)
            assert ready, f"not said within {WAIT} s: {pattern!r}; only {self.text!r}"
            read = os.read(self._fd, 1 << 16)
            assert read, f"it ended without {pattern!r}, but with {self.text!r}"
            self.text += read.decode()
        return self.text


@pytest.fixture
def speaking(tmp_path: Path, snippet_env: dict[str, str]) -> Iterator[Any]:
    """Returns `speaking(body)`: an interpreter that runs it, with `hold`; killed after the test."""
    started = []

    def start(body: str, **env: str) -> Speaking:
        script = tmp_path / "snippet.py"
        script.write_text(HOLD + textwrap.indent(textwrap.dedent(body), "    "), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stderr=subprocess.PIPE, cwd=tmp_path, env={**snippet_env, **env}, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return Speaking(process)

    yield start
    for process in started:
        process.kill()
        process.wait(WAIT)
        process.stderr.close()


STACK = r'pytoweb: worker "(\w+)": a handler has run for [\d.]+ s, .*\n(.*\n)*?.* in hold\n'


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_a_held_lock_is_told_of_while_it_is_held(speaking, backend):
    # It is held for as long as the test waits, and longer: the stack does not come after it.
    said = speaking(f"""
        worker = PythonWorker("jobs", backend={backend!r})
        worker.on_message("hold", hold)
        worker.start()
        worker.post_message("hold", {WAIT * 3})
        worker.stop()
    """)

    text = said.until(STACK)

    assert 'worker "jobs"' in text
    assert said.process.poll() is None
    here = f"thread pytoweb-jobs-1, process {said.process.pid}"
    assert (here if backend == "thread" else "main thread, process ") in text


CLOSED = (
    PRELUDE
    + """
def take_two(path):
    os.close(2)
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(file, b"mine")
    return file

def files(data):
    return [os.path.basename(os.readlink(f"/proc/self/fd/{{number}}")) for number in (1, 2)]

if __name__ == "__main__":
    import pathlib

    class Keep(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())

    texts = []
    logging.getLogger().addHandler(Keep())
    with PythonWorker("jobs", backend={backend!r}) as worker:
        worker.on_message("take_two", take_two)
        worker.on_message("hold", hold)
        worker.on_message("files", files)
        if {taken!r}:
            assert worker.ask("take_two", "mine.txt").result({wait}) == 2
        elif {backend!r} == "process":
            assert worker.ask("files").result({wait})[1] == "null"
        # Long enough for a watchdog that a busy machine does not hold up, and again for one that it does.
        while not texts:
            worker.ask("hold", 2).result({wait})
    assert "the interpreter lock could not be had" in texts[0], texts
    if {taken!r}:
        print(pathlib.Path("mine.txt").read_text())
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["thread", "process"])
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "closed"])
def test_what_took_the_place_of_standard_error_is_not_written_to(tmp_path, snippet_env, backend, taken):
    script = tmp_path / "snippet.py"
    script.write_text(CLOSED.format(backend=backend, taken=taken, wait=WAIT), encoding="utf-8")
    shut = "" if taken else " 2>&-"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$1"{shut}', sys.executable, str(script)],
        capture_output=True, text=True, timeout=WAIT * 3, cwd=tmp_path, env=snippet_env, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n" if taken else "", "")


@pytest.mark.slow
def test_a_handler_of_a_pool_that_computes_is_told_of_and_no_other(speaking):
    said = speaking(f"""
        import re
        def match(data):
            return re.match("(a|aa)+$", "a" * 60 + "b")
        pool = WorkerPool(3, name="several")
        waits = [pool.submit(threading.Event().wait, {WAIT * 3}) for _ in range(2)]
        pool.submit(match, None)
        pool.shutdown()
    """)

    text = said.until(r" in match\n(.*\n)*?.* in match\n")

    assert text.count("pytoweb: worker") == 1
    assert "other thread" not in text, "it is the one that computes"
    assert "_pool_thread" not in text, "only the frames of the program"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_a_coroutine_that_holds_the_lock_is_told_of_while_it_does(speaking, backend):
    # It is the only thing that runs, and it does so in a later step than its first.
    said = speaking(f"""
        import asyncio
        async def late(data):
            await asyncio.sleep(0.01)
            hold(data)
        worker = PythonWorker("jobs", backend={backend!r})
        worker.on_message("hold", late)
        worker.start()
        worker.post_message("hold", {WAIT * 3})
        worker.stop()
    """)

    text = said.until(STACK + r".* in late\n(.*\n)*")

    assert 'worker "jobs"' in text
    assert said.process.poll() is None
    here = f"thread pytoweb-loop-1, process {said.process.pid}"
    assert (here if backend == "thread" else "thread pytoweb-jobs-loop, process ") in text
    assert "_loops.py" not in text, "only the frames of the program"


def test_a_loop_that_does_not_tell_of_its_waits_runs_coroutines_all_the_same(run_python):
    done = run_python(
        PRELUDE
        + """
import asyncio, selectors
class Sealed(selectors.DefaultSelector):
    def __setattr__(self, name, value):
        if name == "select":
            raise AttributeError(name)
        super().__setattr__(name, value)
class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return asyncio.SelectorEventLoop(Sealed())
asyncio.set_event_loop_policy(Policy())
async def late(data):
    await asyncio.sleep(0.001)
    return type(asyncio.get_running_loop()._selector).__name__
with PythonWorker("jobs") as worker:
    worker.on_message("late", late)
    print(worker.ask("late").result())
""",
        timeout=WAIT,
    )

    assert (done.rc, done.stdout, done.stderr) == (0, "Sealed\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_a_task_of_a_coroutine_that_holds_the_lock_is_told_of(speaking, alone):
    # Whose it is, is known for sure where the loop has coroutines of one worker alone.
    said = speaking(f"""
        import asyncio
        logging.basicConfig(format="log of %(name)s, %(worker_name)s, %(message_type)s, %(message_id)s")
        class LogWatch(logging.Handler):
            def emit(self, record):
                loop.call_soon_threadsafe(lambda: told().set())
        logging.getLogger().addHandler(LogWatch())
        events = []
        def told():
            # On the loop, to which Python 3.9 binds it.
            if not events:
                events.append(asyncio.Event())
            return events[0]
        async def wait(data):
            await told().wait()
        async def part():
            hold(2)
        async def whole(data):
            global loop
            loop = asyncio.get_running_loop()
            await asyncio.gather(part(), told().wait())
        pool = WorkerPool(1, name="shared")
        waits, holds = pool.create_worker("waits"), pool.create_worker("holds")
        waits.on_message("wait", wait)
        holds.on_message("whole", whole)
        waits.start()
        holds.start()
        if not {alone}:
            waits.post_message("wait")
        holds.post_message("whole", message_id="7")
        pool.shutdown()
    """)

    text = said.until(r"log of .*\n")

    assert re.search(r" in hold\n.* in part\n(?!  File)", text), "only the frames of the program"
    if alone:
        assert 'pytoweb: worker "holds": a handler has run for ' in text
        assert "log of pytoweb.worker.holds, holds, whole, 7\n" in text
    else:
        assert 'pytoweb: event loop "pytoweb-loop-1": a task or callback has run for ' in text
        assert re.search(r"log of pytoweb.worker(, None, None, None|.holds, holds, whole, 7)\n", text)
    assert said.process.wait(WAIT) == 0


@pytest.mark.slow
def test_a_coroutine_that_only_waits_while_the_lock_is_held_elsewhere_is_not_told_of(speaking):
    said = speaking("""
        import asyncio
        entered = threading.Event()
        async def wait(data):
            # In a later turn of the loop, which has nothing more to do then.
            asyncio.get_running_loop().call_later(0.05, entered.set)
            await asyncio.sleep(60)
        with PythonWorker("waits") as worker:
            worker.on_message("wait", wait)
            future = worker.ask("wait")
            entered.wait()
            hold(2)
            future.cancel()
        print("lives", file=sys.stderr, flush=True)
    """)

    assert "pytoweb" not in said.until("lives")


@pytest.mark.slow
def test_a_forked_child_has_a_watchdog_of_its_own(speaking):
    said = speaking(f"""
        with PythonWorker("before") as worker:
            worker.on_message("echo", hold)
            worker.ask("echo", 0).result()
        if os.fork() == 0:
            worker = PythonWorker("forked")
            worker.on_message("hold", hold)
            worker.start()
            worker.post_message("hold", {WAIT * 3})
            threading.Event().wait()
        os.wait()
    """)

    text = said.until(STACK)

    assert 'worker "forked"' in text
    (pid,) = re.findall(r", process (\d+)\)", text)
    assert int(pid) != said.process.pid
    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.slow
def test_the_log_has_it_once_the_lock_is_free(caplog, gate, until, capfd):
    def hold_and_wait(data):
        import ctypes

        ctypes.PyDLL(None).sleep(2)
        gate(data)

    with PythonWorker("slow") as worker:
        worker.on_message("hold", hold_and_wait)
        worker.post_message("hold")
        gate.wait_entered()
        until(lambda: len(caplog.records) == 1, "the record")
        health = worker.health()
        assert health.state == "stuck"
        assert "interpreter lock" in health.reason
        gate.open()
        until(lambda: worker.health().state == "ok", "the end of the handler")

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pytoweb.worker.slow", "ERROR")
    assert (record.worker_name, record.message_type) == ("slow", "hold")
    assert 0.7 <= record.seconds <= WAIT
    assert " in hold_and_wait\n" in record.getMessage() + "\n"
    assert capfd.readouterr().err.count("a handler has run for") == 1


def test_faulthandler_is_as_the_program_has_set_it(run_python):
    done = run_python(
        PRELUDE
        + """
import faulthandler, signal
faulthandler.enable(sys.stdout)
faulthandler.register(signal.SIGUSR1, sys.stdout, all_threads=False)
before = signal.getsignal(signal.SIGRTMAX)
with PythonWorker("w") as worker:
    worker.on_message("hold", hold)
    worker.ask("hold", 0).result()
    os.kill(os.getpid(), signal.SIGUSR1)
assert faulthandler.is_enabled()
assert signal.getsignal(signal.SIGRTMAX) is before
assert faulthandler.unregister(signal.SIGUSR1)
""",
        timeout=WAIT,
    )

    assert (done.rc, done.stderr) == (0, "")
    assert "most recent call first" in done.stdout


@pytest.mark.slow
def test_a_program_that_takes_the_signal_gets_no_stack_and_lives(speaking):
    said = speaking("""
        import signal
        from pytoweb import _watchdog
        with PythonWorker("w") as worker:
            worker.on_message("hold", hold)
            worker.ask("hold", 0).result()
            import faulthandler
            faulthandler.unregister(_watchdog._armed[1])
            worker.ask("hold", 2).result()
            print("lives", file=sys.stderr, flush=True)
    """)

    text = said.until("lives")

    assert "its stack is not known" in text
    assert said.process.wait(WAIT) == 0


@pytest.mark.slow
def test_the_environment_switches_it_off(speaking):
    said = speaking(
        """
        with PythonWorker("w") as worker:
            worker.on_message("hold", hold)
            worker.ask("hold", 2).result()
            names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
            print("names:", names, file=sys.stderr, flush=True)
        """,
        PYTOWEB_WATCHDOG="off",
    )

    text = said.until("names: .*\n")

    assert "pytoweb-watch" not in text
    assert "a handler has run" not in text


SLEEPS = """
import re
from pathlib import Path

def switches():
    # How often the watchdog has gone to sleep, if there is one. The thread that asks for the lock in its
    # place has its name at first, too, and has hardly slept then.
    found = []
    for task in os.listdir("/proc/self/task"):
        status = Path(f"/proc/self/task/{task}/status")
        text = status.read_text() if status.exists() else ""
        if text.split()[:2] == ["Name:", "pytoweb-watch"]:
            found += re.findall("nonvoluntary|voluntary_ctxt_switches:[ \\t]*([0-9]+)", text)[:1]
    return tuple(sorted(map(int, found))[-1:])

def until(predicate):
    while not predicate():
        time.sleep(0.001)

gate, entered = threading.Event(), threading.Event()

def wait(data):
    entered.set()
    gate.wait()

with PythonWorker("idle") as worker:
    worker.on_message("wait", wait)
    worker.post_message("wait")
    entered.wait()
    until(lambda: len(switches()) == 1)
    begun = switches()
    until(lambda: switches() > begun)
    print("it looks at the handler")
    (first,) = switches()
    time.sleep(2)
    (last,) = switches()
    # Four looks a second, with an ask for the lock and its answer each; no answer leads to the next ask.
    print("it rests" if last - first < 100 else f"{last - first} looks in 2 s")
    gate.set()
    worker.run_until_idle()
    before = None
    while switches() != before:
        before = switches()
        # Longer than the time between two looks.
        time.sleep(0.6)
    print("it sleeps")
until(lambda: switches() == ())
print("it has ended")
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.slow
def test_it_sleeps_while_no_handler_runs_and_goes_with_the_threads(run_python):
    done = run_python(PRELUDE + SLEEPS, timeout=WAIT)

    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["it looks at the handler", "it rests", "it sleeps", "it has ended"]


def records(caplog):
    """The reports of the watchdog that were logged, and of it alone."""
    return [record for record in caplog.records if hasattr(record, "seconds")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_a_handler_past_its_deadline_is_logged_once_with_its_stack(caplog, gate, until, kind):
    def wait(data):
        gate(data)

    async def block(data):
        await asyncio.sleep(0)
        wait(data)

    with frozen_clock() as clock, PythonWorker("late") as worker:
        worker.on_message("wait", wait if kind == "thread" else block)
        worker.on_error(lambda error: None)
        future = worker.ask("wait", timeout=1)
        gate.wait_entered()
        clock.advance(1)
        assert isinstance(future.exception(WAIT), DeadlineError)
        until(lambda: clock.advance(1) or records(caplog), "the record")
        gate.open()
        worker.run_until_idle(WAIT)

    (record,) = records(caplog)
    assert (record.name, record.levelname, record.message_type) == ("pytoweb.worker.late", "ERROR", "wait")
    text = record.getMessage()
    assert re.match(r"worker 'late': its handler of 'wait' still runs [\d.]+ s after the deadline", text)
    assert re.search(r", in wait\n +gate\(data\)", text), "the stack of the handler"
    assert "_pool_thread" not in text
    assert "_loops" not in text
    assert (", in block\n" in text) == (kind == "coroutine")


def test_a_handler_that_stops_soon_after_its_deadline_is_not_logged(caplog):
    """It looks whether it was cancelled, as it should."""

    def polite(data):
        while not current_message().cancelled:
            threading.Event().wait(0.001)

    with frozen_clock() as clock, PythonWorker("polite") as worker:
        worker.on_message("polite", polite)
        worker.on_error(lambda error: None)
        future = worker.ask("polite", timeout=1)
        while not future.done():
            clock.advance(1)
        worker.run_until_idle(WAIT)
        clock.advance(60)

    assert records(caplog) == []


class WaitingGate(_handlers.Gate):
    """A gate in which a coroutine waits."""

    async def wait(self, data):
        await asyncio.get_running_loop().run_in_executor(None, self, data)


@pytest.mark.parametrize("kind", ["thread", "process", "coroutine", "coroutine of a process", "pool"])
def test_a_handler_that_runs_longer_than_stuck_after_is_logged_once(caplog, kind, tmp_path, until):
    limits, gate = Limits(stuck_after=30), WaitingGate(tmp_path)
    with frozen_clock() as clock, contextlib.ExitStack() as stack:
        if kind == "pool":
            worker = WorkerPool(2, name="long", limits=limits)
        else:
            backend = "process" if "process" in kind else "thread"
            worker = PythonWorker("long", limits=limits, backend=backend)
        stack.enter_context(worker)
        worker.on_message("wait", gate.wait if "coroutine" in kind else _handlers.Gate(tmp_path))
        future = worker.ask("wait")
        gate.wait_entered()
        # A child is seen to have begun it.
        assert worker.health().state == "busy"
        clock.advance(31)
        until(lambda: records(caplog), "the record")
        clock.advance(100)
        gate.open()
        future.result(WAIT)
        clock.advance(100)

    (record,) = records(caplog)
    assert (record.worker_name, record.message_type, record.seconds) == ("long", "wait", 31.0)
    text = record.getMessage()
    assert "its handler of 'wait' has run for 31.0 s, and counts as stuck after 30 s" in text
    (pid,) = gate.pids()
    where = ", in wait\n" if kind == "coroutine" else ", in __call__\n"
    where = f"; it runs in process {pid}" if "process" in kind else where
    assert where in text


def test_the_processes_of_messages_that_may_be_stuck_are_logged(caplog, tmp_path, until):
    limits, gate = Limits(stuck_after=30, concurrency=2), _handlers.Gate(tmp_path)
    with frozen_clock() as clock, PythonWorker("long", limits=limits, backend="process") as worker:
        worker.on_message("wait", gate)
        for _ in range(2):
            worker.post_message("wait")
        until(lambda: len(gate.pids()) == 2, "the handlers")
        # Seen to have begun, both.
        until(lambda: worker.health().state == "busy", "the messages")
        clock.advance(31)
        until(lambda: records(caplog), "the record")
        gate.open()
    first, second = sorted(gate.pids())
    assert f"; it runs in process {first} or {second}" in records(caplog)[0].getMessage()


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_coroutine_that_is_held_up_is_logged_with_what_holds_it_up(caplog, gate, until, has_begun):
    """It can do nothing: another one blocks the event loop of both."""
    begun = threading.Event()

    async def wait(data):
        begun.set()
        while not gate.opened.is_set():
            await asyncio.sleep(0.001)

    async def block(data):
        gate(data)

    with frozen_clock() as clock, WorkerPool(1, name="both") as pool:
        waits = pool.create_worker("waits", limits=Limits(stuck_after=30))
        blocks = pool.create_worker("blocks")
        waits.on_message("wait", wait)
        blocks.on_message("block", block)
        waits.start()
        blocks.start()
        if has_begun:
            future = waits.ask("wait")
            assert begun.wait(WAIT)
        blocks.post_message("block")
        gate.wait_entered()
        if not has_begun:
            future = waits.ask("wait")
            # The pool's only thread has given it to the loop by then.
            assert pool.submit(str, 7).result(WAIT) == "7"
        clock.advance(31)
        until(lambda: records(caplog), "the record")
        gate.open()
        future.result(WAIT)

    (record,) = records(caplog)
    assert (record.worker_name, record.message_type) == ("waits", "wait")
    own, other = re.split(r"\nIts event loop, pytoweb-loop-\d+, is held up by ", record.getMessage())
    assert (", in wait\n" if has_begun else "(its first step is to come)") in own
    assert other.startswith("the handler of 'blocks' for 'block', which is at, most recent call last:\n")
    assert re.search(r"^[^\n]*\n[^\n]*, in block\n +gate\(data\)", other), "only the frames of the program"


def test_of_several_coroutines_of_a_worker_each_is_told_of_with_its_own_stack(caplog, until):
    begun, opened = threading.Semaphore(0), threading.Event()

    async def one(data):
        begun.release()
        await asyncio.get_running_loop().run_in_executor(None, opened.wait)

    async def two(data):
        await one(data)

    limits = Limits(stuck_after=30, concurrency=2)
    with frozen_clock() as clock, PythonWorker("several", limits=limits) as worker:
        worker.on_message("one", one)
        worker.on_message("two", two)
        futures = [worker.ask("one"), worker.ask("two")]
        for _ in futures:
            assert begun.acquire(timeout=WAIT)
        clock.advance(31)
        until(lambda: len(records(caplog)) == 2, "the records")
        opened.set()
        for future in futures:
            future.result(WAIT)

    told = {record.message_type: ", in two\n" in record.getMessage() for record in records(caplog)}
    assert told == {"one": False, "two": True}


def test_a_coroutine_is_told_of_with_its_stack_and_not_with_that_of_its_thread(caplog, gate, until):
    """The pool's thread is at the message of another worker by then."""
    begun, opened = threading.Event(), threading.Event()

    async def wait(data):
        begun.set()
        await asyncio.get_running_loop().run_in_executor(None, opened.wait)

    with frozen_clock() as clock, WorkerPool(1, name="both") as pool:
        first = pool.create_worker("first", limits=Limits(stuck_after=30))
        second = pool.create_worker("second")
        first.on_message("wait", wait)
        second.on_message("other", gate)
        first.start()
        second.start()
        future = first.ask("wait")
        second.post_message("other")
        gate.wait_entered()
        assert begun.wait(WAIT)
        clock.advance(31)
        until(lambda: records(caplog), "the record")
        opened.set()
        gate.open()
        future.result(WAIT)

    (record,) = records(caplog)
    assert (record.worker_name, record.message_type) == ("first", "wait")
    assert ", in wait\n" in record.getMessage()


@pytest.mark.slow
@pytest.mark.parametrize("handler", [process_handlers.loop_forever, process_handlers.block_forever])
def test_a_child_that_is_ended_for_a_deadline_is_logged(caplog, until, handler):
    with PythonWorker("lost", backend="process") as worker:
        worker.on_message("pid", process_handlers.pid)
        worker.on_message("spin", handler)
        worker.on_error(lambda error: None)
        pid = worker.ask("pid").result(WAIT)
        assert isinstance(worker.ask("spin", timeout=0.2).exception(WAIT), DeadlineError)
        until(lambda: records(caplog), "the record")

    (record,) = records(caplog)
    assert record.getMessage() == (
        "worker 'lost': its handler of 'spin' ran past the deadline of 0.2 s of its message, and its process "
        f"{pid} was ended"
    )
    assert (record.message_type, record.seconds) == ("spin", 0.2)


def test_stuck_after_is_checked():
    assert Limits(stuck_after=2).stuck_after == 2.0
    assert repr(Limits(stuck_after=2)).endswith("concurrency=1, stuck_after=2)")
    assert pickle.loads(pickle.dumps(Limits(stuck_after=2))) == Limits(stuck_after=2) != Limits()
    assert Limits(stuck_after=math.inf).stuck_after is None
    for wrong in (0, 0.0, -1, -math.inf, math.nan, -(10**400)):
        with pytest.raises(ValueError, match=f"^stuck_after must be above 0 seconds, not {wrong}$"):
            Limits(stuck_after=wrong)
    for wrong in ("2", True, object()):
        with pytest.raises(TypeError, match=r"^stuck_after must be a number of seconds or None, not "):
            Limits(stuck_after=wrong)


def count_up(say_at):
    for number in range(10**9):
        if number == say_at:
            current_worker().emit("full", None)
        yield number


async def count_up_later(say_at):
    for number in count_up(say_at):
        yield number


@pytest.mark.parametrize("kind", ["thread", "process", "coroutine"])
def test_a_stream_that_waits_for_its_reader_is_not_stuck(caplog, kind):
    backend, full = "process" if kind == "process" else "thread", threading.Event()
    with (
        frozen_clock() as clock,
        PythonWorker("streams", limits=Limits(stuck_after=30), backend=backend) as one,
    ):
        one.on_message("count", count_up_later if kind == "coroutine" else count_up)
        one.on_event("full", lambda event: full.set())
        with one.stream("count", 4, window=4) as stream:
            assert next(stream) == 0
            assert full.wait(WAIT)
            for _ in range(4):
                clock.advance(31)
                assert one.health().state == "busy"
            assert [next(stream) for _ in range(10)] == list(range(1, 11))
    assert records(caplog) == []


def test_a_stream_without_an_item_for_so_long_is_stuck_until_it_has_one(caplog, until):
    entered, opened = threading.Semaphore(0), threading.Semaphore(0)

    def two_and_wait(data):
        for number in (1, 2):
            yield number
            entered.release()
            opened.acquire()

    with frozen_clock() as clock, PythonWorker("streams", limits=Limits(stuck_after=30)) as one:
        one.on_message("count", two_and_wait)
        stream = one.stream("count")
        for number in (1, 2):
            assert next(stream) == number
            assert entered.acquire(timeout=WAIT)
            clock.advance(31)
            assert one.health().state == "busy", "it has put an item since it was looked at"
            clock.advance(31)
            until(lambda: records(caplog), "the record")
            assert one.health().state == "stuck"
            opened.release()
        assert list(stream) == []
    assert len(records(caplog)) == 1, "it is logged once"
