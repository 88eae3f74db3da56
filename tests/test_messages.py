"""Messages: their order, their ids, and the replies and errors that come back."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading

import pytest

from pytoweb.workers import UnknownMessageError, WorkerMessage

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""


def take(source, count):
    """Takes that many items from a queue."""
    return [source.get(timeout=WAIT) for _ in range(count)]


@pytest.fixture
def replying(worker):
    """Returns a started worker that doubles numbers and divides ten by them."""
    one = worker("replying")
    one.on_message("double", lambda data: data * 2)
    one.on_message("divide", lambda data: 10 // data)
    one.on_error(lambda error: None)
    return one.start()


def test_the_handler_gets_the_very_object_that_was_posted(worker):
    one = worker()
    one.on_message("work", lambda data: data)
    one.start()

    payload = {"rows": [1, 2, 3]}
    assert one.ask("work", payload).result(WAIT) is payload
    assert one.ask("work").result(WAIT) is None


def test_messages_are_handled_one_at_a_time_in_the_order_of_posting(worker):
    handled, inside = [], threading.Lock()
    one = worker()

    @one.on_message("work")
    def work(data):
        assert inside.acquire(blocking=False), "two messages at a time"
        handled.append(data)
        inside.release()

    one.post_messages("work", range(500))
    one.start()
    for number in range(500, 1000):
        one.post_message("work", number)
    last = one.ask("work", 1000)
    last.result(WAIT)

    assert handled == list(range(1001))


def test_types_do_not_overtake_each_other(worker):
    handled = []
    one = worker()
    one.on_message("even", handled.append)
    one.on_message("odd", handled.append)
    for number in range(200):
        one.post_message("odd" if number % 2 else "even", number)
    one.start()
    one.run_until_idle(WAIT)

    assert handled == list(range(200))


def test_the_messages_of_each_producer_keep_their_order(worker, spawn):
    handled = []
    barrier = threading.Barrier(4)
    one = worker()
    one.on_message("work", handled.append)
    one.start()

    def produce(producer):
        barrier.wait(WAIT)
        for number in range(500):
            one.post_message("work", (producer, number))

    for outcome in [spawn(produce, producer) for producer in range(4)]:
        outcome.result(WAIT)
    one.run_until_idle(WAIT)

    for producer in range(4):
        assert [number for who, number in handled if who == producer] == list(range(500))


def test_a_response_carries_the_id_and_the_result(replying):
    replies = queue.Queue()
    replying.on_message("response", replies.put)
    replying.post_message("double", 21, "positional")
    replying.post_message("double", 4, message_id="keyword")

    first, second = take(replies, 2)
    assert isinstance(first, WorkerMessage)
    assert (first.type, first.data["id"], first.data["result"]) == ("response", "positional", 42)
    assert (second.type, second.data["id"], second.data["result"]) == ("response", "keyword", 8)
    assert first.worker == "replying"


def test_an_error_reply_carries_the_id_and_the_exception(worker):
    raised = ValueError("original")
    replies = queue.Queue()
    one = worker()

    @one.on_message("fail")
    def fail(data):
        raise raised

    one.on_error(lambda error: None)
    one.on_message("error", replies.put)
    one.start()
    one.post_message("fail", message_id="a")
    one.post_message("unheard", message_id="b")

    failed, unknown = take(replies, 2)
    assert isinstance(failed, WorkerMessage)
    assert (failed.type, failed.data["id"]) == ("error", "a")
    assert failed.data["error"] is raised
    assert unknown.data["id"] == "b"
    assert isinstance(unknown.data["error"], UnknownMessageError)
    assert "unheard" in str(unknown.data["error"])


def test_only_messages_with_an_id_are_replied_to(replying):
    replies = queue.Queue()
    replying.on_message("response", replies.put)
    replying.post_message("double", 1)
    replying.post_messages("double", [2, 3])
    assert replying.ask("double", 4).result(WAIT) == 8
    replying.post_message("double", 5, "only")

    assert take(replies, 1)[0].data == {"id": "only", "result": 10}
    assert replies.empty()


def test_ids_may_repeat_and_be_empty(replying):
    replies = queue.Queue()
    replying.on_message("response", replies.put)
    for number, name in enumerate(["same", "same", ""]):
        replying.post_message("double", number, name)

    assert [(reply.data["id"], reply.data["result"]) for reply in take(replies, 3)] == [
        ("same", 0),
        ("same", 2),
        ("", 4),
    ]


def test_responses_and_errors_come_in_the_order_of_the_work(replying):
    replies = queue.Queue()
    replying.on_message("response", replies.put)
    replying.on_message("error", replies.put)
    for number in range(200):
        replying.post_message("divide", number % 3, str(number))

    got = take(replies, 200)
    assert [reply.data["id"] for reply in got] == [str(number) for number in range(200)]
    assert [reply.type for reply in got] == ["response" if number % 3 else "error" for number in range(200)]


def test_replies_are_kept_until_a_handler_is_registered(replying):
    for number in range(100):
        replying.post_message("double", number, str(number))
    replying.run_until_idle(WAIT)

    replies = queue.Queue()
    replying.on_message("response", replies.put)
    replying.post_message("double", 100, "100")

    assert [reply.data["id"] for reply in take(replies, 101)] == [str(number) for number in range(101)]


def test_kept_replies_of_a_stopped_worker_are_delivered(replying):
    replying.post_message("double", 21, "late")
    replying.stop(timeout=WAIT)

    replies = queue.Queue()
    replying.on_message("response", replies.put)

    assert take(replies, 1)[0].data == {"id": "late", "result": 42}


def test_reply_handlers_run_on_one_thread_that_is_not_the_workers(replying):
    threads = queue.Queue()
    replying.on_message("where", lambda data: threading.get_ident())
    replying.on_message("response", lambda message: threads.put(threading.get_ident()))
    handler_thread = replying.ask("where").result(WAIT)
    for number in range(20):
        replying.post_message("double", number, str(number))

    seen = set(take(threads, 20))
    assert len(seen) == 1
    assert not seen & {handler_thread, threading.get_ident()}


def test_reply_handlers_registered_on_an_event_loop_run_on_it(replying):
    async def main():
        loop, arrived = asyncio.get_running_loop(), asyncio.Queue()

        def on_response(message):
            assert asyncio.get_running_loop() is loop
            arrived.put_nowait((threading.get_ident(), message.data["id"]))

        replying.on_message("response", on_response)
        for number in range(50):
            replying.post_message("double", number, str(number))
        return [await asyncio.wait_for(arrived.get(), WAIT) for _ in range(50)]

    got = asyncio.run(main())
    assert got == [(threading.get_ident(), str(number)) for number in range(50)]


def test_a_slow_reply_handler_delays_replies_but_never_work(replying, gate):
    replies = queue.Queue()

    @replying.on_message("response")
    def on_response(message):
        gate(message)
        replies.put(message.data["id"])

    for number in range(20):
        replying.post_message("double", number, str(number))
    gate.wait_entered()

    assert replying.ask("double", 21).result(WAIT) == 42
    assert replying.stats().completed == 21
    assert replies.empty()
    gate.open()
    assert take(replies, 20) == [str(number) for number in range(20)]


def test_a_reply_handler_that_raises_is_logged_and_the_next_reply_comes(replying, caplog):
    replies = queue.Queue()

    @replying.on_message("response")
    def on_response(message):
        replies.put(message.data["id"])
        if message.data["id"] == "bad":
            raise RuntimeError("the reply handler itself")

    with caplog.at_level(logging.ERROR):
        replying.post_message("double", 1, "bad")
        replying.post_message("double", 2, "good")
        assert take(replies, 2) == ["bad", "good"]
    (record,) = caplog.records
    assert record.name == "pytoweb.worker.replying"
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is RuntimeError
    assert replying.ask("double", 1).result(WAIT) == 2


def test_a_reply_handler_may_post_to_the_worker(replying):
    results = queue.Queue()

    @replying.on_message("response")
    def on_response(message):
        if message.data["result"] < 100:
            replying.post_message("double", message.data["result"], message.data["id"])
        else:
            results.put(message.data["result"])

    replying.post_message("double", 1, "chain")
    assert results.get(timeout=WAIT) == 128


def test_a_handler_may_be_replaced_while_the_worker_runs(worker, gate):
    one = worker()
    one.on_message("gate", gate)
    one.on_message("work", lambda data: "old")
    one.start()
    assert one.ask("work").result(WAIT) == "old"

    one.post_message("gate")
    gate.wait_entered()
    queued = one.ask("work")
    one.on_message("work", lambda data: "new")
    gate.open()

    assert queued.result(WAIT) == "new"


def test_a_handler_may_register_handlers(worker):
    one = worker()
    one.on_message("learn", lambda name: one.on_message(name, lambda data: (name, data)) and None)
    one.start()

    assert one.ask("learn", "trick").result(WAIT) is None
    assert one.ask("trick", 1).result(WAIT) == ("trick", 1)


def test_a_type_registered_while_its_message_is_queued_is_handled(worker):
    one = worker()
    early = one.ask("later", 1)
    one.on_message("later", lambda data: data)

    assert one.start().run_until_idle(WAIT) is None
    assert early.result(0) == 1


def test_replies_are_not_delivered_twice_when_a_handler_is_replaced(replying):
    first, second = queue.Queue(), queue.Queue()
    replying.on_message("response", first.put)
    replying.post_message("double", 1, "a")
    assert take(first, 1)[0].data["id"] == "a"
    replying.on_message("response", second.put)
    replying.post_message("double", 2, "b")

    assert take(second, 1)[0].data["id"] == "b"
    with pytest.raises(queue.Empty):
        first.get(timeout=NEVER)
