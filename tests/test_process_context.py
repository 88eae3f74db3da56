"""What surrounds a handler in another process: the current message, context variables, log records."""

from __future__ import annotations

import contextvars
import logging
import os
import sys
import threading
import types

import process_handlers as handlers
import pytest

from pytoweb.workers import SerializationError

WAIT = 10.0
unimportable = [contextvars.ContextVar("unimportable")]
"""A variable that no module has by a name."""


@pytest.fixture(autouse=True)
def uncolored():
    """Takes the color back after each test."""
    token = handlers.color.set("none")
    yield
    handlers.color.reset(token)


def test_the_current_message_is_the_message(remote):
    one = remote("messenger")
    seen = one.ask("describe_message", {"a": [1]}).result(WAIT)
    assert seen == {
        "type": "describe_message", "data": {"a": [1]}, "id": None, "worker": "messenger",
        "attempt": 1, "cancelled": False,
        "worker_name": "messenger", "worker_type": "PythonWorker", "worker_backend": "process",
    }  # fmt: skip


def test_in_a_pool_s_own_mailbox_the_current_worker_is_the_pool(pool):
    one = pool(1, backend="process", name="the pool")
    one.on_message("describe", handlers.describe_message)
    seen = one.ask("describe", 1).result(WAIT)
    assert (seen["type"], seen["worker"], seen["worker_name"]) == ("describe", "the pool", "the pool")
    assert seen["worker_type"] == "WorkerPool"
    seen = one.submit(handlers.describe_message, 2).result(WAIT)
    assert (seen["type"], seen["worker"]) == ("describe_message", "the pool")


def test_values_that_cannot_cross_stay_behind(remote):
    one = remote()
    handlers.color.set(threading.Lock())
    assert one.ask("look").result(WAIT) == "none"
    token = unimportable[0].set("somewhere")
    try:
        assert one.ask("echo", "alive").result(WAIT) == "alive"
    finally:
        unimportable[0].reset(token)


def test_a_variable_that_the_child_cannot_rebuild_stays_behind_alone(remote, monkeypatch):
    here_only = types.ModuleType("here_only")
    here_only.variable = contextvars.ContextVar("here_only")
    monkeypatch.setitem(sys.modules, "here_only", here_only)
    one = remote()
    handlers.color.set("red")

    def ask():
        handlers.shape.set(handlers.ExplodesElsewhere())
        here_only.variable.set("not there")
        return [one.ask("look").result(WAIT) for _ in range(3)]

    assert contextvars.copy_context().run(ask) == ["red"] * 3
    one.run_until_idle(WAIT)
    assert one.stats().failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("state", ["installed", "absent"])
def test_a_variable_of_the_script_does_not_make_the_child_run_it(run_python, cloudpickle_is, state):
    cloudpickle_is(state)
    done = run_python(
        f"""
import os, sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
from contextvars import ContextVar
import process_handlers
from pytoweb.workers import PythonWorker

print("the script runs", flush=True)

class Color:
    pass

color = ContextVar("color")
color.set("of the script")
process_handlers.color.set("red")
process_handlers.shape.set(Color())
with PythonWorker("colored", backend="process") as worker:
    worker.on_message("look", process_handlers.look)
    print(worker.ask("look").result(20))
""",
        timeout=30,
    )
    assert (done.rc, done.stdout.splitlines(), done.stderr) == (0, ["the script runs", "red"], "")


def test_a_large_value_of_a_context_variable_crosses_or_stays_behind(remote):
    one = remote()
    handlers.color.set("x" * 1_000_000)
    assert one.ask("look").result(WAIT) in ("x" * 1_000_000, "none")
    assert one.ask("echo", "alive").result(WAIT) == "alive"


@pytest.mark.parametrize("long", ["type", "id"])
def test_a_very_long_name_crosses_or_is_refused_at_the_call(remote, long):
    one, replies, done = remote(start=False), [], threading.Event()
    kind = "k" * 300_000 if long == "type" else "echo"
    number = "i" * 300_000 if long == "id" else "task"
    one.on_message(kind, handlers.echo)
    one.on_message("response", lambda message: (replies.append(message.data), done.set()))
    one.start()
    try:
        one.post_message(kind, "data", message_id=number)
    except (SerializationError, ValueError):
        done.set()
    assert done.wait(WAIT)
    assert replies in ([], [{"id": number, "result": "data"}])
    assert one.ask("pid").result(WAIT) != os.getpid()
    assert one.stats().failed == 0


def records(caplog):
    """The records of `handlers.log`."""
    return [record for record in caplog.records if record.name == "tests.process"]


def test_log_records_of_a_child_are_handled_in_the_host(remote, caplog, until):
    caplog.set_level(logging.INFO)
    one = remote()
    child = one.ask("pid").result(WAIT)
    one.ask("log_records", "the order").result(WAIT)
    until(lambda: len(records(caplog)) == 2, "the records")
    warning, error = records(caplog)
    assert (warning.levelname, warning.getMessage()) == ("WARNING", "a warning of the order")
    assert (warning.process, warning.funcName, warning.module) == (child, "log_records", "process_handlers")
    assert warning.shop == "corner", "what extra= gave"
    assert (error.levelname, error.getMessage()) == ("ERROR", "it failed for the order")
    assert "ValueError: logged, not raised" in error.exc_text
    assert "ValueError: logged, not raised" in caplog.text


def test_the_levels_of_the_host_count_in_the_child(remote, caplog, until):
    caplog.set_level(logging.WARNING)
    caplog.set_level(logging.DEBUG, logger="tests.process")
    one = remote()
    one.ask("log_records", "details").result(WAIT)
    until(lambda: len(records(caplog)) == 3, "the records")
    assert [record.levelname for record in records(caplog)] == ["DEBUG", "WARNING", "ERROR"]


def test_records_below_the_level_stay_away(remote, caplog, until):
    caplog.set_level(logging.ERROR, logger="tests.process")
    one = remote()
    one.ask("log_records", "x").result(WAIT)
    one.ask("log_records", "y").result(WAIT)
    until(lambda: len(records(caplog)) == 2, "the records")
    assert [record.getMessage() for record in records(caplog)] == ["it failed for x", "it failed for y"]


def test_a_level_that_was_raised_since_counts_in_the_host(remote, caplog, until):
    caplog.set_level(logging.INFO, logger="tests.process")
    one = remote()
    one.ask("log_line", "before").result(WAIT)
    until(lambda: records(caplog), "the record")
    caplog.set_level(logging.ERROR, logger="tests.process")
    one.ask("log_line", "after").result(WAIT)
    one.stop(timeout=WAIT)
    assert [record.getMessage() for record in records(caplog)] == ["before"]


def test_records_come_in_order_and_none_is_lost_by_a_stop(remote, caplog):
    caplog.set_level(logging.INFO, logger="tests.process")
    one = remote()
    one.post_messages("log_line", [str(number) for number in range(200)])
    one.stop(timeout=WAIT)
    assert [record.getMessage() for record in records(caplog)] == [str(number) for number in range(200)]


def test_a_very_long_record_comes_too(remote, caplog, until):
    caplog.set_level(logging.INFO, logger="tests.process")
    one = remote()
    one.ask("log_line", "long " + "x" * 1_000_000).result(WAIT)
    until(lambda: records(caplog), "the record")
    assert records(caplog)[0].getMessage().startswith("long xxx")
    assert one.ask("echo", "alive").result(WAIT) == "alive"


def test_a_log_handler_of_the_host_that_is_slow_does_not_hold_up_the_work(remote, gate):
    class Slow(logging.Handler):
        """Stands in the gate."""

        def emit(self, record):
            gate(record.getMessage())

    slow = Slow(logging.INFO)
    logger = logging.getLogger("tests.process")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(slow)
    try:
        one = remote()
        one.post_message("log_line", "slow")
        gate.wait_entered()
        assert one.ask("echo", "meanwhile").result(WAIT) == "meanwhile"
        gate.open()
        one.stop(timeout=WAIT)
    finally:
        gate.open()
        logger.removeHandler(slow)
        logger.setLevel(before)
    assert gate.calls == ["slow"]
