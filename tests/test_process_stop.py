"""How process workers end while the program goes on: stopped, terminated, forgotten."""

from __future__ import annotations

import gc
import importlib.util
import os
import warnings

import process_handlers as handlers
import pytest

from pytoweb.workers import DeadlineError, PythonWorker, WorkerPool, WorkerStoppedError

WAIT = 10.0


def test_stop_without_drain_fails_what_was_sent_ahead(remote, remote_gate, tmp_path, spawn):
    one, path = remote(), str(tmp_path / "handled")
    one.on_message("gate", remote_gate)
    for _ in range(200):
        one.ask("echo").result(WAIT)
    running = one.ask("gate", "finished")
    queued = [one.ask("write", (path, number)) for number in range(20)]
    remote_gate.wait_entered()
    stopping = spawn(one.stop, drain=False, timeout=WAIT)
    for future in queued:
        assert isinstance(future.exception(WAIT), WorkerStoppedError)
    remote_gate.open()
    stopping.result(WAIT)
    assert running.result(WAIT) == "finished"
    assert handlers.noted(path) == []
    assert one.stats().failed == 20


def test_the_child_has_ended_when_stop_returns(remote, is_running):
    one = remote()
    child = one.ask("pid").result(WAIT)
    one.stop(timeout=WAIT)
    assert not is_running(child)
    assert not os.path.exists(f"/proc/{child}"), "and is reaped"


def test_terminate_after_a_stop_that_hangs_ends_it(remote, tmp_path, until, is_running):
    one, path = remote(), tmp_path / "entered"
    future = one.ask("loop_forever", str(path))
    handlers.wait_for(path)
    child = int(handlers.noted(path)[0])
    with pytest.raises(DeadlineError):
        one.stop(timeout=0.05)
    one.terminate()
    assert isinstance(future.exception(WAIT), WorkerStoppedError)
    until(lambda: not is_running(child), "the end of the child")
    one.stop(timeout=WAIT)


def test_a_stopped_worker_holds_nothing_of_the_system(remote, until, require):
    require(os.path.exists("/proc/self/maps"), "Linux's list of mappings")

    def held():
        files = [
            os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if is_open(name)
        ]
        with open("/proc/self/maps") as lines:
            mapped = sum("/memfd:" in line for line in lines)
        return len(files), mapped

    def is_open(name):
        return os.path.lexists(f"/proc/self/fd/{name}")

    before = held()
    one = remote()
    assert one.ask("echo", b"x" * 1_000_000).result(WAIT) == b"x" * 1_000_000
    assert held() > before
    one.stop(timeout=WAIT)
    until(
        lambda: all(now <= was for now, was in zip(held(), before)),
        "the release, although the worker is still referred to",
        timeout=2.0,
    )
    assert one.state == "stopped"


@pytest.mark.slow
def test_many_workers_one_after_the_other_leave_nothing(is_running):
    for number in range(5):
        with PythonWorker(f"worker-{number}", backend="process") as one:
            one.on_message("pid", handlers.pid)
            child = one.ask("pid").result(WAIT)
        assert not is_running(child)


def test_a_forgotten_worker_warns_and_finishes_its_queue(remote_gate, tmp_path):
    path = str(tmp_path / "handled")
    forgotten = PythonWorker("forgotten", backend="process")
    forgotten.on_message("gate", remote_gate)
    forgotten.on_message("write", handlers.write)
    forgotten.start().post_message("gate")
    remote_gate.wait_entered()
    forgotten.post_messages("write", [(path, number) for number in range(50)])
    last = forgotten.ask("write", (path, "last"))
    with pytest.warns(ResourceWarning, match="forgotten"):
        del forgotten
        gc.collect()
    remote_gate.open()
    assert last.result(WAIT) is None
    assert len(handlers.noted(path)) == 51


def test_a_forgotten_worker_that_is_idle_ends_its_child(until, is_running):
    forgotten = PythonWorker("idle", backend="process")
    forgotten.on_message("pid", handlers.pid)
    child = forgotten.start().ask("pid").result(WAIT)
    with pytest.warns(ResourceWarning, match="idle"):
        del forgotten
        gc.collect()
    until(lambda: not is_running(child), "the end of the child")


@pytest.mark.parametrize("state", ["new", "stopped", "terminated"])
def test_a_worker_that_needs_no_stop_does_not_warn(state):
    one = PythonWorker("quiet", backend="process")
    one.on_message("echo", handlers.echo)
    if state != "new":
        one.start().ask("echo").result(WAIT)
        one.stop(timeout=WAIT) if state == "stopped" else one.terminate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del one
        gc.collect()


def test_a_forgotten_pool_finishes_its_work(remote_gate):
    some = WorkerPool(1, backend="process")
    futures = [some.submit(remote_gate, number) for number in range(10)]
    remote_gate.wait_entered()
    del some
    gc.collect()
    remote_gate.open()
    assert [future.result(WAIT) for future in futures] == list(range(10))


def test_a_forgotten_worker_with_a_lambda_needs_no_collector(require, until, is_running):
    require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")
    forgotten = PythonWorker("by value", backend="process")
    forgotten.on_message("pid", lambda data: handlers.pid(data))
    child = forgotten.start().ask("pid").result(WAIT)
    gc.collect()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="by value"):
            del forgotten
    finally:
        gc.enable()
    until(lambda: not is_running(child), "the end of the child")
