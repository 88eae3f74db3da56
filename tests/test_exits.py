"""Exit handlers: what the contract does not see, because it ends processes and programs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from queue import SimpleQueue

import pytest

from pytoweb.workers import Exit, PythonWorker, WorkerCrashedError

WAIT = 10.0


def die(data):
    os._exit(3)


def echo(data):
    return data


def refuse():
    raise ValueError("on purpose")


def run(program, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        **options,
    )


def test_a_crash_with_the_last_message_is_the_reason(worker):
    one, came = worker("crashing", backend="process"), SimpleQueue()
    one.on_message("die", die)
    one.on_message("echo", echo)
    one.on_error(lambda error: None)
    one.on_exit(came.put)
    one.start()
    with pytest.raises(WorkerCrashedError):
        one.ask("die").result(WAIT)
    one.stop(timeout=WAIT)
    exit = came.get(timeout=WAIT)
    assert exit.reason == "crashed" and isinstance(exit.error, WorkerCrashedError)


def test_a_crash_that_another_message_has_come_after_is_none(worker):
    one, came = worker("recovering", backend="process"), SimpleQueue()
    one.on_message("die", die)
    one.on_message("echo", echo)
    one.on_error(lambda error: None)
    one.on_exit(came.put)
    one.start()
    with pytest.raises(WorkerCrashedError):
        one.ask("die").result(WAIT)
    assert one.ask("echo", 1).result(WAIT) == 1
    one.stop(timeout=WAIT)
    assert came.get(timeout=WAIT) == Exit("drained")


def test_a_failed_initializer_is_the_reason(backend):
    came = SimpleQueue()
    one = PythonWorker("broken", backend=backend, initializer=refuse)
    one.on_message("echo", echo)
    one.on_error(lambda error: None)
    one.on_exit(came.put)
    one.start()
    with pytest.raises(WorkerCrashedError):
        one.ask("echo", 1).result(WAIT)
    one.stop(timeout=WAIT)
    exit = came.get(timeout=WAIT)
    assert exit.reason == "failed" and isinstance(exit.error, WorkerCrashedError)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_worker_that_is_dropped_tells_when_its_queue_is_done():
    came = SimpleQueue()
    one = PythonWorker("dropped")
    one.on_message("echo", echo)
    one.on_exit(came.put)
    one.start().post_message("echo", 1)
    del one
    gc.collect()
    assert came.get(timeout=WAIT) == Exit("drained")


@pytest.mark.parametrize("state", ["never started", "idle", "in a pool"])
def test_the_end_of_the_program_is_told(backend, state):
    program = f"""
        from pytoweb.workers import PythonWorker, WorkerPool
        if {state!r} == "in a pool":
            pool = WorkerPool(1, backend={backend!r})
            pool.on_exit(lambda exit: print("pool", exit.reason, flush=True))
            one = pool.create_worker("one")
        else:
            one = PythonWorker("one", backend={backend!r})
        one.on_message("len", len)
        one.on_exit(lambda exit: print("one", exit.reason, flush=True))
        if {state!r} != "never started":
            one.start()
            print(one.ask("len", "abc").result())
    """
    ended = run(program)
    assert ended.returncode == 0, ended.stderr
    expected = {"one program ends"}
    if state != "never started":
        expected.add("3")
    if state == "in a pool":
        expected.add("pool program ends")
    assert set(ended.stdout.splitlines()) == expected
    assert not ended.stderr


def test_an_exit_cannot_be_changed():
    one = Exit("stopped")
    with pytest.raises(AttributeError):
        one.reason = "drained"
    assert one == Exit("stopped") != Exit("drained")
    assert repr(one) == "Exit(reason='stopped', error=None)"
