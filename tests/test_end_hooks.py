"""End hooks run when a worker has ended, where its handlers ran; and it lets go of its handlers."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import re
import sqlite3
import threading
import weakref

import process_handlers
import pytest

from pytoweb.workers import DeadlineError, WorkerStoppedError, current_message, current_worker

WAIT = 10.0


class Held:
    """What a handler holds."""


@pytest.mark.parametrize("end", ["drain", "no drain", "terminate", "pool"])
def test_hooks_run_after_the_last_message_the_last_registered_first(pool, end):
    many = pool(2)
    one = many.create_worker("one")
    events = []
    one.on_message("work", events.append)
    one.on_stop(lambda: events.append("registered first"))

    @one.on_stop
    def last():
        events.append("registered last")
        assert current_worker() is one
        assert (current_message().type, current_message().data) == ("stop", None)

    one.start().ask("work", "handled").result(WAIT)
    if end == "pool":
        many.shutdown()
    elif end == "terminate":
        one.terminate()
        assert one._pytoweb_wait_ended(WAIT)
    else:
        one.stop(drain=end == "drain")
    assert events == ["handled", "registered last", "registered first"]
    stats = one.stats()
    assert (stats.posted, stats.completed, stats.failed) == (1, 1, 0)


def test_those_of_a_pool_run_after_all_that_its_own_mailbox_runs(pool, gate):
    many = pool(2)
    events = []
    many.on_stop(lambda: events.append("ended"))
    running = many.submit(gate)
    gate.wait_entered()
    many.shutdown(wait=False)
    assert events == []
    gate.open()
    running.result(WAIT)
    many.shutdown()
    assert events == ["ended"]


@pytest.mark.parametrize("starts", [False, True])
def test_none_runs_for_a_worker_that_had_no_message(pool, starts):
    many = pool(1)
    events = []
    one = many.create_worker("one")
    one.on_stop(lambda: events.append("worker"))
    many.on_stop(lambda: events.append("pool"))
    if starts:
        one.start()
    one.stop()
    many.shutdown()
    assert events == []


def test_none_runs_where_the_start_hook_has_failed(worker):
    one = worker()
    events = []
    one.on_start(lambda: 1 / 0)
    one.on_stop(lambda: events.append("stop"))
    one.on_message("work", events.append)
    assert isinstance(one.start().ask("work").exception(WAIT), ZeroDivisionError)
    one.stop()
    assert events == []


@pytest.mark.parametrize("where", ["handler", "hook"])
def test_a_coroutine_of_its_own_that_stops_it_does_not_wait(worker, where):
    one = worker()

    async def stop(data=None):
        await one.astop()
        return "stopped"

    one.on_message("work", stop if where == "handler" else lambda data: "stopped")
    if where == "hook":
        one.on_stop(stop)
    assert one.start().ask("work").result(WAIT) == "stopped"
    one.stop(timeout=WAIT)
    assert one.state == "stopped"


def test_the_error_handler_of_a_pool_is_told_of_workers_that_end_after_its_own_mailbox(pool, gate):
    many = pool(2)
    told = []
    many.on_error(lambda error: told.append(str(error)))
    many.on_message("work", lambda data: None)
    many.ask("work").result(WAIT)
    one = many.create_worker("one")
    one.on_message("gate", gate)
    one.on_message("fail", lambda data: 1 / 0)
    one.start().post_message("gate")
    one.post_messages("fail", range(5))
    gate.wait_entered()
    many.shutdown(wait=False)
    assert many._pytoweb_wait_ended(WAIT)
    gate.open()
    many.shutdown()
    assert told == ["division by zero"] * 5


def test_a_connection_is_closed_on_the_thread_that_opened_it(pool):
    many = pool(2)
    one = many.create_worker("one", pin=True)
    kept = []
    one.on_start(lambda: kept.append(sqlite3.connect(":memory:")))
    one.on_stop(lambda: kept.pop().close())
    one.on_message("sql", lambda sql: kept[0].execute(sql).fetchall())
    assert one.start().ask("sql", "select 1").result(WAIT) == [(1,)]
    one.stop()
    assert kept == []


def test_a_hook_that_is_a_coroutine_is_waited_for(worker):
    one = worker()
    events = []

    async def later():
        await asyncio.sleep(0.001)
        events.append(threading.current_thread().name)

    one.on_stop(later)
    one.on_message("work", events.append)
    one.start().ask("work", "handled").result(WAIT)
    one.stop()
    assert events[0] == "handled"
    assert re.fullmatch(rf"pytoweb-loop-\d+ \({one.name}\)", events[1])


def test_one_that_raises_is_reported_and_the_others_run(worker, caplog):
    one = worker("failing")
    events, told = [], []
    one.on_stop(lambda: events.append("the other"))
    one.on_stop(lambda: 1 / 0)
    one.on_error(lambda error: told.append((type(error), current_message().type)))
    one.on_message("work", lambda data: None)
    one.start().ask("work").result(WAIT)
    one.stop()
    assert events == ["the other"]
    assert told == [(ZeroDivisionError, "stop")]
    silent = worker("silent")
    silent.on_stop(lambda: 1 / 0)
    silent.on_message("work", lambda data: None)
    silent.start().ask("work").result(WAIT)
    with caplog.at_level(logging.ERROR):
        silent.stop()
    (record,) = caplog.records
    assert record.name == "pytoweb.worker.silent"
    assert record.getMessage() == "worker 'silent': its end hook failed"


def test_a_worker_that_has_ended_lets_go_of_its_handlers(worker, pool):
    gc.disable()
    try:
        for starts in (True, False):
            one, many = worker(), pool(1)
            held = Held()
            gone = weakref.ref(held)
            for endpoint in (one, many):
                endpoint.on_message("work", lambda data, held=held: None)
            if starts:
                one.start().ask("work").result(WAIT)
                many.ask("work").result(WAIT)
            del held
            one.stop()
            many.shutdown()
            assert gone() is None
    finally:
        gc.enable()


def test_a_hook_is_checked_when_it_is_registered(worker):
    def words():
        yield "no hook"

    for hook in (words, "no hook"):
        with pytest.raises(TypeError):
            worker().on_stop(hook)


@pytest.mark.parametrize("kind", ["worker", "pool"])
def test_a_stop_that_an_end_hook_holds_up_says_so(worker, pool, gate, kind):
    one = worker("one") if kind == "worker" else pool(1, name="one")
    one.on_message("work", lambda data: None)
    one.on_stop(gate)
    if kind == "worker":
        one.start()
    one.ask("work").result(WAIT)
    with pytest.raises(DeadlineError, match="on_stop hook"):
        (one.stop if kind == "worker" else one.shutdown)(timeout=0.05)
    gate.wait_entered()
    with pytest.raises(DeadlineError, match="on_stop hook"):
        one.run_until_idle(0.01)
    gate.open()
    assert one._pytoweb_wait_ended(WAIT)


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_terminate_runs_the_end_hooks_on_both_backends(worker, backend, tmp_path, until, state):
    if state == "busy" and backend == "process":
        pytest.skip("a child that is killed runs none")
    one, path = worker("one", backend=backend), tmp_path / "words"
    one.on_message("pid", process_handlers.pid)
    one.on_stop(functools.partial(process_handlers.note, str(path), "stopped"))
    one.start().ask("pid").result(WAIT)
    one.terminate()
    until(lambda: path.exists() and process_handlers.noted(path) == ["stopped"], "the hook")


@pytest.mark.parametrize("kind", ["worker", "pool"])
@pytest.mark.parametrize("starts", [False, True])
def test_nothing_is_registered_that_would_never_run(worker, pool, backend, kind, starts):
    one = worker("one", backend=backend) if kind == "worker" else pool(1, name="one", backend=backend)
    one.on_message("pid", process_handlers.pid)
    if starts:
        if kind == "worker":
            one.start()
        one.ask("pid").result(WAIT)
    one.stop() if kind == "worker" else one.shutdown()
    hook = process_handlers.pid
    for register in (one.on_stop, one.on_start, one.around, functools.partial(one.on_message, "pid")):
        with pytest.raises(WorkerStoppedError, match=f"too late: {kind} 'one' has stopped"):
            register(hook)
    # Replies and failures may still come.
    one.on_error(print)
    one.on_message("response", print)


def test_an_end_hook_is_refused_while_end_hooks_run(worker, gate):
    one = worker()
    one.on_message("work", lambda data: None)
    one.on_stop(gate)
    one.start().ask("work").result(WAIT)
    one._pytoweb_close("drain")
    gate.wait_entered()
    with pytest.raises(WorkerStoppedError):
        one.on_stop(print)
    gate.open()
    one.stop()


SCRIPT = """
import sys
from pytoweb.workers import PythonWorker, WorkerPool, current_worker

opened = []

def start():
    opened.append("open")

def stop():
    opened.append("closed")
    print(*opened, current_worker().name, flush=True)

async def stop_later():
    print("later", flush=True)

def fail():
    raise ValueError("in the end hook")

def work(data):
    return len(opened)

if __name__ == "__main__":
    with PythonWorker("one", backend="process") as one:
        one.on_start(start)
        one.on_stop(stop)
        one.on_stop(fail)
        one.on_stop(stop_later)
        one.on_message("work", work)
        one.ask("work").result(20)
    with PythonWorker("idle", backend="process") as idle:
        idle.on_stop(stop)
    with WorkerPool(2, backend="process", name="pool") as pool:
        pool.on_stop(stop)
        assert pool.submit(work, None).result(20) == 0
"""


@pytest.mark.slow
def test_those_of_process_workers_run_in_their_child(run_python):
    done = run_python(SCRIPT, timeout=40)
    assert done.rc == 0
    assert done.stdout.splitlines() == ["later", "open closed one", "closed pool"]
    assert "in the end hook" in done.stderr and "'one'" in done.stderr
