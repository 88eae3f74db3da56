"""PythonWorker: what its constructor and methods take, and what they refuse at the call."""

from __future__ import annotations

import asyncio
import functools
import math
import threading

import process_handlers
import pytest

from pytoweb.workers import (
    Batch,
    PythonWorker,
    Retry,
    SerializationError,
    WorkerDecorators,
    WorkerFuture,
    WorkerPool,
)

WAIT = 10.0
NOT_STRINGS = [None, 3, b"bytes", ["work"], object()]


def test_a_new_worker_says_what_it_is(worker):
    one = worker("named")

    assert one.name == "named"
    assert one.state == "new"
    assert one.backend == "thread"
    assert one.is_alive() is False
    assert "named" in repr(one)


@pytest.mark.parametrize("name", NOT_STRINGS)
def test_the_name_is_a_string(name):
    with pytest.raises(TypeError):
        PythonWorker(name)


def test_the_name_is_not_empty():
    with pytest.raises(ValueError, match="name"):
        PythonWorker("")


@pytest.mark.parametrize("name", ["nul\0inside", "\ud800"])
def test_a_name_that_no_thread_may_have_is_refused(name, backend):
    for make in (PythonWorker, lambda name, **options: WorkerPool(1, name=name, **options)):
        with pytest.raises(ValueError, match="name"):
            make(name, backend=backend)
    with WorkerPool(1, backend=backend) as pool, pytest.raises(ValueError, match="name"):
        pool.create_worker(name)
    with pytest.raises(ValueError, match="name"):
        WorkerDecorators.run_in_worker(name)


@pytest.mark.parametrize("capacity", [0, -1, -(2**70)])
def test_a_capacity_below_one_is_refused(capacity):
    with pytest.raises(ValueError, match="capacity"):
        PythonWorker("w", capacity=capacity)


@pytest.mark.parametrize("capacity", [True, 1.5, "10"])
def test_a_capacity_that_is_not_an_int_is_refused(capacity):
    with pytest.raises(TypeError):
        PythonWorker("w", capacity=capacity)


@pytest.mark.parametrize("overflow", ["", "Block", "drop", "ring"])
def test_an_unknown_overflow_policy_is_refused_with_the_four_names(overflow):
    with pytest.raises(ValueError) as caught:
        PythonWorker("w", overflow=overflow)
    for name in ("block", "reject", "drop_newest", "drop_oldest"):
        assert name in str(caught.value)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend"):
        PythonWorker("w", backend="quantum")


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError):
        PythonWorker("w", color="blue")


def test_two_workers_may_share_a_name(worker):
    first, second = worker("same"), worker("same")
    first.on_message("who", lambda data: "first")
    second.on_message("who", lambda data: "second")
    first.start()
    second.start()

    assert first.ask("who").result(WAIT) == "first"
    assert second.ask("who").result(WAIT) == "second"


def test_on_message_returns_the_handler(worker):
    one = worker()

    def handler(data):
        return data

    assert one.on_message("work", handler) is handler


def test_on_message_and_on_error_are_decorators_too(worker):
    one = worker()
    errors = []

    @one.on_message("work")
    def work(data):
        return data + 1

    @one.on_error()
    def failed(error):
        errors.append(error)

    one.start()
    assert one.ask("work", 1).result(WAIT) == 2
    assert work(1) == 2
    unknown = one.ask("unheard").exception(WAIT)
    one.stop(timeout=WAIT)
    assert errors == [unknown]
    assert callable(failed)


@pytest.mark.parametrize("handler", [3, "handler", ["list"], object()])
def test_a_handler_that_is_not_callable_is_refused_at_the_call(worker, handler):
    one = worker()
    with pytest.raises(TypeError):
        one.on_message("work", handler)
    with pytest.raises(TypeError):
        one.on_message("work")(handler)
    with pytest.raises(TypeError):
        one.on_message("response", handler)
    with pytest.raises(TypeError):
        one.on_error(handler)


@pytest.mark.parametrize("message_type", NOT_STRINGS)
def test_a_message_type_that_is_not_a_string_is_refused_at_the_call(worker, message_type):
    one = worker()
    with pytest.raises(TypeError):
        one.on_message(message_type, print)
    with pytest.raises(TypeError):
        one.post_message(message_type)
    with pytest.raises(TypeError):
        one.post_messages(message_type, [1])
    with pytest.raises(TypeError):
        one.ask(message_type)
    assert one.stats().posted == 0


@pytest.mark.parametrize("message_type", ["response", "error"])
def test_the_owners_side_cannot_be_posted_to(worker, message_type):
    one = worker()
    with pytest.raises(ValueError, match=message_type):
        one.post_message(message_type)
    with pytest.raises(ValueError, match=message_type):
        one.post_messages(message_type, [1])
    with pytest.raises(ValueError, match=message_type):
        one.ask(message_type)
    assert one.stats().posted == 0


@pytest.mark.parametrize("message_id", [1, b"id", ("a",), object()])
def test_a_message_id_is_a_string_or_none(worker, message_id):
    one = worker()
    with pytest.raises(TypeError):
        one.post_message("work", None, message_id)
    assert one.stats().posted == 0


HALF = "half \ud800"

#: Whatever takes a name, by what the error calls it.
TAKING_NAMES = {
    "on_message": ("a message type", lambda one: one.on_message(HALF, len)),
    "on_message, with options": (
        "a message type",
        lambda one: one.on_message(HALF, len, soft_timeout=1, rate="1/s", retry=Retry(2), batch=Batch(2)),
    ),
    "@on_message": ("a message type", lambda one: one.on_message(HALF)),
    "worker_method": ("a message type", lambda one: WorkerDecorators.worker_method(HALF)),
    "post_message": ("a message type", lambda one: one.post_message(HALF)),
    "post_messages": ("a message type", lambda one: one.post_messages(HALF, [1])),
    "apost_message": ("a message type", lambda one: asyncio.run(one.apost_message(HALF))),
    "ask": ("a message type", lambda one: one.ask(HALF)),
    "aask": ("a message type", lambda one: asyncio.run(one.aask(HALF))),
    "stream": ("a message type", lambda one: one.stream(HALF)),
    "astream": ("a message type", lambda one: asyncio.run(one.astream(HALF))),
    "feed": ("a message type", lambda one: one.feed(HALF, [1])),
    "afeed": ("a message type", lambda one: asyncio.run(one.afeed(HALF, [1]))),
    "every": ("a message type", lambda one: one.every(60, HALF)),
    "message_id": ("message_id", lambda one: one.post_message("echo", 1, HALF)),
    "message_id, no reply": ("message_id", lambda one: one.post_message("echo", 1, HALF, reply=False)),
    "message_id, awaited": ("message_id", lambda one: asyncio.run(one.apost_message("echo", 1, HALF))),
    "on_event": ("the name of an event", lambda one: one.on_event(HALF, len)),
    "subscribe": ("a topic", lambda one: one.subscribe(HALF)),
    "publish": ("a topic", lambda one: one.pool.publish(HALF)),
    "broadcast": ("a message type", lambda one: one.pool.broadcast(HALF)),
}


@pytest.mark.parametrize("call", TAKING_NAMES)
def test_a_name_with_a_lone_surrogate_is_refused_at_the_call(pool, backend, call):
    what, take = TAKING_NAMES[call]
    one = pool(1, backend=backend).create_worker("named")
    one.on_message("echo", process_handlers.echo)
    own = one._pytoweb
    before = [dict(kept) for kept in (own.handlers, own.packed, own.soft_limits, own.rates, own.batches)]
    with pytest.raises(
        ValueError, match=rf"{what} must be text without lone surrogates, not 'half \\ud800'$"
    ):
        take(one)
    # Nothing of it is left, and the worker works.
    after = [dict(kept) for kept in (own.handlers, own.packed, own.soft_limits, own.rates, own.batches)]
    assert after == before
    one.start()
    assert one.ask("echo", HALF, key=HALF).result(WAIT) == HALF
    assert one.stats().posted == 1


def test_an_event_with_a_lone_surrogate_is_refused_at_the_call(worker, backend):
    one = worker(backend=backend)
    one.on_message("emit", process_handlers.emit_half)
    one.start()
    assert one.ask("emit").result(WAIT) == ["ValueError", "ValueError"]


def test_a_handler_that_cannot_be_sent_leaves_the_one_before_as_it_was(worker):
    one = worker(backend="process")
    one.on_message("echo", process_handlers.echo, soft_timeout=WAIT)
    with pytest.raises(SerializationError):
        one.on_message("echo", threading.Lock().acquire, soft_timeout=0.01)
    assert one._pytoweb.soft_limits == {"echo": WAIT}
    one.start()
    assert one.ask("echo", 1).result(WAIT) == 1


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_a_negative_timeout_is_refused(worker, timeout):
    one = worker()
    with pytest.raises(ValueError, match="timeout"):
        one.post_message("work", timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        one.ask("work", timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        one.stop(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        one.run_until_idle(timeout)
    assert one.stats().posted == 0
    assert one.state == "new"


@pytest.mark.parametrize("timeout", ["1", [], object()])
def test_a_timeout_that_is_not_a_number_is_refused(worker, timeout):
    one = worker()
    with pytest.raises(TypeError):
        one.post_message("work", timeout=timeout)
    with pytest.raises(TypeError):
        one.ask("work", timeout=timeout)
    with pytest.raises(TypeError):
        one.stop(timeout=timeout)
    assert one.stats().posted == 0


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 5, 5.0])
def test_large_timeouts_and_none_are_taken(worker, timeout):
    one = worker()
    one.on_message("work", lambda data: data)
    one.start()

    one.post_message("work", timeout=timeout)
    assert one.ask("work", 1, timeout=timeout).result(WAIT) == 1
    one.run_until_idle(timeout)
    one.stop(timeout=timeout)


def test_items_that_cannot_be_iterated_are_refused(worker):
    one = worker()
    with pytest.raises(TypeError):
        one.post_messages("work", 3)
    assert one.stats().posted == 0


def test_a_post_returns_nothing_and_an_ask_a_future(worker):
    one = worker()
    one.on_message("work", lambda data: data)
    one.start()

    assert one.post_message("work", 1) is None
    assert one.post_message("work", 1, "id") is None
    assert one.post_messages("work", iter([1, 2, 3])) == 3
    assert one.post_messages("work", []) == 0
    assert isinstance(one.ask("work"), WorkerFuture)


class Echo:
    """An object that can be called."""

    def __call__(self, data):
        return data


@pytest.mark.parametrize("handler", [functools.partial(max, "B"), "abc".startswith, str, Echo()])
def test_anything_callable_is_a_handler(worker, handler):
    one = worker()
    one.on_message("call", handler)

    assert one.start().ask("call", "a").result(WAIT) == handler("a")


def test_a_subclass_may_have_its_own_constructor(worker):
    class Counter(PythonWorker):
        def __init__(self, name, *, step, **options):
            super().__init__(name, **options)
            self.total = 0
            self.step = step
            self.on_message("count", self.count)

        def count(self, data):
            self.total += self.step
            return self.total

    one = worker("counter", cls=Counter, step=5, capacity=3).start()

    assert one.stats().capacity == 3
    assert [one.ask("count").result(WAIT) for _ in range(3)] == [5, 10, 15]


def test_a_handler_sees_the_name_of_its_thread(worker):
    one = worker("named")
    one.on_message("name", lambda data: threading.current_thread().name)
    assert one.start().ask("name").result(10) == "pytoweb-named-1"
