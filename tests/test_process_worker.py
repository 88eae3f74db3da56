"""A process worker: what a thread worker does, done in another process."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import as_completed, wait

import process_handlers as handlers
import pytest

from pytoweb.workers import (
    PythonWorker,
    SerializationError,
    UnknownMessageError,
    WorkerFuture,
    WorkerMessage,
    WorkerStoppedError,
)

WAIT = 10.0


def test_a_new_process_worker_says_what_it_is(worker):
    one = worker("named", backend="process")
    assert (one.name, one.state, one.backend, one.is_alive()) == ("named", "new", "process", False)
    assert "named" in repr(one)


def test_a_handler_runs_in_another_process(remote):
    one = remote()
    future = one.ask("pid")
    assert isinstance(future, WorkerFuture)
    assert future.result(WAIT) != os.getpid()
    assert (one.state, one.is_alive()) == ("running", True)


def test_all_messages_of_a_worker_go_to_one_process(remote):
    one = remote()
    assert len({one.ask("pid").result(WAIT) for _ in range(50)}) == 1


def test_two_workers_have_two_processes(remote):
    first, second = remote("first"), remote("second")
    assert first.ask("pid").result(WAIT) != second.ask("pid").result(WAIT)


def test_handlers_run_on_the_main_thread_of_the_process(remote):
    assert remote().ask("thread_name").result(WAIT) == "MainThread"


def test_posting_before_the_start_queues(remote):
    one = remote(start=False)
    futures = [one.ask("add_one", number) for number in range(10)]
    assert not any(future.done() for future in futures)
    assert one.stats().depth == 10
    one.start()
    assert [future.result(WAIT) for future in futures] == list(range(1, 11))


def test_starting_twice_does_nothing(remote):
    one = remote()
    before = one.ask("pid").result(WAIT)
    assert one.start() is one
    assert one.ask("pid").result(WAIT) == before


def test_messages_are_handled_in_the_order_of_posting(remote, tmp_path):
    one, path = remote(), str(tmp_path / "handled")
    for number in range(500):
        one.post_message("write", (path, number))
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(500)]


def test_a_bare_post_is_handled_too(remote, tmp_path):
    one, path = remote(), str(tmp_path / "handled")
    assert one.post_message("write", (path, "bare")) is None
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == ["bare"]
    assert one.stats().completed == 1


def test_a_message_without_data(remote):
    assert remote().ask("echo").result(WAIT) is None


def test_post_messages_posts_all_in_order(remote, tmp_path):
    one, path = remote(), str(tmp_path / "handled")
    assert one.post_messages("write", ((path, number) for number in range(2000))) == 2000
    assert one.ask("echo", "behind them").result(WAIT) == "behind them"
    assert handlers.noted(path) == [str(number) for number in range(2000)]


def test_what_one_thread_posts_stays_in_order_among_others(remote, spawn, tmp_path):
    one, path = remote(), str(tmp_path / "handled")
    barrier = threading.Barrier(4)

    def produce(producer):
        barrier.wait(WAIT)
        for number in range(200):
            one.post_message("write", (path, f"{producer} {number}"))

    for outcome in [spawn(produce, producer) for producer in range(4)]:
        outcome.result(WAIT)
    one.run_until_idle(WAIT)
    lines = [line.split() for line in handlers.noted(path)]
    for producer in range(4):
        assert [int(number) for by, number in lines if by == str(producer)] == list(range(200))


def test_state_of_the_process_is_kept_between_messages(remote):
    one = remote()
    assert [one.ask("count").result(WAIT) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert handlers.state["count"] == 0, "it is the child's"


def test_the_state_of_one_worker_is_not_that_of_another(remote):
    first, second = remote("first"), remote("second")
    assert [first.ask("count").result(WAIT) for _ in range(3)] == [1, 2, 3]
    assert second.ask("count").result(WAIT) == 1


def test_replies_come_to_the_response_handler_in_order(remote):
    one, replies, done = remote(start=False), [], threading.Event()

    @one.on_message("response")
    def response(message):
        replies.append(message)
        if message.data["id"] == "task-99":
            done.set()

    one.start()
    for number in range(100):
        one.post_message("add_one", number, message_id=f"task-{number}")
    assert done.wait(WAIT)
    assert all(isinstance(message, WorkerMessage) for message in replies)
    assert [message.data for message in replies] == [
        {"id": f"task-{number}", "result": number + 1} for number in range(100)
    ]


def test_errors_come_to_the_error_handler(remote):
    one, errors, done = remote(start=False), [], threading.Event()
    one.on_error(lambda error: None)

    @one.on_message("error")
    def error(message):
        errors.append((message.type, message.data["id"], message.data["error"], os.getpid()))
        done.set()

    one.start().post_message("fail", "for the owner", message_id="task-1")
    assert done.wait(WAIT)
    ((kind, number, raised, pid),) = errors
    assert (kind, number, pid) == ("error", "task-1", os.getpid())
    assert isinstance(raised, ValueError)
    assert raised.args == ("for the owner",)


def test_a_reply_of_a_message_id_is_also_the_future_s_value(remote, until):
    one, replies = remote(start=False), []
    one.on_message("response", lambda message: replies.append(message.data))
    one.start().post_message("echo", [1, 2], "the id")
    until(lambda: replies, "the reply")
    assert replies == [{"id": "the id", "result": [1, 2]}]


def test_a_type_nobody_handles_is_an_error_everywhere(remote):
    one, seen, told = remote(start=False), [], threading.Event()
    one.on_error(seen.append)
    one.on_message("error", lambda message: (seen.append(message.data["error"]), told.set()))
    one.start()
    future = one.ask("nobody")
    assert isinstance(future.exception(WAIT), UnknownMessageError)
    assert "nobody" in str(future.exception())
    one.post_message("nobody", message_id="task")
    assert told.wait(WAIT)
    one.run_until_idle(WAIT)
    assert [type(error) for error in seen] == [UnknownMessageError] * 3
    assert one.ask("echo", "alive").result(WAIT) == "alive"


def test_handlers_may_be_added_and_replaced_while_it_runs(remote):
    one = remote()
    assert one.ask("echo", 1).result(WAIT) == 1
    one.on_message("echo", handlers.add_one)
    assert one.ask("echo", 1).result(WAIT) == 2
    one.on_message("new", handlers.length)
    assert one.ask("new", "four").result(WAIT) == 4


def test_what_was_posted_before_a_handler_is_added_may_use_it(remote_blocked, remote_gate):
    one = remote_blocked()
    future = one.ask("late", "data")
    one.on_message("late", handlers.echo)
    remote_gate.open()
    assert future.result(WAIT) == "data"


def test_registering_keeps_the_state_of_the_process(remote):
    one = remote()
    assert one.ask("count").result(WAIT) == 1
    one.on_message("again", handlers.count)
    assert (one.ask("again").result(WAIT), one.ask("count").result(WAIT)) == (2, 3)


def test_on_message_returns_the_handler_and_is_a_decorator(worker):
    one = worker(backend="process")
    assert one.on_message("echo", handlers.echo) is handlers.echo
    assert one.on_message("length")(handlers.length) is handlers.length
    one.start()
    assert (one.ask("echo", 1).result(WAIT), one.ask("length", "ab").result(WAIT)) == (1, 2)


def test_wait_and_as_completed_take_its_futures(remote):
    one = remote()
    futures = [one.ask("add_one", number) for number in range(20)]
    assert {future.result() for future in as_completed(futures, WAIT)} == set(range(1, 21))
    assert not wait([one.ask("add_one", number) for number in range(20)], WAIT).not_done


def test_callbacks_run_in_the_host_in_their_order(remote):
    one, called, done = remote(), [], threading.Event()
    future = one.ask("echo", "value")
    future.add_done_callback(lambda future: called.append((future.result(), os.getpid())))
    future.add_done_callback(lambda future: done.set())
    assert done.wait(WAIT)
    assert called == [("value", os.getpid())]


def test_ten_thousand_messages_come_through(remote):
    one = remote()
    futures = [one.ask("add_one", number) for number in range(10_000)]
    assert [future.result(WAIT) for future in futures] == list(range(1, 10_001))
    stats = one.stats()
    assert (stats.posted, stats.completed, stats.depth, stats.running) == (10_000, 10_000, 0, 0)


def test_the_numbers_are_those_of_the_handlers(remote_blocked, remote_gate):
    one = remote_blocked(capacity=50)
    one.post_messages("echo", range(10))
    stats = one.stats()
    assert (stats.capacity, stats.running, stats.depth, stats.state) == (50, 1, 10, "running")
    remote_gate.open()
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert (stats.completed, stats.posted, stats.depth, stats.running) == (11, 11, 0, 0)
    assert 0 < stats.busy_seconds < WAIT
    assert stats.run_p50 is not None


def test_dropped_futures_do_not_drop_their_messages(remote, tmp_path):
    one, path = remote(), str(tmp_path / "handled")
    for number in range(100):
        one.ask("write", (path, number))
    gc.collect()
    one.run_until_idle(WAIT)
    assert len(handlers.noted(path)) == 100


def test_data_that_cannot_be_pickled_is_refused_at_the_call(remote):
    one = remote()
    for post in (one.ask, one.post_message, lambda kind, data: one.post_messages(kind, [data])):
        with pytest.raises(SerializationError, match="echo"):
            post("echo", threading.Lock())
    assert one.stats().posted == 0
    assert one.ask("echo", "alive").result(WAIT) == "alive"


def test_a_stopped_worker_refuses(remote):
    one = remote()
    assert one.ask("echo", 1).result(WAIT) == 1
    one.stop(timeout=WAIT)
    assert (one.state, one.is_alive()) == ("stopped", False)
    for call in (one.start, lambda: one.ask("echo"), lambda: one.post_message("echo")):
        with pytest.raises(WorkerStoppedError):
            call()


def test_it_works_in_a_with_block():
    with PythonWorker("with", backend="process") as one:
        one.on_message("echo", handlers.echo)
        assert one.ask("echo", 1).result(WAIT) == 1
    assert one.state == "stopped"


@pytest.mark.parametrize("transport", ["shared-memory", "socket"])
def test_both_transports_carry_messages(remote, transport, require):
    require(transport == "socket" or os.path.isdir("/proc/self/fd"), "shared memory as Linux has it")
    one = remote(transport=transport)
    assert [one.ask("add_one", number).result(WAIT) for number in range(20)] == list(range(1, 21))
    assert one.ask("echo", b"x" * 1_000_000).result(WAIT) == b"x" * 1_000_000
