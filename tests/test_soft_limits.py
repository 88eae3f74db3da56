"""`on_message(..., soft_timeout=)`: `DeadlineError` in the handler that runs, and in no other."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import pytest
import soft_handlers

from pytoweb.workers import DeadlineError, current_message, default_pool

WAIT = 20.0
SOON = 0.02


@pytest.mark.parametrize("handler", [soft_handlers.compute, soft_handlers.wait], ids=["def", "async"])
def test_a_handler_can_clean_up(worker, backend, handler):
    one = worker("soft", backend=backend)
    one.on_message("long", handler, soft_timeout=SOON)
    assert one.start().ask("long", timeout=WAIT).result(WAIT) == "cleaned up"
    assert one.stats().completed == 1


@pytest.mark.parametrize(
    "handler", [soft_handlers.let_through, soft_handlers.wait_through], ids=["def", "async"]
)
def test_one_that_does_not_fails_its_message_with_the_reason(worker, backend, handler):
    one = worker("soft", backend=backend)
    one.on_message("long", handler, soft_timeout=SOON)
    with pytest.raises(DeadlineError, match=r"handler of 'long' ran longer than its soft_timeout of 0\.02 s"):
        one.start().ask("long", timeout=WAIT).result(WAIT)
    assert one.stats().failed == 1
    assert one.state == "running"


@pytest.mark.parametrize("function", [soft_handlers.compute, soft_handlers.wait], ids=["def", "async"])
def test_a_call_of_a_pool_can_clean_up(pool, backend, function):
    limited = pool(1, backend=backend).options(timeout=WAIT, soft_timeout=SOON)
    assert limited.submit(function, None).result(WAIT) == "cleaned up"
    assert list(limited.map(function, [1, 2])) == ["cleaned up"] * 2
    assert list(limited.map(function, [1, 2], chunksize=2)) == ["cleaned up"] * 2


def test_the_first_call_of_a_process_is_not_late_by_its_start(pool, backend):
    for _ in range(5):
        limited = pool(1, backend=backend).options(timeout=WAIT, soft_timeout=1.0)
        assert limited.submit(abs, -1).result(WAIT) == 1


def test_errors_name_the_function_that_was_limited(pool):
    limited = pool(1).options(timeout=SOON, soft_timeout=WAIT)
    with pytest.raises(DeadlineError, match=r"type 'Event\.wait'"):
        limited.submit(threading.Event().wait, 3 * SOON).result(WAIT)


def test_a_call_of_a_pool_that_does_not_fails_with_the_reason(pool, backend):
    limited = pool(1, backend=backend).options(soft_timeout=SOON)
    text = r"the call of 'let_through' ran longer than its soft_timeout of 0\.02 s"
    with pytest.raises(DeadlineError, match=text):
        limited.submit(soft_handlers.let_through, data=None).result(WAIT)


def test_a_call_in_time_notices_nothing(pool, backend):
    limited = pool(1, backend=backend).options(soft_timeout=WAIT)
    assert limited.submit(pow, 2, exp=3).result(WAIT) == 8
    assert list(limited.map(abs, [-1, -2])) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        limited.submit(divmod, 1, 0).result(WAIT)
    with pytest.raises(TypeError, match="a function to call, not int"):
        limited.submit(3)


@pytest.mark.parametrize("handler", [soft_handlers.double, soft_handlers.double_later], ids=["def", "async"])
def test_a_handler_in_time_notices_nothing(worker, backend, handler):
    one = worker("soft", backend=backend)
    one.on_message("quick", handler, soft_timeout=WAIT)
    one.start()
    assert [one.ask("quick", number).result(WAIT) for number in range(20)] == list(range(0, 40, 2))


@pytest.mark.slow
def test_the_next_message_is_never_interrupted(worker):
    one = worker("race")
    ran = []

    def about_as_long(seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return "in time"

    def other(data):
        for _ in range(200):
            ran.append(threading.get_ident())
        return current_message().type

    one.on_message("limited", about_as_long, soft_timeout=0.001)
    one.on_message("other", other)
    one.start()
    ends = set()
    for number in range(400):
        limited = one.ask("limited", 0.0008 + number % 5 * 0.0001)
        after = one.ask("other")
        ends.add(type(limited.exception(WAIT)))
        assert after.result(WAIT) == "other"
    assert ends <= {DeadlineError, type(None)}
    assert len(ran) == 400 * 200


@pytest.mark.slow
def test_it_counts_from_the_start_of_the_handler(blocked, gate):
    one = blocked()
    # Long, because the handler must end within it on a machine that does much else.
    one.on_message("quick", soft_handlers.double, soft_timeout=1.0)
    queued = one.ask("quick", 1)
    threading.Event().wait(1.1)
    gate.open()
    assert queued.result(WAIT) == 2


def test_a_handler_without_a_limit_takes_its_place(worker):
    one = worker("replaced")
    one.on_message("long", soft_handlers.compute, soft_timeout=SOON)
    one.on_message("long", lambda data: threading.Event().wait(3 * SOON))
    assert one.start().ask("long").result(WAIT) is False


def test_a_cancel_of_the_coroutine_stays_a_cancel(worker):
    one = worker("cancelled")
    entered = threading.Event()
    seen = []

    async def wait(data):
        entered.set()
        try:
            await asyncio.sleep(WAIT)
        except BaseException as error:
            seen.append(type(error))
            raise

    one.on_message("wait", wait, soft_timeout=WAIT)
    future = one.start().ask("wait", timeout=WAIT)
    assert entered.wait(WAIT)
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert seen == [asyncio.CancelledError]


def test_it_can_be_a_decorator(worker):
    one = worker("decorated")

    @one.on_message("long", soft_timeout=SOON)
    def handler(data):
        return soft_handlers.compute(data)

    assert one.start().ask("long").result(WAIT) == "cleaned up"


def test_the_thread_that_watches_ends(worker, until):
    one = worker("watched")
    one.on_message("quick", soft_handlers.double, soft_timeout=WAIT)
    one.start().ask("quick", 1).result(WAIT)
    names = lambda: [thread.name for thread in threading.enumerate()]  # noqa: E731
    until(lambda: "pytoweb-soft-limits" not in names())


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), ("1", TypeError), (float("nan"), ValueError)])
def test_what_is_no_time_is_refused(worker, wrong, error):
    with pytest.raises(error, match="timeout"):
        worker("wrong").on_message("work", soft_handlers.double, soft_timeout=wrong)
    with pytest.raises(error, match="timeout"):
        default_pool().options(soft_timeout=wrong)


def test_handlers_of_replies_have_none(worker):
    with pytest.raises(ValueError, match="soft_timeout"):
        worker("replies").on_message("response", print, soft_timeout=1)
