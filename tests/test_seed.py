"""Every snippet of the seed runs as written, with the functions it leaves open supplied."""

from __future__ import annotations

import logging
import queue
import re
import threading
from pathlib import Path

import pytest

from pytoweb.workers import PythonWorker, WorkerFuture, WorkerPool, default_pool

WAIT = 10.0
SEED = Path(__file__).with_name("seed_snippets.md")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", SEED.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
BASIC, POOL, DECORATORS, HANDLERS, REPLIES, COMPONENT, ERRORS = range(7)


def run(index, **supplied):
    """Executes a snippet as written; returns its names."""
    names = dict(supplied)
    exec(compile(SNIPPETS[index], f"{SEED.name}#{index}", "exec"), names)
    return names


@pytest.fixture
def keep(worker):
    """Stops the workers that a snippet made."""
    kept = []
    yield lambda one: kept.append(one) or one
    for one in kept:
        one.stop(timeout=WAIT)


def test_the_document_holds_seven_snippets():
    assert len(SNIPPETS) == 7


def test_basic_usage(keep):
    handled = queue.Queue()

    def perform_heavy_computation(data):
        handled.put((data, threading.current_thread()))
        return len(data)

    names = run(BASIC, perform_heavy_computation=perform_heavy_computation)
    worker = keep(names["worker"])

    data, thread = handled.get(timeout=WAIT)
    assert data == {"data": "some data"}
    assert thread is not threading.current_thread()
    assert worker.name == "background-tasks"
    assert worker.ask("process", "abc").result(WAIT) == 3


def test_worker_pool():
    names = run(POOL, process_data=lambda data: data * 2)
    pool, worker = names["pool"], names["worker"]

    with pool:
        assert isinstance(pool, WorkerPool)
        assert pool.get_worker("background-tasks") is worker
        assert pool.stats().size == 4
        assert worker.ask("process", 21).result(WAIT) == 42
    assert worker.state == "stopped"


def test_decorated_function_runs_in_the_named_worker():
    threads = []

    def perform_complex_task(data):
        threads.append(threading.get_ident())
        return data[::-1]

    names = run(DECORATORS, perform_complex_task=perform_complex_task)
    heavy_computation = names["heavy_computation"]

    assert heavy_computation("abc") == "cba"
    assert heavy_computation("def") == "fed"
    assert threading.get_ident() not in threads
    assert default_pool().get_worker("background-tasks") is not None
    future = heavy_computation.submit("xyz")
    assert isinstance(future, WorkerFuture)
    assert future.result(WAIT) == "zyx"


def test_decorated_method_handles_its_type_in_a_subclass(worker):
    process_data = run(DECORATORS, perform_complex_task=None)["process_data"]

    class Processor(PythonWorker):
        handle = process_data

        def process(self, data):
            return (self.name, data)

    one = worker("first", cls=Processor).start()
    two = worker("second", cls=Processor).start()
    assert one.ask("process-data", 1).result(WAIT) == ("first", 1)
    assert two.ask("process-data", 2).result(WAIT) == ("second", 2)


def test_decorated_plain_function_is_bound_to_the_worker_it_is_registered_on(worker):
    process_data = run(DECORATORS, perform_complex_task=None)["process_data"]

    class Processor(PythonWorker):
        def process(self, data):
            return (self.name, data)

    one = worker("first", cls=Processor)
    one.on_message("process-data", process_data)
    one.start()
    assert one.ask("process-data", 1).result(WAIT) == ("first", 1)


def test_message_handlers_and_error_handler(worker, caplog):
    one = worker("typed").start()

    def transform_data(data):
        raise ValueError(f"cannot transform {data}")

    run(
        HANDLERS, worker=one, logging=logging, transform_data=transform_data,
        process_data=lambda data: ("processed", data), analyze_data=lambda data: ("analyzed", data),
    )  # fmt: skip

    assert one.ask("process", 1).result(WAIT) == ("processed", 1)
    assert one.ask("analyze", 2).result(WAIT) == ("analyzed", 2)
    with caplog.at_level(logging.ERROR):
        one.post_message("transform", 3)
        one.stop(timeout=WAIT)
    assert [record.getMessage() for record in caplog.records] == ["Worker error: cannot transform 3"]


def test_response_handler_registered_after_the_post(worker):
    processed = queue.Queue()
    one = worker("replying")
    one.on_message("process", lambda data: data + 1)
    one.start()

    run(REPLIES, worker=one, data=41, process_result=lambda result, task: processed.put((result, task)))

    assert processed.get(timeout=WAIT) == (42, "task-1")


def test_component_integration(keep):
    processor = run(COMPONENT)["DataProcessor"]()
    keep(processor.worker)

    processor.process_data({"rows": 3})
    processor.worker.run_until_idle(WAIT)

    assert processor.state["result"] == {"rows": 3}


def test_error_handling(worker, caplog):
    notified = queue.Queue()

    def process_data(data):
        return 1 / data

    one = worker("robust").start()
    names = run(ERRORS, worker=one, logging=logging, notify_admin=notified.put, process_data=process_data)
    one.on_message("unguarded", names["process_data"])

    assert one.ask("process", 2).result(WAIT) == {"success": True, "result": 0.5}
    assert one.ask("process", 0).result(WAIT) == {"success": False, "error": "division by zero"}
    with caplog.at_level(logging.ERROR):
        one.post_message("unguarded", 0)
        error = notified.get(timeout=WAIT)
        one.stop(timeout=WAIT)
    assert isinstance(error, ZeroDivisionError)
    assert [record.getMessage() for record in caplog.records] == ["Worker error: division by zero"]
