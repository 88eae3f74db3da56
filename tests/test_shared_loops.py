"""The event loops of `async def` handlers: few for all workers, each of which ends its own."""

from __future__ import annotations

import asyncio
import os
import queue
import threading

import pytest

from pytoweb import _loops
from pytoweb.workers import AskCycleError, WorkerPool

WAIT = 10.0
MANY = 12


async def look(data=None):
    """The loop that runs this."""
    return asyncio.get_running_loop()


@pytest.fixture
def many(worker):
    """Started workers with coroutines: more than there are loops."""
    workers = [worker(f"many {number}") for number in range(MANY)]
    for one in workers:
        one.on_message("look", look)
        one.start()
    return workers


def loop_threads():
    """The threads of shared event loops."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("pytoweb-loop-")]


def test_each_takes_a_loop_of_its_own_while_there_are_few_and_then_the_least_used(many):
    loops = [one.ask("look").result(WAIT) for one in many]

    assert len(set(loops[: _loops.MOST_LOOPS])) == len(set(loops)) == _loops.MOST_LOOPS
    assert {loops.count(loop) for loop in loops} == {MANY // _loops.MOST_LOOPS}
    # Each keeps its own.
    assert [one.ask("look").result(WAIT) for one in many] == loops


def test_a_loop_ends_with_the_last_that_uses_it(many):
    assert len(loop_threads()) == _loops.MOST_LOOPS
    for one in many[1:]:
        one.stop()
    assert len(loop_threads()) == 1
    assert many[0].ask("look").result(WAIT).is_running()
    many[0].stop()
    assert loop_threads() == []


def sharing(many):
    """Two of the workers that share a loop."""
    first = many[0].ask("look").result(WAIT)
    return many[0], next(one for one in many[1:] if one.ask("look").result(WAIT) is first)


def begin_and_leave(one, events, name):
    """Has a handler of `one` leave a task behind, which notes how it ends."""

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            # It is waited for.
            await asyncio.sleep(0)
            events.put(name)

    async def leave(data):
        async def nested():
            tasks.append(asyncio.ensure_future(wait()))
            await asyncio.sleep(0)

        await asyncio.ensure_future(nested())

    tasks = []
    one.on_message("leave", leave)
    one.ask("leave").result(WAIT)
    return tasks


def test_the_end_of_one_cancels_what_its_coroutines_left_and_nothing_of_the_others(many):
    one, other = sharing(many)
    events = queue.Queue()
    kept = begin_and_leave(one, events, "one"), begin_and_leave(other, events, "other")

    one.stop(timeout=WAIT)
    assert events.get_nowait() == "one"
    # The task of the other one goes on, and so does its loop.
    assert other.ask("look").result(WAIT).is_running()
    assert not kept[1][0].done()

    other.stop(timeout=WAIT)
    assert events.get_nowait() == "other"
    assert kept[0][0].cancelled()


def test_the_handler_of_a_message_belongs_to_its_worker_and_not_to_the_sender(many):
    one, other = sharing(many)
    opened = []
    entered = threading.Event()

    async def wait(data):
        opened.append(asyncio.Event())
        entered.set()
        await opened[0].wait()
        return data

    async def send(data):
        return other.ask("wait", data)

    other.on_message("wait", wait)
    one.on_message("send", send)
    future = one.ask("send", "sent").result(WAIT)
    assert entered.wait(WAIT)

    one.stop(timeout=WAIT)

    other._pytoweb.runtime._loop._loop.call_soon_threadsafe(opened[0].set)
    assert future.result(WAIT) == "sent"


def test_hooks_that_run_are_finished_and_others_go_on(many):
    one, other = sharing(many)
    ended = queue.Queue()

    async def end_hook():
        await asyncio.sleep(0.001)
        ended.put("ended")

    one.on_stop(end_hook)
    one.stop(timeout=WAIT)
    assert ended.get_nowait() == "ended"
    assert other.ask("look").result(WAIT).is_running()


def test_a_loop_goes_on_for_the_others_after_a_task_that_raises_at_the_end_of_one(many, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: told.append(args.exc_type))
    one, other = sharing(many)
    tasks = []

    async def resist():
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit

    async def leave(data):
        tasks.append(asyncio.ensure_future(resist()))
        await asyncio.sleep(0)

    one.on_message("leave", leave)
    one.ask("leave").result(WAIT)
    one.stop(timeout=WAIT)
    assert told == [SystemExit]
    assert other.ask("look").result(WAIT).is_running()
    tasks.clear()


def block_on(one, wait):
    """Registers an `async def` handler of `one` that blocks its loop while it waits."""

    async def block(data):
        return wait()

    one.on_message("block", block)


def test_a_coroutine_that_blocks_for_another_on_its_loop_is_told(many):
    one, other = sharing(many)
    block_on(one, lambda: other.ask("look").result(WAIT))

    error = one.ask("block").exception(WAIT)

    assert type(error) is AskCycleError
    assert set(error.cycle) == {one.name, other.name}
    # Both go on.
    assert one.ask("look").result(WAIT) is other.ask("look").result(WAIT)


def test_so_is_one_that_blocks_for_a_coroutine_that_waits_there(many):
    one, other = sharing(many)
    entered, opened = threading.Event(), []

    async def wait(data):
        opened.append(asyncio.Event())
        entered.set()
        await opened[0].wait()
        return data

    other.on_message("wait", wait)
    waiting = other.ask("wait", "waited")
    assert entered.wait(WAIT)
    block_on(one, lambda: waiting.result(WAIT))

    assert type(one.ask("block").exception(WAIT)) is AskCycleError
    other._pytoweb.runtime._loop._loop.call_soon_threadsafe(opened[0].set)
    assert waiting.result(WAIT) == "waited"


def test_so_is_one_that_blocks_for_a_thread_that_waits_for_another_on_its_loop(many, worker):
    one, other = sharing(many)
    between = worker("between")
    between.on_message("pass on", lambda data: other.ask("look").result(WAIT))
    between.start()
    block_on(one, lambda: between.ask("pass on").result(WAIT))

    error = one.ask("block").exception(WAIT)

    assert type(error) is AskCycleError
    assert set(error.cycle) == {one.name, between.name, other.name}


def test_a_coroutine_that_blocks_for_something_else_holds_up_the_others_and_no_more(many, worker, gate):
    one, other = sharing(many)
    elsewhere = worker("elsewhere")
    elsewhere.on_message("gate", gate)
    elsewhere.start()
    block_on(one, lambda: elsewhere.ask("gate", "through").result(WAIT))

    blocking = one.ask("block")
    gate.wait_entered()
    held_up = other.ask("look")
    gate.open()

    assert blocking.result(WAIT) == "through"
    assert held_up.result(WAIT).is_running()
    assert many[1].ask("look").result(WAIT) is not held_up.result(WAIT)


def test_a_coroutine_that_stops_another_worker_on_its_loop_ends(many):
    one, other = sharing(many)
    entered = threading.Event()

    async def wait(data):
        entered.set()
        await asyncio.sleep(0.01)

    other.on_message("wait", wait)
    other.post_message("wait")
    assert entered.wait(WAIT)
    block_on(one, lambda: other.stop(timeout=WAIT))
    one.ask("block").result(WAIT)
    other.stop(timeout=WAIT)
    assert other.stats().completed == other.stats().posted


def test_a_worker_that_a_coroutine_makes_is_on_another_loop(many, worker):
    made = worker("made")

    async def make(data):
        # Blocks its own loop.
        made.on_message("look", look)
        return made.start().ask("look").result(WAIT), asyncio.get_running_loop()

    many[0].on_message("make", make)
    inner, outer = many[0].ask("make").result(WAIT)
    assert inner is not outer


def test_a_loop_is_shared_by_those_that_the_same_policy_made_it_for(many, worker, monkeypatch):
    class Policy(asyncio.DefaultEventLoopPolicy):
        pass

    class Loop(asyncio.SelectorEventLoop):
        pass

    policy = Policy()
    monkeypatch.setattr(policy, "new_event_loop", Loop)
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(policy)
    try:
        others = [worker(f"other {number}") for number in range(2)]
        for one in others:
            one.on_message("look", look)
            one.start()
    finally:
        asyncio.set_event_loop_policy(before)

    loops = [one.ask("look").result(WAIT) for one in others]
    assert [type(loop) for loop in loops] == [Loop, Loop]
    assert type(many[0].ask("look").result(WAIT)) is not Loop


def test_tasks_are_those_of_asyncio(many):
    async def count(data):
        task = asyncio.ensure_future(asyncio.sleep(0, "slept"))
        named = asyncio.get_running_loop().create_task(asyncio.sleep(0), name="named")
        all_tasks = asyncio.all_tasks()
        current = asyncio.current_task()
        assert {task, named, current} <= all_tasks
        assert named.get_name() == "named"
        await named
        return await task, type(task) is type(current) is asyncio.Task

    many[0].on_message("count", count)
    assert many[0].ask("count").result(WAIT) == ("slept", True)


def test_a_pool_shares_as_a_worker_does(many):
    with WorkerPool(2) as pool:
        assert pool.submit(look).result(WAIT) in {one.ask("look").result(WAIT) for one in many}


def test_a_loop_that_cannot_be_started_is_shared_sooner(worker, monkeypatch):
    first, second = worker("first"), worker("second")
    for one in (first, second):
        one.on_message("look", look)
    first.start()
    second.post_message("look")
    start = threading.Thread.start

    def refuse(thread):
        if isinstance(thread, _loops.LoopThread):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    second.start()
    assert second.ask("look").result(WAIT) is first.ask("look").result(WAIT)


def test_a_forked_child_has_loops_of_its_own(run_python, require):
    require(hasattr(os, "fork"), "os.fork")
    done = run_python("""
import asyncio, os, warnings
from pytoweb.workers import PythonWorker
warnings.simplefilter("ignore")

async def look(data):
    return id(asyncio.get_running_loop())

def make(name):
    one = PythonWorker(name)
    one.on_message("look", look)
    return one.start()

workers = [make(str(number)) for number in range(6)]
before = {one.ask("look").result(10) for one in workers}
pid = os.fork()
if pid == 0:
    code = 1
    try:
        with make("child") as one:
            one.ask("look").result(10)
        code = 0
    finally:
        os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(before))
for one in workers:
    assert one.ask("look").result(10) in before
    one.stop()
""")
    assert (done.rc, done.stdout, done.stderr) == (0, "0 4\n", "")


def test_programs_that_leave_workers_running_end(run_python):
    done = run_python("""
import asyncio
from pytoweb.workers import PythonWorker

async def work(data):
    await asyncio.sleep(0.001)
    print(data + "\\n", end="")

workers = []
for number in range(8):
    one = PythonWorker(str(number))
    one.on_message("work", work)
    workers.append(one.start())
for one in workers:
    one.post_message("work", "done")
""")
    assert (done.rc, done.stdout, done.stderr) == (0, "done\n" * 8, "")


def test_a_task_is_cancelled_after_its_first_step():
    """Before that nothing of it would run, and its message would never end."""
    begun = []

    async def handle():
        begun.append(True)
        await asyncio.sleep(WAIT)

    async def cancel_at_once():
        tenant = object.__new__(_loops.Tenant)
        tenant._loop = asyncio.get_running_loop()
        task = tenant._loop.create_task(handle())
        tenant._cancel(task)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_at_once())
    assert begun == [True]
