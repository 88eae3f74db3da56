"""Coroutines in child processes, beyond the contract: the child that they share, keep and may end."""

from __future__ import annotations

from concurrent.futures import CancelledError

import process_handlers as handlers
import pytest

from pytoweb.workers import DeadlineError, WorkerCrashedError

WAIT = 10.0
SHORT = 0.3
"""Seconds of a deadline that is meant to pass while the handler runs."""


@pytest.fixture
def coroutines(pool):
    """Returns `coroutines(*names)`: process workers of one child whose handlers are coroutines."""

    def make(*names):
        one = pool(1, backend="process")
        made = []
        for name in names:
            worker = one.create_worker(name)
            worker.on_message("plain", handlers.echo)
            worker.on_message("gate", handlers.pass_gate)
            worker.on_message("crash", handlers.crash_later)
            worker.on_message("pid", handlers.pid)
            worker.on_error(lambda error: None)
            made.append(worker.start())
        return made

    return make


@pytest.fixture
def steps(tmp_path):
    """Returns what `pass_gate` noted."""
    return lambda: handlers.noted(tmp_path / "steps")


@pytest.fixture
def open_gate(tmp_path):
    """Opens the gate of `pass_gate`."""
    yield (tmp_path / "opened").touch
    (tmp_path / "opened").touch()


def test_workers_of_one_child_run_their_coroutines_together(coroutines, steps, open_gate, tmp_path, until):
    names = ["first", "second", "third"]
    workers = coroutines(*names)
    futures = [one.ask("gate", (str(tmp_path), one.name)) for one in workers]
    until(lambda: len(steps()) == 3, "all three in their handlers")
    open_gate()
    results = [future.result(WAIT) for future in futures]
    assert [name for name, _ in results] == names
    assert len({pid for _, pid in results}) == 1
    assert {step.split()[0] for step in steps()[:3]} == {"begin"}


def test_cancelling_a_running_coroutine_cancels_it_and_keeps_the_child(coroutines, steps, tmp_path, until):
    (one,) = coroutines("one")
    before = one.ask("pid").result(WAIT)
    future = one.ask("gate", (str(tmp_path), "a"))
    until(steps, "the coroutine")
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    until(lambda: steps() == ["begin a", "cancelled a"], "the cancellation")
    assert one.ask("pid").result(WAIT) == before
    one.run_until_idle(WAIT)
    assert one.stats().cancelled == 1


@pytest.mark.slow
def test_a_coroutine_past_its_deadline_is_cancelled_and_keeps_the_child(coroutines, steps, tmp_path, until):
    (one,) = coroutines("one")
    before = one.ask("pid").result(WAIT)
    error = one.ask("gate", (str(tmp_path), "a"), timeout=SHORT).exception(WAIT)
    assert isinstance(error, DeadlineError)
    until(lambda: steps()[-1:] == ["cancelled a"], "the cancellation")
    assert one.ask("pid").result(WAIT) == before
    one.run_until_idle(WAIT)
    assert one.stats().expired == 1


def test_a_crash_in_a_coroutine_fails_what_runs_in_the_child_and_no_more(
    coroutines, steps, tmp_path, open_gate, until
):
    one, bystander = coroutines("one", "bystander")
    beside = bystander.ask("gate", (str(tmp_path), "beside"))
    until(steps, "the bystander")
    behind = bystander.ask("plain", "behind")
    error = one.ask("crash").exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert error.exitcode == 77
    assert isinstance(beside.exception(WAIT), WorkerCrashedError), "it ran in the same child"
    assert behind.result(WAIT) == "behind"
    assert one.ask("plain", "alive").result(WAIT) == "alive"
