"""Children that begin nothing any more: deadlines, cancels, stops and the end of the program still work."""

from __future__ import annotations

import os
import signal
from concurrent.futures import CancelledError

import process_handlers as handlers
import process_starts as starts
import pytest

from pytoweb.workers import DeadlineError, WorkerCrashedError, WorkerStoppedError

WAIT = 10.0
STARTING = ["initializer", "handlers"]
IDLE = ["stopped", "loop"]


@pytest.fixture
def hanging(worker, pool, tmp_path, until):
    """Returns `hanging(way, **options)`: a worker whose child hangs; its `hangs` is the child's number."""

    def make(way, **options):
        path, healed = tmp_path / "starts", tmp_path / "healed"
        if way == "initializer":
            some = pool(1, backend="process", initializer=starts.hang_until,
                        initargs=(str(path), str(healed)), **options)  # fmt: skip
            one = some.create_worker("hanging")
        else:
            one = worker("hanging", backend="process", **options)
        if way == "handlers":
            one.on_message("delicate", starts.Delicate(starts.hang_until, path, healed))
        for handler in (handlers.echo, handlers.pid, starts.leave_a_loop):
            one.on_message(handler.__name__, handler)
        one.on_error(lambda error: None)
        one.start()
        if way in STARTING:
            one.first = one.ask("echo", "first", timeout=0.2)
            until(lambda: handlers.noted(path), "the start of the child")
            one.hangs = int(handlers.noted(path)[0])
        else:
            one.hangs = one.ask("pid").result(WAIT)
            # What comes next is sent to the child at once.
            one.run_until_idle(WAIT)
            if way == "stopped":
                os.kill(one.hangs, signal.SIGSTOP)
            else:
                assert one.ask("leave_a_loop").result(WAIT) == one.hangs
                until(lambda: is_spinning(one.hangs), "the loop")
        one.heal = lambda: healed.write_text("from now on")
        return one

    return make


def is_spinning(pid):
    """Whether a process has used a tenth of a second of processor time since this was first asked."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    spent = int(fields[11]) / os.sysconf("SC_CLK_TCK")
    seen.setdefault(pid, spent)
    return spent - seen[pid] > 0.1


seen: dict[int, float] = {}


@pytest.mark.slow
@pytest.mark.parametrize("way", IDLE)
@pytest.mark.parametrize("end", ["deadline", "cancel"])
def test_a_child_that_takes_nothing_up_is_replaced(hanging, way, end, until, is_running):
    one = hanging(way)
    future = one.ask("echo", "never", timeout=0.2 if end == "deadline" else None)
    behind = one.ask("echo", "behind")
    if end == "cancel":
        assert future.cancel()
    with pytest.raises(DeadlineError if end == "deadline" else CancelledError):
        future.result(WAIT)
    until(lambda: not is_running(one.hangs), "the end of the child")
    assert behind.result(WAIT) == "behind"
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert (stats.expired, stats.cancelled) == ((1, 0) if end == "deadline" else (0, 1))
    assert (stats.failed, stats.restarts) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", STARTING)
def test_a_message_for_a_child_that_does_not_start_ends_at_its_deadline(hanging, way, is_running):
    one = hanging(way)
    assert isinstance(one.first.exception(WAIT), DeadlineError)
    later = one.ask("echo")
    assert later.cancel()
    one.run_until_idle(WAIT)
    assert (one.stats().expired, one.stats().cancelled) == (1, 1)
    assert is_running(one.hangs), "a start that takes longer than a deadline has a limit of its own"


@pytest.mark.slow
@pytest.mark.parametrize("way", STARTING)
def test_a_start_has_a_limit(hanging, way, until, is_running):
    one = hanging(way, start_timeout=1.5)
    error = one.ask("echo").exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    for word in ("hanging", "has failed", "not ready within 1.5s", "start_timeout"):
        assert word in str(error)
    until(lambda: not is_running(one.hangs), "the end of the child")
    one.heal()
    until(lambda: one.state == "running", "another try", timeout=WAIT)
    assert one.ask("echo", "well again").result(WAIT) == "well again"


@pytest.mark.slow
@pytest.mark.parametrize("way", IDLE)
def test_a_deadline_behind_a_message_that_has_none_finds_the_child_that_hangs(
    hanging, way, until, is_running
):
    one = hanging(way)
    before = one.ask("echo", "patient")
    assert isinstance(one.ask("echo", timeout=0.2).exception(WAIT), DeadlineError)
    until(lambda: not is_running(one.hangs), "the end of the child")
    assert before.result(WAIT) == "patient"


@pytest.mark.slow
@pytest.mark.parametrize("way", STARTING + IDLE)
@pytest.mark.parametrize("end", ["stop", "finish", "terminate"])
def test_a_worker_whose_child_hangs_can_be_ended(hanging, way, end, until, is_running):
    one = hanging(way)
    futures = [one.ask("echo", number) for number in range(3)]
    if end == "stop":
        with pytest.raises(DeadlineError, match="'hanging' did not stop"):
            one.stop(timeout=0.3)
    elif end == "finish":
        one.stop(drain=False, timeout=WAIT)
    else:
        one.terminate()
    for future in futures:
        assert isinstance(future.exception(WAIT), (WorkerStoppedError, WorkerCrashedError))
    if way != "initializer":
        until(lambda: not is_running(one.hangs), "the end of the child")
    one.stop(timeout=WAIT)
    assert one.state == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["deadline", "cancel", "terminate"])
def test_a_child_that_is_stopped_while_it_runs_a_message_is_ended(
    remote, remote_gate, end, until, is_running
):
    one = remote(start=False)
    one.on_message("gate", remote_gate)
    one.start().ask("echo").result(WAIT)
    future = one.ask("gate", timeout=1.0 if end == "deadline" else None)
    remote_gate.wait_entered()
    (child,) = remote_gate.pids()
    os.kill(child, signal.SIGSTOP)
    if end == "cancel":
        assert future.cancel()
    elif end == "terminate":
        one.terminate()
    with pytest.raises((DeadlineError, CancelledError, WorkerStoppedError)):
        future.result(WAIT)
    until(lambda: not is_running(child), "the end of the child")


@pytest.mark.slow
def test_a_child_that_is_busy_with_another_worker_is_left_alone(pool, remote_gate):
    some = pool(1, backend="process")
    busy, waiting = (some.create_worker(name) for name in ("busy", "waiting"))
    busy.on_message("gate", remote_gate)
    waiting.on_message("echo", handlers.echo)
    waiting.on_error(lambda error: None)
    waiting.start().ask("echo").result(WAIT)
    running = busy.start().ask("gate", "finished")
    remote_gate.wait_entered()
    # The second one expires long after the grace of the first.
    late = [waiting.ask("echo", timeout=timeout) for timeout in (0.1, 0.6)]
    assert waiting.ask("echo").cancel()
    assert all(isinstance(future.exception(WAIT), DeadlineError) for future in late)
    waiting.run_until_idle(WAIT)
    remote_gate.open()
    assert running.result(WAIT) == "finished"
    assert waiting.ask("echo", "goes on").result(WAIT) == "goes on"
    assert some.stats().restarts == 0


PROGRAM = """
import os, signal, sys
sys.path.insert(0, {here!r})
import process_handlers as handlers, process_starts as starts
from pytoweb.workers import *

if __name__ == "__main__":
    way = {way!r}
    if way == "initializer":
        pool = WorkerPool(1, backend="process", start_timeout=1.5,
                          initializer=starts.hang_until, initargs=({path!r}, {healed!r}))
    else:
        pool = WorkerPool(1, backend="process", start_timeout=1.5)
        worker = pool.create_worker("hanging")
        if way == "handlers":
            worker.on_message("delicate", starts.Delicate(starts.hang_until, {path!r}, {healed!r}))
        worker.on_message("echo", handlers.echo)
        worker.start()
        if way == "stopped":
            child = pool.submit(handlers.pid, None).result(10)
            os.kill(child, signal.SIGSTOP)
    if way in ("initializer", "stopped"):
        future = pool.submit(handlers.echo, 1)
    else:
        future = worker.ask("echo", 1)
    if way == "stopped":
        future.cancel()
    else:
        handlers.wait_for({path!r})
    print("at the end")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", [*STARTING, "stopped"])
def test_a_program_ends_although_a_child_hangs(run_python, way, tmp_path):
    here = os.path.dirname(os.path.abspath(__file__))
    path, healed = str(tmp_path / "starts"), str(tmp_path / "healed")
    done = run_python(PROGRAM.format(here=here, way=way, path=path, healed=healed), timeout=20.0)
    assert (done.rc, done.stdout) == (0, "at the end\n")
