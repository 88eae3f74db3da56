"""What user code raises on a thread of ours ends there, and is told once; the thread goes on."""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading

import pytest
from loop_breakers import BREAKERS, echo_later

from pytoweb.workers import WorkerCrashedError

WAIT = 10.0


class FilterError(Exception):
    """What the filter raises."""


class RaisingFilter(logging.Filter):
    """A filter with a defect."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.called = queue.Queue()

    def filter(self, record):
        self.called.put(record.getMessage())
        raise self.error()


@pytest.fixture
def told(monkeypatch):
    """The exceptions that `sys.unraisablehook` is told of."""
    told = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.put(args.exc_type))
    return told


@pytest.fixture(params=[FilterError, SystemExit])
def raising(request):
    """Returns `raising(name)`: puts a filter that raises on the logger of that name."""
    placed = []

    def place(name):
        logger, broken = logging.getLogger(name), RaisingFilter(request.param)
        placed.append((logger, broken))
        logger.addFilter(broken)
        return broken

    place.error = request.param
    yield place
    for logger, broken in placed:
        logger.removeFilter(broken)


def fail(data):
    """Fails."""
    raise ValueError(data)


async def fail_later(data):
    """Fails, in a coroutine."""
    raise ValueError(data)


@pytest.mark.parametrize("handler", [fail, fail_later])
@pytest.mark.parametrize("where", ["reply thread", "event loop"])
def test_reply_handlers_go_on(worker, raising, told, handler, where):
    one = worker("contained")
    one.on_message("echo", lambda data: data)
    one.start()
    broken = raising("pytoweb.worker.contained")
    replies = queue.Queue()

    def handle(message):
        replies.put(message.id)
        return handler(message)

    async def main():
        one.on_message("response", handle)
        for number in ("1", "2", "3"):
            one.post_message("echo", None, number)
        while replies.qsize() < 3 or told.qsize() < 3:
            await asyncio.sleep(0.001)

    if where == "event loop":
        asyncio.run(asyncio.wait_for(main(), WAIT))
    else:
        one.on_message("response", handle)
        for number in ("1", "2", "3"):
            one.post_message("echo", None, number)
    assert [replies.get(timeout=WAIT) for _ in range(3)] == ["1", "2", "3"]
    for _ in range(3):
        assert told.get(timeout=WAIT) is raising.error
        assert "'response' handler of worker 'contained' raised" in broken.called.get(timeout=WAIT)
    assert told.empty()


@pytest.mark.parametrize("has_error_handler", [True, False])
def test_pool_threads_go_on(worker, raising, told, backend, has_error_handler):
    from process_handlers import echo, raise_it

    one = worker("contained", backend=backend)
    one.on_message("raise_it", raise_it)
    one.on_message("echo", echo)
    if has_error_handler:
        one.on_error(fail)
    one.start()
    raising("pytoweb.worker.contained")
    for _ in range(3):
        one.post_message("raise_it", ValueError("why"))
    assert one.ask("echo", 1).result(WAIT) == 1
    assert [told.get(timeout=WAIT) for _ in range(3)] == [raising.error] * 3
    assert told.empty()


def test_callbacks_of_futures_do_not_end_the_thread(worker, raising, told):
    one = worker("contained")
    one.on_message("echo", lambda data: data)
    raising("pytoweb.worker")
    future = one.ask("echo", 1)
    future.add_done_callback(fail)
    one.start()
    assert one.ask("echo", 2).result(WAIT) == 2
    assert told.get(timeout=WAIT) is raising.error


def test_the_log_of_a_child_goes_on(remote, raising, told, until):
    one = remote("logging")
    broken = raising("user.contained")
    heard = queue.Queue()
    listener = logging.Handler()
    listener.emit = lambda record: heard.put(record.getMessage())
    logger = logging.getLogger("user.fine")
    logger.addHandler(listener)
    try:
        from loop_breakers import log_as

        one.on_message("log", log_as)
        one.ask("log", ("user.contained", "lost")).result(WAIT)
        one.ask("log", ("user.fine", "heard")).result(WAIT)
        assert heard.get(timeout=WAIT) == "heard"
        assert broken.called.get(timeout=WAIT) == "lost"
        assert told.get(timeout=WAIT) is raising.error
    finally:
        logger.removeHandler(listener)


def test_a_failed_initializer_is_named_all_the_same(pool, raising, told):
    raising("pytoweb.pool")
    one = pool(1, initializer=fail, initargs=("why",))
    error = one.submit(len, "").exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert "why" in str(error)
    assert told.get(timeout=WAIT) is raising.error


@pytest.mark.parametrize("breaker", sorted(BREAKERS))
def test_coroutine_handlers_go_on_after_what_ends_a_loop(worker, backend, breaker, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    one = worker("looping", backend=backend)
    one.on_message("break", BREAKERS[breaker])
    one.on_message("echo", echo_later)
    one.start()
    for number in range(3):
        assert one.ask("break", number).result(WAIT) == number
        assert one.ask("echo", number).result(WAIT) == number
    one.stop(timeout=WAIT)
    assert one.stats().completed == 6


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_raises_at_the_end_of_the_loop_does_not_keep_it(worker, monkeypatch, error):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    ended = threading.Event()

    async def resist(error):
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    async def finish():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    tasks = []

    async def start(data):
        tasks.append(asyncio.ensure_future(resist(error)))
        tasks.append(asyncio.ensure_future(finish()))
        await asyncio.sleep(0)

    one = worker()
    one.on_message("start", start)
    one.start().ask("start").result(WAIT)
    one.stop(timeout=WAIT)
    assert ended.is_set()
    assert told == [error]
    tasks.clear()
