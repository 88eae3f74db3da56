"""Functions that a component runs in workers: `Component.run`, and the `AsyncResult` in its state.

Functions of a process pool are found by name in this module. Past 600 lines, because each end of a call is
met by each thing that can happen to its component.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import logging
import os
import pickle
import sys
import threading
import weakref
from concurrent.futures import CancelledError, Future, wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytoweb import _component_runs, _component_state
from pytoweb.components import AsyncResult, Component, html
from pytoweb.workers import (
    DeadlineError,
    ForkedProcessError,
    MailboxFullError,
    Progress,
    SerializationError,
    WorkerStoppedError,
    current_message,
    current_worker,
)

WAIT = 10.0

NEVER = 0.05
"""Seconds of the watch over something that must not happen."""


def double(number):
    return 2 * number


def fail(text):
    raise ArithmeticError(text)


def report(count):
    for number in range(count + 1):
        current_worker().progress(number, count, f"page {number}")
    return "reported"


async def double_later(number):
    await asyncio.sleep(0)
    return 2 * number


@pytest.fixture
def ended(until):
    """Returns `ended(component, key)`: what the state has there once it is not loading."""

    def look(component, key):
        until(lambda: not component.state[key].loading, f"the end of {key!r}")
        return component.state[key]

    return look


@pytest.fixture
def switching():
    """Makes the interpreter change threads every few steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def on_pool(pool, backend):
    """A pool of either backend, with room for two functions at a time."""
    return pool(2, backend=backend)


# -- an AsyncResult


def test_an_async_result_cannot_be_changed():
    result = AsyncResult("ok", 1)
    with pytest.raises(AttributeError, match="cannot be changed"):
        result.result = 2
    with pytest.raises(AttributeError, match="cannot be changed"):
        del result.result
    with pytest.raises(ValueError, match="'loading', 'ok' or 'failed', not 'done'"):
        AsyncResult("done")


def test_an_async_result_is_a_value():
    error = ArithmeticError("text")
    result = AsyncResult("failed", error=error, progress=Progress(1, 2), previous="before")
    assert result == AsyncResult("failed", error=error, progress=Progress(1, 2), previous="before")
    assert hash(result) == hash(copy.copy(result))
    assert result != AsyncResult("failed", error=error) and result != "failed"
    assert repr(result) == (
        "AsyncResult('failed', error=ArithmeticError('text'), "
        "progress=Progress(done=1, total=2, text=None), previous='before')"
    )
    again = pickle.loads(pickle.dumps(result))
    assert (again.status, str(again.error), again.previous) == ("failed", "text", "before")


@pytest.mark.parametrize(
    ("result", "is_what", "latest"),
    [
        (AsyncResult("loading"), "loading", None),
        (AsyncResult("loading", previous=0), "loading", 0),
        (AsyncResult("ok", 1), "ok", 1),
        (AsyncResult("ok"), "ok", None),
        (AsyncResult("failed", error=KeyError(1), previous=2), "failed", 2),
    ],
)
def test_an_async_result_says_what_it_is(result, is_what, latest):
    assert [name for name in ("loading", "ok", "failed") if getattr(result, name)] == [is_what]
    assert result.status == is_what and result.latest == latest


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (AsyncResult("ok", "<b>"), "&lt;b&gt;"),
        (AsyncResult("ok", html("<b>{x}</b>", x="<")), "<b>&lt;</b>"),
        (AsyncResult("loading"), "<progress></progress>"),
        (AsyncResult("loading", previous="<"), "&lt;<progress></progress>"),
        (AsyncResult("loading", progress=Progress(3, None, "<")), "<progress>&lt;</progress>"),
        (
            AsyncResult("loading", progress=Progress(3, 10, "<")),
            '<progress max="10" value="3">&lt;</progress>',
        ),
        (
            AsyncResult("failed", error=ValueError("<"), previous="&"),
            '&amp;<em role="alert">ValueError: &lt;</em>',
        ),
        (AsyncResult("failed", error=ValueError()), '<em role="alert">ValueError</em>'),
    ],
)
def test_an_async_result_as_html(result, expected):
    assert html("{x}", x=result) == expected
    component = Component()
    component.update_state(r=result)
    assert component.render() == f"<dl><dt>r</dt><dd>{expected}</dd></dl>"


def test_a_list_that_is_ok_is_rendered_as_a_list():
    component = Component()
    component.update_state(r=AsyncResult("ok", [1, "<"]))
    assert component.render() == "<dl><dt>r</dt><dd>1</dd><dd>&lt;</dd></dl>"


# -- one call


@pytest.mark.parametrize("function", [double, double_later])
def test_the_result_comes_into_the_state(on_pool, ended, function):
    component = Component()
    future = component.run(function, 4, pool=on_pool)
    assert function.__name__ in component.state, "as soon as the call returns"
    assert future.result(WAIT) == 8
    assert ended(component, function.__name__) == AsyncResult("ok", 8)


def test_it_is_loading_while_the_function_runs_and_listeners_hear_of_each_step(pool, gate, ended):
    component, seen = Component(), []
    component.subscribe(lambda state: seen.append(state["answer"]))
    component.run(gate, "result", into="answer", pool=pool(1))
    gate.wait_entered()
    assert component.state["answer"] == AsyncResult("loading")
    gate.open()
    ended(component, "answer")
    assert seen == [AsyncResult("loading"), AsyncResult("ok", "result")]


def test_keywords_go_to_the_function(pool, ended):
    component, one = Component(), pool(1)
    component.run(dict, [("a", 1)], b=2, pool=one)
    component.run(functools.partial(dict, into=3, pool=4), into="partial", pool=one)
    assert ended(component, "dict").result == {"a": 1, "b": 2}
    assert ended(component, "partial").result == {"into": 3, "pool": 4}


def test_without_a_pool_it_is_the_default_one(ended):
    component = Component()
    component.run(lambda: current_worker().name, into="name")
    assert ended(component, "name").result == "default"


def test_options_of_a_pool_are_kept(pool, ended):
    component, seen = Component(), threading.Event()

    def overdue():
        while not current_message().cancelled:
            seen.wait(0.001)

    component.run(overdue, pool=pool(1).options(timeout=0.05))
    result = ended(component, "overdue")
    assert result.failed and type(result.error) is DeadlineError


def test_an_error_is_shown_and_the_result_before_is_kept(on_pool, ended):
    component = Component()
    component.run(double, 1, into="x", pool=on_pool)
    ended(component, "x")
    future = component.run(fail, "<text>", into="x", pool=on_pool)
    error = future.exception(WAIT)
    result = ended(component, "x")
    assert (result.status, result.error, result.result, result.previous) == ("failed", error, None, 2)
    component.run(double, 2, into="x", pool=on_pool)
    assert ended(component, "x") == AsyncResult("ok", 4)


def test_an_unread_failure_is_logged_and_one_that_is_read_is_not(pool, ended, logged, until):
    component, one = Component(), pool(1)
    component.run(fail, "read", pool=one).exception(WAIT)
    ended(component, "fail")
    component.run(fail, "unread", pool=one)
    until(logged, "the log record")
    (record,) = logged()
    assert "dropped unread" in record.getMessage() and str(record.exc_info[1]) == "unread"
    assert ended(component, "fail").error is record.exc_info[1]


def test_progress_comes_into_the_state_and_stays(on_pool, ended):
    component, seen = Component(), []
    component.subscribe(lambda state: seen.append(state["report"]))
    component.run(report, 10_000, pool=on_pool)
    last = Progress(10_000, 10_000, "page 10000")
    assert ended(component, "report") == AsyncResult("ok", "reported", progress=last)
    reported = [one.progress.done for one in seen if one.progress is not None]
    assert reported == sorted(reported) and len(reported) < 1000, "in order, and not each of them"


def test_a_report_while_it_runs_is_shown(pool, gate, until, ended):
    component = Component()
    component.update_state(x=AsyncResult("ok", "old"))

    def work():
        current_worker().progress(1, 2, "half")
        return gate("new")

    component.run(work, into="x", pool=pool(1))
    until(lambda: component.state["x"].progress)
    assert component.state["x"] == AsyncResult("loading", progress=Progress(1, 2, "half"), previous="old")
    gate.open()
    assert ended(component, "x") == AsyncResult("ok", "new", progress=Progress(1, 2, "half"))


def test_a_cancelled_call_has_failed(pool, gate, ended):
    component, one = Component(), pool(1)
    component.run(gate, pool=one, into="first")
    gate.wait_entered()
    assert component.run(double, 1, pool=one).cancel()
    result = ended(component, "double")
    assert result.failed and type(result.error) is CancelledError
    gate.open()


def test_run_in_a_coroutine(ended):
    component = Component()

    async def main():
        return await component.run(double_later, 2)

    assert asyncio.run(main()) == 4
    assert ended(component, "double_later") == AsyncResult("ok", 4)


# -- calls that meet


def test_an_exclusive_call_cancels_those_before(pool, gates, ended, logged):
    component, one = Component(), pool(2)
    first, second, seen = gates(), gates(), []

    def watch():
        first("first")
        seen.append(current_message().cancelled)
        raise ArithmeticError("not for the log")

    watching = component.run(watch, into="x", exclusive=True, pool=one)
    first.wait_entered()
    component.run(second, "second", into="x", exclusive=True, pool=one)
    second.wait_entered()
    queued = component.run(double, 1, into="x", exclusive=True, pool=one)
    last = component.run(double, 2, into="x", exclusive=True, pool=one)
    assert queued.cancelled() and not last.cancelled()
    first.open()
    wait([watching], WAIT)
    assert seen == [True]
    del watching, queued
    second.open()
    assert ended(component, "x") == AsyncResult("ok", 4)
    one.run_until_idle(WAIT)
    assert component.state["x"] == AsyncResult("ok", 4), "what came late is discarded"
    assert not logged()


def test_an_exclusive_call_leaves_other_keys_alone(pool, gate, ended):
    component, one = Component(), pool(2)
    component.run(gate, "a", into="a", exclusive=True, pool=one)
    component.run(double, 1, into="b", exclusive=True, pool=one)
    ended(component, "b")
    gate.open()
    assert ended(component, "a") == AsyncResult("ok", "a")


def test_an_exclusive_coroutine_is_cancelled(pool, ended):
    component, cancelled = Component(), threading.Event()
    started = threading.Event()

    async def forever():
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    one = pool(1)
    component.run(forever, into="x", exclusive=True, pool=one)
    assert started.wait(WAIT)
    component.run(double, 1, into="x", exclusive=True, pool=one)
    assert cancelled.wait(WAIT)
    assert ended(component, "x") == AsyncResult("ok", 2)


def test_an_older_result_never_comes_over_a_newer_one(pool, gates, until, ended):
    component, one = Component(), pool(3)
    doors = [gates() for _ in range(3)]
    futures = [component.run(door, index, into="x", pool=one) for index, door in enumerate(doors)]
    for door in doors:
        door.wait_entered()
    doors[1].open()
    until(lambda: component.state["x"].previous == 1)
    assert component.state["x"] == AsyncResult("loading", previous=1), "the last one still runs"
    doors[0].open()
    assert futures[0].result(WAIT) == 0
    doors[2].open()
    assert ended(component, "x") == AsyncResult("ok", 2)
    one.run_until_idle(WAIT)
    assert component.state["x"] == AsyncResult("ok", 2)


def test_an_older_one_that_ends_last_is_discarded(pool, gate, ended):
    component, one = Component(), pool(2)
    old = component.run(gate, "old", into="x", pool=one)
    gate.wait_entered()
    component.run(double, 1, into="x", pool=one)
    assert ended(component, "x") == AsyncResult("ok", 2)
    gate.open()
    assert old.result(WAIT) == "old", "it was not cancelled"
    one.run_until_idle(WAIT)
    assert component.state["x"] == AsyncResult("ok", 2)


class ByHand(Future):
    """Stands in for a `WorkerFuture`: the test begins, reports and ends it."""

    def __init__(self, number):
        super().__init__()
        self.number, self.progress, self.handler = number, None, None

    def on_progress(self, handler):
        self.handler = handler

    def _note_read(self):
        pass


class Model:
    """What the state is to show: all calls in order of start, and those of them that it still waits for."""

    def __init__(self):
        self.shown, self.wanted = None, []

    def latest(self):
        return None if self.shown is None else self.shown.latest

    def start(self, call, exclusive):
        dropped = self.wanted if exclusive else []
        self.wanted = [*([] if exclusive else self.wanted), call]
        self.shown = AsyncResult("loading", previous=self.latest())
        return dropped

    def report(self, call):
        if self.wanted[-1:] == [call]:
            self.shown = AsyncResult("loading", progress=call.progress, previous=self.shown.previous)

    def end(self, call, result, error):
        if call not in self.wanted:
            return
        newer = self.wanted[self.wanted.index(call) + 1 :]
        if not newer and error is None:
            self.shown = AsyncResult("ok", result, progress=call.progress)
        elif not newer:
            self.shown = AsyncResult("failed", None, error, call.progress, self.shown.previous)
        elif error is None:
            self.shown = AsyncResult("loading", progress=self.shown.progress, previous=result)
        else:
            newer = [one for one in self.wanted if one is not call]
        self.wanted = newer

    def unmount(self):
        dropped, self.wanted = self.wanted, []
        return dropped

    def mount(self):
        if self.shown is not None and self.shown.loading and not self.wanted:
            self.shown = AsyncResult("failed", error=CancelledError(), previous=self.shown.previous)


def same(shown, expected):
    """Whether they say the same; the error of a cancelled call is made anew each time."""
    if shown is None or expected is None:
        return shown is expected
    errors = [one.error for one in (shown, expected)]
    fields = [(one.status, one.result, one.progress, one.previous) for one in (shown, expected)]
    return fields[0] == fields[1] and (
        errors[0] is errors[1] or all(isinstance(error, CancelledError) for error in errors)
    )


WHAT = [
    "run",
    "exclusive",
    "begin",
    "begin",
    "report",
    "finish",
    "finish",
    "fail",
    "cancel",
    "unmount",
    "mount",
]


@pytest.mark.slow
@settings(max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 7)), max_size=40))
def test_random_calls_reports_and_ends_show_as_the_model_says(steps):
    component, model, calls, made = Component(), Model(), [], []
    is_mounted = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_component_runs, "_submit_of", lambda pool: lambda function: made[-1])
        for number, (what, index) in enumerate(steps):
            open_calls = [call for call in calls if not call.done()]
            call = open_calls[index % len(open_calls)] if open_calls else None
            if what in ("run", "exclusive") and is_mounted:
                call = ByHand(number)
                made.append(call)
                calls.append(call)
                for dropped in model.start(call, what == "exclusive"):
                    assert not dropped.done()
                component.run(double, into="x", exclusive=what == "exclusive")
            elif what == "unmount":
                for dropped in model.unmount():
                    assert not dropped.done()
                component.unmount()
                is_mounted = False
                assert all(call.running() for call in open_calls if not call.done())
            elif what == "mount":
                component.mount()
                model.mount()
                is_mounted = True
            elif call is None:
                continue
            elif what == "begin" and not call.running():
                call.set_running_or_notify_cancel()
            elif what == "report" and call.running():
                call.progress = Progress(number)
                model.report(call)
                call.handler(call.progress)
            elif what == "finish" and call.running():
                model.end(call, number, None)
                call.set_result(number)
            elif what == "fail" and call.running():
                error = ArithmeticError(number)
                model.end(call, None, error)
                call.set_exception(error)
            elif what == "cancel" and not call.running():
                model.end(call, None, CancelledError())
                call.cancel()
            assert same(component.state.get("x"), model.shown), (what, component.state, model.shown)
    assert not model.wanted or model.shown.loading


def test_calls_of_many_threads_end_as_the_last_of_them(pool, spawn, ended, switching, monkeypatch):
    order, numbers, begin = [], {}, _component_runs.Runs._begin

    def noted(self, run, state):
        order.append(run.future)
        return begin(self, run, state)

    monkeypatch.setattr(_component_runs.Runs, "_begin", noted)
    component, one, start = Component(), pool(2), threading.Barrier(4)

    def call(first):
        start.wait(WAIT)
        for number in range(first, first + 100):
            numbers[component.run(double, number, into="x", exclusive=number % 3 == 0, pool=one)] = number

    for done in [spawn(call, first) for first in range(0, 400, 100)]:
        done.result(WAIT)
    result = ended(component, "x")
    one.run_until_idle(WAIT)
    assert len(order) == 400
    assert component.state["x"] is result and result.result == 2 * numbers[order[-1]]
    runs = component._Component__runs
    assert not runs._live and not runs._wanted


# -- calls that cannot be made


def test_a_pool_that_is_shut_down_is_an_error_of_the_call(pool):
    component, one = Component(), pool(1)
    one.shutdown()
    with pytest.raises(WorkerStoppedError, match="shut down"):
        component.run(double, 1, pool=one)
    assert component.state == {}


def test_a_full_mailbox_is_an_error_of_the_call_and_earlier_calls_go_on(pool, gate, ended):
    component, one = Component(), pool(1, capacity=1, overflow="reject")
    component.run(gate, "x", into="x", exclusive=True, pool=one)
    gate.wait_entered()
    component.run(double, 1, into="other", pool=one)
    before = component.state
    with pytest.raises(MailboxFullError):
        component.run(double, 1, into="x", exclusive=True, pool=one)
    assert component.state is before
    gate.open()
    assert ended(component, "x") == AsyncResult("ok", "x")


def test_what_cannot_be_sent_is_an_error_of_the_call(pool):
    component = Component()
    with pytest.raises(SerializationError):
        component.run(double, threading.Lock(), pool=pool(1, backend="process"))
    assert component.state == {}


def generate():
    yield


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((1,), {}, "must be callable, not int"),
        ((generate,), {}, "generator function"),
        ((lambda: 1,), {}, "no name of its own: say .* into='key'"),
        ((functools.partial(double, 1),), {}, "into='key'"),
        ((double, 1), {"into": 1}, "into must be a str, .* not int"),
        ((double, 1), {"exclusive": 1}, "exclusive must be a bool, not int"),
        ((double, 1), {"pool": 2}, "a WorkerPool, or what its options.* not int"),
    ],
)
def test_a_bad_call_is_a_type_error_and_changes_nothing(args, options, message):
    component = Component()
    with pytest.raises(TypeError, match=message):
        component.run(*args, **options)
    assert component.state == {}


def test_a_function_of_update_state_runs_nothing():
    component = Component()
    with pytest.raises(RuntimeError, match=r"call run\(\) after update_state\(\)"):
        component.update_state(lambda state: component.run(double, 1))
    assert component.state == {}


def test_a_function_that_holds_the_state_for_too_long_cancels_the_call(spawn, pool, gate, monkeypatch, gates):
    monkeypatch.setattr(_component_state, "LOCK_SECONDS", 0.01)
    component, one, door = Component(), pool(1), gates()
    one.submit(door)
    door.wait_entered()
    holding = spawn(component.update_state, lambda state: gate({}))
    gate.wait_entered()
    with pytest.raises(TimeoutError):
        component.run(double, 1, pool=one)
    gate.open()
    holding.result(WAIT)
    door.open()
    one.run_until_idle(WAIT)
    assert component.state == {} and one.stats().cancelled == 1


# -- no thread of a pool waits


def test_the_end_of_a_call_does_not_wait_for_a_function_of_another_thread(spawn, pool, gate, gates):
    component, one, door = Component(), pool(1), gates()
    component.run(door, "x", into="x", pool=one)
    door.wait_entered()
    holding = spawn(component.update_state, lambda state: gate({"held": 1}))
    gate.wait_entered()
    door.open()
    assert one.submit(double, 1).result(WAIT) == 2, "the pool's one thread goes on"
    assert component.state["x"].loading
    gate.open()
    holding.result(WAIT)
    assert component.state == {"x": AsyncResult("ok", "x"), "held": 1}


def test_what_is_posted_while_others_update_is_applied_and_told(spawn, switching):
    component, seen = Component(), []
    component.subscribe(lambda state: seen.append(dict(state)))
    cell = component._Component__runs._cell
    start = threading.Barrier(4)

    def post(name):
        start.wait(WAIT)
        for _ in range(500):
            cell.post(lambda state: {name: state.get(name, 0) + 1})

    def update(name):
        start.wait(WAIT)
        for _ in range(500):
            component.update_state(lambda state: {name: state.get(name, 0) + 1})

    jobs = [spawn(post, "a"), spawn(post, "b"), spawn(update, "c"), spawn(update, "d")]
    for done in jobs:
        done.result(WAIT)
    assert component.state == seen[-1] == dict.fromkeys("abcd", 500)


def test_a_patch_that_is_posted_and_raises_is_logged(caplog):
    component = Component()
    component._Component__runs._cell.post(lambda state: 1 / 0)
    (record,) = [record for record in caplog.records if record.name == "pytoweb.component"]
    assert record.exc_info[0] is ZeroDivisionError and record.levelno == logging.ERROR


def test_a_listener_may_start_the_next_call(pool, until):
    component, one = Component(), pool(1)

    def follow(state):
        if state["double"].ok and "then" not in state:
            component.run(double, state["double"].result, into="then", pool=one)

    component.subscribe(follow)
    component.run(double, 1, pool=one)
    until(lambda: "then" in component.state and component.state["then"].ok)
    assert component.state["then"].result == 4


def test_listeners_are_told_with_no_lock_held(pool, spawn, until):
    component, one, told = Component(), pool(1), []

    def look(state):
        status = state["double"].status
        if state.get("seen") != status:
            # Would wait for too long, were the lock of the state held here.
            spawn(component.update_state, seen=status).result(WAIT)
            told.append(status)

    component.subscribe(look)
    component.run(double, 1, pool=one)
    until(lambda: "ok" in told)


# -- the life of a component


def test_unmount_cancels_and_writes_nothing_more(pool, gate, logged):
    component, one, seen = Component(), pool(1), []

    def work():
        gate()
        seen.append(current_message().cancelled)
        current_worker().progress(1)
        raise ArithmeticError("not for the log")

    component.mount()
    component.run(work, pool=one)
    gate.wait_entered()
    queued = component.run(double, 1, pool=one)
    component.unmount(timeout=WAIT)
    before = component.state
    told = []
    component.subscribe(told.append)
    assert queued.cancelled()
    gate.open()
    one.run_until_idle(WAIT)
    assert seen == [True] and component.state is before and not told
    assert [result.status for result in before.values()] == ["loading"] * 2
    del queued
    gc.collect()
    assert not logged()


def test_an_unmounted_component_runs_nothing_until_it_is_mounted(pool, ended):
    component, one = Component(), pool(1)
    component.unmount()
    with pytest.raises(RuntimeError, match="Component is unmounted, and runs nothing"):
        component.run(double, 1, pool=one)
    assert component.state == {}
    component.mount()
    component.run(double, 1, pool=one)
    assert ended(component, "double") == AsyncResult("ok", 2)


def test_mounting_again_ends_what_was_loading(pool, gate, ended):
    class Page(Component):
        def on_mount(self):
            self.run(double, 1, into="again", pool=one)

    one = pool(1)
    component = Page()
    component.update_state(x=AsyncResult("ok", "old"))
    component.mount()
    ended(component, "again")
    component.run(gate, into="x", pool=one)
    component.run(gate, into="again", pool=one)
    gate.wait_entered()
    component.unmount()
    gate.open()
    component.mount()
    result = component.state["x"]
    assert (result.status, type(result.error), result.previous) == ("failed", CancelledError, "old")
    assert ended(component, "again") == AsyncResult("ok", 2)


def test_a_call_that_meets_an_unmount_is_refused_or_cancelled(pool, spawn, switching):
    one = pool(2)
    for _ in range(50):
        component, start = Component(), threading.Barrier(2)

        def call(component=component, start=start):
            start.wait(WAIT)
            try:
                for number in range(10):
                    component.run(double, number, into=str(number), pool=one)
            except RuntimeError as error:
                return str(error)

        calling = spawn(call)
        start.wait(WAIT)
        component.unmount()
        after = component.state
        assert calling.result(WAIT) in (None, "Component is unmounted, and runs nothing: mount() it first")
        one.run_until_idle(WAIT)
        assert component.state is after
        assert not component._Component__runs._live


class Listening(Component):
    def __init__(self, heard):
        super().__init__()
        self.heard = heard

    def hear(self, state):
        self.heard(state)


@pytest.mark.parametrize("by_method", [True, False])
def test_a_call_keeps_the_listeners_and_not_the_component(pool, gate, until, by_method):
    statuses, one = [], pool(1)

    def hear(state):
        statuses.append(state["x"].status)

    component = Listening(hear)
    component.subscribe(component.hear if by_method else hear)
    future = component.run(gate, into="x", pool=one)
    gate.wait_entered()
    gone = weakref.ref(component)
    del component, future
    gc.collect()
    assert (gone() is not None) == by_method
    gate.open()
    until(lambda: statuses == ["loading", "ok"], "the end")
    one.run_until_idle(WAIT)

    def is_gone():
        gc.collect()
        return gone() is None

    until(is_gone, "the end of the component")


def test_an_ended_call_keeps_nothing_alive(on_pool, ended):
    class Result:
        pass

    component = Component()
    future = component.run(report, 10, pool=on_pool)
    future.result(WAIT)
    ended(component, "report")
    on_pool.run_until_idle(WAIT)
    gone = weakref.ref(component), weakref.ref(future)
    component.unmount()
    del component, future
    # The line that calls handlers of progress lets go of the last one in its own time.
    for _ in range(5000):
        gc.collect()
        if all(one() is None for one in gone):
            break
        threading.Event().wait(0.002)
    assert [one() for one in gone] == [None, None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_in_a_forked_child_it_has_failed_and_can_be_run_again(pool, gate):
    component, one = Component(), pool(1)
    component.run(gate, into="x", pool=one)
    gate.wait_entered()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            shown = component.state["x"]
            assert shown.failed and type(shown.error) is ForkedProcessError, shown
            with pytest.raises(ForkedProcessError):
                component.run(double, 1, into="x", pool=one)
            assert component.state["x"] is shown
            told = []
            component.subscribe(lambda state: told.append(state["x"].status))
            assert component.run(double, 4, into="x").result(WAIT) == 8
            assert told[:1] == ["loading"]
            os._exit(0)
        except BaseException as error:
            os.write(writing, repr(error).encode())
            os._exit(1)
    os.close(writing)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(reading, "rb") as said:
        assert (code, said.read()) == (0, b"")
    assert component.state["x"].loading
    gate.open()
