"""The orderly end of a child: what its handlers left open is finished, as at the end of any program."""

from __future__ import annotations

import logging
import os
import time

import process_ends as ends
import process_handlers as handlers
import pytest

from pytoweb.workers import DeadlineError

WAIT = 10.0
SCRIPT = 25.0
"""Seconds within which an interpreter with children must start, work and end."""

LINES = [f"line {number}" for number in range(10)]
WORDS = {"thread", "atexit", "logged", "freed"}

SCRIPT_CODE = f"""
import sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
import process_ends as ends
from pytoweb.workers import *

pool = WorkerPool(1, backend="process")
def work(lines, words):
    for number in range(10):
        pool.submit(ends.write_line, (lines, number)).result(20)
    pool.submit(ends.prepare_last_words, words).result(20)
"""


@pytest.fixture
def ending(worker):
    """Returns `ending(**options)`: a started process worker with the handlers of `process_ends`."""

    def make(**options):
        one = worker("ending", backend="process", **options)
        for handler in (ends.write_line, ends.prepare_last_words, ends.hang_at_the_end, handlers.pid):
            one.on_message(handler.__name__, handler)
        return one.start()

    return make


def work(one, tmp_path):
    """Eleven messages whose traces come at the end."""
    for number in range(10):
        one.ask("write_line", (str(tmp_path / "lines"), number)).result(WAIT)
    one.ask("prepare_last_words", str(tmp_path / "words")).result(WAIT)


def check(tmp_path):
    assert handlers.noted(tmp_path / "lines") == LINES
    assert set(handlers.noted(tmp_path / "words")) == WORDS


def test_a_stop_ends_the_child_as_a_program_ends(ending, tmp_path):
    one = ending()
    work(one, tmp_path)
    one.stop()
    check(tmp_path)


def test_a_replaced_child_ends_as_a_program_ends(ending, tmp_path):
    one = ending(max_messages=11)
    first = one.ask("pid").result(WAIT)
    for number in range(9):
        one.ask("write_line", (str(tmp_path / "lines"), number)).result(WAIT)
    one.ask("prepare_last_words", str(tmp_path / "words")).result(WAIT)
    assert one.ask("pid").result(WAIT) != first
    assert handlers.noted(tmp_path / "lines") == LINES[:9]
    assert set(handlers.noted(tmp_path / "words")) == WORDS


@pytest.mark.slow
@pytest.mark.parametrize("end", ["pass", "pool.shutdown()", "del pool"])
def test_the_end_of_the_program_ends_the_children_as_programs_end(run_python, tmp_path, end):
    code = f"work({str(tmp_path / 'lines')!r}, {str(tmp_path / 'words')!r})\n{end}\n"
    done = run_python(SCRIPT_CODE + code, timeout=SCRIPT)
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")
    check(tmp_path)


def test_a_stop_does_not_wait_for_an_end_hook_past_its_timeout(ending, is_running):
    one = ending()
    one.on_stop(ends.hang)
    child = one.ask("pid").result(WAIT)
    begun = time.monotonic()
    with pytest.raises(DeadlineError, match="on_stop"):
        one.stop(timeout=0.5)
    assert 0.5 <= time.monotonic() - begun < 4.5
    # It still has the rest of its five seconds.
    assert is_running(child)
    one.stop()
    assert not is_running(child)


@pytest.mark.parametrize("late", ["timeout", "terminate"])
def test_a_pool_kills_a_child_whose_end_hook_is_too_late(pool, is_running, late, until, caplog):
    some = pool(1, backend="process")
    some.on_stop(ends.hang)
    some.on_message("pid", handlers.pid)
    child = some.ask("pid").result(WAIT)
    begun = time.monotonic()
    if late == "timeout":
        with pytest.raises(DeadlineError, match="on_stop"):
            some.shutdown(timeout=0.5)
    else:
        some.shutdown(wait=False)
        # From here on the child is told to end.
        assert some._pytoweb.runtime.ended.wait(WAIT)
        some.terminate()
    until(lambda: not is_running(child), "the end of the child")
    assert time.monotonic() - begun < 4.5
    # The owner knows.
    assert caplog.records == []


@pytest.mark.slow
def test_a_replaced_child_whose_end_hook_does_not_end_is_killed_and_told_of(ending, is_running, caplog):
    one = ending(max_messages=1)
    one.on_stop(ends.hang)
    first = one.ask("pid").result(WAIT)
    # No message comes in its place, and the second one comes only when the first is gone.
    with caplog.at_level(logging.WARNING, "pytoweb"):
        assert one.ask("pid", timeout=WAIT).result() != first
        assert not is_running(first)
        one.stop()
    said = [record.getMessage() for record in caplog.records]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert all(text.startswith("process 1 of 'ending' (") and "within 5 s" in text for text in said)
    assert f"({first})" in said[0]


@pytest.mark.slow
def test_a_message_that_expires_while_a_child_ends_says_that_it_waited(ending):
    one = ending(max_messages=1)
    one.on_stop(ends.hang)
    one.ask("pid").result(WAIT)
    with pytest.raises(DeadlineError, match=r"^a message of type 'pid' waited 0\.1 s"):
        one.ask("pid", timeout=0.1).result()


@pytest.mark.slow
def test_a_replaced_child_is_killed_though_nothing_is_posted(ending, is_running, until):
    one = ending(max_messages=1)
    one.on_stop(ends.hang)
    first = one.ask("pid").result(WAIT)
    until(lambda: not is_running(first), "the end of the child")


def test_the_last_words_of_a_child_are_heard_though_the_reply_thread_has_ended(ending, caplog):
    one = ending()
    one.on_stop(ends.fail_at_the_end)
    one.on_message("log", ends.log_a_word)
    # This one starts the reply thread.
    one.ask("log").result(WAIT)
    one.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "a word",
        "worker 'ending': its end hook failed",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["atexit", "thread"])
def test_a_child_that_does_not_end_is_killed(ending, how, is_running):
    one = ending()
    child = one.ask("hang_at_the_end", how).result(WAIT)
    one.stop()
    assert not is_running(child)
