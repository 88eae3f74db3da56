"""Hooks that are coroutines wait, and are stopped, as handlers that are coroutines."""

from __future__ import annotations

import asyncio
import threading

import hook_handlers as handlers
import pytest

from pytoweb.workers import AskCycleError, DeadlineError, WorkerStoppedError

WAIT = 10.0


@pytest.fixture(autouse=True)
def no_words():
    """Takes back what earlier tests noted in this process."""
    handlers.STATE.clear()


@pytest.mark.parametrize("way", ["aask", "ask", "result"])
def test_a_start_hook_that_waits_for_its_own_worker_is_told(worker, way):
    one = worker("alone")
    one.on_message("echo", lambda data: data)

    @one.on_start
    async def start():
        if way == "aask":
            await one.aask("echo", 1)
        elif way == "ask":
            await one.ask("echo", 1)
        else:
            one.ask("echo", 1).result(WAIT)

    error = one.start().ask("echo", 2).exception(WAIT)
    assert isinstance(error, AskCycleError)
    assert list(error.cycle) == ["alone"]


def test_two_start_hooks_that_wait_for_each_others_workers_are_told(worker):
    one, other = worker("one"), worker("other")
    both, met = threading.Barrier(2, timeout=WAIT), []
    for this, that in ((one, other), (other, one)):
        this.on_message("echo", lambda data: data)

        async def start(this=this, that=that):
            if this in met:
                return
            met.append(this)
            await asyncio.get_running_loop().run_in_executor(None, both.wait)
            await that.aask("echo", 1)

        this.on_start(start)
    asked = [one.start().ask("echo", 1), other.start().ask("echo", 1)]
    errors = [future.exception(WAIT) for future in asked]
    assert any(isinstance(error, AskCycleError) for error in errors)


def test_end_hooks_that_stop_each_others_workers_end(worker):
    one, other = worker("one"), worker("other")
    both = threading.Barrier(2, timeout=WAIT)
    ran = []
    for this, that in ((one, other), (other, one)):
        this.on_message("echo", lambda data: data)

        async def stop(that=that):
            await asyncio.get_running_loop().run_in_executor(None, both.wait)
            await that.astop()
            ran.append(that.name)

        this.on_stop(stop)
        this.start().ask("echo", 1).result(WAIT)
    for this in (one, other):
        this._pytoweb_close("drain")
    for this in (one, other):
        this.stop(timeout=WAIT)
    assert sorted(ran) == ["one", "other"]


@pytest.mark.parametrize("posts", [False, True])
@pytest.mark.parametrize("kind", ["fail", "fail_later"])
@pytest.mark.parametrize("made", ["worker", "pool"])
def test_an_error_handler_that_waits_for_its_own_worker_is_told_and_one_of_a_pool_goes_on(
    worker, pool, backend, made, kind, posts
):
    one = worker("one", backend=backend) if made == "worker" else pool(1, name="one", backend=backend)
    heard, told = [], threading.Event()
    one.on_message(kind, getattr(handlers, kind))
    one.on_message("words", handlers.words)

    @one.on_error
    async def on_error(error):
        try:
            heard.append(await one.aask("words"))
        except AskCycleError as cycle:
            heard.append(list(cycle.cycle))
        told.set()

    if made == "worker":
        one.start()
    if posts:
        one.post_message(kind, "why")
    else:
        assert isinstance(one.ask(kind, "why").exception(WAIT), ValueError)
    assert told.wait(WAIT)
    assert heard == [["one"] if made == "worker" else []]


@pytest.mark.parametrize("way", ["astop", "stop"])
def test_coroutines_that_stop_each_others_workers_end(worker, way):
    one, other = worker("one"), worker("other")
    both = threading.Barrier(2, timeout=WAIT)
    for this, that in ((one, other), (other, one)):

        async def stop(data, that=that):
            await asyncio.get_running_loop().run_in_executor(None, both.wait)
            if way == "astop":
                await that.astop()
            else:
                that.stop()
            return "stopped"

        this.on_message("stop", stop)
        this.start()
    asked = [one.ask("stop"), other.ask("stop")]
    assert [future.result(WAIT) for future in asked] == ["stopped"] * 2


@pytest.mark.parametrize("way", ["here", "on a thread"])
def test_a_coroutine_that_waits_until_its_own_worker_is_idle_is_told(worker, way):
    one = worker("alone")

    @one.on_message("idle")
    async def idle(data):
        if way == "here":
            one.run_until_idle(WAIT)
        else:
            await asyncio.to_thread(one.run_until_idle, WAIT)

    assert isinstance(one.start().ask("idle").exception(WAIT), AskCycleError)


def test_a_coroutine_of_a_pool_may_shut_it_down(pool):
    some = pool(1)

    @some.on_message("end")
    async def end(data):
        await some.ashutdown()
        return "ended"

    assert some.ask("end").result(WAIT) == "ended"
    some.shutdown(timeout=WAIT)


class Sleeper:
    """A coroutine function that waits until it is cancelled, and then cleans up."""

    def __init__(self):
        self.entered, self.cancelled, self.cleaned = threading.Event(), threading.Event(), threading.Event()

    async def __call__(self, data=None):
        self.entered.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            self.cancelled.set()
            await asyncio.sleep(0.001)
            self.cleaned.set()
            raise

    async def run(self, data=None):
        await self(data)

    def check(self):
        assert self.cancelled.wait(WAIT) and self.cleaned.wait(WAIT)


@pytest.mark.parametrize("posts", [False, True])
@pytest.mark.parametrize("what", ["handler", "start hook", "end hook"])
def test_terminate_cancels_what_runs(worker, caplog, what, posts):
    one, sleeper = worker(), Sleeper()
    one.on_message("work", sleeper.run if what == "handler" else lambda data: None)
    if what == "start hook":
        one.on_start(sleeper.run)
    elif what == "end hook":
        one.on_stop(sleeper.run)
    one.start()
    future = one.post_message("work") if posts else one.ask("work")
    if what == "end hook":
        one.run_until_idle(WAIT)
        one._pytoweb_close("drain")
    assert sleeper.entered.wait(WAIT)
    one.terminate()
    sleeper.check()
    assert one._pytoweb_wait_ended(WAIT)
    if future is not None and what != "end hook":
        assert isinstance(future.exception(WAIT), WorkerStoppedError)
    # The terminate is no news.
    assert caplog.records == []


def test_a_pools_terminate_cancels_what_runs(pool):
    some = pool(1)
    one, sleepers = some.create_worker("one"), [Sleeper(), Sleeper()]
    some.on_message("work", sleepers[0].run)
    one.on_message("work", sleepers[1].run)
    one.start()
    for endpoint, sleeper in zip((some, one), sleepers):
        endpoint.post_message("work")
        assert sleeper.entered.wait(WAIT)
    some.terminate()
    for sleeper in sleepers:
        sleeper.check()


def test_an_end_hook_that_begins_after_terminate_runs(worker, gate):
    one, ran = worker(), threading.Event()

    async def stop():
        await asyncio.sleep(0.05)
        ran.set()

    one.on_stop(stop)
    one.on_message("gate", gate)
    one.start().post_message("gate")
    gate.wait_entered()
    one.terminate()
    gate.open()
    assert ran.wait(WAIT)


@pytest.mark.parametrize("waits", ["asks", "posts"])
def test_a_deadline_cancels_the_start_hook_that_its_message_waits_for(worker, until, waits):
    one, sleeper, told = worker("slow"), Sleeper(), []
    one.on_message("work", lambda data: "done")
    one.on_start(sleeper.run)
    one.on_error(lambda error: told.append(type(error)))
    one.start()
    if waits == "asks":
        assert isinstance(one.ask("work", timeout=0.05).exception(WAIT), DeadlineError)
    else:
        one.post_message("work", timeout=0.05)
    sleeper.check()
    until(lambda: told == [DeadlineError], "the report")
    assert one.stats().expired == 1
    one.on_start(lambda: None)
    assert one.ask("work").result(WAIT) == "done"


def test_the_same_in_a_child(worker, tmp_path, until):
    one = worker("slow", backend="process", grace=WAIT)
    one.on_message("words", handlers.words)
    one.on_message("pid", handlers.pid)
    one.start()
    child = one.ask("pid").result(WAIT)
    one.on_start(handlers.SleepOnce(str(tmp_path / "words")))
    assert isinstance(one.ask("words", timeout=0.3).exception(WAIT), DeadlineError)
    # The hook was cancelled, and the child lives on.
    assert one.ask("pid").result(WAIT) == child
    assert (tmp_path / "words").read_text() == "cancelled"
