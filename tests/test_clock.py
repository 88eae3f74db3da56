"""``pytoweb.testing.frozen_clock``: time that a test moves."""

from __future__ import annotations

import pytest

from pytoweb.testing import FrozenClock, frozen_clock
from pytoweb.workers import DeadlineError, Limits

WAIT = 10.0


def test_a_delay_passes_when_the_clock_is_moved(backend, worker):
    with frozen_clock() as clock:
        one = worker("one", backend=backend).start()
        one.on_message("length", len)
        future = one.ask("length", "abc", delay=3600)
        clock.advance(3599.5)
        assert not future.done()
        clock.advance(0.5)
        assert future.result(WAIT) == 3
        assert clock.now() == 3600


def test_a_deadline_passes_before_advance_returns(blocked):
    with frozen_clock() as clock:
        one = blocked()
        future = one.ask("gate", timeout=60)
        clock.advance(59)
        assert not future.done()
        clock.advance(1)
        assert future.done()
        assert isinstance(future.exception(0), DeadlineError)


def test_a_rate_goes_by_the_clock(worker):
    with frozen_clock() as clock:
        one = worker("one", limits=Limits(rate="1/min"))
        one.on_message("work", lambda data: data)
        futures = [one.start().ask("work", number) for number in range(4)]
        assert futures[0].result(WAIT) == 0
        for number in (1, 2, 3):
            clock.advance(59)
            assert not futures[number].done()
            clock.advance(1)
            assert futures[number].result(WAIT) == number


def test_workers_keep_the_clock_that_they_were_made_with(worker, pool):
    before = worker("before").start()
    before.on_message("work", lambda data: data)
    with frozen_clock() as clock:
        inside = pool(1)
        member = inside.create_worker("member").start()
        member.on_message("work", lambda data: data)
        frozen = member.ask("work", 1, delay=0.01)
        assert before.ask("work", 2, delay=0.01).result(WAIT) == 2
        assert not frozen.done()
        assert clock.now() == 0
    # After the block it goes by itself.
    assert frozen.result(WAIT) == 1
    assert member.ask("work", 3, delay=0.01).result(WAIT) == 3


def test_clocks_nest(worker):
    with frozen_clock() as outer:
        with frozen_clock() as inner:
            one = worker("inner").start()
        two = worker("outer").start()
        for each in (one, two):
            each.on_message("work", lambda data: data)
        future = two.ask("work", 1, delay=5)
        inner.advance(5)
        assert not future.done()
        outer.advance(5)
        assert future.result(WAIT) == 1


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)],
)
def test_a_clock_goes_forward_only(seconds, error):
    with frozen_clock() as clock, pytest.raises(error, match="seconds"):
        clock.advance(seconds)
    assert isinstance(clock, FrozenClock)


def test_an_error_of_the_block_gives_the_clock_back(worker):
    with pytest.raises(KeyError), frozen_clock():
        raise KeyError
    one = worker("one").start()
    one.on_message("work", lambda data: data)
    assert one.ask("work", 1, delay=0.01).result(WAIT) == 1
