"""The bugs of the prototype behind the seed, each as a test named after it."""

from __future__ import annotations

import queue
import threading

import pytest

from pytoweb.workers import (
    MailboxFullError,
    PythonWorker,
    UnknownMessageError,
    WorkerDecorators,
    WorkerMessage,
    current_worker,
    default_pool,
)

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""


class OwnError(Exception):
    """An exception type of the user."""


def test_01_stop_in_a_handler_joins_itself_and_raises(worker, until):
    one = worker()
    one.on_message("quit", lambda data: one.stop())
    one.start()

    assert one.ask("quit").result(WAIT) is None
    until(lambda: one.state == "stopped", "the stop from inside")


def test_02_system_exit_in_a_handler_kills_the_thread(worker):
    def exit_now(code):
        raise SystemExit(code)

    one = worker()
    one.on_message("exit", exit_now)
    one.on_message("echo", lambda data: data)
    one.on_error(lambda error: None)
    one.start()

    error = one.ask("exit", 3).exception(WAIT)
    assert isinstance(error, SystemExit)
    assert error.code == 3
    assert one.is_alive()
    assert one.ask("echo", "alive").result(WAIT) == "alive"


def test_03_unknown_types_vanish(worker):
    errors = queue.Queue()
    one = worker()
    one.on_error(errors.put)
    one.start()

    one.post_message("unheard")
    assert isinstance(errors.get(timeout=WAIT), UnknownMessageError)
    assert isinstance(one.ask("unheard").exception(WAIT), UnknownMessageError)


def test_04_the_queue_is_unbounded(worker):
    one = worker(overflow="reject")
    capacity = one.stats().capacity

    assert capacity == 16_384
    assert one.post_messages("work", range(capacity + 1)) == capacity
    with pytest.raises(MailboxFullError):
        one.post_message("work")


def test_05_stop_silently_abandons_the_queue(worker):
    handled = []
    one = worker()
    one.on_message("work", handled.append)
    one.post_messages("work", range(1000))
    one.start()

    one.stop(timeout=WAIT)

    assert handled == list(range(1000))


def test_06_replies_go_into_the_own_queue_and_run_on_the_worker(worker, gate):
    replies, threads = queue.Queue(), {}
    one = worker(capacity=1)
    one.on_message("work", lambda data: threads.setdefault("handler", threading.get_ident()))
    one.on_message("gate", gate)
    one.on_message("response", lambda message: replies.put(threading.get_ident()))
    one.start()

    one.post_message("work", message_id="a")
    assert replies.get(timeout=WAIT) != threads["handler"]
    one.post_message("gate", message_id="b")
    gate.wait_entered()
    one.post_message("work", message_id="c")
    assert one.stats().depth == 1, "a reply takes no room in the mailbox"


def test_07_the_response_handler_gets_data_instead_of_a_message(worker):
    replies = queue.Queue()
    one = worker()
    one.on_message("work", lambda data: data * 2)
    one.on_message("response", replies.put)
    one.start()

    one.post_message("work", 21, message_id="task-1")

    message = replies.get(timeout=WAIT)
    assert isinstance(message, WorkerMessage)
    assert message.type == "response"
    assert message.data["id"] == "task-1"
    assert message.data["result"] == 42


def test_08_run_in_worker_makes_a_pool_per_call_and_waits_forever():
    @WorkerDecorators.run_in_worker("reused")
    def where():
        return current_worker()

    first, second = where(), where()
    assert first is second
    assert default_pool().get_worker("reused") is first
    assert list(default_pool().workers) == ["reused"]


def test_09_concurrent_calls_take_each_others_reply(spawn):
    @WorkerDecorators.run_in_worker("shared")
    def echo(value):
        return value

    barrier = threading.Barrier(8)

    def call(number):
        barrier.wait(WAIT)
        return [echo((number, index)) for index in range(50)]

    calls = [spawn(call, number) for number in range(8)]
    for number, outcome in enumerate(calls):
        assert outcome.result(WAIT) == [(number, index) for index in range(50)]


def test_10_the_type_of_the_exception_is_lost(worker):
    one = worker()
    raised = OwnError("original")

    def fail(data):
        raise raised

    one.on_message("fail", fail)
    one.on_error(lambda error: None)
    one.start()

    with pytest.raises(OwnError) as caught:
        one.ask("fail").result(WAIT)
    assert caught.value is raised


def test_11_the_size_of_a_pool_limits_nothing(pool, gate):
    entered = queue.Queue()
    two = pool(2)

    def work(data):
        entered.put(data)
        return gate(data)

    futures = []
    for number in range(6):
        one = two.create_worker(f"worker-{number}")
        one.on_message("work", work)
        one.start()
        futures.append(one.ask("work", number))

    entered.get(timeout=WAIT)
    entered.get(timeout=WAIT)
    with pytest.raises(queue.Empty):
        entered.get(timeout=NEVER)
    gate.open()
    assert [future.result(WAIT) for future in futures] == list(range(6))


def test_12_start_after_create_worker_is_harmless(pool):
    handled = []
    one = pool(2).create_worker("once")
    one.on_message("work", handled.append)

    assert one.start() is one
    assert one.start() is one
    one.post_messages("work", range(10))
    one.run_until_idle(WAIT)

    assert handled == list(range(10))


def test_13_worker_method_registers_nothing(worker):
    class Doubler(PythonWorker):
        @WorkerDecorators.worker_method("double")
        def double(self, data):
            return data * 2

    assert worker(cls=Doubler).start().ask("double", 21).result(WAIT) == 42


def test_14_an_on_error_that_raises_ends_the_loop(worker, caplog):
    seen = []

    def on_error(error):
        seen.append(str(error))
        raise OwnError("the error handler itself")

    def fail(data):
        raise ValueError(data)

    one = worker()
    one.on_message("fail", fail)
    one.on_message("echo", lambda data: data)
    one.on_error(on_error)
    one.start()

    one.post_messages("fail", ["first", "second"])
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    assert seen == ["first", "second"]
    assert [record.exc_info[0] for record in caplog.records] == [OwnError, OwnError]
