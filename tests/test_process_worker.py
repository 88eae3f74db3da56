"""A process worker beyond the contract: which process runs its messages, and whose state they see."""

from __future__ import annotations

import os
import threading

import process_handlers as handlers
import pytest

from pytoweb.workers import (
    SerializationError,
    WorkerFuture,
)

WAIT = 10.0


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


def test_starting_twice_does_nothing(remote):
    one = remote()
    before = one.ask("pid").result(WAIT)
    assert one.start() is one
    assert one.ask("pid").result(WAIT) == before


def test_state_of_the_process_is_kept_between_messages(remote):
    one = remote()
    assert [one.ask("count").result(WAIT) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert handlers.state["count"] == 0, "it is the child's"


def test_the_state_of_one_worker_is_not_that_of_another(remote):
    first, second = remote("first"), remote("second")
    assert [first.ask("count").result(WAIT) for _ in range(3)] == [1, 2, 3]
    assert second.ask("count").result(WAIT) == 1


def test_registering_keeps_the_state_of_the_process(remote):
    one = remote()
    assert one.ask("count").result(WAIT) == 1
    one.on_message("again", handlers.count)
    assert (one.ask("again").result(WAIT), one.ask("count").result(WAIT)) == (2, 3)


def test_data_that_cannot_be_pickled_is_refused_at_the_call(remote):
    one = remote()
    for post in (one.ask, one.post_message, lambda kind, data: one.post_messages(kind, [data])):
        with pytest.raises(SerializationError, match="echo"):
            post("echo", threading.Lock())
    assert one.stats().posted == 0
    assert one.ask("echo", "alive").result(WAIT) == "alive"


@pytest.mark.parametrize("transport", ["shared-memory", "socket"])
def test_both_transports_carry_messages(remote, transport, require):
    require(transport == "socket" or os.path.isdir("/proc/self/fd"), "shared memory as Linux has it")
    one = remote(transport=transport)
    assert [one.ask("add_one", number).result(WAIT) for number in range(20)] == list(range(1, 21))
    assert one.ask("echo", b"x" * 1_000_000).result(WAIT) == b"x" * 1_000_000
