"""The orderly end of a child: what its handlers left open is finished, as at the end of any program."""

from __future__ import annotations

import os

import process_ends as ends
import process_handlers as handlers
import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("how", ["atexit", "thread"])
def test_a_child_that_does_not_end_is_killed(ending, how, is_running):
    one = ending()
    child = one.ask("hang_at_the_end", how).result(WAIT)
    one.stop()
    assert not is_running(child)
