"""The contract of a handler's surroundings: its message, its context variables, and coroutines."""

from __future__ import annotations

import asyncio
import os
import queue
from concurrent.futures import CancelledError

from pytoweb.testing import _handlers
from pytoweb.workers import DeadlineError, current_message, current_worker

from ._subject import WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import PythonWorker

__all__ = ["ContextContract", "CoroutineContract"]

SHORT = 0.1
"""Seconds of a deadline that is meant to pass while a coroutine waits."""


class ContextContract(Subject):
    """A handler knows its message, and has the context variables of the post."""

    def test_the_current_message_is_the_message(self) -> None:
        """With everything that the sender and the worker gave it."""
        one = self.worker("messenger")
        assert one.ask("describe", {"a": [1]}).result(WAIT) == {
            "type": "describe",
            "data": {"a": [1]},
            "id": None,
            "worker": "messenger",
            "attempt": 1,
            "cancelled": False,
            "current_worker": "messenger",
        }

    def test_the_current_message_has_the_id(self) -> None:
        """The one that its reply has."""
        one = self.worker()
        replies: queue.Queue[Any] = queue.Queue()
        one.on_message("response", replies.put)
        one.post_message("describe", message_id="task-7")
        data = replies.get(timeout=WAIT).data
        assert (data["id"], data["result"]["id"]) == ("task-7", "task-7")

    def test_outside_of_handlers_there_is_no_message(self) -> None:
        """In the thread that posts, nothing is left behind."""
        assert self.worker().ask("echo", 1).result(WAIT) == 1
        assert (current_message(), current_worker()) == (None, None)

    def test_on_error_runs_in_this_process_with_the_message(self) -> None:
        """And in the context of the post."""
        one = self.new_worker("failing")
        seen: queue.Queue[Any] = queue.Queue()

        def failed(error: BaseException) -> None:
            message = current_message()
            assert message is not None
            assert current_worker() is one
            seen.put(
                (type(error), message.type, message.data, message.id, os.getpid(), _handlers.color.get())
            )

        one.on_error(failed)
        _handlers.color.set("of the post")
        one.post_message("fail", ["the", "data"], message_id="task-1")
        _handlers.color.set("later")
        one.start()
        assert seen.get(timeout=WAIT) == (
            ValueError, "fail", ["the", "data"], "task-1", os.getpid(), "of the post",
        )  # fmt: skip

    def test_the_context_is_that_of_the_post(self) -> None:
        """Not that of the start, and not that of the message before."""
        one = self.new_worker()
        _handlers.color.set("early")
        early = one.ask("look")
        _handlers.color.set("late")
        late = one.ask("look")
        one.start()
        assert (early.result(WAIT), late.result(WAIT)) == ("early", "late")
        for value in ("red", "green", "blue"):
            _handlers.color.set(value)
            assert one.ask("look").result(WAIT) == value

    def test_a_change_in_a_handler_stays_in_its_message(self) -> None:
        """Neither the next message nor the sender sees it, with a context of the sender's or without one."""
        one = self.worker()
        _handlers.color.set("mine")
        assert [one.ask("change_color", "theirs").result(WAIT) for _ in range(3)] == ["mine"] * 3
        assert _handlers.color.get() == "mine"
        # A fresh thread has an empty context.
        changing = self.spawn(lambda: one.ask("change_color", "theirs").result(WAIT))
        assert changing.result(WAIT) == "none"
        assert self.spawn(lambda: one.ask("look").result(WAIT)).result(WAIT) == "none"


class CoroutineContract(Subject):
    """Handlers may be coroutines, and event loops may wait for workers."""

    def coroutines(self, *names: str) -> list[PythonWorker]:
        """Started workers of one pool of one whose handlers are coroutines."""
        some, made = self.pool(1), []
        for name in names:
            one = self.equip(some.create_worker(name))
            for handler in (
                _handlers.echo_later, _handlers.fail_later, _handlers.look_later,
                _handlers.describe_later, _handlers.pass_gate,
            ):  # fmt: skip
                one.on_message(handler.__name__, handler)
            made.append(one.start())
        return made

    def open_gate(self) -> None:
        """Lets the coroutines of ``pass_gate`` through."""
        _handlers.note(self.path("opened"), "from now on")

    def pass_gate(self, one: PythonWorker, name: str, **options: Any) -> Any:
        """Asks for a coroutine that waits for ``open_gate()``, and notes its steps."""
        return one.ask("pass_gate", (self._directory.name, name), **options)

    def teardown_method(self) -> None:
        """Ends the coroutines that wait."""
        self.open_gate()
        super().teardown_method()

    def test_a_coroutine_is_a_handler(self) -> None:
        """Beside plain ones, in their order."""
        (one,) = self.coroutines("one")
        assert [one.ask("echo_later", number).result(WAIT) for number in range(20)] == list(range(20))
        assert one.ask("echo", "between").result(WAIT) == "between"

    def test_a_coroutine_that_raises_fails_its_message(self) -> None:
        """And no other."""
        (one,) = self.coroutines("one")
        error = one.ask("fail_later", "why").exception(WAIT)
        assert isinstance(error, ValueError)
        assert error.args == ("why",)
        assert one.ask("echo_later", "alive").result(WAIT) == "alive"

    def test_a_coroutine_knows_its_message_and_its_context(self) -> None:
        """Also behind an ``await``."""
        (one,) = self.coroutines("asynchronous")
        seen = one.ask("describe_later", [1]).result(WAIT)
        assert (seen["type"], seen["data"], seen["worker"]) == ("describe_later", [1], "asynchronous")
        assert seen["current_worker"] == "asynchronous"
        _handlers.color.set("awaited")
        assert one.ask("look_later").result(WAIT) == "awaited"
        _handlers.color.set("none")
        assert one.ask("look_later").result(WAIT) == "none"

    def test_one_worker_runs_one_coroutine_at_a_time_in_order(self) -> None:
        """A plain handler waits for the coroutine before it."""
        (one,) = self.coroutines("one")
        futures = [self.pass_gate(one, name) for name in "abc"]
        futures.append(one.ask("echo", "after them"))
        self.until(lambda: self.noted("steps"), "the first")
        assert not any(future.done() for future in futures)
        self.open_gate()
        assert [future.result(WAIT) for future in futures] == ["a", "b", "c", "after them"]
        assert self.noted("steps") == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]

    def test_workers_of_one_pool_run_their_coroutines_together(self) -> None:
        """One that waits holds up no other worker, although the pool has one place."""
        names = ["first", "second", "third"]
        *waiting, quick = self.coroutines(*names, "quick")
        futures = [self.pass_gate(one, one.name) for one in waiting]
        self.until(lambda: len(self.noted("steps")) == 3, "all three in their handlers")
        assert [quick.ask("echo", number).result(WAIT) for number in range(20)] == list(range(20))
        assert [quick.ask("echo_later", number).result(WAIT) for number in range(20)] == list(range(20))
        assert not any(future.done() for future in futures)
        self.open_gate()
        assert [future.result(WAIT) for future in futures] == names

    def test_cancelling_a_running_coroutine_cancels_it(self) -> None:
        """``CancelledError`` is raised in it where it awaits."""
        (one,) = self.coroutines("one")
        future = self.pass_gate(one, "a")
        self.until(lambda: self.noted("steps"), "the coroutine")
        future.cancel()
        raised(CancelledError, future.result, WAIT)
        self.until(lambda: self.noted("steps") == ["begin a", "cancelled a"], "the cancellation")
        one.run_until_idle(WAIT)
        assert (one.stats().cancelled, one.stats().failed) == (1, 0)
        assert one.ask("echo_later", "alive").result(WAIT) == "alive"

    def test_a_coroutine_past_its_deadline_is_cancelled(self) -> None:
        """Its message fails with ``DeadlineError``."""
        (one,) = self.coroutines("one")
        one.ask("echo_later").result(WAIT)
        assert isinstance(self.pass_gate(one, "a", timeout=SHORT).exception(WAIT), DeadlineError)
        self.until(lambda: self.noted("steps") == ["begin a", "cancelled a"], "the cancellation")
        one.run_until_idle(WAIT)
        assert one.stats().expired == 1

    def test_stop_finishes_coroutines(self) -> None:
        """As it finishes plain handlers."""
        (one,) = self.coroutines("one")
        futures = [self.pass_gate(one, name) for name in "ab"]
        self.until(lambda: self.noted("steps"), "the first")
        stopping = self.spawn(one.stop, timeout=WAIT)
        self.until(lambda: one.state == "stopping", "the stop")
        self.open_gate()
        stopping.result(WAIT)
        assert [future.result(0) for future in futures] == ["a", "b"]

    def test_replies_can_be_awaited(self) -> None:
        """One by one and together; exceptions are raised where they are awaited."""
        one = self.worker()

        async def main() -> None:
            assert await one.ask("add_one", 1) == 2
            many = await asyncio.gather(*(one.ask("add_one", number) for number in range(50)))
            assert many == list(range(1, 51))
            try:
                await one.ask("fail", "awaited")
            except ValueError as error:
                assert error.args == ("awaited",)
            else:
                raise AssertionError("the exception did not come")
            assert await asyncio.wait_for(asyncio.wrap_future(one.ask("echo", 1)), WAIT) == 1

        asyncio.run(asyncio.wait_for(main(), WAIT))

    def test_reply_handlers_run_on_the_loop_that_registered_them(self) -> None:
        """Not on a thread of the pool."""
        one = self.new_worker()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            reply = loop.create_future()
            one.on_message(
                "response",
                lambda message: reply.set_result((asyncio.get_running_loop() is loop, message.data)),
            )
            one.start().post_message("echo", "data", message_id="task")
            assert await asyncio.wait_for(reply, WAIT) == (True, {"id": "task", "result": "data"})

        asyncio.run(main())
