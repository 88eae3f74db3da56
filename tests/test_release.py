"""Every message and every reply is freed once it is over, without the help of the collector.

References from the engine are invisible to the collector: a circle through it would never be freed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from tracked_handlers import ALIVE, HANDLERS, TASKS, Tracked, count

from pytoweb.workers import PythonWorker, WorkerDecorators, WorkerPool

WAIT = 10.0
TIMES = 3
KINDS = ("echo", "fail", "echo_later", "fail_later", "leave_a_task")


@pytest.fixture(autouse=True)
def without_collector():
    ALIVE.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    TASKS.clear()
    # Also those that a failed test has found.
    gc.collect()


def heard(replies):
    """Returns a reply handler that keeps nothing but the id."""
    return lambda message: replies.append(message.id)


@pytest.fixture(params=["worker", "pool"])
def endpoint(request, backend, worker, pool):
    one = worker(backend=backend) if request.param == "worker" else pool(2, backend=backend)
    for kind, handler in HANDLERS.items():
        one.on_message(kind, handler)
    one.on_error(lambda error: None)
    if request.param == "worker":
        one.start()
    return one


def ask(one, kind, **options):
    one.ask(kind, Tracked(), **options).exception(WAIT)


def ask_with_timeout(one, kind):
    ask(one, kind, timeout=60)


def post(one, kind, *args, **options):
    one.post_message(kind, Tracked(), *args, **options)
    one.run_until_idle(WAIT)


def post_with_id(one, kind):
    post(one, kind, "an id")


def post_with_timeout(one, kind):
    post(one, kind, timeout=60)


def post_with_both(one, kind):
    post(one, kind, "an id", timeout=60)


def post_many(one, kind):
    one.post_messages(kind, [Tracked()])
    one.run_until_idle(WAIT)


def await_it(one, kind):
    async def main():
        with contextlib.suppress(ValueError):
            await one.ask(kind, Tracked())

    asyncio.run(main())


async def awaited(function):
    # Not around `asyncio.run`, whose frames and exception refer to each other.
    with contextlib.suppress(ValueError):
        await function(Tracked())


WAYS = (ask, ask_with_timeout, post, post_with_id, post_with_timeout, post_with_both, post_many, await_it)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_freed_however_it_is_sent_and_ends(endpoint, kind, until):
    replies = []
    endpoint.on_message("response", heard(replies))
    endpoint.on_message("error", heard(replies))
    for way in WAYS:
        for _ in range(TIMES):
            way(endpoint, kind)
        until(lambda: not ALIVE, f"the release of what {way.__name__} sent")
        until(lambda: endpoint.ask("count").result(WAIT) == 0, f"the same for {way.__name__} in the child")
    until(lambda: len(replies) == 2 * TIMES, "the replies by id")


@pytest.mark.parametrize("end", ["cancel", "deadline", "terminate"])
def test_a_coroutine_that_is_given_up_is_freed(worker, backend, until, end):
    one = worker(backend=backend)
    one.on_message("wait_forever", HANDLERS["wait_forever"])
    one.on_error(lambda error: None)
    one.start()
    future = one.ask("wait_forever", Tracked(), timeout=0.05 if end == "deadline" else None)
    until(lambda: one.stats().running + one.stats().expired == 1, "the start of the handler")
    if end == "cancel":
        future.cancel()
    elif end == "terminate":
        one.terminate()
    with contextlib.suppress(BaseException):
        future.exception(WAIT)
    del future
    until(lambda: not ALIVE, "the release")


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("message_id", [None, "an id"])
def test_messages_that_are_never_run_are_freed(worker, backend, until, overflow, message_id):
    one = worker(backend=backend, capacity=4, overflow=overflow)
    one.on_message("echo", HANDLERS["echo"])
    one.on_error(lambda error: None)
    replies = []
    one.on_message("error", heard(replies))
    one.post_message("echo", Tracked(), message_id, timeout=0.01)
    until(lambda: one.stats().expired == 1, "the deadline")
    assert one.ask("echo", Tracked()).cancel()
    for _ in range(10):
        one.post_message("echo", Tracked(), message_id)
    one.stop(drain=False, timeout=WAIT)
    until(lambda: not ALIVE, "the release")


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_freed(backend, pool, until, kind):
    one = pool(2, backend=backend)
    decorated = WorkerDecorators.run_in_worker("decorated", pool=one)(HANDLERS[kind])
    for _ in range(TIMES):
        if kind in ("echo", "fail"):
            with contextlib.suppress(ValueError):
                decorated(Tracked())
        else:
            asyncio.run(awaited(decorated))
        decorated.submit(Tracked()).exception(WAIT)
    until(lambda: not ALIVE, "the release of what run_in_worker sent")
    if kind in ("echo", "fail"):
        for _ in range(TIMES):
            one.submit(HANDLERS[kind], Tracked()).exception(WAIT)
        # One that fails and is not looked at would be logged, and pytest keeps the records.
        items = [Tracked()] if kind == "fail" else [Tracked() for _ in range(TIMES)]
        with contextlib.suppress(ValueError):
            list(one.map(HANDLERS[kind], items))
        del items
        until(lambda: not ALIVE, "the release of what the executor sent")
    until(lambda: one.submit(count).result(WAIT) == 0, "the release in the child")


@pytest.mark.parametrize("made", [PythonWorker, WorkerPool])
def test_a_task_that_outlives_its_message_is_in_no_handler(made, worker, pool):
    seen = []

    async def look(go):
        from pytoweb.workers import current_message, current_worker

        await go.wait()
        seen.append((current_message(), current_worker()))

    async def start(data):
        go = asyncio.Event()
        TASKS.append(asyncio.ensure_future(look(go)))
        return go

    async def finish(go):
        go.set()
        await TASKS[0]

    one = worker() if made is PythonWorker else pool(1)
    one.on_message("start", start)
    one.on_message("finish", finish)
    if made is PythonWorker:
        one.start()
    go = one.ask("start").result(WAIT)
    one.ask("finish", go).result(WAIT)
    assert seen == [(None, None)]
