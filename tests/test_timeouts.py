"""Seconds: whatever takes a timeout takes the same numbers, and refuses the same."""

from __future__ import annotations

import asyncio
import concurrent.futures
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest

from pytoweb.components import Component
from pytoweb.testing import no_leaks, wait_until_idle
from pytoweb.workers import DeadlineError, MailboxFullError, WorkerDecorators

WAIT = 10.0
SHORT = "0.02"

NUMBERS = [float(SHORT), Decimal(SHORT), Fraction(SHORT), numpy.float32(SHORT), numpy.float64(SHORT)]
WHOLE = [0, Decimal(0), Fraction(0), numpy.int64(0), numpy.array(0)]
NOT_NUMBERS = ["1", b"1", True, [1], timedelta(seconds=1), object()]
OUT_OF_RANGE = [-1, -0.001, Decimal(-1), float("nan"), Decimal("nan"), Fraction(-1, 2)]


class Calls:
    """Every call with a timeout, of workers whose handler stands in the gate."""

    def __init__(self, worker, pool, gate, slow):
        self.one = worker("busy", capacity=1)
        self.one.on_message("gate", gate)
        self.one.on_message("work", lambda data: data)
        self.many = pool(1)
        self.named = self.many.create_worker("named")
        self.named.on_message("gate", gate)
        self.component = Component()
        self.owned = self.component.create_worker("owned")
        self.owned.on_message("gate", gate)
        if slow:
            for each in (self.one, self.named, self.owned):
                each.start()
                each.post_message("gate")
            gate.wait_entered()

    def ask(self, timeout):
        self.many.ask("work", timeout=timeout).result(WAIT)

    def post_message(self, timeout):
        self.one.post_message("work")
        self.one.post_message("work", timeout=timeout)

    def apost_message(self, timeout):
        async def post():
            await self.one.apost_message("work")
            await self.one.apost_message("work", timeout=timeout)

        asyncio.run(post())

    def result(self, timeout):
        self.many.submit(len, ()).result(timeout)

    def run_in_worker(self, timeout):
        WorkerDecorators.run_in_worker("named", pool=self.many, timeout=timeout)(len)(())

    def run_until_idle(self, timeout):
        self.one.run_until_idle(timeout)

    def run_pool_until_idle(self, timeout):
        self.many.run_until_idle(timeout)

    def wait_until_idle(self, timeout):
        wait_until_idle(self.one, timeout=timeout)

    def stop(self, timeout):
        self.one.stop(timeout=timeout)

    def stop_all(self, timeout):
        self.many.stop_all(timeout=timeout)

    def map(self, timeout):
        assert list(self.many.map(len, [()], timeout=timeout))

    def options(self, timeout):
        self.many.options(timeout=timeout).submit(len, ()).result(WAIT)

    def start(self, timeout):
        self.many.start(timeout=timeout)

    def aask(self, timeout):
        asyncio.run(self.many.aask("work", timeout=timeout))

    def shutdown(self, timeout):
        self.many.shutdown(timeout=timeout)

    def unmount(self, timeout):
        self.component.unmount(timeout=timeout)

    def no_leaks(self, timeout):
        with no_leaks(timeout=timeout):
            pass


#: What each raises in time; None where it returns.
RAISES = {
    "ask": DeadlineError,
    "post_message": MailboxFullError,
    "apost_message": MailboxFullError,
    "result": concurrent.futures.TimeoutError,
    "run_in_worker": DeadlineError,
    "run_until_idle": DeadlineError,
    "run_pool_until_idle": DeadlineError,
    "wait_until_idle": DeadlineError,
    "stop": DeadlineError,
    "stop_all": DeadlineError,
    "unmount": DeadlineError,
    "map": concurrent.futures.TimeoutError,
    "options": DeadlineError,
    "start": TimeoutError,
    "aask": DeadlineError,
    "shutdown": DeadlineError,
    "no_leaks": None,
}


@pytest.mark.parametrize("call", RAISES)
@pytest.mark.parametrize("timeout", [*NUMBERS, *WHOLE], ids=lambda value: f"{type(value).__name__}-{value}")
def test_every_kind_of_number_is_seconds(worker, pool, gate, call, timeout):
    calls = Calls(worker, pool, gate, slow=True)
    try:
        if RAISES[call] is None:
            getattr(calls, call)(timeout)
        else:
            with pytest.raises(RAISES[call]):
                getattr(calls, call)(timeout)
    finally:
        gate.open()
        calls.component.unmount(timeout=WAIT)


@pytest.mark.parametrize("call", sorted(RAISES.keys() - {"result", "map"}))
@pytest.mark.parametrize("timeout", NOT_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_refused(worker, pool, gate, call, timeout):
    calls = Calls(worker, pool, gate, slow=False)
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        getattr(calls, call)(timeout)


@pytest.mark.parametrize("call", sorted(RAISES.keys() - {"result", "map"}))
@pytest.mark.parametrize("timeout", OUT_OF_RANGE, ids=str)
def test_what_is_below_zero_is_refused(worker, pool, gate, call, timeout):
    calls = Calls(worker, pool, gate, slow=False)
    with pytest.raises(ValueError, match="timeout must be 0 or more"):
        getattr(calls, call)(timeout)


@pytest.mark.parametrize("timeout", [float("inf"), Decimal("inf"), 1e300, 10**100])
def test_what_no_clock_can_tell_is_no_limit(worker, timeout):
    one = worker("endless")
    one.on_message("work", lambda data: data)
    one.start()
    assert one.ask("work", 1, timeout=timeout).result(timeout) == 1
    one.run_until_idle(timeout)
    one.stop(timeout=timeout)
