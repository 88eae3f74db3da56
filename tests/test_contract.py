"""The contract of workers and pools, over both backends: what `pytoweb.testing.contract` offers to users."""

from __future__ import annotations

import contextvars
import os

import pytest

from pytoweb.testing import contract
from pytoweb.workers import DeadlineError, PythonWorker, WorkerMessage

needs_processes = pytest.mark.skipif(os.name != "posix", reason="process workers need a POSIX system")


class TestThreadWorker(contract.WorkerContract, contract.CoroutineContract):
    """A worker with a thread."""


class TestThreadPool(
    contract.PoolContract,
    contract.PoolBalanceContract,
    contract.PoolControlContract,
    contract.PoolEventContract,
    contract.PoolExitContract,
    contract.PoolExplainContract,
    contract.PoolNumbersContract,
    contract.PoolHealthContract,
    contract.PoolRepeatContract,
    contract.TopicContract,
):
    """A pool of threads."""


@needs_processes
class TestProcessWorker(contract.WorkerContract, contract.CoroutineContract):
    """A worker with a child process."""

    backend = "process"


@needs_processes
class TestProcessPool(
    contract.PoolContract,
    contract.PoolBalanceContract,
    contract.PoolControlContract,
    contract.PoolEventContract,
    contract.PoolExitContract,
    contract.PoolExplainContract,
    contract.PoolNumbersContract,
    contract.PoolHealthContract,
    contract.PoolRepeatContract,
    contract.TopicContract,
):
    """A pool of child processes."""

    backend = "process"


class Roomy(PythonWorker):
    """Has room for one message more than it was told."""

    def __init__(self, name, capacity=1000, **options):
        super().__init__(name, capacity=capacity + 1, **options)


class Backwards(PythonWorker):
    """Posts many messages in the wrong order."""

    def post_messages(self, message_type, items):
        return super().post_messages(message_type, list(items)[::-1])


class Hasty(PythonWorker):
    """Stops without its queue."""

    def stop(self, *, drain=True, timeout=None):
        super().stop(drain=False, timeout=timeout)


class Impatient(PythonWorker):
    """Has deadlines of its own."""

    def ask(self, message_type, data=None, *, timeout=None):
        return super().ask(message_type, data, timeout=0)


class Colorless(PythonWorker):
    """Loses the context of the sender."""

    def ask(self, message_type, data=None, *, timeout=None):
        return contextvars.Context().run(super().ask, message_type, data, timeout=timeout)


class Mute(PythonWorker):
    """Loses the ids."""

    def on_message(self, message_type, handler=None, **options):
        if message_type == "response":
            given = handler

            def handler(message):
                given(WorkerMessage("response", {**message.data, "id": None}))

        return super().on_message(message_type, handler, **options)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Roomy, "test_exactly_capacity_messages_wait_for_the_start"),
        (Backwards, "test_messages_are_handled_in_the_order_of_posting"),
        (Hasty, "test_stop_finishes_the_queue_and_refuses_more"),
        (Impatient, "test_a_deadline_that_is_met_does_nothing"),
        (Colorless, "test_the_context_is_that_of_the_post"),
        (Mute, "test_responses_come_in_order_with_their_ids"),
    ],
)
def test_a_broken_promise_fails_its_test(broken, promise):
    class Case(contract.WorkerContract):
        def make_worker(self, name, **options):
            return broken(name, **options)

    case = Case()
    case.setup_method()
    try:
        with pytest.raises((AssertionError, DeadlineError)):
            getattr(case, promise)()
    finally:
        case.teardown_method()
