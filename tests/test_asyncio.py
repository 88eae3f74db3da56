"""Workers and asyncio: awaiting them from a loop, and handlers that are coroutines.

Long because each way to await has the same questions asked of it: order, room, errors, cancelling, the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import queue
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout

import anyio
import process_handlers
import pytest

from pytoweb import _room
from pytoweb.workers import (
    AskCycleError,
    DeadlineError,
    MailboxFullError,
    PythonWorker,
    WorkerDecorators,
    WorkerStoppedError,
    current_message,
    current_worker,
    gather,
)

WAIT = 10.0
TIMEOUTS = (TimeoutError, FutureTimeout)
TURNS = 20
"""Turns of the event loop that prove that it is not blocked."""


def run(main):
    """Runs a coroutine on a loop of its own, bounded."""

    async def bounded():
        return await asyncio.wait_for(main, WAIT)

    return asyncio.run(bounded())


@pytest.fixture
def echoing(worker):
    """Returns a started worker that returns its data, or raises it."""
    one = worker("echoing")
    one.on_message("echo", lambda data: data)
    one.on_message("fail", fail)
    one.on_error(lambda error: None)
    return one.start()


def fail(data):
    """Raises what it gets."""
    raise data


def test_await_ask(echoing):
    async def main():
        future = echoing.ask("echo", 1)
        assert await future == 1
        assert await future == 1, "a second await gives the same"
        return await asyncio.wait_for(echoing.ask("echo", 2), WAIT)

    assert run(main()) == 2


def test_gather(echoing):
    async def main():
        return await asyncio.gather(*(echoing.ask("echo", number) for number in range(64)))

    assert run(main()) == list(range(64))


def test_gather_of_ours_gives_results_in_order(echoing, remote):
    child = remote()
    child.on_message("echo", abs)
    child.start()

    async def main():
        assert await gather() == []
        same = echoing.ask("echo", "same")
        assert await gather(same, same) == ["same", "same"]
        assert await gather(same) == ["same"], "of what is done"
        assert await gather(echoing.ask("echo", 1), asyncio.sleep(0, 2), child.ask("echo", -3)) == [1, 2, 3]
        both = [*(echoing.ask("echo", n) for n in range(64)), *(child.ask("echo", -n) for n in range(64))]
        return await asyncio.wait_for(gather(*both), WAIT)

    assert run(main()) == [*range(64), *range(64)]


def test_gather_of_ours_raises_the_first_exception_and_leaves_the_others(echoing, gate):
    raised = KeyError("original")

    async def main():
        echoing.on_message("gate", gate)
        failed, held = echoing.ask("fail", raised), echoing.ask("gate", "goes on")
        with pytest.raises(KeyError) as caught:
            await gather(held, failed)
        assert caught.value is raised
        assert not held.done()
        gate.open()
        assert await gather(held, failed, return_exceptions=True) == ["goes on", raised]
        with pytest.raises(KeyError):
            await gather(held, failed)

    run(main())


def test_gather_of_ours_leaves_no_failure_unread(echoing, gate, caplog):
    async def main():
        echoing.on_message("gate", gate)
        echoing.post_message("gate")
        futures = [echoing.ask("fail", KeyError(number)) for number in range(3)]
        gathering = asyncio.ensure_future(gather(*futures))
        asyncio.get_running_loop().call_soon(gate.open)
        with pytest.raises(KeyError):
            await gathering

    run(main())
    echoing.run_until_idle(WAIT)
    gc.collect()
    assert [record for record in caplog.records if record.name.startswith("pytoweb")] == []


def test_gather_of_ours_and_cancelling(blocked, gate):
    one = blocked()

    async def main():
        one.on_message("echo", lambda data: data)
        futures = [one.ask("echo", number) for number in range(3)]
        task = asyncio.ensure_future(gather(*futures))
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(future.cancelled() for future in futures)
        with pytest.raises(asyncio.CancelledError):
            await gather(one.ask("echo"), futures[0])
        gate.open()
        one_is_cancelled = await gather(futures[0], one.ask("echo", 4), return_exceptions=True)
        assert [type(result) for result in one_is_cancelled] == [asyncio.CancelledError, int]

    run(main())
    assert one.stats().cancelled == 3


def test_two_tasks_await_one_future(echoing, gate):
    async def main():
        echoing.on_message("gate", gate)
        future = echoing.ask("gate", "shared")

        async def one():
            return await future

        tasks = [asyncio.ensure_future(one()) for _ in range(3)]
        await asyncio.sleep(0)
        gate.open()
        return await asyncio.gather(*tasks)

    assert run(main()) == ["shared"] * 3


def test_await_raises_the_original(echoing):
    raised = KeyError("original")

    async def main():
        with pytest.raises(KeyError) as caught:
            await echoing.ask("fail", raised)
        assert caught.value is raised

    run(main())


def test_await_a_deadline(blocked):
    one = blocked()

    async def main():
        with pytest.raises(DeadlineError):
            await one.ask("gate", timeout=0.01)

    run(main())


def test_cancelling_the_task_cancels_the_queued_message(blocked, gate):
    one = blocked()
    handled = []
    one.on_message("echo", handled.append)

    async def main():
        future = one.ask("echo")

        async def waiting():
            return await future

        task = asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.cancelled()

    run(main())
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == []
    assert one.stats().cancelled == 1


def test_wait_for_that_runs_out_cancels_the_running_message(worker, until):
    noticed = threading.Event()
    one = worker()

    @one.on_message("listen")
    def listen(data):
        until(lambda: current_message().cancelled, "the signal")
        noticed.set()

    one.start()

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(one.ask("listen"), 0.05)

    run(main())
    assert noticed.wait(WAIT)


def test_a_coroutine_that_is_cancelled_is_no_failure(worker, until, backend, tmp_path):
    path = str(tmp_path / "entered")
    one, errors = worker(backend=backend), []
    one.on_message("wait", process_handlers.wait_later)
    one.on_error(errors.append)
    future = one.start().ask("wait", path)
    process_handlers.wait_for(path)
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    one.run_until_idle(WAIT)
    assert (one.stats().cancelled, one.stats().failed, errors) == (1, 0, [])


def test_awaiting_a_cancelled_future_raises(blocked):
    one = blocked()

    async def main():
        future = one.ask("gate")
        assert future.cancel()

        async def waiting():
            return await future

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(waiting())

    run(main())


def test_a_cancel_scope_of_anyio_takes_its_cancellation_back(blocked, gate):
    one = blocked()

    async def main():
        with anyio.move_on_after(0.01) as scope:
            await one.ask("gate")
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await one.ask("gate")
        gate.open()
        return await one.ask("gate", "and goes on")

    assert run(main()) == "and goes on"


def test_the_message_of_a_cancelled_task_is_kept(blocked):
    one = blocked()

    async def main():
        async def waiting():
            with pytest.raises(asyncio.CancelledError) as caught:
                await one.ask("gate")
            return caught.value.args

        async def cancelled_with(*args):
            task = asyncio.ensure_future(waiting())
            await asyncio.sleep(0)
            task.cancel(*args)
            return await task

        assert await cancelled_with("why") == ("why",)
        assert await cancelled_with() == ()

    run(main())


@pytest.mark.parametrize("first", [True, False])
def test_asyncio_wait_takes_futures(blocked, gate, first):
    one = blocked()
    when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED

    async def main():
        one.on_message("echo", lambda data: data)
        futures = [one.ask("echo", number) for number in range(3)]
        pending = set(futures)
        done, pending = await asyncio.wait(pending, timeout=0)
        assert (len(done), len(pending)) == (0, 3)
        asyncio.get_running_loop().call_soon(gate.open)
        seen = set()
        while pending:
            done, pending = await asyncio.wait(pending, timeout=WAIT, return_when=when)
            assert done
            seen |= {future.result() for future in done}
        done, _ = await asyncio.wait(futures)
        return seen, {future.result() for future in done}

    assert run(main()) == ({0, 1, 2}, {0, 1, 2})


def test_asyncio_wait_leaves_nothing_on_a_future_that_is_not_done(blocked, gate):
    one = blocked()

    async def main():
        future = one.ask("gate", "done")
        for _ in range(TURNS):
            await asyncio.wait([future], timeout=0)
        left = list(vars(future).get("_loop_callbacks", ()))
        gate.open()
        return left, await future

    assert run(main()) == ([], "done")


def test_a_loop_that_is_closed_early_harms_nothing(echoing, gate):
    echoing.on_message("gate", gate)
    future = echoing.ask("gate", "late")

    async def awaiting():
        asyncio.wrap_future(future)
        echoing.on_message("response", lambda message: None)
        echoing.post_message("echo", 1, "reply to a closed loop")
        return await future

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(awaiting())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.open()

    assert echoing.ask("echo", "alive").result(WAIT) == "alive"
    assert future.result(WAIT) == "late"
    assert not task.done()


def test_async_with_starts_and_drains_without_blocking_the_loop(worker, gate):
    one = worker()
    one.on_message("gate", gate)

    async def main():
        async with one as entered:
            assert entered is one
            assert one.state == "running"
            future = one.ask("gate", "drained")
            asyncio.get_running_loop().call_later(0.01, gate.open)
        assert one.state == "stopped"
        assert future.result(0) == "drained"

    run(main())


def test_apost_message_waits_for_room_without_blocking_the_loop(blocked, gate):
    one = blocked(capacity=1)
    handled = []
    one.on_message("echo", handled.append)

    async def main():
        await one.apost_message("echo", 0)
        waiting = asyncio.ensure_future(one.apost_message("echo", 1))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not waiting.done()
        gate.open()
        assert await waiting is None
        for number in range(2, 100):
            await one.apost_message("echo", number)

    run(main())
    one.run_until_idle(WAIT)
    assert handled == list(range(100))


def test_apost_message_takes_an_id_and_gives_up_after_the_timeout(blocked, gate):
    one = blocked(capacity=1)
    one.on_message("echo", lambda data: data)
    replies = queue.Queue()
    one.on_message("response", replies.put)

    async def main():
        await one.apost_message("echo", 1, message_id="task-1")
        with pytest.raises(MailboxFullError):
            await one.apost_message("echo", 2, timeout=0.01)

    run(main())
    gate.open()
    assert replies.get(timeout=WAIT).data == {"id": "task-1", "result": 1}
    assert one.stats().rejected == 1


def test_apost_message_ends_with_the_worker(blocked):
    one = blocked(capacity=1)

    async def main():
        await one.apost_message("gate")
        waiting = asyncio.ensure_future(one.apost_message("gate"))
        await asyncio.sleep(0)
        one.terminate()
        with pytest.raises(WorkerStoppedError):
            await waiting

    run(main())


def test_aask_waits_for_room_and_for_the_reply(blocked, gate):
    one = blocked(capacity=1)
    one.on_message("echo", lambda data: data)
    one.on_message("fail", fail)

    async def main():
        first = asyncio.ensure_future(one.aask("echo", "in the mailbox"))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(one.aask("echo", number)) for number in range(5)]
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert one.stats().depth == 1
        with pytest.raises(MailboxFullError):
            await one.aask("echo", timeout=0.01)
        gate.open()
        with pytest.raises(KeyError):
            await one.aask("fail", KeyError("original"))
        return await first, await asyncio.gather(*waiting)

    assert run(main()) == ("in the mailbox", [0, 1, 2, 3, 4])


def test_coroutines_that_wait_for_room_keep_their_order_and_wake_one_by_one(blocked, gate, monkeypatch):
    one = blocked(capacity=2)
    handled, wakes = [], []
    one.on_message("echo", handled.append)
    wake = _room._wake
    monkeypatch.setattr(_room, "_wake", lambda place: wakes.append(place) or wake(place))

    async def main():
        waiting = [asyncio.ensure_future(one.apost_message("echo", number)) for number in range(200)]
        await asyncio.sleep(0)
        waiting[100].cancel()
        asyncio.get_running_loop().call_soon(gate.open)
        await asyncio.gather(*waiting, return_exceptions=True)

    run(main())
    one.run_until_idle(WAIT)
    assert handled == [number for number in range(200) if number != 100]
    assert len(wakes) == len(set(wakes)) <= 200, "each is woken once"


def test_a_loop_that_is_stopped_holds_up_no_sender(blocked, gate):
    one = blocked(capacity=1)
    handled = []
    one.on_message("echo", handled.append)
    one.post_message("echo", "in the mailbox")
    stopped = asyncio.new_event_loop()
    try:
        first = stopped.create_task(one.apost_message("echo", "of a loop that is stopped"))
        stopped.run_until_complete(asyncio.sleep(0))
        assert not first.done()
        gate.open()
        run(asyncio.wait_for(one.apost_message("echo", "of another loop"), WAIT))
        one.run_until_idle(WAIT)
        assert handled == ["in the mailbox", "of a loop that is stopped", "of another loop"]
        stopped.run_until_complete(first)
    finally:
        stopped.close()


def test_async_with_a_pool_drains_without_blocking_the_loop(pool, gate):
    two = pool(2)

    async def main():
        async with two as entered:
            assert entered is two
            future = two.submit(gate, "drained")
            asyncio.get_running_loop().call_later(0.01, gate.open)
        with pytest.raises(WorkerStoppedError):
            two.submit(gate)
        return future.result(0)

    assert run(main()) == "drained"


def test_the_pool_is_asked_without_blocking_the_loop(pool, gate):
    one = pool(1)
    one.on_message("echo", lambda data: data)

    async def main():
        assert await one.aask("echo", 1) == 1
        await one.ashutdown()
        with pytest.raises(WorkerStoppedError):
            await one.aask("echo", 2)

    run(main())


def test_blocking_calls_in_a_loop_warn_in_debug_mode(blocked, pool, gate, remote_blocked):
    one, two, child = blocked(), pool(1), remote_blocked()

    async def main():
        for blocking, instead in (
            (lambda: one.ask("gate").result(0.01), "await"),
            (lambda: child.ask("gate").exception(0.01), "await"),
            (lambda: one.stop(drain=False, timeout=0.01), "astop"),
            (lambda: two.__exit__(None, None, None), "ashutdown"),
        ):
            with (
                pytest.warns(RuntimeWarning, match=instead),
                contextlib.suppress(*TIMEOUTS),
            ):
                blocking()
        with pytest.raises(FutureTimeout):
            child.ask("gate").result(0)

    asyncio.run(main(), debug=True)
    with pytest.raises(FutureTimeout):
        asyncio.run(in_a_loop(lambda: child.ask("gate").result(0.01)))
    gate.open()


async def in_a_loop(function):
    """Calls it in a loop whose debug mode is off."""
    return function()


def test_a_cancelled_apost_message_posts_nothing(blocked, gate):
    one = blocked(capacity=1)
    handled = []
    one.on_message("echo", handled.append)

    async def main():
        await one.apost_message("echo", "fits")
        waiting = asyncio.ensure_future(one.apost_message("echo", "cancelled"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == ["fits"]


def test_async_handlers_run_one_at_a_time_in_order(worker):
    events = []
    one = worker()

    @one.on_message("work")
    async def work(data):
        events.append(("begin", data))
        for _ in range(data % 3):
            await asyncio.sleep(0)
        events.append(("end", data))
        return data

    one.on_message("plain", lambda data: events.extend([("begin", data), ("end", data)]) or data)
    futures = [one.ask("plain" if number % 5 == 0 else "work", number) for number in range(50)]
    one.start()

    assert [future.result(WAIT) for future in futures] == list(range(50))
    assert events == [(event, number) for number in range(50) for event in ("begin", "end")]


def test_async_handlers_of_two_workers_interleave_on_one_loop(pool):
    arrived, loops = [], []
    one_pool = pool(1)
    both = None

    async def meet(data):
        nonlocal both
        loops.append(asyncio.get_running_loop())
        both = both or asyncio.Event()
        arrived.append(data)
        if len(arrived) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), WAIT)
        return threading.get_ident()

    futures = []
    for name in ("first", "second"):
        one = one_pool.create_worker(name)
        one.on_message("meet", meet)
        futures.append(one.start().ask("meet", name))

    first, second = (future.result(WAIT) for future in futures)
    assert first == second != threading.get_ident()
    assert loops[0] is loops[1]


def test_an_async_handler_that_raises_fails_its_message_only(worker):
    errors = queue.Queue()
    one = worker()

    @one.on_message("fail")
    async def fail_later(data):
        await asyncio.sleep(0)
        raise data

    one.on_error(lambda error: errors.put((error, current_message().type)))
    one.start()
    for raised in (KeyError("a"), SystemExit(3), asyncio.CancelledError()):
        error = one.ask("fail", raised).exception(WAIT)
        assert type(error) is type(raised)
        assert errors.get(timeout=WAIT) == (error, "fail")
    assert one.is_alive()


def test_async_handlers_have_their_context(worker):
    color = contextvars.ContextVar("color", default="none")
    one = worker("async")

    @one.on_message("look")
    async def look(data):
        before = (color.get(), current_message().id, current_message().data, current_worker() is one)
        await asyncio.sleep(0)
        assert before == (color.get(), current_message().id, current_message().data, current_worker() is one)
        color.set("changed")
        return before

    one.start()
    for value in ("red", "green"):
        color.set(value)
        assert one.ask("look", value).result(WAIT) == (value, None, value, True)
    assert color.get() == "green"


def test_stop_drains_async_handlers(worker):
    handled = []
    one = worker().start()

    @one.on_message("work")
    async def work(data):
        await asyncio.sleep(0)
        handled.append(data)

    one.post_messages("work", range(50))
    one.stop(timeout=WAIT)
    assert handled == list(range(50))


def test_an_async_handler_may_ask_another_worker(pool):
    one_pool = pool(1)
    front, back = one_pool.create_worker("front"), one_pool.create_worker("back")
    back.on_message("double", lambda data: data * 2)

    @front.on_message("double")
    async def double(data):
        return await back.ask("double", data)

    back.start()
    assert front.start().ask("double", 21).result(WAIT) == 42


def test_worker_method_may_be_a_coroutine(worker):
    class Processor(PythonWorker):
        @WorkerDecorators.worker_method("work")
        async def work(self, data):
            await asyncio.sleep(0)
            return (self.name, data)

    assert worker("async", cls=Processor).start().ask("work", 1).result(WAIT) == ("async", 1)


def test_a_coroutine_cannot_wait_for_room_in_its_own_mailbox():
    async def main():
        async with PythonWorker("own", capacity=1) as own:

            @own.on_message("work")
            async def work(data):
                await own.apost_message("work", data)
                with pytest.raises(MailboxFullError, match="handler"):
                    await own.apost_message("work", data)
                own.on_message("work", lambda data: data)
                return "refused"

            assert await asyncio.wait_for(own.ask("work"), WAIT) == "refused"
            assert own.stats().rejected == 1

    asyncio.run(main())


def test_a_coroutine_past_its_deadline_is_reported_as_that():
    reported = []

    async def main():
        async with PythonWorker("late") as late:
            late.on_error(reported.append)

            @late.on_message("work")
            async def work(data):
                # Made on this loop: never set.
                await asyncio.Event().wait()

            with pytest.raises(DeadlineError):
                await late.ask("work", timeout=0.01)

    asyncio.run(main())
    assert [type(error) for error in reported] == [DeadlineError]


@pytest.mark.parametrize("collect", [asyncio.gather, gather])
def test_a_coroutine_that_waits_for_two_is_told_of_either_circle(collect):
    async def main():
        async with PythonWorker("hub") as hub, PythonWorker("back") as back, PythonWorker("leaf") as leaf:
            answered = asyncio.Event()
            loop = asyncio.get_running_loop()
            leaf.on_message("slow", lambda data: None)

            @back.on_message("ask")
            async def ask_back(data):
                return await hub.ask("anything")

            @hub.on_message("both")
            async def both(data):
                # The later wait must not hide the earlier one.
                results = await collect(back.ask("ask"), leaf.ask("slow"), return_exceptions=True)
                loop.call_soon_threadsafe(answered.set)
                return [type(result) for result in results]

            kinds = await asyncio.wait_for(hub.ask("both"), WAIT)
            assert kinds == [AskCycleError, type(None)]
            await asyncio.wait_for(answered.wait(), WAIT)

    run(main())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_loops_that_take_turns_keep_one_way_to_be_woken(worker):
    one = worker("one")
    one.on_message("echo", lambda data: data)
    one.start()
    loops = [asyncio.new_event_loop() for _ in range(2)]

    async def ask(data):
        return await one.ask("echo", data)

    try:
        for loop in loops:
            assert loop.run_until_complete(ask(0)) == 0
        before = len(os.listdir("/proc/self/fd"))
        for data in range(20):
            assert loops[data % 2].run_until_complete(ask(data)) == data
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        for loop in loops:
            loop.close()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_start_of_a_pool_in_a_coroutine_says_what_blocks(pool, kind):
    async def start():
        pool(1, backend=kind).start()

    with pytest.warns(RuntimeWarning) as warned:
        asyncio.run(start(), debug=True)
    (warning,) = warned
    assert str(warning.message) == (
        "start() blocks the event loop: use `await asyncio.to_thread(pool.start)`"
    )
    assert warning.filename == __file__
