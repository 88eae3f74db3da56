"""Processes that handlers fork: they end when they come back, and keep away from their parent's host."""

from __future__ import annotations

import multiprocessing
import os
import sys

import process_handlers as handlers
import pytest

WAIT = 10.0


@pytest.mark.parametrize("how", ["return", "raise", "exit", "in a coroutine", "in the start hook"])
def test_a_forked_copy_that_comes_back_from_its_handler_ends(worker, how, tmp_path, capfd):
    one = worker(backend="process")
    one.on_message("fork", fork_in_a_coroutine if how == "in a coroutine" else fork_and_come_back)
    one.on_message("code", code_of_the_copy)
    one.on_message("echo", handlers.echo)
    if how == "in the start hook":
        one.on_start(fork_at_the_start)
    one.start()
    if how != "in the start hook":
        assert one.ask("fork", how).result(WAIT) == "parent"
    expected = {"raise": 1, "exit": 5}.get(how, 0)
    assert one.ask("code").result(WAIT) == expected
    assert [one.ask("echo", number).result(WAIT) for number in range(100)] == list(range(100))
    one.stop()
    assert ("the copy" in capfd.readouterr().err) == (how == "raise")


copies: list[int] = []


def fork_and_come_back(how):
    """Forks, and comes back twice."""
    pid = os.fork()
    if pid:
        copies.append(pid)
        return "parent"
    if how == "raise":
        raise ValueError("the copy")
    if how == "exit":
        sys.exit(5)
    return "copy"


async def fork_in_a_coroutine(how):
    return fork_and_come_back(how)


def fork_at_the_start():
    fork_and_come_back("return")


def code_of_the_copy(data):
    """How the copy ended."""
    return os.waitstatus_to_exitcode(os.waitpid(copies.pop(), 0)[1])


@pytest.mark.slow
def test_what_a_forked_copy_logs_stays_out_of_the_way(worker, caplog):
    one = worker(backend="process")
    one.on_message("log", log_in_copies)
    one.on_message("echo", handlers.echo)
    assert one.start().ask("log").result(WAIT) == [0, 0]
    assert [one.ask("echo", number).result(WAIT) for number in range(100)] == list(range(100))


def log_in_copies(data):
    """Logs in a forked copy and in a process of `multiprocessing`."""
    pid = os.fork()
    if pid == 0:
        handlers.log.warning("a copy")
        os._exit(0)
    process = multiprocessing.get_context("fork").Process(target=handlers.log.warning, args=("another",))
    process.start()
    process.join(WAIT)
    return [os.waitpid(pid, 0)[1], process.exitcode]
