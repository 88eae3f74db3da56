"""The contract of messages: their order, their handlers, and the replies that come back."""

from __future__ import annotations

import gc
import os
import queue
import threading
from concurrent.futures import as_completed, wait

from pytoweb.testing import _handlers
from pytoweb.workers import UnknownMessageError, WorkerFuture, WorkerMessage

from ._subject import WAIT, Subject

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MessageContract", "ReplyContract"]


class MessageContract(Subject):
    """One worker handles its messages one at a time, in the order in which they were posted."""

    def test_a_new_worker_says_what_it_is(self) -> None:
        """Name, state and backend are there before the start."""
        one = self.new_worker("named")
        assert (one.name, one.state, one.backend, one.is_alive()) == ("named", "new", self.backend, False)
        assert "named" in repr(one)
        assert one.start() is one
        assert (one.state, one.is_alive()) == ("running", True)

    def test_posting_before_the_start_queues(self) -> None:
        """Nothing runs before ``start()``, and all of it after."""
        one = self.new_worker()
        futures = [one.ask("add_one", number) for number in range(10)]
        assert all(isinstance(future, WorkerFuture) for future in futures)
        assert not any(future.done() for future in futures)
        assert one.stats().depth == 10
        one.start()
        assert [future.result(WAIT) for future in futures] == list(range(1, 11))

    def test_starting_twice_does_nothing(self) -> None:
        """``start()`` is idempotent."""
        one = self.worker()
        assert one.ask("echo", 1).result(WAIT) == 1
        assert one.start() is one
        assert one.ask("echo", 2).result(WAIT) == 2

    def test_messages_are_handled_in_the_order_of_posting(self) -> None:
        """One thread's posts keep their order, of whatever type they are and however they are posted."""
        one = self.worker()
        one.on_message("also_write", _handlers.write)
        for number in range(500):
            one.post_message("also_write" if number % 2 else "write", (self.path(), number))
        assert one.post_messages("write", ((self.path(), number) for number in range(500, 2000))) == 1500
        assert one.ask("echo", "behind them").result(WAIT) == "behind them"
        assert self.noted() == [str(number) for number in range(2000)]

    def test_each_producer_keeps_its_order(self) -> None:
        """The posts of several threads mix, but no thread's own posts overtake each other."""
        one, barrier = self.worker(), threading.Barrier(4)

        def produce(producer: int) -> None:
            barrier.wait(WAIT)
            for number in range(200):
                one.post_message("write", (self.path(), f"{producer} {number}"))

        for outcome in [self.spawn(produce, producer) for producer in range(4)]:
            outcome.result(WAIT)
        one.run_until_idle(WAIT)
        lines = [line.split() for line in self.noted()]
        for producer in range(4):
            assert [int(number) for by, number in lines if by == str(producer)] == list(range(200))

    def test_one_message_runs_at_a_time(self) -> None:
        """The others wait, even if the backend has taken them already."""
        one, gate = self.blocked()
        one.post_messages("gate", range(50))
        stats = one.stats()
        assert (stats.running, stats.depth) == (1, 50)
        assert len(gate.pids()) == 1
        gate.open()
        one.run_until_idle(WAIT)
        assert len(gate.pids()) == 51

    def test_a_message_without_data_carries_none(self) -> None:
        """``data`` is optional."""
        one = self.worker()
        assert one.ask("echo").result(WAIT) is None
        one.post_message("echo")
        assert one.post_messages("echo", []) == 0
        one.run_until_idle(WAIT)
        assert one.stats().completed == 2

    def test_handlers_may_be_added_and_replaced_while_it_runs(self) -> None:
        """The message that is handled next already meets the new one."""
        one = self.worker()
        assert one.ask("echo", 1).result(WAIT) == 1
        assert one.on_message("echo", _handlers.add_one) is _handlers.add_one
        assert one.ask("echo", 1).result(WAIT) == 2
        assert one.on_message("new")(_handlers.echo) is _handlers.echo
        assert one.ask("new", "data").result(WAIT) == "data"

    def test_what_was_posted_before_a_handler_is_added_may_use_it(self) -> None:
        """The handler is looked up when the message runs, not when it is posted."""
        one, gate = self.blocked()
        future = one.ask("late", "data")
        one.on_message("late", _handlers.echo)
        gate.open()
        assert future.result(WAIT) == "data"

    def test_ten_thousand_messages_come_through(self) -> None:
        """And are counted, each once."""
        one = self.worker()
        futures = [one.ask("add_one", number) for number in range(10_000)]
        assert [future.result(WAIT) for future in futures] == list(range(1, 10_001))
        stats = one.stats()
        assert (stats.posted, stats.completed, stats.depth, stats.running) == (10_000, 10_000, 0, 0)

    def test_the_counters_are_there_before_the_future_says_done(self) -> None:
        """A message is counted before its future resolves."""
        one = self.worker()
        for number in range(1, 200):
            assert one.ask("echo", number).result(WAIT) == number
            assert one.stats().completed == number
            assert one.ask("unknown").exception(WAIT) is not None
            assert one.stats().failed == number

    def test_the_numbers_are_those_of_the_handlers(self) -> None:
        """Capacity, depth and running are exact; times are measured."""
        one, gate = self.blocked(capacity=50)
        one.post_messages("echo", range(10))
        stats = one.stats()
        assert (stats.capacity, stats.running, stats.depth, stats.state) == (50, 1, 10, "running")
        gate.open()
        one.run_until_idle(WAIT)
        stats = one.stats()
        assert (stats.completed, stats.posted, stats.depth, stats.running) == (11, 11, 0, 0)
        assert stats.busy_seconds > 0
        assert stats.run_p50 is not None

    def test_dropped_futures_do_not_drop_their_messages(self) -> None:
        """A future that is not kept is a message all the same."""
        one = self.worker()
        for number in range(100):
            one.ask("write", (self.path(), number))
        gc.collect()
        one.run_until_idle(WAIT)
        assert len(self.noted()) == 100

    def test_a_start_hook_runs_once_before_the_first_message(self) -> None:
        """``on_start`` is for the state of the handlers."""
        one = self.new_worker()
        one.on_start(_handlers.NotingHook(self.path()))
        one.start()
        for number in range(3):
            one.ask("write", (self.path(), number)).result(WAIT)
        assert self.noted() == ["start", "0", "1", "2"]

    def test_a_start_hook_that_raises_fails_its_message_and_runs_again(self) -> None:
        """No message runs before the hook has succeeded."""
        one = self.new_worker()
        one.on_start(_handlers.NotingHook(self.path(), failures=2))
        one.start()
        for number in (1, 2):
            error = one.ask("echo").exception(WAIT)
            assert isinstance(error, RuntimeError)
            assert f"start {number} failed" in str(error)
        assert one.ask("echo", "now").result(WAIT) == "now"
        assert self.noted() == ["start"] * 3


class ReplyContract(Subject):
    """Results and exceptions come back: by future, and by id to the owner's reply handlers."""

    def test_responses_come_in_order_with_their_ids(self) -> None:
        """The ``response`` handler gets a ``WorkerMessage`` for each post with an id, and for no other."""
        one = self.worker()
        replies: queue.Queue[Any] = queue.Queue()
        one.on_message("response", replies.put)
        one.post_message("add_one", -1)
        for number in range(100):
            one.post_message("add_one", number, message_id=f"task-{number}")
        got = [replies.get(timeout=WAIT) for _ in range(100)]
        assert all(isinstance(message, WorkerMessage) for message in got)
        assert [message.data for message in got] == [
            {"id": f"task-{number}", "result": number + 1} for number in range(100)
        ]
        assert replies.empty()

    def test_errors_come_with_their_ids_and_keep_their_type(self) -> None:
        """The ``error`` handler runs in this process, with the exception of the handler."""
        one = self.worker()
        replies: queue.Queue[Any] = queue.Queue()
        one.on_message("error", lambda message: replies.put((message, os.getpid())))
        one.post_message("fail", "why", message_id="task")
        message, pid = replies.get(timeout=WAIT)
        assert (message.type, message.data["id"], pid) == ("error", "task", os.getpid())
        assert isinstance(message.data["error"], ValueError)
        assert message.data["error"].args == ("why",)

    def test_an_exception_of_a_handler_fails_its_message_alone(self) -> None:
        """The worker goes on."""
        one = self.worker()
        error = one.ask("fail", "why").exception(WAIT)
        assert isinstance(error, ValueError)
        assert error.args == ("why",)
        assert one.ask("echo", "alive").result(WAIT) == "alive"
        assert (one.stats().failed, one.stats().completed) == (1, 1)

    def test_an_unknown_type_is_an_error_everywhere(self) -> None:
        """It comes to the future, to the ``error`` handler and to ``on_error``."""
        one = self.worker()
        seen: list[BaseException] = []
        replies: queue.Queue[Any] = queue.Queue()
        one.on_error(seen.append)
        one.on_message("error", replies.put)
        future = one.ask("unknown")
        assert isinstance(future.exception(WAIT), UnknownMessageError)
        assert "unknown" in str(future.exception())
        one.post_message("unknown", message_id="task")
        assert isinstance(replies.get(timeout=WAIT).data["error"], UnknownMessageError)
        one.run_until_idle(WAIT)
        assert [type(error) for error in seen] == [UnknownMessageError] * 2
        assert one.ask("echo", "alive").result(WAIT) == "alive"

    def test_a_reply_handler_may_post_to_the_worker(self) -> None:
        """Also with a mailbox of one message."""
        one, seen, done = self.worker(capacity=1), [], threading.Event()

        def response(message: WorkerMessage) -> None:
            seen.append(message.data["result"])
            if len(seen) < 20:
                one.post_message("add_one", seen[-1], message_id="next")
            else:
                done.set()

        one.on_message("response", response)
        one.post_message("add_one", 0, message_id="first")
        assert done.wait(WAIT)
        assert seen == list(range(1, 21))

    def test_a_slow_reply_handler_does_not_hold_up_the_work(self) -> None:
        """Replies have a thread of their own."""
        one, gate, entered = self.worker(), threading.Event(), threading.Event()
        replies: queue.Queue[Any] = queue.Queue()

        def response(message: WorkerMessage) -> None:
            entered.set()
            gate.wait(WAIT)
            replies.put(message.data["id"])

        one.on_message("response", response)
        for number in range(20):
            one.post_message("echo", number, message_id=str(number))
        assert entered.wait(WAIT)
        assert one.ask("echo", "meanwhile").result(WAIT) == "meanwhile"
        assert replies.empty()
        gate.set()
        assert [replies.get(timeout=WAIT) for _ in range(20)] == [str(number) for number in range(20)]

    def test_wait_and_as_completed_take_its_futures(self) -> None:
        """They are futures of the standard library's kind."""
        one = self.worker()
        futures = [one.ask("add_one", number) for number in range(20)]
        assert {future.result() for future in as_completed(futures, WAIT)} == set(range(1, 21))
        assert not wait([one.ask("add_one", number) for number in range(20)], WAIT).not_done

    def test_callbacks_run_in_this_process_in_their_order(self) -> None:
        """The result is there when they run."""
        one, called, done = self.worker(), [], threading.Event()
        future = one.ask("echo", "value")
        future.add_done_callback(lambda future: called.append((future.result(), os.getpid())))
        future.add_done_callback(lambda future: done.set())
        assert done.wait(WAIT)
        assert called == [("value", os.getpid())]
