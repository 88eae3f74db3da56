"""Cancelling messages of process workers: a running handler is ended for real, queued ones never run."""

from __future__ import annotations

from concurrent.futures import CancelledError

import process_handlers as handlers
import pytest

WAIT = 10.0
NAMES = [one.__name__ for one in handlers.ENDLESS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_cancelling_a_running_message_ends_it(timed, kind, tmp_path, until, is_running):
    one, path = timed(), tmp_path / "entered"
    future = one.ask(kind, str(path))
    handlers.wait_for(path)
    assert future.cancel() is True
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    until(lambda: not is_running(one.pid), "the end of the child")
    assert one.ask("echo", "serves again").result(WAIT) == "serves again"
    one.run_until_idle(WAIT)
    stats = one.stats()
    assert (stats.cancelled, stats.failed) == (1, 0)


def test_cancelling_what_was_sent_ahead_removes_it(timed, tmp_path, remote_gate):
    one, path = timed(), str(tmp_path / "handled")
    one.on_message("gate", remote_gate)
    for _ in range(3):
        for future in [one.ask("echo", number) for number in range(100)]:
            future.result(WAIT)
    blocked = one.ask("gate", "through")
    futures = [one.ask("write", (path, number)) for number in range(30)]
    remote_gate.wait_entered()
    assert [future.cancel() for future in futures[::2]] == [True] * 15
    remote_gate.open()
    assert blocked.result(WAIT) == "through"
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(1, 30, 2)]
    assert one.ask("pid").result(WAIT) == one.pid
    assert one.stats().cancelled == 15


def test_cancelling_a_finished_message_does_nothing(timed):
    one = timed()
    future = one.ask("echo", 1)
    assert future.result(WAIT) == 1
    assert future.cancel() is False
    assert one.ask("pid").result(WAIT) == one.pid
