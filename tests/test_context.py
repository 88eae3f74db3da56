"""What a handler can know of its message: contextvars, current_message, current_worker."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import threading

import pytest

from pytoweb.workers import WorkerMessage, current_message, current_worker

WAIT = 10.0
color = contextvars.ContextVar("color", default="none")


@pytest.fixture
def looking(worker):
    """Returns a started worker that says which color it sees, then changes it."""
    one = worker("looking")

    @one.on_message("look")
    def look(data):
        seen = color.get()
        color.set("changed by the handler")
        return seen

    return one.start()


@pytest.fixture(autouse=True)
def uncolored():
    """Takes the color back after each test."""
    token = color.set("none")
    yield
    color.reset(token)


def test_the_context_is_that_of_the_post(looking):
    for value in ("red", "green", "blue"):
        color.set(value)
        assert looking.ask("look").result(WAIT) == value


def test_a_context_is_captured_at_the_post_not_at_the_start(worker):
    one = worker()
    one.on_message("look", lambda data: color.get())
    color.set("early")
    early = one.ask("look")
    color.set("late")
    late = one.ask("look")
    one.start()
    assert (early.result(WAIT), late.result(WAIT)) == ("early", "late")


def test_a_change_in_a_handler_stays_in_its_message(looking):
    color.set("mine")
    assert [looking.ask("look").result(WAIT) for _ in range(3)] == ["mine"] * 3
    assert color.get() == "mine"


def test_every_way_to_post_captures_the_context(pool):
    two, seen = pool(2), []
    one = two.create_worker("one")
    one.on_message("look", lambda data: seen.append(color.get()))
    one.start()

    color.set("post_message")
    one.post_message("look")
    color.set("post_messages")
    one.post_messages("look", [1, 2])

    async def apost():
        color.set("apost_message")
        await one.apost_message("look")

    asyncio.run(apost())
    one.run_until_idle(WAIT)
    assert seen == ["post_message", "post_messages", "post_messages", "apost_message"]
    color.set("submit")
    assert two.submit(color.get).result(WAIT) == "submit"
    assert list(two.map(lambda _: color.get(), range(3))) == ["submit"] * 3


def test_calls_of_map_that_wait_for_room_have_the_context_of_the_call(pool):
    one = pool(2, capacity=1)
    color.set("map")
    results = one.map(lambda _: color.get(), range(100))
    color.set("later")
    assert list(results) == ["map"] * 100


def test_one_context_may_be_used_by_two_threads_at_once(pool):
    two, barrier = pool(2), threading.Barrier(2)

    def meet(data):
        barrier.wait(WAIT)
        return color.get()

    color.set("shared")
    assert [future.result(WAIT) for future in [two.submit(meet, 1), two.submit(meet, 2)]] == ["shared"] * 2


def test_a_handler_passes_its_context_on(worker, looking):
    first = worker("first")
    first.on_message("relay", lambda data: looking.ask("look").result(WAIT))
    color.set("relayed")
    assert first.start().ask("relay").result(WAIT) == "relayed"


def test_the_decimal_context_of_the_caller_counts(worker):
    one = worker()
    one.on_message("divide", lambda data: decimal.Decimal(1) / data)
    with decimal.localcontext() as context:
        context.prec = 3
        future = one.ask("divide", 3)
    assert str(one.start().ask("divide", 3).result(WAIT)) != "0.333"
    assert str(future.result(WAIT)) == "0.333"


def test_on_error_runs_in_the_context_of_the_message(worker):
    seen = []
    one = worker()
    one.on_error(lambda error: seen.append(color.get()))
    color.set("of the post")
    one.post_message("unheard")
    color.set("later")
    one.start().run_until_idle(WAIT)
    assert seen == ["of the post"]


def test_outside_of_a_handler_there_is_no_message():
    assert current_message() is None
    assert current_worker() is None


def test_the_message_of_the_handler(worker):
    one = worker("named")
    payload = object()

    @one.on_message("look")
    def look(data):
        message = current_message()
        assert message.data is data
        assert current_worker() is one
        return message

    one.start()
    message = one.ask("look", payload).result(WAIT)
    assert isinstance(message, WorkerMessage)
    assert (message.type, message.data, message.id) == ("look", payload, None)
    assert (message.worker, message.attempt, message.cancelled) == ("named", 1, False)
    assert "look" in repr(message)


def test_the_message_carries_its_id(worker):
    seen = []
    one = worker()
    one.on_message("look", lambda data: seen.append(current_message().id))
    one.post_message("look", message_id="task-1")
    one.post_message("look")
    one.start().run_until_idle(WAIT)
    assert seen == ["task-1", None]


def test_a_message_cannot_be_changed(worker):
    one = worker()
    one.on_message("look", lambda data: current_message())
    message = one.start().ask("look", 1).result(WAIT)
    for name in ("type", "data", "id", "worker", "attempt", "cancelled"):
        with pytest.raises(AttributeError):
            setattr(message, name, "changed")


def test_each_message_is_another_one(worker):
    one = worker()
    one.on_message("look", lambda data: (current_message().data, current_message().type))
    one.start()
    futures = [one.ask("look", number) for number in range(100)]
    assert [future.result(WAIT) for future in futures] == [(number, "look") for number in range(100)]


def test_a_nested_wait_does_not_change_the_message(pool):
    one_thread = pool(1)
    outer, inner = one_thread.create_worker("outer"), one_thread.create_worker("inner")
    inner.on_message("look", lambda data: (current_worker().name, current_message().data))

    @outer.on_message("look")
    def look(data):
        within = inner.ask("look", "inner data").result()
        return within, (current_worker().name, current_message().data)

    inner.start()
    assert outer.start().ask("look", "outer data").result(WAIT) == (
        ("inner", "inner data"),
        ("outer", "outer data"),
    )


def test_the_worker_of_a_pool_message_is_the_pool(pool):
    two = pool(2)
    two.on_message("look", lambda data: current_worker())
    assert two.ask("look").result(WAIT) is two
    assert two.submit(current_worker).result(WAIT) is two


def test_after_the_handler_the_thread_has_no_message(pool, spawn):
    one_thread, leaked = pool(1), []
    one_thread.submit(lambda: None).result(WAIT)
    future = one_thread.submit(pow, 2, 2)
    future.result(WAIT)
    future.add_done_callback(lambda done: leaked.append(current_message()))
    assert leaked == [None]
    assert spawn(current_message).result(WAIT) is None


def test_a_thread_started_by_a_handler_has_no_message(worker, spawn):
    one = worker()
    one.on_message("start", lambda data: spawn(current_message).result(WAIT))
    assert one.start().ask("start").result(WAIT) is None
