"""Children and their host: they end with it, and heed neither its terminal nor what handlers start."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios

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
    until(lambda: not is_running(child), "the end of the child")


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


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTSTP", "SIGTERM"])
def test_children_do_not_heed_what_a_terminal_or_a_service_manager_sends(remote, name):
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
    """Which of the signals that are its host's a program ignores that this process starts."""
    code = "import signal; print([s.name for s in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM) "
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


def test_a_process_that_a_handler_forks_is_ended_by_the_usual_signals(worker):
    one = worker(backend="process")
    one.on_message("fork", fork_and_terminate)
    assert one.start().ask("fork").result(WAIT) == -signal.SIGTERM


def fork_and_terminate(data):
    """Forks a process that waits, sends it SIGTERM, and returns its exit code."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_sigterm_to_all_processes_of_a_service_lets_the_host_finish(start_python, tmp_path, until):
    gate, path = tmp_path / "gate", tmp_path / "handled"
    gate.mkdir()
    host = start_python(
        HOST
        + f"""
gate = handlers.Gate({str(gate)!r})
worker.on_message("gate", gate)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
running = worker.ask("gate")
for number in range(20):
    worker.post_message("write", ({str(path)!r}, number))
gate.wait_entered()
print(gate.pids()[0], flush=True)
signal.pause()
"""
    )
    child = int(host.line())
    for pid in (child, host.pid, child):
        os.kill(pid, signal.SIGTERM)
    (gate / "opened").write_text("from now on")
    assert host.process.wait(WAIT) == 0
    assert handlers.noted(path) == [str(number) for number in range(20)]


ENDS = ["deadline", "cancel", "terminate", "crash", "host"]


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_the_programs_of_a_handler_end_with_its_child(start_python, tmp_path, end, until, is_running):
    path = tmp_path / "program"
    host = start_python(
        HOST
        + f"""
from {__name__} import run_a_program
path, end = {str(path)!r}, {end!r}
worker.on_message("run", run_a_program)
worker.on_error(lambda error: None)
worker.ask("echo").result(20)
future = worker.ask("run", path, timeout=1.0 if end == "deadline" else None)
handlers.wait_for(path)
child, program = map(int, handlers.noted(path)[0].split())
print(program, flush=True)
if end == "cancel":
    future.cancel()
elif end == "terminate":
    worker.terminate()
elif end == "crash":
    os.kill(child, signal.SIGSEGV)
elif end == "host":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""
    )
    program = int(host.line())
    until(lambda: not is_running(program), "the end of the program")


def run_a_program(path):
    """Starts a program that runs for long and waits for it."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    handlers.note(path, os.getpid(), program.pid)
    program.wait()


@pytest.mark.slow
def test_a_program_that_was_left_running_outlives_an_orderly_end(worker, tmp_path, is_running):
    one, path = worker(backend="process"), tmp_path / "program"
    one.on_message("leave", leave_a_program)
    one.start().ask("leave", str(path)).result(WAIT)
    one.stop(timeout=WAIT)
    (program,) = map(int, handlers.noted(path))
    assert is_running(program), "as it does with any program that ends"
    os.kill(program, signal.SIGKILL)


def leave_a_program(path):
    """Starts a program and does not wait for it."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    handlers.note(path, program.pid)


@pytest.mark.slow
def test_a_child_has_no_terminal_that_could_stop_it(tmp_path, snippet_env):
    """Neither has what it starts, and both may write to the terminal of the host, with `stty tostop` set."""
    script = tmp_path / "host.py"
    script.write_text(
        HOST
        + f"""
from {__name__} import use_the_terminal
worker.on_message("use", use_the_terminal)
modes = termios.tcgetattr(1)
modes[3] |= termios.TOSTOP
termios.tcsetattr(1, termios.TCSANOW, modes)
print("result", worker.ask("use").result(20), flush=True)
""".replace("from test", "import termios\nfrom test"),
        encoding="utf-8",
    )
    ours, theirs = os.openpty()
    host = subprocess.Popen(
        [sys.executable, str(script)], stdin=theirs, stdout=theirs, stderr=theirs, env=snippet_env,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    try:
        assert host.wait(2 * WAIT) == 0
        said = os.read(ours, 65536).decode()
    finally:
        host.kill()
        host.wait(WAIT)
        os.close(ours)
    assert "written by the child" in said
    assert "result ('ENXIO', 1)" in said, "an error at once, for the child and for a program"


def use_the_terminal(data):
    """Writes to it; says what opening it raises, and how a program ends that wants its input."""
    os.write(1, b"written by the child\n")
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        opened = "opened"
    except OSError as error:
        opened = errno.errorcode[error.errno]
    code = "open('/dev/tty').read()"
    program = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, timeout=WAIT)
    return opened, program.returncode
