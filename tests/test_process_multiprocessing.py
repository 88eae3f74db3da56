"""Children as `multiprocessing` sees them: by name and parent, with its queues, locks and shared memory."""

from __future__ import annotations

import logging
import multiprocessing
import os
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import process_family as family
import process_handlers as handlers
import pytest

from pytoweb.workers import SerializationError

WAIT = 10.0
SCRIPT = 25.0


@pytest.fixture(scope="module", autouse=True)
def resource_tracking():
    """The resource tracker of this process, which is one for all tests and ends with it."""
    resource_tracker.ensure_running()


def test_a_child_has_a_name_a_parent_and_the_key(pool):
    two = pool(2, backend="process", name="family")
    seen = two.submit(family.describe_process, None).result(WAIT)
    own = multiprocessing.current_process()
    assert seen["name"] in ("pytoweb-family-1", "pytoweb-family-2")
    assert seen["identity"] == (int(seen["name"][-1]),)
    assert (seen["pid"], seen["alive"], seen["daemon"]) == (True, True, False)
    assert seen["parent"] == (own.name, os.getpid(), True)
    assert seen["authkey"] == bytes(own.authkey)
    assert seen["method"] == multiprocessing.get_start_method()


def test_a_child_imports_no_multiprocessing_by_itself(pool):
    assert not pool(1, backend="process").submit(family.has_multiprocessing, None).result(WAIT)


@pytest.mark.parametrize("how", ["imported", "not imported"])
def test_a_log_record_names_the_child(pool, caplog, until, how):
    one = pool(1, backend="process", name="logging")
    child = one.submit(handlers.pid, None).result(WAIT)
    with caplog.at_level(logging.WARNING, "tests.family"):
        one.submit(family.log_with, how).result(WAIT)
        until(lambda: caplog.records, "the record")
    record = caplog.records[0]
    assert (record.processName, record.process) == ("pytoweb-logging-1", child)
    assert record.threadName == "MainThread"


@pytest.mark.slow
def test_what_a_manager_serves_reports_progress(pool):
    one = pool(1, backend="process")
    with multiprocessing.get_context("spawn").Manager() as manager:
        steps, numbers, lock = manager.Queue(), manager.dict(), manager.Lock()
        one.submit(family.report_progress, (steps, numbers, lock)).result(WAIT)
        assert [steps.get(timeout=WAIT) for _ in range(3)] == [0, 1, 2]
        assert numbers["sum"] == 3
        del steps, numbers, lock


@pytest.mark.slow
def test_queues_locks_and_connections_cross_in_initargs(pool):
    context = multiprocessing.get_context("spawn")
    own, theirs = context.Pipe()
    lines, lock, event = context.Queue(), context.Lock(), context.Event()
    names = ("queue", "lock", "connection", "event")
    one = pool(
        1, backend="process", initializer=family.keep_named, initargs=(names, lines, lock, theirs, event)
    )
    first = one.submit(family.use_kept, "first").result(WAIT)
    assert (lines.get(timeout=WAIT), own.recv(), event.is_set()) == ("first", "first", True)
    one.submit(family.kill_this, None).exception(WAIT)
    second = one.submit(family.use_kept, "second").result(WAIT)
    assert (lines.get(timeout=WAIT), own.recv()) == ("second", "second")
    assert first != second, "a new child gets them too"
    lines.close()
    lines.join_thread()
    own.close()
    theirs.close()


@pytest.mark.parametrize("backend", ["ask", "submit"])
def test_a_queue_as_data_is_refused_with_the_reason(pool, backend):
    one = pool(1, backend="process")
    lines = multiprocessing.get_context("spawn").Queue()
    with pytest.raises(SerializationError) as raised:
        if backend == "ask":
            one.on_message("put", handlers.echo)
            one.ask("put", lines)
        else:
            one.submit(handlers.echo, lines)
    assert "inheritance" in str(raised.value)
    assert "cloudpickle" not in str(raised.value)
    lines.close()


def test_a_block_of_shared_memory_outlives_a_child_that_attached_to_it(worker):
    block = SharedMemory(create=True, size=16)
    try:
        block.buf[0] = 7
        one = worker(backend="process")
        one.on_message("attach", family.attach)
        assert one.start().ask("attach", block.name).result(WAIT) == 7
        one.stop()
        again = SharedMemory(block.name)
        assert again.buf[0] == 7
        again.close()
    finally:
        block.close()
        block.unlink()


def test_a_block_of_shared_memory_outlives_the_child_that_made_it(worker):
    one = worker(backend="process")
    one.on_message("create", family.create_block)
    name = one.start().ask("create", 9).result(WAIT)
    one.stop()
    block = SharedMemory(name)
    assert block.buf[0] == 9
    block.close()
    block.unlink()


@pytest.mark.slow
def test_a_host_without_a_resource_tracker_starts_one_when_a_child_needs_it(run_python):
    code = f"""
import sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
import process_family as family
from pytoweb.workers import WorkerPool

def tracker():
    module = sys.modules.get("multiprocessing.resource_tracker")
    return module is not None and module._resource_tracker._fd is not None

if __name__ == "__main__":
    with WorkerPool(2, backend="process") as pool:
        pool.submit(abs, -1).result(20)
        print(tracker())
        name = pool.submit(family.create_block, 5).result(20)
        print(tracker(), pool.submit(family.tracker_of, None).result(20))
    with WorkerPool(1, backend="process") as pool:
        print(pool.submit(family.attach, name).result(20))
    from multiprocessing.shared_memory import SharedMemory
    SharedMemory(name).unlink()
"""
    done = run_python(code, timeout=SCRIPT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["False", "True False", "5"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_may_have_processes_of_multiprocessing(pool, method):
    one = pool(1, backend="process")
    assert one.submit(family.run_processes, method).result(WAIT) == [1, 2, 3]


def test_the_descriptors_that_a_pool_lends_end_with_it(pool):
    own, theirs = multiprocessing.Pipe()
    one = pool(1, backend="process", initializer=family.keep_named, initargs=(("pipe",), theirs))
    theirs.close()
    one.submit(handlers.pid, None).result(WAIT)
    one.shutdown()
    with pytest.raises((EOFError, ConnectionError)):
        own.recv()
    own.close()
