"""Components: state from any thread, listeners, HTML, and the life of the workers they make.

Long because it is one contract in five parts, each under a heading below. Listeners and patches in
here record and never assert: what they raise is logged by the component, as it should be.
"""

from __future__ import annotations

import contextlib
import copy
import doctest
import gc
import json
import logging
import os
import pickle
import signal
import sys
import threading
import types
import weakref
from concurrent.futures import wait
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytoweb import _component_state, components
from pytoweb.components import Component, Markup, html

WAIT = 10.0

NEVER = 0.05
"""Seconds of the watch over something that must not happen."""


def records(caplog):
    return [record for record in caplog.records if record.name == "pytoweb.component"]


def failing(state):
    raise ArithmeticError("patch")


# -- what a user sees first


def test_the_example_of_the_module_is_true():
    outcome = doctest.testmod(components)
    assert outcome.failed == 0 and outcome.attempted == 5


def test_a_new_component_is_empty_and_renders():
    component = Component()
    assert component.state == {}
    assert component.render() == "<dl></dl>"
    assert not component.mounted


def test_updates_merge_and_keywords_win():
    component = Component()
    assert component.update_state({"a": 1, "b": 1}) is None
    component.update_state({"b": 2, "c": 2}, c=3)
    component.update_state(lambda state: {"sum": sum(state.values()), "c": 0}, c=4)
    assert component.state == {"a": 1, "b": 2, "c": 4, "sum": 6}


def test_any_name_can_be_a_key():
    component = Component()
    component.update_state(self=1, mapping_or_function=2, state=3)
    assert component.state == {"self": 1, "mapping_or_function": 2, "state": 3}


def test_a_subclass_need_not_call_the_base_first():
    class Early(Component):
        def __init__(self):
            self.update_state(ready=True)
            super().__init__()

    assert Early().state == {"ready": True}


# -- snapshots


def test_a_snapshot_stays_as_it_is():
    component = Component()
    given_mapping = {"count": 1}
    component.update_state(given_mapping)
    given_mapping["count"] = 99
    before = component.state
    component.update_state(count=2)
    assert (before, component.state) == ({"count": 1}, {"count": 2})


@pytest.mark.parametrize(
    "write",
    [
        "component.state['a'] = 2",
        "del component.state['a']",
        "component.state |= {'a': 2}",
        "snapshot = component.state; snapshot |= {'a': 2}",
        "component.state.update(a=2)",
        "component.state.setdefault('b', 2)",
        "component.state.pop('a')",
        "component.state.popitem()",
        "component.state.clear()",
        "component.state.a = 2",
        "del component.state.a",
        "component.state = {'a': 2}",
    ],
)
def test_writing_to_the_state_names_the_right_call(write):
    component = Component()
    component.update_state(a=1)
    with pytest.raises(TypeError, match="update_state"):
        exec(write, {"component": component})
    assert component.state == {"a": 1}


def test_a_snapshot_goes_where_a_dict_goes():
    component = Component()
    component.update_state(a=[1])
    state = component.state
    assert json.loads(json.dumps(state)) == state == {**state}
    for copied in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert copied == state and type(copied) is type(state)
    assert copy.deepcopy(state)["a"] is not state["a"]
    assert type(state.copy()) is dict


# -- bad input


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([("a", 1)], "takes a mapping of changes, a function .* not list"),
        (5, "not int"),
        ({1: 2}, "names as keys: 1 is int"),
        (lambda state: None, "must return a mapping .* not NoneType"),
        (lambda state: {1: 2}, "names as keys: 1 is int"),
    ],
)
def test_a_bad_patch_is_a_type_error_and_changes_nothing(bad, message):
    component = Component()
    with pytest.raises(TypeError, match=message):
        component.update_state(bad, also="this")
    assert component.state == {}
    component.update_state(a=1)
    assert component.state == {"a": 1}


def test_a_listener_that_cannot_be_called_is_a_type_error():
    with pytest.raises(TypeError, match="callable"):
        Component().subscribe(None)


# -- patches from everywhere


@pytest.fixture
def switching():
    """Makes the interpreter change threads every few steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("telling", [_component_state.TELLING_SECONDS, 0])
def test_no_update_of_eight_threads_is_lost(telling, spawn, switching, monkeypatch):
    monkeypatch.setattr(_component_state, "TELLING_SECONDS", telling)  # 0: tellers step back all the time
    component = Component()
    seen = []
    component.subscribe(lambda state: seen.append(state["count"]))
    start = threading.Barrier(8)

    def count(name):
        start.wait(WAIT)
        for number in range(1000):
            component.update_state(lambda state: {"count": state.get("count", 0) + 1}, **{name: number})

    for done in [spawn(count, f"thread{index}") for index in range(8)]:
        done.result(WAIT)
    assert component.state == {"count": 8000, **{f"thread{index}": 999 for index in range(8)}}
    assert seen == sorted(set(seen)) and seen[-1] == 8000


def test_a_call_returns_while_another_thread_tells_the_listeners(spawn, gate):
    component = Component()
    seen = []
    component.subscribe(seen.append)
    component.subscribe(gate)
    applying = spawn(component.update_state, first=1)
    gate.wait_entered()

    component.update_state(second=2)
    component.update_state(lambda state: {"third": len(state) + 1})

    assert component.state == {"first": 1, "second": 2, "third": 3}, "in the order of the calls, at once"
    assert len(seen) == 1, "the other thread is still telling"
    component.subscribe(lambda state: None)()
    gate.open()
    applying.result(WAIT)
    assert seen == [{"first": 1}, {"first": 1, "second": 2, "third": 3}], "of many, the newest is told"


def test_a_call_waits_for_the_function_of_another_thread(spawn, gate):
    component = Component()
    first = spawn(component.update_state, lambda state: gate({"first": 1}))
    gate.wait_entered()
    second = spawn(component.update_state, lambda state: {"second": state["first"] + 1})

    assert wait([second], NEVER).not_done
    assert component.state == {}, "reading does not wait"
    gate.open()
    first.result(WAIT)
    second.result(WAIT)
    assert component.state == {"first": 1, "second": 2}


def test_a_function_that_waits_for_a_thread_that_updates_does_not_hang(spawn, monkeypatch):
    monkeypatch.setattr(_component_state, "LOCK_SECONDS", 0.01)
    component, waited = Component(), []

    def wait_for_other(state):
        other = spawn(component.update_state, other=1)
        waited.append(other.exception(WAIT))
        return {"mine": 1}

    component.update_state(wait_for_other)
    component.update_state(later=1)
    assert component.state == {"mine": 1, "later": 1}
    assert type(waited[0]) is TimeoutError and "must not wait" in str(waited[0])


def test_a_function_may_update_another_component():
    component, other, seen = Component(), Component(), []
    other.subscribe(seen.append)

    def patch(state):
        other.update_state(b=2)
        return {"a": other.state["b"]}

    component.update_state(patch)
    assert (component.state, seen) == ({"a": 2}, [{"b": 2}])


def test_a_listener_may_wait_for_a_thread_that_updates(spawn):
    component = Component()

    def wait_for_other(state):
        if "other" not in state:
            spawn(component.update_state, other=1).result(WAIT)

    component.subscribe(wait_for_other)
    component.update_state(a=1)
    assert component.state == {"a": 1, "other": 1}


def test_updates_from_a_listener_do_not_recurse():
    component, shown = Component(), []
    target = sys.getrecursionlimit() + 100

    def count(state):
        if state["count"] < target:
            component.update_state(count=state["count"] + 1)
            shown.append(component.state["count"] - state["count"])

    component.subscribe(count)
    component.update_state(count=0)
    assert component.state == {"count": target}
    assert set(shown) == {1}, "applied at once; the same thread tells of it after the listeners"


def test_an_update_from_a_function_patch_comes_after_it():
    component = Component()

    def patch(state):
        component.update_state(order="inner")
        return {"order": "outer"}

    component.update_state(patch)
    assert component.state == {"order": "inner"}


def test_a_failing_function_raises_to_its_caller_and_is_not_logged(caplog):
    component = Component()
    with pytest.raises(ArithmeticError, match="patch"):
        component.update_state(failing, also="this")
    component.update_state(a=1)
    assert component.state == {"a": 1}
    assert not records(caplog)


def test_a_raised_error_is_freed_at_once():
    class Own(Exception):
        pass

    component, gone = Component(), []

    def patch(state):
        error = Own()
        gone.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        with contextlib.suppress(Own):
            component.update_state(patch)
        assert gone[0]() is None, "no frame and traceback keep each other alive"
    finally:
        gc.enable()


def test_an_error_that_is_false_is_raised_too():
    class Empty(Exception):
        def __len__(self):
            return 0

    def patch(state):
        raise Empty

    with pytest.raises(Empty):
        Component().update_state(patch)


def test_a_failing_function_raises_to_its_caller_while_another_thread_tells(spawn, gate, caplog):
    component = Component()
    component.subscribe(gate)
    telling = spawn(component.update_state, a=1)
    gate.wait_entered()
    with pytest.raises(ArithmeticError, match="patch"):
        component.update_state(failing)
    component.update_state(b=2)
    gate.open()

    assert telling.result(WAIT) is None
    assert component.state == {"a": 1, "b": 2}
    assert not records(caplog)


def test_a_failing_function_raises_to_the_listener_that_gave_it(caplog):
    component, raised = Component(), []

    def listener(state):
        try:
            component.update_state(failing)
        except ArithmeticError as error:
            raised.append(error)

    component.subscribe(listener)
    component.update_state(a=1)
    assert len(raised) == 1 and not records(caplog)


def test_a_failing_function_given_by_a_function_raises_from_the_outer_call(caplog):
    component = Component()

    def patch(state):
        component.update_state(failing)
        component.update_state(after=2)
        return {"outer": 1}

    with pytest.raises(ArithmeticError, match="patch"):
        component.update_state(patch)
    assert component.state == {"outer": 1, "after": 2}
    assert not records(caplog)


def test_of_two_that_fail_the_calls_own_is_raised_and_the_other_logged(caplog):
    component = Component()

    def patch(state):
        component.update_state(failing)
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        component.update_state(patch)
    (record,) = records(caplog)
    assert record.exc_info[0] is ArithmeticError
    assert (record.levelno, record.component) == (logging.ERROR, "Component")


def test_patches_queued_by_a_function_that_fails_still_apply():
    component = Component()

    def patch(state):
        component.update_state(queued=True)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        component.update_state(patch)
    assert component.state == {"queued": True}


def interrupted(state):
    raise KeyboardInterrupt


def test_an_interrupt_inside_a_function_reaches_its_caller(spawn, gate, caplog):
    component = Component()
    component.subscribe(gate)
    telling = spawn(component.update_state, a=1)
    gate.wait_entered()
    with pytest.raises(KeyboardInterrupt):
        component.update_state(interrupted)
    component.update_state(b=2)
    gate.open()
    telling.result(WAIT)
    assert component.state == {"a": 1, "b": 2}
    assert not records(caplog)


def test_an_interrupt_is_raised_before_the_error_of_the_call(caplog):
    component = Component()

    def patch(state):
        component.update_state(interrupted)
        raise LookupError("own")

    with pytest.raises(KeyboardInterrupt):
        component.update_state(patch)
    (record,) = records(caplog)
    assert record.exc_info[0] is LookupError


def test_an_interrupt_inside_a_listener_is_raised_when_all_are_told():
    component, seen = Component(), []

    def update_and_interrupt(state):
        if "b" not in state:
            component.update_state(b=2)
            raise KeyboardInterrupt

    component.subscribe(update_and_interrupt)
    component.subscribe(seen.append)
    with pytest.raises(KeyboardInterrupt):
        component.update_state(a=1)
    assert seen == [{"a": 1}, {"a": 1, "b": 2}]


# -- one thread tells, and hands over


class LateLock:
    """The teller's place, held until another thread has found it taken."""

    def __init__(self, lock, before_release):
        self.lock, self.before_release = lock, before_release

    def acquire(self, blocking):
        return self.lock.acquire(blocking)

    def release(self):
        self.before_release()
        self.lock.release()


def test_what_is_published_while_the_teller_lets_go_is_told(spawn):
    component, seen, late = Component(), [], [{"b": 2}, {"c": 3}]
    cell = component._Component__state
    cell._telling = LateLock(
        cell._telling, lambda: late and spawn(component.update_state, late.pop(0)).result(WAIT)
    )
    component.subscribe(seen.append)
    component.update_state(a=1)
    assert seen == [{"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}]


class Stream:
    """A component that other threads update in every round of its listeners, on a clock that each look moves.

    `pause` is called when the telling thread steps back, with the seconds of the pause.
    """

    def __init__(self, spawn, monkeypatch, *, rounds, pause, seconds):
        self.component, self.told, self.pauses = Component(), [], []
        self._spawn, self._rounds, self._now = spawn, rounds, 100.0
        self._pause, self._seconds = pause, seconds
        monkeypatch.setattr(_component_state, "time", self)
        self.component.subscribe(self._listen)

    def _listen(self, state):
        self.told.append((threading.get_ident(), state["number"]))
        if state["number"] < self._rounds:
            self.update(state["number"] + 1)

    def update(self, number):
        self._spawn(self.component.update_state, number=number).result(WAIT)

    def monotonic(self):
        self._now += self._seconds
        return self._now

    def sleep(self, seconds):
        self.pauses.append((seconds, self.component.state["number"]))
        self._pause(self)


def test_a_caller_takes_over_from_a_teller_that_steps_back(spawn, monkeypatch):
    stream = Stream(spawn, monkeypatch, rounds=6, seconds=0.04, pause=lambda stream: stream.update(100))
    stream.component.update_state(number=0)

    me = threading.get_ident()
    assert stream.told[:4] == [(me, 0), (me, 1), (me, 2), (me, 3)], "0.12 s for others"
    ((seconds, untold),) = stream.pauses
    assert (round(seconds, 6), untold) == (0.08, 4), "twice the last round"
    ((teller, number),) = stream.told[4:]
    assert teller != me and number == 100, "of the two that waited, the newest is told"


def test_a_teller_steps_back_for_a_bounded_time(spawn, monkeypatch):
    stream = Stream(spawn, monkeypatch, rounds=2, seconds=50.0, pause=lambda stream: None)
    stream.component.update_state(number=0)
    assert stream.pauses == [(_component_state.TELLING_SECONDS, 2)]


def test_a_teller_that_no_caller_relieves_tells_on(spawn, monkeypatch):
    stream = Stream(spawn, monkeypatch, rounds=7, seconds=0.04, pause=lambda stream: None)
    stream.component.update_state(number=0)
    me = threading.get_ident()
    assert stream.told == [(me, number) for number in range(8)]
    assert [untold for _, untold in stream.pauses] == [4]


def test_an_interrupt_while_a_teller_steps_back_leaves_nothing_untold(spawn, monkeypatch):
    stream = Stream(spawn, monkeypatch, rounds=4, seconds=0.04, pause=interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.component.update_state(number=0)
    assert [number for _, number in stream.told] == [0, 1, 2, 3, 4]


def needs_fork(test):
    for mark in (
        pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
        pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
        pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning"),
    ):
        test = mark(test)
    return test


def in_child(check):
    """Runs the check in a forked child, and waits for that: it must return True in time."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(WAIT))
        good = False
        try:
            good = check()
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0) == (child, 0)


def at_once(function, **changes):
    function(**changes)


def on_a_new_thread(function, **changes):
    """Calls it on a thread that may get the identity of one that the fork left behind."""
    thread = threading.Thread(target=function, kwargs=changes)
    thread.start()
    thread.join(WAIT)


@needs_fork
@pytest.mark.parametrize("call", [at_once, on_a_new_thread])
@pytest.mark.parametrize("stands", ["in a listener", "in a function"])
def test_a_forked_child_can_update_what_a_thread_of_the_parent_was_updating(stands, call, spawn, gate):
    component, told = Component(), []
    component.subscribe(told.append)
    if stands == "in a listener":
        component.subscribe(lambda state: gate(state) if state == {"a": 1} else None)
        updating = spawn(component.update_state, a=1)
    else:
        updating = spawn(component.update_state, lambda state: gate({"a": 1}))
    gate.wait_entered()
    expected = {**component.state, "b": 2}

    def check():
        call(component.update_state, b=2)
        return component.state == told[-1] == expected

    in_child(check)
    gate.open()
    updating.result(WAIT)
    assert component.state == told[-1] == {"a": 1}


@needs_fork
def test_a_child_forked_by_a_function_or_listener_goes_on_as_its_parent():
    component = Component()
    told, children = [], []

    def fork(state):
        children.append(os.fork())
        if children[-1] == 0:
            signal.alarm(int(WAIT))
        component.update_state(within=len(children))
        return {"forks": len(children)}

    def fork_once(state):
        if len(children) == 1:
            fork(state)

    component.subscribe(fork_once)
    component.subscribe(lambda state: told.append(dict(state)))
    try:
        component.update_state(fork)
        good = told == [{"forks": 1, "within": 1}, {"forks": 1, "within": 2}]
    finally:
        if 0 in children:
            os._exit(0 if good else 1)
    assert good
    for child in children:
        assert os.waitpid(child, 0) == (child, 0)


changes = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["mapping", "function", "fails", "nested"]), changes)))
def test_the_state_is_what_the_patches_in_order_make(patches):
    component, told = Component(), []
    component.subscribe(told.append)
    expected, versions = {}, []

    def add(state):
        return {key: state.get(key, 0) + value for key, value in change.items()}

    def update_within(state):
        component.update_state(change)
        return {}

    for kind, change in patches:
        if kind == "function":
            expected = {**expected, **add(expected)}
        elif kind != "fails":
            expected = {**expected, **change}
        if kind != "fails" and change:
            versions.append(expected)
        if kind == "fails":
            with pytest.raises(ArithmeticError):
                component.update_state(failing, **change)
        else:
            component.update_state({"mapping": change, "function": add, "nested": update_within}[kind])
        assert component.state == expected
    assert told == versions


# -- listeners


def test_listeners_are_called_in_order_until_they_unsubscribe():
    component = Component()
    calls = []
    end_first = component.subscribe(lambda state: calls.append(("first", state)))
    component.subscribe(lambda state: calls.append(("second", state)))
    component.update_state(a=1)
    end_first()
    end_first()
    component.update_state(a=2)
    assert calls == [("first", {"a": 1}), ("second", {"a": 1}), ("second", {"a": 2})]


def test_a_patch_without_changes_tells_no_listener():
    component, told = Component(), []
    component.subscribe(told.append)
    before = component.state
    component.update_state()
    component.update_state({})
    component.update_state(lambda state: {})
    assert component.state is before and not told


def test_a_failing_listener_is_logged_and_the_others_are_called(caplog):
    def bad(state):
        raise SystemExit("listener")

    component, seen = Component(), []
    component.subscribe(bad)
    component.subscribe(seen.append)
    component.update_state(a=1)
    assert seen == [{"a": 1}]
    (record,) = records(caplog)
    assert record.exc_info[0] is SystemExit and "bad" in record.getMessage()


def test_a_listener_removed_by_an_earlier_one_is_not_called():
    component, called = Component(), []
    component.subscribe(lambda state: end())
    end = component.subscribe(called.append)
    component.update_state(a=1)
    assert not called


# -- HTML


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.seen = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.seen.append(data)


# Carriage returns and NUL are what a parser itself may change.
texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=("Cs",)), min_size=1)


@given(texts)
def test_a_value_cannot_leave_its_place(text):
    parsed = Parsed(html("<p title='{text}'>{text}</p>", text=text))
    assert parsed.seen[0] == ("p", {"title": text})
    assert "".join(parsed.seen[1:]) == text


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("{x}", "<b> & \"'", "&lt;b&gt; &amp; &quot;&#x27;"),
        ("{x}", None, ""),
        ("{x}", 0, "0"),
        ("{x:.2f}", 1.5, "1.50"),
        ("{x:>3}", "<", "  &lt;"),
        ("{x!r}", "<", "&#x27;&lt;&#x27;"),
        ("{x}", Markup("<b>"), "<b>"),
        ("{x}", html("<i>{y}</i>", y="<"), "<i>&lt;</i>"),
        ("{x}", Markup("<b>") + "<", "&lt;b&gt;&lt;"),
        ("{x}", [Markup("<b>"), "<", ("a", 1)], "<b>&lt;a1"),
        ("{x[k]}", {"k": "<"}, "&lt;"),
        ("{{{x}}}", 1, "{1}"),
    ],
)
def test_what_a_value_becomes(template, value, expected):
    text = html(template, x=value)
    assert text == expected and type(text) is Markup


def test_a_template_without_its_value_says_which():
    with pytest.raises(KeyError, match="'name'"):
        html("{name}", nam="x")
    with pytest.raises(KeyError, match="named 0"):
        html("{}")


def test_the_default_rendering_escapes_names_and_values():
    component = Component()
    component.update_state({"<n>": "<v>", "list": [1, "<2>"], "none": None, "empty": []})
    assert component.render() == (
        "<dl><dt>&lt;n&gt;</dt><dd>&lt;v&gt;</dd><dt>list</dt><dd>1</dd><dd>&lt;2&gt;</dd>"
        "<dt>none</dt><dd></dd><dt>empty</dt><dd></dd></dl>"
    )


def test_components_nest():
    class Page(Component):
        def render(self):
            return html("<main>{parts}</main>", parts=self.state["parts"])

    part, page = Component(), Page()
    part.update_state(text="<")
    page.update_state(parts=[part, part])
    one = "<dl><dt>text</dt><dd>&lt;</dd></dl>"
    assert page.render() == f"<main>{one}{one}</main>"


def test_a_component_class_or_a_rendering_that_is_no_text_is_not_taken_for_html():
    class Silent(Component):
        def render(self):
            return None

    assert html("{x}", x=Component).startswith("&lt;class")
    with pytest.raises(TypeError, match=r"Silent.render\(\) must return a str, not NoneType"):
        html("{x}", x=Silent())


# -- mounting, with stand-ins for workers


class FakeWorker:
    """Records the calls of start and stop; `pool` as the real one has it."""

    def __init__(self, name, **options):
        self.name, self.options = name, options
        self.pool = self.error = self.on_stop = None
        self.state = "new"
        self.stops = []
        self.handlers = {}

    def start(self):
        self.state = "running"
        return self

    def stop(self, *, drain, timeout):
        self.state = "stopped"
        self.stops.append((drain, timeout))
        if self.on_stop:
            self.on_stop()
        if self.error:
            raise self.error


@pytest.fixture
def fake(monkeypatch):
    """Stands in for the engine: `pytoweb.workers.PythonWorker` is FakeWorker."""
    module = types.ModuleType("pytoweb.workers")
    module.PythonWorker = FakeWorker
    monkeypatch.setitem(sys.modules, "pytoweb.workers", module)
    return FakeWorker


class Logged(Component):
    def __init__(self):
        super().__init__()
        self.log = []

    def on_mount(self):
        self.log.append("mount")

    def on_unmount(self):
        self.log.append("unmount")


def test_mounting_calls_each_hook_once():
    component = Logged()
    component.unmount()
    component.mount()
    component.mount()
    assert component.mounted
    component.unmount()
    component.unmount()
    assert not component.mounted
    with component as entered:
        assert entered is component and component.mounted
    assert component.log == ["mount", "unmount"] * 2


def test_a_failing_on_mount_leaves_it_unmounted():
    class Bad(Component):
        def on_mount(self):
            raise ArithmeticError

    component = Bad()
    with pytest.raises(ArithmeticError):
        component.mount()
    assert not component.mounted


def test_unmount_stops_what_the_component_made_the_last_first(fake):
    stopped = []
    component = Component()
    component.first = fake("first").start()
    component.first_again = component.first
    second = component.create_worker("second", capacity=3)
    assert (second.state, second.options) == ("new", {"capacity": 3})
    overwritten = component.attribute = fake("overwritten")
    component.attribute = None
    for worker in (component.first, second, overwritten):
        worker.on_stop = lambda name=worker.name: stopped.append(name)

    component.unmount()
    component.unmount()

    assert stopped == ["overwritten", "second", "first"]
    assert component.first.stops == [(True, None)]


def test_a_worker_assigned_before_the_base_is_initialised_is_stopped(fake):
    class Early(Component):
        def __init__(self):
            self.worker = fake("early")
            super().__init__()

    component = Early()
    component.unmount()
    assert component.worker.state == "stopped"


def test_workers_of_others_are_not_stopped(fake):
    class Shares(Component):
        of_class = fake("of the class")

    owner, component = Component(), Shares()
    owner.worker = fake("of another component")
    component.borrowed = owner.worker
    component.pooled = pooled = fake("of a pool")
    component.held = [fake("in a list")]
    pooled.pool = object()
    late = fake("assigned from a pool")
    late.pool = object()
    component.late = late

    component.unmount()

    assert component.of_class.state == component.borrowed.state == component.held[0].state == "new"
    assert late.state == "new"
    assert pooled.state == "stopped", "it joined the pool only after the component owned it"
    owner.unmount()
    assert owner.worker.state == "stopped"


def test_a_worker_let_go_can_be_owned_by_the_next(fake):
    first, second = Component(), Component()
    first.worker = worker = fake("handed on")
    first.unmount()
    worker.state, worker.stops = "running", []
    second.worker = worker
    second.unmount()
    assert worker.stops == [(True, None)]


def test_a_component_keeps_no_worker_that_was_stopped(fake):
    component = Component()
    old = component.create_worker("old")
    old.stop(drain=True, timeout=None)
    gone = weakref.ref(old)
    del old
    component.create_worker("new")
    gc.collect()
    assert gone() is None


def test_every_worker_is_stopped_and_the_first_error_raised(fake, caplog):
    class Bad(Component):
        def on_unmount(self):
            raise ArithmeticError("hook")

    component = Bad()
    workers = [component.create_worker(str(number)) for number in range(3)]
    workers[2].error, workers[1].error = KeyError("two"), KeyError("one")
    with pytest.raises(KeyError, match="two"):
        component.unmount()
    assert [worker.state for worker in workers] == ["stopped"] * 3
    assert [record.exc_info[1] for record in records(caplog)] == [workers[1].error]

    component.worker = last = fake("last")
    component.mount()
    with pytest.raises(ArithmeticError, match="hook"):
        component.unmount()
    assert last.state == "stopped" and not component.mounted
    component.unmount()


def test_the_timeout_is_shared_by_all_workers(fake, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("pytoweb._component_workers.time.monotonic", lambda: now[0])
    component = Component()
    workers = [component.create_worker(str(number)) for number in range(3)]
    for worker in workers:
        worker.on_stop = lambda: now.__setitem__(0, now[0] + 2)
    component.unmount(timeout=3)
    assert [worker.stops for worker in workers] == [[(True, 0.0)], [(True, 1.0)], [(True, 3.0)]]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_bad_timeout_does_nothing(fake, timeout):
    component = Component()
    worker = component.create_worker("kept")
    component.mount()
    with pytest.raises(ValueError, match="timeout"):
        component.unmount(timeout=timeout)
    assert component.mounted and worker.state == "new"


def test_unmount_while_another_thread_unmounts_returns(fake, spawn, gate):
    component = Component()
    worker = component.create_worker("slow")
    worker.on_stop = gate
    unmounting = spawn(component.unmount)
    gate.wait_entered()
    component.unmount()
    gate.open()
    unmounting.result(WAIT)
    assert len(worker.stops) == 1


def test_an_unmounted_component_can_still_be_updated(fake):
    component, seen = Component(), []
    component.subscribe(seen.append)
    component.mount()
    component.unmount()
    component.update_state(a=1)
    assert component.state == {"a": 1} and seen == [{"a": 1}]


@pytest.mark.parametrize("unmounted", [True, False])
def test_a_cycle_of_handler_component_and_worker_is_collected(fake, unmounted):
    component = Component()
    component.worker = fake("cycle")
    component.worker.handlers["process"] = component.update_state
    component.subscribe(lambda state, component=component: None)
    component.mount()
    if unmounted:
        component.unmount()
    gone = weakref.ref(component), weakref.ref(component.worker)
    del component
    gc.collect()
    assert [one() for one in gone] == [None, None]


# -- with real workers


def data_processor():
    from pytoweb.workers import PythonWorker

    class DataProcessor(Component):
        def __init__(self):
            super().__init__()
            self.worker = PythonWorker("data-processor")
            self.worker.on_message("process", self.handle_result)
            self.worker.start()

        def process_data(self, data):
            self.worker.post_message("process", data)

        def handle_result(self, result):
            self.update_state({"result": result})

    return DataProcessor()


def test_the_data_processor_works_and_ends():
    processor = data_processor()
    threads = []
    processor.subscribe(lambda state: threads.append(threading.get_ident()))
    processor.mount()
    for number in range(100):
        processor.process_data(number)
    processor.unmount(timeout=WAIT)
    assert processor.state == {"result": 99}, "unmount finishes what is queued"
    assert processor.render() == "<dl><dt>result</dt><dd>99</dd></dl>"
    assert processor.worker.state == "stopped"
    assert threads and threading.get_ident() not in threads


def test_a_handler_may_unmount_its_component(until):
    processor = data_processor()
    processor.worker.on_message("end", lambda data: processor.unmount())
    processor.process_data(1)
    processor.worker.ask("end").result(WAIT)
    until(lambda: processor.worker.state == "stopped")
    processor.unmount(timeout=WAIT)
    assert processor.state == {"result": 1}


def test_unmount_waits_for_a_handler_that_unmounts_too(gate):
    processor = data_processor()
    processor.worker.on_message("end", lambda data: (gate(), processor.unmount()))
    ended = processor.worker.ask("end")
    gate.wait_entered()
    gate.open()
    processor.unmount(timeout=WAIT)
    ended.result(WAIT)
    assert processor.worker.state == "stopped"


def test_the_worker_of_a_pool_is_not_stopped(pool):
    component = Component()
    component.worker = pool(1).create_worker("shared")
    component.worker.on_message("double", lambda data: data * 2)
    component.worker.start()
    component.unmount(timeout=WAIT)
    assert component.worker.ask("double", 4).result(WAIT) == 8


def test_a_created_worker_is_a_real_one_and_stopped():
    with Component() as component:
        worker = component.create_worker("made", capacity=5)
        assert worker.state == "new"
        worker.on_message("set", lambda data: component.update_state(data))
        worker.start()
        worker.post_message("set", {"a": 1})
    assert worker.state == "stopped"
    assert component.state == {"a": 1}


def test_a_data_processor_is_collected_after_unmount():
    processor = data_processor()
    processor.process_data(1)
    processor.unmount(timeout=WAIT)
    gone = weakref.ref(processor)
    del processor
    gc.collect()
    assert gone() is None
