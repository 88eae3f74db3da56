"""What can be a handler of a process worker: importable functions, and others where cloudpickle is."""

from __future__ import annotations

import functools
import importlib.util
import operator
import threading
from pathlib import Path

import process_handlers as handlers
import pytest

from pytoweb.workers import SerializationError

WAIT = 10.0


@pytest.fixture
def has_cloudpickle(require):
    """Needs cloudpickle."""
    require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")


class Multiplier:
    """A callable object."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, number):
        return self.factor * number

    def method(self, number):
        return self.factor + number

    @staticmethod
    def static(number):
        return -number

    @classmethod
    def of_class(cls, number):
        return cls.__name__, number


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (handlers.add_one, 8),
        (functools.partial(operator.mul, 3), 21),
        (str, "7"),
        (Multiplier(10), 70),
        (Multiplier(10).method, 17),
        (Multiplier.static, -7),
        (Multiplier.of_class, ("Multiplier", 7)),
    ],
    ids=["function", "partial", "class", "object", "method", "static method", "class method"],
)
def test_what_pickle_takes_is_a_handler(worker, handler, expected):
    one = worker(backend="process")
    one.on_message("work", handler)
    assert one.start().ask("work", 7).result(WAIT) == expected


@pytest.mark.usefixtures("has_cloudpickle")
def test_lambdas_closures_and_local_functions_are_handlers(worker):
    one, factor = worker(backend="process"), 6

    def closure(number):
        return factor * number

    class Local:
        """A class that only this function knows."""

        def __call__(self, number):
            return f"local {number}"

    one.on_message("lambda", lambda number: number + 1)
    one.on_message("closure", closure)
    one.on_message("local", Local())
    one.start()
    assert [one.ask(kind, 7).result(WAIT) for kind in ("lambda", "closure", "local")] == [8, 42, "local 7"]


@pytest.mark.usefixtures("has_cloudpickle")
def test_what_a_closure_holds_is_as_it_was_when_it_was_registered(worker):
    one, kept = worker(backend="process"), ["registered"]
    one.on_message("look", lambda data: kept)
    kept.append("later")
    assert one.start().ask("look").result(WAIT) == ["registered"]


@pytest.mark.usefixtures("has_cloudpickle")
def test_lambdas_and_local_classes_go_as_data_and_come_as_replies(remote):
    one, factor = remote(), 3

    class Local:
        """A class that only this function knows."""

        value = 5

    assert one.ask("echo", lambda number: factor * number).result(WAIT)(2) == 6
    assert one.ask("echo", Local()).result(WAIT).value == 5


def test_a_handler_that_nothing_can_pickle_is_refused_at_the_call(worker):
    one, lock = worker(backend="process"), threading.Lock()
    with pytest.raises(SerializationError, match="locked"):
        one.on_message("locked", lambda data: lock)
    with pytest.raises(SerializationError):
        one.on_start(functools.partial(print, lock))
    one.on_message("echo", handlers.echo)
    assert one.start().ask("echo", 1).result(WAIT) == 1


def test_the_handlers_module_is_found_by_the_path_of_the_host(remote):
    assert Path(handlers.__file__).parent == Path(__file__).parent
    assert remote().ask("echo", "imported").result(WAIT) == "imported"
