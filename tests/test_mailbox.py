"""The bounded mailbox: the four overflow policies with exact counts, and what blocking means."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from pytoweb.workers import MailboxFullError

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""
CAPACITY = 10
PRODUCERS = 8
EACH = 100
OFFERED = PRODUCERS * EACH


@pytest.fixture
def offer(spawn):
    """Returns `offer(post)`: 8 producers call it 100 times each; how many calls were refused."""

    def run(post):
        barrier = threading.Barrier(PRODUCERS)

        def produce(producer):
            refused = 0
            barrier.wait(WAIT)
            for number in range(EACH):
                try:
                    post((producer, number))
                except MailboxFullError:
                    refused += 1
            return refused

        outcomes = [spawn(produce, producer) for producer in range(PRODUCERS)]
        return sum(outcome.result(WAIT) for outcome in outcomes)

    return run


def accept_work(one):
    """Registers a handler of "work" that keeps what it handled."""
    handled = []
    one.on_message("work", handled.append)
    return handled


@pytest.mark.parametrize("capacity", [1, 2, 7, 64])
def test_exactly_capacity_messages_wait_beside_the_running_one(blocked, capacity):
    one = blocked(capacity=capacity, overflow="reject")

    for number in range(capacity):
        one.post_message("work", number)
    with pytest.raises(MailboxFullError):
        one.post_message("work", capacity)
    with pytest.raises(MailboxFullError):
        one.ask("work", capacity)

    stats = one.stats()
    assert (stats.depth, stats.running, stats.posted, stats.rejected) == (capacity, 1, capacity + 1, 2)


@pytest.mark.parametrize("capacity", [1, 5])
def test_exactly_capacity_messages_wait_for_the_start(worker, capacity):
    one = worker(capacity=capacity, overflow="reject")
    assert one.post_messages("work", range(capacity)) == capacity
    with pytest.raises(MailboxFullError):
        one.post_message("work")
    assert one.stats().depth == capacity


def test_reject_counts_what_it_refuses(blocked, offer, gate):
    one = blocked(capacity=CAPACITY, overflow="reject")
    handled = accept_work(one)

    assert offer(lambda item: one.post_message("work", item)) == OFFERED - CAPACITY
    gate.open()
    one.run_until_idle(WAIT)

    stats = one.stats()
    assert len(handled) == CAPACITY
    assert (stats.posted, stats.completed) == (CAPACITY + 1, CAPACITY + 1)
    assert (stats.rejected, stats.dropped) == (OFFERED - CAPACITY, 0)


def test_drop_newest_counts_what_it_drops(blocked, offer, gate):
    one = blocked(capacity=CAPACITY, overflow="drop_newest")
    handled = accept_work(one)

    assert offer(lambda item: one.post_message("work", item)) == 0
    gate.open()
    one.run_until_idle(WAIT)

    stats = one.stats()
    assert len(handled) == CAPACITY
    assert (stats.posted, stats.completed) == (OFFERED + 1, CAPACITY + 1)
    assert (stats.dropped, stats.rejected) == (OFFERED - CAPACITY, 0)
    assert stats.drops["newest"] == sum(stats.drops.values()) == OFFERED - CAPACITY


def test_drop_oldest_counts_what_it_drops(blocked, offer, gate):
    one = blocked(capacity=CAPACITY, overflow="drop_oldest")
    handled = accept_work(one)

    assert offer(lambda item: one.post_message("work", item)) == 0
    gate.open()
    one.run_until_idle(WAIT)

    stats = one.stats()
    assert len(handled) == CAPACITY
    assert (stats.posted, stats.completed) == (OFFERED + 1, CAPACITY + 1)
    assert (stats.dropped, stats.rejected) == (OFFERED - CAPACITY, 0)
    assert stats.drops["oldest"] == sum(stats.drops.values()) == OFFERED - CAPACITY


def test_block_loses_nothing(blocked, offer, gate, spawn, until):
    one = blocked(capacity=CAPACITY, overflow="block")
    handled = accept_work(one)

    offering = spawn(offer, lambda item: one.post_message("work", item))
    until(lambda: one.stats().depth == CAPACITY, "the full mailbox")
    gate.open()
    assert offering.result(WAIT) == 0
    one.run_until_idle(WAIT)

    stats = one.stats()
    assert sorted(handled) == [(producer, number) for producer in range(PRODUCERS) for number in range(EACH)]
    assert (stats.posted, stats.completed) == (OFFERED + 1, OFFERED + 1)
    assert (stats.rejected, stats.dropped) == (0, 0)


def test_block_with_a_timeout_of_zero_rejects(blocked, offer):
    one = blocked(capacity=CAPACITY, overflow="block")
    one.post_messages("work", range(CAPACITY))

    assert offer(lambda item: one.post_message("work", item, timeout=0)) == OFFERED
    stats = one.stats()
    assert (stats.posted, stats.rejected, stats.depth) == (CAPACITY + 1, OFFERED, CAPACITY)


@pytest.mark.parametrize(
    ("policy", "kept", "lost"),
    [("drop_newest", [0, 1], [2, 3]), ("drop_oldest", [2, 3], [0, 1])],
)
def test_a_dropped_ask_fails_its_future(blocked, gate, policy, kept, lost):
    one = blocked(capacity=2, overflow=policy)
    handled = accept_work(one)

    futures = [one.ask("work", number) for number in range(4)]

    for number in lost:
        assert isinstance(futures[number].exception(WAIT), MailboxFullError)
    assert [number for number in range(4) if not futures[number].done()] == kept
    gate.open()
    for number in kept:
        assert futures[number].result(WAIT) is None
    assert handled == kept


def test_block_waits_for_room(blocked, gate, spawn):
    one = blocked(capacity=1)
    handled = accept_work(one)
    one.post_message("work", "fits")

    waiting = spawn(one.post_message, "work", "waits")
    asking = spawn(lambda: one.ask("work", "asks").result(WAIT))
    with pytest.raises(FutureTimeout):
        waiting.result(NEVER)
    assert one.stats().posted == 2
    gate.open()

    assert waiting.result(WAIT) is None
    assert asking.result(WAIT) is None
    one.run_until_idle(WAIT)
    assert sorted(handled) == ["asks", "fits", "waits"]


def test_block_gives_up_after_the_timeout(blocked):
    one = blocked(capacity=1)
    one.post_message("work")

    for post in (one.post_message, one.ask):
        before = time.monotonic()
        with pytest.raises(MailboxFullError):
            post("work", timeout=NEVER)
        assert time.monotonic() - before >= NEVER * 0.9
    stats = one.stats()
    assert (stats.posted, stats.rejected) == (2, 2)


def test_a_worker_does_not_block_on_its_own_mailbox(worker):
    one = worker(capacity=1)
    refused = []

    @one.on_message("flood")
    def flood(data):
        one.post_message("work", "fits")
        for post in (one.post_message, one.ask):
            try:
                post("work", "does not", timeout=None)
            except MailboxFullError as error:
                refused.append(error)

    handled = accept_work(one)
    one.start().ask("flood").result(WAIT)
    one.run_until_idle(WAIT)

    assert len(refused) == 2
    assert handled == ["fits"]


def test_a_post_does_not_block_an_event_loop(blocked):
    one = blocked(capacity=1)
    one.post_message("work")

    async def main():
        for post in (one.post_message, one.ask):
            with pytest.raises(MailboxFullError):
                post("work", timeout=WAIT)
        with pytest.raises(MailboxFullError):
            one.post_messages("work", [1, 2])

    before = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - before < WAIT / 2


@pytest.mark.parametrize(
    ("policy", "accepted", "kept", "rejected", "dropped"),
    [
        ("reject", 3, [0, 1, 2], 7, 0),
        ("drop_newest", 3, [0, 1, 2], 0, 7),
        ("drop_oldest", 10, [7, 8, 9], 0, 7),
    ],
)
def test_post_messages_says_how_many_were_accepted(blocked, gate, policy, accepted, kept, rejected, dropped):
    one = blocked(capacity=3, overflow=policy)
    handled = accept_work(one)

    assert one.post_messages("work", range(10)) == accepted
    stats = one.stats()
    assert (stats.depth, stats.rejected, stats.dropped) == (3, rejected, dropped)
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == kept


def test_post_messages_blocks_until_all_are_in(blocked, gate, spawn):
    one = blocked(capacity=3)
    handled = accept_work(one)

    posting = spawn(one.post_messages, "work", iter(range(50)))
    with pytest.raises(FutureTimeout):
        posting.result(NEVER)
    gate.open()

    assert posting.result(WAIT) == 50
    one.run_until_idle(WAIT)
    assert handled == list(range(50))
    assert one.stats().rejected == 0


def test_no_wake_up_is_lost_through_a_mailbox_of_one(worker, spawn):
    one = worker(capacity=1)
    handled = accept_work(one)
    one.start()

    def produce(producer):
        for number in range(500):
            one.post_message("work", (producer, number))

    for outcome in [spawn(produce, producer) for producer in range(PRODUCERS)]:
        outcome.result(WAIT * 2)
    one.run_until_idle(WAIT)

    assert len(handled) == PRODUCERS * 500
    for producer in range(PRODUCERS):
        assert [number for who, number in handled if who == producer] == list(range(500))
