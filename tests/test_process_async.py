"""Coroutines and process workers: handlers that are coroutines, and event loops that wait for replies."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import CancelledError

import process_handlers as handlers
import pytest

from pytoweb.workers import DeadlineError, WorkerCrashedError, WorkerDecorators

WAIT = 10.0
SHORT = 0.3
"""Seconds of a deadline that is meant to pass while the handler runs."""


@pytest.fixture
def coroutines(pool):
    """Returns `coroutines(*names)`: process workers of one child whose handlers are coroutines."""

    def make(*names):
        one = pool(1, backend="process")
        made = []
        for name in names:
            worker = one.create_worker(name)
            worker.on_message("echo", handlers.echo_later)
            worker.on_message("plain", handlers.echo)
            worker.on_message("fail", handlers.fail_later)
            worker.on_message("describe", handlers.describe_later)
            worker.on_message("look", handlers.look_later)
            worker.on_message("gate", handlers.pass_gate)
            worker.on_message("crash", handlers.crash_later)
            worker.on_message("pid", handlers.pid)
            worker.on_error(lambda error: None)
            made.append(worker.start())
        return made

    return make


@pytest.fixture
def steps(tmp_path):
    """Returns what `pass_gate` noted."""
    return lambda: handlers.noted(tmp_path / "steps")


@pytest.fixture
def open_gate(tmp_path):
    """Opens the gate of `pass_gate`."""
    yield (tmp_path / "opened").touch
    (tmp_path / "opened").touch()


def test_a_coroutine_is_a_handler(coroutines):
    (one,) = coroutines("one")
    assert [one.ask("echo", number).result(WAIT) for number in range(20)] == list(range(20))
    assert one.ask("plain", "between").result(WAIT) == "between"


def test_a_coroutine_that_raises_fails_its_message(coroutines):
    (one,) = coroutines("one")
    error = one.ask("fail", "why").exception(WAIT)
    assert isinstance(error, ValueError)
    assert error.args == ("why",)
    assert "fail_later" in str(error.__cause__)
    assert one.ask("echo", "alive").result(WAIT) == "alive"


def test_a_coroutine_knows_its_message_and_worker(coroutines):
    (one,) = coroutines("asynchronous")
    seen = one.ask("describe", [1]).result(WAIT)
    assert (seen["type"], seen["data"], seen["worker"]) == ("describe", [1], "asynchronous")
    assert seen["worker_name"] == "asynchronous"


def test_a_coroutine_has_the_context_of_the_post(coroutines):
    (one,) = coroutines("one")
    token = handlers.color.set("awaited")
    try:
        assert one.ask("look").result(WAIT) == "awaited"
    finally:
        handlers.color.reset(token)
    assert one.ask("look").result(WAIT) == "none"


def test_workers_of_one_child_run_their_coroutines_together(coroutines, steps, open_gate, tmp_path, until):
    names = ["first", "second", "third"]
    workers = coroutines(*names)
    futures = [one.ask("gate", (str(tmp_path), one.name)) for one in workers]
    until(lambda: len(steps()) == 3, "all three in their handlers")
    open_gate()
    results = [future.result(WAIT) for future in futures]
    assert [name for name, _ in results] == names
    assert len({pid for _, pid in results}) == 1
    assert {step.split()[0] for step in steps()[:3]} == {"begin"}


def test_one_worker_runs_one_coroutine_at_a_time_in_order(coroutines, steps, open_gate, tmp_path, until):
    (one,) = coroutines("one")
    futures = [one.ask("gate", (str(tmp_path), name)) for name in "abc"]
    futures.append(one.ask("plain", "after them"))
    until(steps, "the first")
    assert not any(future.done() for future in futures)
    open_gate()
    assert [future.result(WAIT) for future in futures][-1] == "after them"
    assert steps() == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


def test_a_coroutine_that_waits_does_not_hold_up_other_workers(coroutines, open_gate, tmp_path, steps, until):
    slow, quick = coroutines("slow", "quick")
    future = slow.ask("gate", (str(tmp_path), "slow"))
    until(steps, "the slow one")
    assert [quick.ask("plain", number).result(WAIT) for number in range(20)] == list(range(20))
    assert [quick.ask("echo", number).result(WAIT) for number in range(20)] == list(range(20))
    assert not future.done()
    open_gate()
    future.result(WAIT)


def test_cancelling_a_running_coroutine_cancels_it_and_keeps_the_child(coroutines, steps, tmp_path, until):
    (one,) = coroutines("one")
    before = one.ask("pid").result(WAIT)
    future = one.ask("gate", (str(tmp_path), "a"))
    until(steps, "the coroutine")
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    until(lambda: steps() == ["begin a", "cancelled a"], "the cancellation")
    assert one.ask("pid").result(WAIT) == before
    one.run_until_idle(WAIT)
    assert one.stats().cancelled == 1


@pytest.mark.slow
def test_a_coroutine_past_its_deadline_is_cancelled_and_keeps_the_child(coroutines, steps, tmp_path, until):
    (one,) = coroutines("one")
    before = one.ask("pid").result(WAIT)
    error = one.ask("gate", (str(tmp_path), "a"), timeout=SHORT).exception(WAIT)
    assert isinstance(error, DeadlineError)
    until(lambda: steps()[-1:] == ["cancelled a"], "the cancellation")
    assert one.ask("pid").result(WAIT) == before
    one.run_until_idle(WAIT)
    assert one.stats().expired == 1


def test_a_crash_in_a_coroutine_fails_what_runs_in_the_child_and_no_more(
    coroutines, steps, tmp_path, open_gate, until
):
    one, bystander = coroutines("one", "bystander")
    beside = bystander.ask("gate", (str(tmp_path), "beside"))
    until(steps, "the bystander")
    behind = bystander.ask("plain", "behind")
    error = one.ask("crash").exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert error.exitcode == 77
    assert isinstance(beside.exception(WAIT), WorkerCrashedError), "it ran in the same child"
    assert behind.result(WAIT) == "behind"
    assert one.ask("plain", "alive").result(WAIT) == "alive"


def test_an_async_function_may_be_submitted_by_its_decorator_and_called(pool):
    one = pool(1, backend="process")
    decorated = WorkerDecorators.run_in_worker("async-tasks", pool=one)(handlers.echo_later)
    assert asyncio.run(decorated("called")) == "called"
    assert decorated.submit("submitted").result(WAIT) == "submitted"


def test_replies_can_be_awaited(remote):
    one = remote()

    async def main():
        first = await one.ask("add_one", 1)
        many = await asyncio.gather(*(one.ask("add_one", number) for number in range(50)))
        with pytest.raises(ValueError, match="awaited"):
            await one.ask("fail", "awaited")
        wrapped = await asyncio.wait_for(asyncio.wrap_future(one.ask("pid")), WAIT)
        return first, many, wrapped != os.getpid()

    assert asyncio.run(asyncio.wait_for(main(), WAIT)) == (2, list(range(1, 51)), True)


def test_apost_message_waits_for_room(remote_blocked, remote_gate, tmp_path):
    one, path = remote_blocked(capacity=1), str(tmp_path / "handled")
    one.post_message("write", (path, "fills"))

    async def main():
        waiting = asyncio.ensure_future(one.apost_message("write", (path, "waited")))
        assert not await asyncio.wait_for(wait_briefly(waiting), WAIT)
        remote_gate.open()
        await asyncio.wait_for(waiting, WAIT)

    asyncio.run(main())
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == ["fills", "waited"]


async def wait_briefly(task):
    """Whether the task ends within a moment, in which nothing should end it."""
    done, _ = await asyncio.wait([task], timeout=0.05)
    return done


def test_awaiting_tasks_that_are_cancelled_cancel_their_messages(remote_blocked, remote_gate, tmp_path):
    one, path = remote_blocked(), str(tmp_path / "handled")

    async def main():
        async def ask():
            await one.ask("write", (path, "never"))

        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    remote_gate.open()
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == []
    assert one.stats().cancelled == 1


def test_async_with_stops_without_blocking_the_loop(worker):
    one = worker(backend="process")
    one.on_message("echo", handlers.echo)

    async def main():
        async with one:
            return await one.ask("echo", 1)

    assert asyncio.run(asyncio.wait_for(main(), WAIT)) == 1
    assert one.state == "stopped"


def test_reply_handlers_run_on_the_loop_that_registered_them(worker):
    one = worker(backend="process")
    one.on_message("echo", handlers.echo)

    async def main():
        loop, reply = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        one.on_message(
            "response", lambda message: reply.set_result((asyncio.get_running_loop() is loop, message.data))
        )
        one.start().post_message("echo", "data", message_id="task")
        return await asyncio.wait_for(reply, WAIT)

    assert asyncio.run(main()) == (True, {"id": "task", "result": "data"})
