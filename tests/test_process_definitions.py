"""Functions that are submitted again and again: pickled once, sent to a child once, and never stale."""

from __future__ import annotations

import importlib.util

import process_handlers as handlers
import pytest

from pytoweb._chunks import make_chunks, run_chunk
from pytoweb.workers import SerializationError, WorkerCrashedError

WAIT = 25.0

CHANGING = """
import sys
from pytoweb.workers import WorkerPool

limit = 1
table = {"a": 1}

def helper(x):
    return x + limit

class Shape:
    sides = 3

    def __init__(self, size):
        self.size = size

    def area(self):
        return self.size * limit

def f(x):
    return helper(x), table["a"], Shape.sides, Shape(x).area()

def missing(x):
    return not_yet(x)

calls = 0
def stateful():
    global calls
    calls += 1
    return calls

if __name__ == "__main__":
    with WorkerPool(1, backend="process") as pool:
        ask = lambda: pool.submit(f, 10).result(20)
        print(ask(), ask())
        limit = 2
        print(ask())
        table["a"] = 5
        print(ask())
        Shape.sides = 4
        print(ask())
        def helper(x):
            return -x
        print(ask(), ask())
        try:
            pool.submit(missing, 1).result(20)
        except NameError as error:
            print(type(error).__name__)
        def not_yet(x):
            return "now"
        print(pool.submit(missing, 1).result(20))
        print([pool.submit(stateful).result(20) for _ in range(3)])
        calls = 10
        print([pool.submit(stateful).result(20) for _ in range(2)], calls)
"""


@pytest.mark.slow
def test_a_function_of_the_script_is_never_stale(run_python, cloudpickle_is):
    cloudpickle_is("installed")
    done = run_python(CHANGING, timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "(11, 1, 3, 10) (11, 1, 3, 10)",
        "(12, 1, 3, 20)",
        "(12, 5, 3, 20)",
        "(12, 5, 4, 20)",
        "(-10, 5, 4, 20) (-10, 5, 4, 20)",
        "NameError",
        "now",
        "[1, 2, 3]",
        "[11, 12] 10",
    ]


ONCE = """
import sys
from pytoweb.workers import WorkerPool

looked_for = []

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "cloudpickle":
            looked_for.append(name)
            if ABSENT:
                raise ImportError(name)

ABSENT = {absent}
sys.meta_path.insert(0, Finder())

def f(x):
    return x

if __name__ == "__main__":
    from pytoweb import _definitions
    described, describe = [], _definitions.describe
    _definitions.describe = lambda function: described.append(function.__qualname__) or describe(function)
    with WorkerPool(2, backend="process") as pool:
        print([pool.submit(f, number).result(20) for number in range(50)] == list(range(50)))
        print([len(future.result(20)) for future in [pool.submit(dict, {{1: 2}}) for _ in range(5)]])
        print(described, len(looked_for))
"""


@pytest.mark.slow
@pytest.mark.parametrize("absent", [True, False])
def test_a_function_is_pickled_once_and_cloudpickle_is_looked_for_once(run_python, require, absent):
    require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")
    done = run_python(ONCE.format(absent=absent), timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True", "[1, 1, 1, 1, 1]", "['f'] 1"]


def test_a_new_child_gets_the_functions_again(pool):
    one = pool(1, backend="process", max_messages=3)
    pids = {one.submit(handlers.pid, None).result(WAIT) for _ in range(10)}
    assert len(pids) == 4
    crash = one.submit(handlers.exit_with, 7).exception(WAIT)
    assert isinstance(crash, WorkerCrashedError)
    assert one.submit(handlers.add_one, 1).result(WAIT) == 2
    assert one.submit(handlers.pid, None).result(WAIT) not in pids


def test_many_functions_are_told_apart(pool):
    one = pool(2, backend="process")
    futures = [one.submit(getattr(handlers, name), 1) for _ in range(20) for name in ("echo", "add_one")]
    assert [future.result(WAIT) for future in futures] == [1, 2] * 20


def test_keyword_arguments_and_data_of_every_kind(pool):
    one = pool(1, backend="process")
    assert one.submit(handlers.echo, data=[1]).result(WAIT) == [1]
    assert one.submit(divmod, 7, 2).result(WAIT) == (3, 1)
    large = bytes(100_000)
    assert one.submit(handlers.length, large).result(WAIT) == 100_000
    assert one.submit(handlers.echo, {"deep": [(1, {"er": None})]}).result(WAIT) == {
        "deep": [(1, {"er": None})]
    }


def test_a_function_that_cannot_be_imported_there_fails_its_calls_alone(pool, monkeypatch):
    one = pool(1, backend="process")
    monkeypatch.setattr(handlers, "only_here", lambda data: data, raising=False)
    handlers.only_here.__module__, handlers.only_here.__qualname__ = "process_handlers", "only_here"
    for _ in range(2):
        error = one.submit(handlers.only_here, 1).exception(WAIT)
        assert isinstance(error, SerializationError)
        assert "only_here" in str(error)
    assert one.submit(handlers.add_one, 1).result(WAIT) == 2


def test_a_chunk_is_one_message_with_one_list_of_results(pool):
    one = pool(2, backend="process")
    futures = [one.submit(run_chunk, handlers.add_one, *chunk) for chunk in make_chunks(10, range(35))]
    assert [item for future in futures for item in future.result(WAIT)] == list(range(1, 36))
    assert len(futures) == 4
    two = one.submit(run_chunk, divmod, [7, 8], [2, 3]).result(WAIT)
    assert two == [(3, 1), (2, 2)]
    error = one.submit(run_chunk, handlers.add_one, [1, "2", 3]).exception(WAIT)
    assert isinstance(error, TypeError)


SIMPLE = [
    *(0, 255, 256, 65_535, 65_536, -1, 2**31 - 1, 2**31, -(2**63), 2**63, 0.5, True, None, "", "text"),
    *("\u00e9\U0001f600", "\ud800", b"", b"bytes", "x" * 255, "x" * 256, "x" * 5000, b"y" * 300),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], [1, [2, [3]]], {}, {"a": 1}, {1: {2: {3: ()}}}),
    *(list(range(1000)), [[]] * 3, {(1, "x"): [None]}, [1.5] * 2000, {str(n): n for n in range(100)}),
    [[[[[[[[[[1]]]]]]]]]],
]


def test_simple_data_comes_as_it_was(pool_of_one):
    for value in SIMPLE:
        assert pool_of_one.submit(handlers.echo, value).result(WAIT) == value
        again = pool_of_one.submit(handlers.echo, (value, [value])).result(WAIT)
        assert again == (value, [value])
        assert type(again[0]) is type(value)


@pytest.fixture
def pool_of_one(pool):
    """A process pool with one child."""
    return pool(1, backend="process")


def test_lists_that_are_in_there_twice_are_one_list_there(pool_of_one):
    one = [1]
    first, second = pool_of_one.submit(handlers.echo, (one, one)).result(WAIT)
    assert first is second
    loop = []
    loop.append(loop)
    again = pool_of_one.submit(handlers.echo, loop).result(WAIT)
    assert again[0] is again


class Text(str):
    """A subclass, which is more than its value."""


def test_subclasses_stay_what_they_are(pool_of_one):
    again = pool_of_one.submit(handlers.echo, [Text("x"), {"y": Text("z")}]).result(WAIT)
    assert (type(again[0]), type(again[1]["y"])) == (Text, Text)
