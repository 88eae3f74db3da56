"""Handlers that wait in a way of their own: `blocking` lets another thread of the pool run meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings

import pytest

from pytoweb.workers import ThreadLimitError, WorkerPool, blocking

WAIT = 10.0


def wait_for(event):
    with blocking():
        return event.wait(WAIT)


@pytest.mark.parametrize("size", [1, 2])
def test_functions_of_a_pool_that_wait_for_each_other_in_their_own_way(pool, size):
    some = pool(size)
    events = [threading.Event() for _ in range(10)]
    waiting = [some.submit(wait_for, event) for event in events]
    for event in events:
        some.submit(event.set).result(WAIT)
    assert [future.result(WAIT) for future in waiting] == [True] * 10


def test_a_worker_in_a_block_takes_no_other_message(pool):
    some, event, order = pool(1), threading.Event(), []
    one, other = some.create_worker("one"), some.create_worker("other")

    @one.on_message("wait")
    def wait(data):
        order.append("waits")
        wait_for(event)
        order.append("waited")

    one.on_message("next", order.append)
    other.on_message("set", lambda data: order.append("set") or event.set())
    one.start()
    other.start()
    one.post_message("wait")
    one.post_message("next", "next")
    other.post_message("set")
    some.run_until_idle(WAIT)
    assert order[:2] == ["waits", "set"]
    assert order[2:] == ["waited", "next"]


def test_blocks_within_blocks_and_waits_for_replies_in_them(pool):
    some = pool(1)

    def outer():
        with blocking(), blocking():
            return some.submit(wait_for, set_event).result(WAIT)

    set_event = threading.Event()
    set_event.set()
    for _ in range(20):
        assert some.submit(outer).result(WAIT) is True
    assert at_once(some) == 1


def at_once(some):
    """How many functions of a pool run at the same time."""
    running, most = [], []

    def run():
        running.append(None)
        most.append(len(running))
        # Lets go of the interpreter lock.
        threading.Event().wait(0.001)
        running.pop()

    for future in [some.submit(run) for _ in range(20)]:
        future.result(WAIT)
    return max(most)


def test_an_exception_goes_through_the_block(pool):
    some = pool(1)

    def fail():
        with blocking():
            raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        some.submit(fail).result(WAIT)
    assert at_once(some) == 1


def test_a_block_that_outlives_its_handler_ends_with_it(pool):
    some, kept = pool(1), []

    def left():
        with blocking():
            yield

    def start():
        kept.append(left())
        next(kept[-1])

    for _ in range(10):
        some.submit(start).result(WAIT)
    assert at_once(some) == 1
    kept.clear()
    assert at_once(some) == 1


def test_elsewhere_it_does_nothing(pool):
    with blocking():
        pass

    async def main():
        with blocking():
            return await pool(1).submit(abs, -1)

    assert asyncio.run(main()) == 1


def test_one_is_entered_once(pool):
    def twice():
        one = blocking()
        with one, pytest.raises(RuntimeError, match="entered already"), one:
            pass
        with one:
            return "again"

    assert pool(1).submit(twice).result(WAIT) == "again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_is_forked_in_a_block_leaves_it(pool):
    def fork():
        with blocking(), warnings.catch_warnings():
            # Of the pool's own threads, and from Python 3.12 on of any.
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            os._exit(7)
        return os.waitpid(child, 0)[1]

    assert os.WEXITSTATUS(pool(1).submit(fork).result(WAIT)) == 7


def descend(some, left, wait):
    """A recursion of `left` levels, each of which waits for the next."""
    return 0 if left == 0 else 1 + wait(some.submit(descend, some, left - 1, wait))


def result_of(future):
    return future.result(WAIT)


def result_in_block(future):
    # A wait that only `blocking` knows of.
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    with blocking():
        assert done.wait(WAIT)
    return future.result()


@pytest.mark.parametrize("wait", [result_of, result_in_block])
@pytest.mark.parametrize("size", [1, 3])
def test_the_threads_beyond_the_size_have_a_limit(pool, size, wait):
    some = pool(size, name="small", max_spare_threads=5)
    for _ in range(3):
        assert descend(some, 6, wait) == 6
        with pytest.raises(ThreadLimitError, match=f"5 handlers of the pool 'small' .* its size of {size}"):
            descend(some, 50, wait)
        assert some.stats().threads <= size + 5
        # The levels below those that were told go on.
        some.run_until_idle(WAIT)


def test_the_limit_is_there_by_default(pool):
    some = pool(2)
    assert descend(some, 200, result_of) == 200
    with pytest.raises(ThreadLimitError, match="256 handlers"):
        descend(some, 300, result_of)
    assert some.stats().threads <= 258


def test_a_wait_for_room_counts(pool):
    some = pool(1, max_spare_threads=3, capacity=1)
    told = threading.Event()

    def fill(level):
        # Its mailbox is full of the next level, which does the same.
        try:
            some.post_message("fill", level + 1)
            some.post_message("fill", level + 1)
        except ThreadLimitError:
            told.set()

    some.on_message("fill", lambda level: None if told.is_set() else fill(level))
    some.on_error(lambda error: None)
    some.post_message("fill", 0)
    assert told.wait(WAIT)
    some.run_until_idle(WAIT)
    assert some.stats().threads <= 4


@pytest.mark.parametrize(
    ("given", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_wrong_limit_is_an_error(given, error):
    with pytest.raises(error, match="max_spare_threads"):
        WorkerPool(1, max_spare_threads=given)
