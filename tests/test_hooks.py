"""Hooks: coroutines run on the loop, no start hook is lost, and a generator function is refused as one."""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import re
import threading

import hook_handlers as handlers
import pytest

from pytoweb.workers import WorkerCrashedError, WorkerDecorators, current_message, current_worker

WAIT = 10.0


@pytest.fixture(autouse=True)
def no_words():
    """Takes back what earlier tests noted in this process."""
    handlers.STATE.clear()


@pytest.fixture(params=["worker", "pool"])
def failing(request, backend, worker, pool):
    """A worker or a pool with handlers that fail."""
    one = worker("failing", backend=backend) if request.param == "worker" else pool(1, backend=backend)
    one.on_message("fail", handlers.fail)
    one.on_message("fail_later", handlers.fail_later)
    one.on_message("words", handlers.words)
    if request.param == "worker":
        one.start()
    return one


@pytest.mark.parametrize("kind", ["fail", "fail_later"])
def test_an_error_handler_that_is_a_coroutine_runs_before_the_message_ends(failing, kind):
    told = []

    async def on_error(error):
        await asyncio.sleep(0.001)
        message, owner = current_message(), current_worker()
        told.append(
            (str(error), message.type, message.data, message.id, owner, threading.current_thread().name)
        )

    failing.on_error(on_error)
    assert str(failing.ask(kind, "asked").exception(WAIT)) == "asked"
    # The reply stands after it.
    assert len(told) == 1
    failing.post_message(kind, "posted", "an id")
    failing.run_until_idle(WAIT)
    loop = told[0][-1]
    assert re.fullmatch(rf"pytoweb-loop-\d+ \({re.escape(failing.name)}\)", loop)
    assert told == [
        ("asked", kind, "asked", None, failing, loop),
        ("posted", kind, "posted", "an id", failing, loop),
    ]
    assert failing.stats().failed == 2


def test_an_error_handler_that_is_a_coroutine_and_raises_is_logged(failing, caplog):
    async def on_error(error):
        await asyncio.sleep(0)
        raise RuntimeError("no better")

    failing.on_error(on_error)
    with caplog.at_level(logging.ERROR, "pytoweb.worker"):
        assert isinstance(failing.ask("fail", "why").exception(WAIT), ValueError)
    assert [record.getMessage() for record in caplog.records] == [
        f"the error handler of worker {failing.name!r} raised"
    ]
    assert "no better" in caplog.text


def test_a_worker_goes_on_after_the_coroutine_of_its_error_handler(worker, backend):
    events = queue.Queue()
    go = threading.Event()

    async def on_error(error):
        events.put("error handler")
        while not go.is_set():
            await asyncio.sleep(0.001)
        events.put("error handler is through")

    one = worker("failing", backend=backend)
    one.on_message("fail", handlers.fail)
    one.on_error(on_error)
    one.on_message("error", lambda message: events.put(message.id))
    one.start()
    one.post_message("fail", None, "first")
    assert events.get(timeout=WAIT) == "error handler"
    assert one.stats().running == 1
    go.set()
    assert [events.get(timeout=WAIT) for _ in range(2)] == ["error handler is through", "first"]


@pytest.mark.parametrize("kind", ["deadline", "stopped"])
def test_an_error_handler_that_is_a_coroutine_hears_of_messages_that_never_ran(blocked, gate, until, kind):
    told = []

    async def on_error(error):
        await asyncio.sleep(0.001)
        told.append(type(error).__name__)

    one = blocked()
    one.on_error(on_error)
    one.post_message("gate", timeout=0.01)
    if kind == "deadline":
        until(lambda: told == ["DeadlineError"], "the report")
    gate.open()
    # What is left of an error handler is finished at the end, too.
    one.stop(timeout=WAIT)
    assert told in (["DeadlineError"], [])
    assert len(told) == one.stats().expired


@pytest.mark.parametrize("made", ["worker", "pool"])
def test_a_start_hook_that_is_a_coroutine_runs_before_the_first_message(worker, pool, backend, made):
    one = worker("one", backend=backend) if made == "worker" else pool(1, backend=backend)
    one.on_message("words", handlers.words)
    one.on_start(handlers.start_later)
    if made == "worker":
        one.start()
    assert one.ask("words").result(WAIT) == [f"started for words in {one.name}"]
    assert one.ask("words").result(WAIT) == []


def test_a_start_hook_that_is_a_coroutine_and_fails_runs_again(worker, backend):
    one = worker("one", backend=backend)
    one.on_message("words", handlers.words)
    one.on_start(handlers.fail_to_start_once)
    one.start()
    assert isinstance(one.ask("words").exception(WAIT), RuntimeError)
    assert one.ask("words").result(WAIT) == ["started"]


def test_a_start_hook_may_await_a_worker_of_the_same_pool(pool):
    one = pool(1)
    other = one.create_worker("other")
    other.on_message("echo", lambda data: data)
    other.start()
    first = one.create_worker("first")
    heard = []

    async def start():
        heard.append(await other.ask("echo", "from the hook"))

    first.on_start(start)
    first.on_message("heard", lambda data: list(heard))
    assert first.start().ask("heard").result(WAIT) == ["from the hook"]


def test_an_initializer_that_is_a_coroutine_runs_on_the_loop(pool, backend):
    one = pool(1, backend=backend, initializer=handlers.initialize_later, initargs=("initialized",))
    assert one.submit(handlers.words).result(WAIT) == ["initialized"]


def test_an_initializer_that_is_a_coroutine_and_fails_breaks_the_pool(pool, backend):
    one = pool(1, backend=backend, initializer=handlers.fail_to_initialize, initargs=("no way",))
    error = one.submit(handlers.words).exception(WAIT)
    assert isinstance(error, WorkerCrashedError)


def test_a_start_hook_that_is_registered_while_another_runs_is_not_lost(worker, gate):
    events = []
    one = worker()

    def first():
        gate()
        events.append("first")

    one.on_message("work", lambda data: events.append("message"))
    one.on_start(first)
    future = one.start().ask("work")
    gate.wait_entered()
    one.on_start(lambda: events.append("second"))
    gate.open()
    future.result(WAIT)
    assert events == ["first", "second", "message"]


def test_a_start_hook_that_a_hook_registers_is_not_lost(worker):
    events = []
    one = worker()

    def first():
        events.append("first")
        one.on_start(lambda: events.append("second"))

    one.on_message("work", lambda data: events.append("message"))
    one.on_start(first)
    one.start().ask("work").result(WAIT)
    one.ask("work").result(WAIT)
    assert events == ["first", "second", "message", "message"]


def test_a_start_hook_that_registers_itself_runs_once_for_each_message(worker):
    events = []
    one = worker()

    def again():
        events.append("hook")
        one.on_start(again)

    one.on_message("work", lambda data: events.append("message"))
    one.on_start(again)
    one.start()
    for _ in range(2):
        one.ask("work").result(WAIT)
    assert events == ["hook", "message"] * 2


def test_a_start_hook_that_is_registered_while_another_fails_takes_its_place(worker, gate):
    events = []
    one = worker()

    def first():
        gate()
        raise RuntimeError("not today")

    one.on_message("work", lambda data: events.append("message"))
    one.on_start(first)
    future = one.start().ask("work")
    gate.wait_entered()
    one.on_start(lambda: events.append("second"))
    gate.open()
    assert isinstance(future.exception(WAIT), RuntimeError)
    one.ask("work").result(WAIT)
    assert events == ["second", "message"]


def generate(data=None):
    """Yields."""
    yield data


async def generate_later(data=None):
    """Yields, in a coroutine."""
    yield data


class Generating:
    """Yields where it is called, and in a method."""

    def __call__(self, data=None):
        yield data

    def method(self, data=None):
        yield data


GENERATORS = {
    "function": generate,
    "async function": generate_later,
    "partial": functools.partial(generate, 1),
    "method": Generating().method,
    "object": Generating(),
}


@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
def test_generator_functions_are_refused(worker, pool, backend, generator):
    one = worker(backend=backend)
    refused = pytest.raises(TypeError, match="generator function")
    for kind in ("response", "error"):
        with refused:
            one.on_message(kind, generator)
    for register in (one.on_error, one.on_start, one.on_stop):
        with refused:
            register(generator)
    with refused:
        WorkerDecorators.run_in_worker("name")(generator)
    with refused:
        pool(1, backend=backend, initializer=generator)


def test_a_generator_expression_in_a_handler_is_fine(worker):
    one = worker()
    one.on_message("sum", lambda data: sum(number for number in data))
    assert one.start().ask("sum", [1, 2]).result(WAIT) == 3
