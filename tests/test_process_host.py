"""Children and their host: they end with it, and heed neither its terminal nor what handlers start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import process_handlers as handlers
import pytest

WAIT = 10.0

HOST = f"""
import os, signal, sys, threading
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
import process_handlers as handlers
from pytoweb.workers import *

worker = PythonWorker("hosted", backend="process")
for kind, handler in handlers.ANSWERING.items():
    worker.on_message(kind, handler)
worker.start()
"""


@pytest.mark.slow
@pytest.mark.parametrize("busy", ["idle", "loop_forever", "hold_the_interpreter", "deadlock"])
def test_children_end_with_a_host_that_is_killed(start_python, tmp_path, busy, until, is_running):
    path = tmp_path / "entered"
    code = HOST + "child = worker.ask('pid').result(20)\n"
    if busy != "idle":
        code += f"worker.post_message({busy!r}, {str(path)!r})\nhandlers.wait_for({str(path)!r})\n"
    host = start_python(code + "print(child, flush=True)\nsys.stdin.read()\n")
    child = int(host.line())
    assert is_running(child)
    os.kill(host.pid, signal.SIGKILL)
    until(lambda: not is_running(child), "the end of the child", timeout=1.0)


@pytest.mark.slow
def test_ctrl_c_goes_past_the_children(start_python):
    host = start_python(
        HOST
        + """
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
print(worker.ask("pid").result(20))
for line in sys.stdin:
    print(len(interrupts), worker.ask("pid").result(20))
worker.stop()
"""
    )
    child = host.line()
    assert os.getpgid(int(child)) == int(child) != os.getpgid(host.pid)
    for number in (1, 2, 3):
        os.killpg(os.getpgid(host.pid), signal.SIGINT)
        host.process.stdin.write("go on\n")
        host.process.stdin.flush()
        assert host.line() == f"{number} {child}"
    host.process.stdin.close()
    assert host.process.wait(WAIT) == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTSTP"])
def test_children_do_not_heed_what_a_terminal_sends(remote, name):
    one = remote()
    before = one.ask("pid").result(WAIT)
    os.kill(before, getattr(signal, name))
    assert one.ask("pid").result(WAIT) == before
    assert one.stats().failed == 0


def test_a_program_that_a_handler_starts_gets_the_usual_signals(worker):
    one = worker(backend="process")
    one.on_message("run", run_and_look_at_its_signals)
    assert one.start().ask("run").result(WAIT) == ""


def run_and_look_at_its_signals(data):
    """Which of the terminal's signals a program ignores that this process starts."""
    code = "import signal; print([s.name for s in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) "
    code += "if signal.getsignal(s) == signal.SIG_IGN] or '')"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT
    ).stdout.strip()


def test_a_child_that_a_handler_forks_does_not_disturb(worker):
    one = worker(backend="process")
    one.on_message("fork", fork_and_leave)
    one.on_message("echo", handlers.echo)
    one.start()
    assert one.ask("fork").result(WAIT) == 7
    assert [one.ask("echo", number).result(WAIT) for number in range(10)] == list(range(10))


def fork_and_leave(data):
    """Forks a process that ends at once, and returns its exit code."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
