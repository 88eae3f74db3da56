"""What cannot cross between processes: refused to the sender, or the error of its message alone."""

from __future__ import annotations

import copyreg
import threading

import process_handlers as handlers
import pytest

from pytoweb.workers import SerializationError, WorkerCrashedError

WAIT = 10.0


def test_data_that_refuses_to_be_pickled_is_the_sender_s_error(remote):
    one = remote()
    before = one.stats().posted
    for value in (handlers.CannotBePickled(), [1, {"deep": handlers.CannotBePickled()}]):
        with pytest.raises(SerializationError, match="not for export") as caught:
            one.ask("echo", value)
        assert isinstance(caught.value.__cause__, ArithmeticError)
        with pytest.raises(SerializationError, match="echo"):
            one.post_message("echo", value)
    assert one.stats().posted == before


def test_post_messages_posts_what_came_before_the_bad_one(remote):
    one = remote()
    with pytest.raises(SerializationError):
        one.post_messages("count", [1, 2, threading.Lock(), 4])
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert stats.posted == stats.completed <= 2
    assert one.ask("echo", "alive").result(WAIT) == "alive"


@pytest.mark.parametrize("kind", ["make_lock", "make_explosive"])
def test_a_result_that_cannot_cross_is_an_error_of_its_message(remote, kind):
    one, errors = remote(start=False), []
    one.on_error(errors.append)
    one.start()
    before = one.ask("pid").result(WAIT)
    error = one.ask(kind).exception(WAIT)
    assert isinstance(error, SerializationError)
    assert one.ask("pid").result(WAIT) == before, "the child goes on"
    one.run_until_idle(WAIT)
    if kind == "make_lock":
        assert "lock" in str(error)
        assert errors == [error]
    else:
        assert "LookupError" in str(error)
        assert "a delicate thing" in str(error)


def test_an_unwanted_result_need_not_cross(remote):
    one, errors = remote(start=False), []
    one.on_error(errors.append)
    one.start()
    one.post_message("make_lock")
    one.post_message("make_explosive")
    one.run_until_idle(WAIT)
    assert errors == []
    assert one.stats().completed == 2


def test_data_that_raises_when_the_child_unpickles_it(remote):
    one, errors = remote(start=False), []
    one.on_error(errors.append)
    one.start()
    before = one.ask("pid").result(WAIT)
    error = one.ask("echo", [handlers.ExplodesElsewhere()]).exception(WAIT)
    assert isinstance(error, SerializationError)
    for word in ("echo", "LookupError", "a delicate thing"):
        assert word in str(error)
    assert one.ask("pid").result(WAIT) == before
    assert len(errors) == 1


def test_a_child_that_dies_while_it_unpickles_costs_that_message(remote):
    one = remote(start=False)
    one.on_error(lambda error: None)
    one.start()
    deadly, behind = one.ask("echo", handlers.KillsWhenUnpickled()), one.ask("echo", "behind")
    error = deadly.exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert error.exitcode == 66
    assert behind.result(WAIT) == "behind"


def test_a_child_that_dies_while_it_pickles_costs_that_message(remote):
    one = remote(start=False)
    one.on_error(lambda error: None)
    one.start()
    deadly, behind = one.ask("make_deadly"), one.ask("echo", "behind")
    error = deadly.exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert error.exitcode == 67
    assert behind.result(WAIT) == "behind"


class Reduced:
    """What `copyreg` says how to pickle."""

    def __init__(self, how):
        self.how = how


def reduce_first(one):
    return Reduced, ("first",)


def reduce_second(one):
    return Reduced, ("second",)


REDUCERS = {"first": reduce_first, "second": reduce_second, None: None}


def register(name):
    """Changes how this process pickles it, and says how that is from now on."""
    if name is None:
        copyreg.dispatch_table.pop(Reduced, None)
    else:
        copyreg.pickle(Reduced, REDUCERS[name])
    return Reduced("itself")


@pytest.mark.parametrize("side", ["host", "child"])
def test_a_reducer_counts_from_its_registration_on(worker, side):
    one = worker(backend="process")
    one.on_message("register", register)
    one.on_message("echo", handlers.echo)
    one.start()
    try:
        for name in (None, "first", "second", None, "first"):
            answer = one.ask("echo", register(name)) if side == "host" else one.ask("register", name)
            assert answer.result(WAIT).how == (name or "itself")
    finally:
        register(None)


def test_a_view_of_memory_crosses_as_its_bytes_whatever_is_registered(remote):
    one = remote()
    register("first")
    try:
        assert one.ask("echo", [memoryview(b"some bytes")]).result(WAIT) == [b"some bytes"]
    finally:
        register(None)
