"""Circles of waits through what a pool runs at the same time: the node there is the message, not the pool."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pytoweb.workers import AskCycleError, gather

WAIT = 10.0


class Later:
    """A future that a handler gets once it is made."""

    def __init__(self):
        self._made = threading.Event()

    def set(self, future):
        self._future = future
        self._made.set()
        return future

    def get(self):
        assert self._made.wait(WAIT)
        return self._future


def cycle_of(future):
    with pytest.raises(AskCycleError) as caught:
        future.result(WAIT)
    return set(caught.value.cycle)


def raise_exception(error):
    if error is not None:
        raise error


@pytest.fixture
def asker(worker):
    """A worker whose "wait" waits for the future in a `Later`, and whose "await" awaits it."""
    one = worker("asker")
    one.on_message("wait", lambda later: later.get().result(WAIT))
    one.on_message("exception", lambda later: raise_exception(later.get().exception(WAIT)))

    @one.on_message("await")
    async def await_it(later):
        return await later.get()

    one.on_error(lambda error: None)
    return one.start()


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("way", ["wait", "exception", "await"])
def test_a_function_and_a_worker_that_wait_for_each_other_are_told(pool, asker, size, way):
    some, own = pool(size, name="some"), Later()
    own.set(some.submit(lambda: asker.ask(way, own).result(WAIT)))
    assert cycle_of(own.get()) == {"some", "asker"}
    assert some.submit(int).result(WAIT) == 0


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("way", ["wait", "await"])
def test_a_coroutine_of_a_pool_and_a_worker_that_wait_for_each_other_are_told(pool, asker, size, way):
    some, own = pool(size, name="some"), Later()

    @some.on_message("start")
    async def start(data):
        return await asker.ask(way, own)

    own.set(some.ask("start"))
    assert cycle_of(own.get()) == {"some", "asker"}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_functions_that_wait_for_each_other_are_told(pool, size, length):
    some = pool(size, name="some")
    laters = [Later() for _ in range(length)]
    for number, later in enumerate(laters):
        after = laters[(number + 1) % length]
        later.set(some.submit(lambda after=after: after.get().result(WAIT)))
    for later in laters:
        assert cycle_of(later.get()) == {"some"}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("length", [1, 2])
def test_coroutines_that_wait_for_each_other_are_told(pool, size, length):
    some = pool(size, name="some")
    # As many as run at a time, of those that wait for no reply yet.
    laters = [Later() for _ in range(min(length, size))]

    @some.on_message("start")
    async def start(later):
        future = await asyncio.get_running_loop().run_in_executor(None, later.get)
        return await future

    some.on_error(lambda error: None)
    for number, later in enumerate(laters):
        later.set(some.ask("start", laters[(number + 1) % len(laters)]))
    for later in laters:
        assert cycle_of(later.get()) == {"some"}


def test_a_circle_through_messages_of_two_pools_is_told(pool):
    one, other = pool(1, name="one"), pool(1, name="other")
    first = Later()
    one.on_message("call", lambda data: other.ask("call").result(WAIT))
    other.on_message("call", lambda data: first.get().result(WAIT))
    first.set(one.ask("call"))
    assert cycle_of(first.get()) == {"one", "other"}


def test_gather_in_a_coroutine_of_a_pool_is_told_of_either_circle(pool, asker):
    some, own = pool(1, name="some"), Later()

    @some.on_message("both")
    async def both(data):
        results = await gather(asker.ask("wait", own), some.submit(int), return_exceptions=True)
        return [type(result) for result in results]

    own.set(some.ask("both"))
    assert own.get().result(WAIT) == [AskCycleError, int]


def test_a_coroutine_that_blocks_its_event_loop_for_itself_is_told(worker):
    one = worker("alone")

    @one.on_message("call")
    async def call(data):
        return one.ask("call").result(WAIT)

    one.on_error(lambda error: None)
    assert cycle_of(one.start().ask("call")) == {"alone"}


@pytest.mark.parametrize("method", ["run_until_idle", "shutdown"])
def test_waiting_for_a_pool_from_a_worker_that_its_function_waits_for_ends(pool, worker, method):
    some, one, told = pool(2, name="some"), worker("one"), []

    @one.on_message("finish")
    def finish(data):
        if method == "shutdown":
            # It does not wait where that could never end.
            some.shutdown()
            return
        try:
            some.run_until_idle(WAIT)
        except AskCycleError:
            told.append("worker")

    def wait_for_worker():
        try:
            one.ask("finish").result(WAIT)
        except AskCycleError:
            told.append("function")

    one.start()
    some.submit(wait_for_worker).result(WAIT)
    one.run_until_idle(WAIT)
    # The one whose wait closes the circle is told.
    assert len(told) == 1 or (method == "shutdown" and told == [])


@pytest.mark.parametrize("depth", [1, 3, 30])
def test_a_coroutine_of_a_pool_may_await_what_is_queued_behind_it(pool, depth):
    some = pool(1)

    async def descend(left):
        return left if left == 0 else 1 + await some.submit(descend, left - 1)

    assert some.submit(descend, depth).result(WAIT) == depth
    some.on_message("descend", lambda left: descend(left))
    assert some.ask("descend", depth).result(WAIT) == depth
    done = threading.Event()

    @some.on_message("post")
    async def post(left):
        # A message without a future waits, too.
        await some.submit(descend, left)
        done.set()

    some.post_message("post", depth)
    assert done.wait(WAIT)


def test_a_worker_gets_room_in_a_pool_whose_coroutine_waits_for_it(pool, worker):
    some, one = pool(1, capacity=1), worker("one")
    ran = []
    some.on_message("add", ran.append)

    @one.on_message("fill")
    def fill(count):
        for number in range(count):
            some.post_message("add", number)

    one.start()

    @some.on_message("start")
    async def start(count):
        await one.ask("fill", count)

    some.ask("start", 10).result(WAIT)
    some.run_until_idle(WAIT)
    assert ran == list(range(10))


def test_coroutines_of_a_pool_that_await_a_worker_keep_their_places(pool, worker):
    # Else a pool would take every message of its mailbox at once, and its capacity would hold up no sender.
    some, one = pool(2), worker("one")
    running, most = set(), []
    one.on_message("echo", lambda data: data)
    one.start()

    @some.on_message("enter")
    async def enter(number):
        running.add(number)
        most.append(len(running))
        assert await one.ask("echo", number) == number
        running.remove(number)

    futures = [some.ask("enter", number) for number in range(100)]
    for future in futures:
        future.result(WAIT)
    assert max(most) <= 2


def test_a_worker_gets_the_reply_of_a_message_behind_coroutines_that_await_it(pool, worker):
    some, one = pool(1), worker("one")
    begun, queued = threading.Event(), threading.Event()

    @one.on_message("ask")
    def ask(data):
        begun.set()
        assert queued.wait(WAIT)
        return some.ask("echo", data).result(WAIT)

    one.on_message("echo", lambda data: data)
    some.on_message("echo", lambda data: data)

    @some.on_message("await")
    async def await_it(data):
        return await one.ask("echo", data)

    one.start()
    asked = one.ask("ask", "last")
    assert begun.wait(WAIT)
    # Each waits for the worker, whose handler waits for the message behind them.
    before = [some.ask("await", number) for number in range(10)]
    queued.set()
    assert asked.result(WAIT) == "last"
    assert [future.result(WAIT) for future in before] == list(range(10))


def test_a_coroutine_of_a_pool_that_waits_for_many_lends_one_place(pool):
    some, running, most = pool(1), [], []

    def function(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0)
        running.remove(number)

    @some.on_message("start")
    async def start(data):
        await gather(*(some.submit(function, number) for number in range(50)))

    for _ in range(5):
        some.ask("start").result(WAIT)
    assert len(most) == 250 and max(most) == 1


def test_waiting_for_another_message_of_the_same_pool_is_no_circle(pool, worker):
    some, one = pool(2), worker("one")
    one.on_message("ask", lambda number: some.submit(abs, number).result(WAIT))
    one.start()
    for number in range(100):
        assert some.submit(lambda number=number: one.ask("ask", -number).result(WAIT)).result(WAIT) == number
