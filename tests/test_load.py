"""A great many messages: in order, within the memory they are worth, no wake-up lost."""

from __future__ import annotations

from pathlib import Path

import pytest

WAIT = 50.0
"""Seconds for the whole of one load."""

MILLION = """
import gc, sys
from pytoweb.workers import PythonWorker

MESSAGES = 1_000_000
PAYLOAD_BYTES = 100

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

def payloads(count):
    return (number.to_bytes(PAYLOAD_BYTES, "big") for number in range(count))

def load(count):
    expected = 0
    worker = PythonWorker("loaded", capacity=count, overflow="reject")

    @worker.on_message("work")
    def work(data):
        nonlocal expected
        assert int.from_bytes(data, "big") == expected
        expected += 1

    assert worker.post_messages("work", payloads(count)) == count
    assert worker.stats().depth == count
    peak = resident()
    worker.start().stop()
    stats = worker.stats()
    assert (expected, stats.completed, stats.failed) == (count, count, 0)
    return peak

load(1000)
before = resident()
peak = load(MESSAGES)
after = resident()
print(before, (peak - before) / MESSAGES, after / before)
"""


@pytest.mark.slow
def test_a_million_queued_messages(run_python, require):
    require(Path("/proc/self/statm").exists(), "/proc")
    done = run_python(MILLION, timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    before, per_message, growth = (float(word) for word in done.stdout.split())
    assert per_message <= 600, "bytes per queued message, the payload of 100 included"
    assert growth <= 1.2, f"the memory of {before} bytes did not come back"


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1, 4])
def test_no_wake_up_is_lost_in_many_blocked_posts(worker, spawn, capacity):
    producers, each = 8, 12_500
    counted = [0] * producers
    one = worker(capacity=capacity)

    @one.on_message("work")
    def work(data):
        producer, number = data
        assert counted[producer] == number
        counted[producer] += 1

    one.start()

    def produce(producer):
        for number in range(each):
            one.post_message("work", (producer, number))

    for outcome in [spawn(produce, producer) for producer in range(producers)]:
        outcome.result(WAIT)
    one.run_until_idle(WAIT)

    stats = one.stats()
    assert counted == [each] * producers
    assert (stats.completed, stats.failed, stats.rejected) == (producers * each, 0, 0)


@pytest.mark.slow
def test_a_fast_producer_is_held_back(worker):
    one = worker(capacity=100)
    handled = []
    one.on_message("work", handled.append)
    one.start()
    deepest = 0
    for number in range(20_000):
        one.post_message("work", number)
        if number % 100 == 0:
            deepest = max(deepest, one.stats().depth)
    one.run_until_idle(WAIT)
    assert deepest <= 100
    assert handled == list(range(20_000))


@pytest.mark.slow
def test_many_short_lives(worker):
    for number in range(300):
        one = worker(f"short-{number}")
        one.on_message("echo", lambda data: data)
        with one:
            assert one.ask("echo", number).result(WAIT) == number


@pytest.mark.slow
def test_many_futures_at_once(worker):
    one = worker(capacity=100_000)
    one.on_message("echo", lambda data: data)
    futures = [one.ask("echo", number) for number in range(100_000)]
    one.start()
    assert [future.result(WAIT) for future in futures] == list(range(100_000))
