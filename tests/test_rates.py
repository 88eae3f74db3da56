"""Rates over ten seconds of a clock that the test moves: exact to the message."""

from __future__ import annotations

import random

import pytest

from pytoweb.testing import frozen_clock, wait_until_idle
from pytoweb.workers import Limits, Rate

WAIT = 10.0
SECONDS = 10
SECOND = 1_000_000_000
MOST_LATE = SECOND // 100
"""Nanoseconds that a message may begin late without the next one beginning later."""


@pytest.mark.slow
@pytest.mark.parametrize("of", ["worker", "type"])
@pytest.mark.parametrize(("rate", "interval", "burst"), [
    ("1000/s", SECOND // 1000, 10),
    ("70/s", SECOND // 70, 1),
    (Rate("240/min", burst=3), SECOND // 4, 3),
])  # fmt: skip
def test_as_many_messages_begin_as_a_rate_allows(backend, worker, of, rate, interval, burst):
    # Given a worker whose messages are all queued at once
    chance = random.Random(1)
    allowed = burst + SECONDS * SECOND // interval
    with frozen_clock() as clock:
        limits = Limits(messages=allowed + 100, rate=rate if of == "worker" else None)
        one = worker("metered", backend=backend, limits=limits)
        one.on_message("work", abs, **({"rate": rate} if of == "type" else {}))
        one.start()
        futures = [one.ask("work", number) for number in range(allowed + 100)]
        # When the time goes on in steps, none of which lets the rate pause
        passed, begun = 0, burst
        while True:
            futures[begun - 1].result(WAIT)
            assert not futures[begun].done()
            assert one.stats().completed <= begun
            if passed == SECONDS * SECOND:
                break
            step = chance.randint(1, (burst - 1) * interval + min(interval, MOST_LATE))
            step = min(step, SECONDS * SECOND - passed)
            clock.advance(step / SECOND)
            passed += step
            begun = burst + passed // interval
        # Then they have begun at that rate, and no other
        assert begun == allowed
        assert one.stats().completed in (begun - 1, begun)
    # Without the clock that stands still, the others follow.
    one.stop(drain=False, timeout=WAIT)


@pytest.mark.parametrize(("units", "seconds"), [
    (("s", "sec", "second"), 1),
    (("m", "min", "minute"), 60),
    (("h", "hour"), 3_600),
    (("d", "day"), 86_400),
])  # fmt: skip
def test_a_rate_takes_the_units_of_its_documents(units, seconds):
    for unit in units:
        assert Rate(f"5/{unit}").numbers() == (5, seconds, 1)
        assert Rate(f"5 / {unit}").numbers() == (5, seconds, 1)
        assert Rate(f"5/10{unit}").numbers() == (5, 10 * seconds, 1)
        assert Rate(f"0.5/{unit}").numbers() == (5, 10 * seconds, 1)
        with pytest.raises(ValueError, match=rf"units .*\b{unit}\b"):
            Rate("5/month")
        with pytest.raises(ValueError, match="no such rate"):
            Rate(f"5/{unit.upper()}")


def test_the_rates_of_types_do_not_slow_each_other_down(backend, worker):
    with frozen_clock() as clock:
        one = worker("metered", backend=backend)
        one.on_message("slow", abs, rate="1/s")
        one.on_message("quick", abs, rate="10/s")
        one.start()
        asked = {kind: [one.ask(kind, number) for number in range(120)] for kind in ("slow", "quick")}
        for tenth in range(101):
            clock.advance(0.1 if tenth else 0)
            asked["quick"][tenth].result(WAIT)
            asked["slow"][tenth // 10].result(WAIT)
            assert not asked["quick"][tenth + 1].done()
            assert not asked["slow"][tenth // 10 + 1].done()
        for future in asked["slow"] + asked["quick"]:
            future.cancel()
        wait_until_idle(one)
