"""Exceptions of handlers in other processes: the type is kept where it can be, the traceback is shown."""

from __future__ import annotations

import logging
import os
import traceback

import process_handlers as handlers
import pytest

from pytoweb.workers import HandlerError, SerializationError

WAIT = 10.0


@pytest.fixture
def failing(remote):
    """A worker and the errors that its owner was told."""
    one, errors = remote("failing", start=False), []
    one.on_error(errors.append)
    one.errors = errors
    return one.start()


def test_the_type_and_the_arguments_are_kept(failing):
    error = failing.ask("raise_named", "plain").exception(WAIT)
    assert type(error) is handlers.Plain
    assert error.args == ("text", 1)
    with pytest.raises(handlers.Plain):
        failing.ask("raise_named", "plain").result(WAIT)


def test_attributes_of_an_exception_are_kept(failing):
    error = failing.ask("raise_with_code", 42).exception(WAIT)
    assert type(error) is handlers.WithAttributes
    assert error.code == 42


def test_the_traceback_of_the_child_is_the_cause(failing):
    error = failing.ask("fail_deeply", "key").exception(WAIT)
    assert isinstance(error, KeyError)
    cause = error.__cause__
    assert type(cause).__name__ == "RemoteTraceback"
    for word in (
        "Traceback (most recent call last)",
        "innermost_function",
        "process_handlers.py",
        "KeyError",
    ):
        assert word in str(cause)
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "innermost_function" in shown
    assert "direct cause" in shown


def test_a_chain_of_exceptions_is_shown(failing):
    error = failing.ask("raise_chained").exception(WAIT)
    assert type(error) is handlers.Plain
    assert "the first one" in str(error.__cause__)
    assert "the second one" in str(error.__cause__)


@pytest.mark.parametrize("name", ["halt", "system exit", "keyboard interrupt", "generator exit"])
def test_what_is_no_exception_fails_its_message_only(failing, name):
    before = failing.ask("pid").result(WAIT)
    error = failing.ask("raise_named", name).exception(WAIT)
    assert type(error) is type(handlers.EXCEPTIONS[name]())
    assert error.args == handlers.EXCEPTIONS[name]().args
    assert failing.ask("pid").result(WAIT) == before, "the child goes on"
    assert failing.errors == [error]


@pytest.mark.parametrize(
    ("name", "type_name"),
    [
        ("two arguments", "TwoArguments"),
        ("bad reduce", "BadReduce"),
        ("not an exception", "NotAnException"),
        ("with a lock", "Plain"),
    ],
)
def test_an_exception_that_cannot_cross_becomes_a_handler_error(failing, name, type_name):
    before = failing.ask("pid").result(WAIT)
    error = failing.ask("raise_named", name).exception(WAIT)
    assert type(error) is HandlerError
    assert type_name in str(error)
    assert ("this and that" if name == "two arguments" else "text") in str(error)
    assert "raise_named" in str(error.__cause__), "the traceback is there all the same"
    assert failing.ask("pid").result(WAIT) == before
    assert failing.errors == [error]


@pytest.mark.parametrize(("name", "kind"), [("bad str", handlers.BadStr), ("bad repr", handlers.BadRepr)])
def test_an_exception_that_cannot_be_shown_comes_all_the_same(failing, name, kind):
    error = failing.ask("raise_named", name).exception(WAIT)
    assert isinstance(error, (kind, HandlerError))
    assert kind.__name__ in repr(type(error)) + (str(error) if isinstance(error, HandlerError) else "")
    assert "raise_named" in str(error.__cause__)
    assert failing.ask("echo", "alive").result(WAIT) == "alive"


def test_an_exception_that_is_sent_and_raised_is_an_equal_one(failing):
    sent = ValueError("sent", [1, 2])
    error = failing.ask("raise_it", sent).exception(WAIT)
    assert type(error) is ValueError
    assert error.args == sent.args
    assert error is not sent


def test_an_exception_as_a_result_is_a_result(failing):
    result = failing.ask("echo", ValueError("as data")).result(WAIT)
    assert isinstance(result, ValueError)
    assert result.__cause__ is None


def test_on_error_gets_the_exception_that_the_future_raises(failing):
    future = failing.ask("raise_named", "plain")
    error = future.exception(WAIT)
    failing.run_until_idle(WAIT)
    assert failing.errors == [error]
    assert failing.errors[0] is error


def test_on_error_is_told_before_the_future(failing):
    for number in range(20):
        error = failing.ask("fail", number).exception(WAIT)
        assert failing.errors[-1] is error


def test_without_on_error_it_is_logged_once_with_the_remote_traceback(remote, caplog):
    one = remote("logged")
    with caplog.at_level(logging.ERROR):
        one.post_message("fail_deeply", "the key")
        one.run_until_idle(WAIT)
    (record,) = [record for record in caplog.records if record.name.startswith("pytoweb")]
    assert (record.name, record.levelname) == ("pytoweb.worker.logged", "ERROR")
    assert (record.worker_name, record.message_type, record.attempt) == ("logged", "fail_deeply", 1)
    assert isinstance(record.exc_info[1], KeyError)
    assert "innermost_function" in caplog.text


def test_an_on_error_that_raises_is_logged_and_the_worker_goes_on(remote, caplog):
    one = remote("doubly", start=False)

    @one.on_error
    def failed(error):
        raise RuntimeError("the error handler failed too")

    one.start()
    error = one.ask("fail", "first").exception(WAIT)
    assert isinstance(error, ValueError)
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    assert "the error handler failed too" in caplog.text


def test_an_error_of_submit_belongs_to_the_caller(pool, caplog):
    some, errors = pool(1, backend="process"), []
    some.on_error(errors.append)
    error = some.submit(handlers.fail, "for the caller").exception(WAIT)
    assert isinstance(error, ValueError)
    some.run_until_idle(WAIT)
    assert errors == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_very_long_traceback_and_text_come_through(failing):
    error = failing.ask("fail", "x" * 1_000_000).exception(WAIT)
    assert isinstance(error, ValueError)
    assert error.args == ("x" * 1_000_000,)
    assert failing.ask("echo", "alive").result(WAIT) == "alive"


@pytest.mark.slow
def test_endless_recursion_is_an_error_like_others(failing):
    failing.on_message("recurse", recurse)
    error = failing.ask("recurse", 0).exception(WAIT)
    assert isinstance(error, RecursionError)
    assert failing.ask("echo", "alive").result(WAIT) == "alive"


def recurse(number):
    """Goes deeper."""
    return recurse(number + 1) + 1


def test_data_that_nests_too_deep_is_refused(failing):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError):
        failing.ask("echo", deep)
    # So deep that freeing it at once would be too much for some interpreters.
    while deep:
        deep = deep.pop()
    assert failing.ask("echo", "alive").result(WAIT) == "alive"


def test_the_errors_of_two_children_do_not_mix(pool):
    some = pool(2, backend="process")
    futures = [some.submit(handlers.fail, number) for number in range(100)]
    assert [future.exception(WAIT).args for future in futures] == [(number,) for number in range(100)]
    assert os.getpid() not in {some.submit(handlers.pid, None).result(WAIT) for _ in range(4)}
