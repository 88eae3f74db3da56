"""WorkerPool.map: everything is run, in order, whatever the mailbox holds, and results taken or not."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from pytoweb.workers import MailboxFullError, SerializationError, WorkerStoppedError

WAIT = 10.0
FEW = 4
MANY = 500


@pytest.fixture
def narrow(pool, gate):
    """Returns `narrow(**options)`: a pool of one thread, which stands in the gate, with little room."""

    def make(**options):
        one = pool(1, capacity=FEW, **options)
        one.submit(gate)
        gate.wait_entered()
        return one

    return make


def test_everything_is_run_although_no_result_is_taken(narrow, gate):
    one, handled = narrow(), []
    results = one.map(handled.append, range(MANY))
    assert one.stats().own.depth == FEW
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == list(range(MANY))
    assert list(results) == [None] * MANY


@pytest.mark.parametrize("chunksize", [1, 7])
def test_results_come_in_order_and_the_first_before_the_last_is_posted(pool, backend, chunksize):
    two = pool(2, capacity=FEW, backend=backend)
    results = two.map(pow, range(MANY), itertools.repeat(2), timeout=WAIT, chunksize=chunksize)
    assert list(results) == [number**2 for number in range(MANY)]
    messages = MANY if backend == "thread" or chunksize == 1 else -(-MANY // chunksize)
    assert two.stats().own.completed == messages


def test_the_calling_coroutine_is_not_blocked(narrow, gate):
    import asyncio

    one, handled = narrow(), []

    async def main():
        one.map(handled.append, range(MANY))

    asyncio.run(main())
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == list(range(MANY))


@pytest.mark.parametrize("wait", [True, False])
def test_a_shutdown_finishes_what_waits_for_room(narrow, gate, spawn, wait):
    one, handled = narrow(), []
    results = one.map(handled.append, range(MANY))
    closing = spawn(one.shutdown, wait)
    if not wait:
        closing.result(WAIT)
        for call in (
            lambda: one.submit(abs, 1),
            lambda: one.map(abs, [1]),
            lambda: one.post_message("late"),
            lambda: one.post_messages("late", [1]),
            lambda: one.ask("late"),
        ):
            with pytest.raises(WorkerStoppedError):
                call()
    gate.open()
    closing.result(WAIT)
    assert list(results) == [None] * MANY
    assert handled == list(range(MANY))


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda one: one.shutdown(wait=False, cancel_futures=True), CancelledError),
        (lambda one: one.terminate(), WorkerStoppedError),
        (lambda one: one.stop_all(drain=False), WorkerStoppedError),
    ],
    ids=["cancel_futures", "terminate", "stop_all"],
)
def test_what_waits_for_room_is_given_up_with_the_queue(narrow, gate, end, error):
    one, handled = narrow(), []
    results = one.map(handled.append, range(MANY))
    end(one)
    gate.open()
    with pytest.raises(error):
        list(results)
    assert handled == []


def test_an_exception_comes_in_its_place_and_cancels_the_rest(pool):
    one, handled, failed = pool(1, capacity=FEW), [], threading.Event()

    def divide(number):
        handled.append(number)
        assert number < 3 or failed.wait(WAIT)
        return 1 / (number - 2)

    results = one.map(divide, range(MANY))
    assert [next(results), next(results)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    failed.set()
    one.run_until_idle(WAIT)
    assert len(handled) <= 4


def test_an_iterator_that_is_dropped_cancels_the_rest(narrow, gate):
    one, handled = narrow(), []
    first, rest = threading.Event(), threading.Event()

    def work(number):
        handled.append(number)
        first.set()
        assert number == 0 or rest.wait(WAIT)

    results = one.map(work, range(MANY))
    gate.open()
    assert next(results) is None
    del results
    gc.collect()
    rest.set()
    one.run_until_idle(WAIT)
    assert len(handled) <= 2


def test_a_result_that_is_late_cancels_the_rest(narrow, gate):
    one, handled = narrow(), []
    with pytest.raises(FutureTimeout):
        list(one.map(handled.append, range(MANY), timeout=0.01))
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == []


def test_a_policy_that_refuses_refuses_all(narrow, gate):
    one, handled = narrow(overflow="reject"), []
    with pytest.raises(MailboxFullError):
        one.map(handled.append, range(MANY))
    gate.open()
    one.run_until_idle(WAIT)
    assert handled == []


@pytest.mark.parametrize("chunksize", [1, 3])
def test_buffersize_reads_the_input_as_results_are_taken(pool, backend, chunksize):
    one, read = pool(1, backend=backend), []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield number

    results = one.map(abs, endless(), buffersize=2, chunksize=chunksize)
    step = chunksize if backend == "process" else 1
    assert len(read) == 2 * step
    assert next(results) == 0
    assert len(read) == 3 * step
    assert list(itertools.islice(results, 50)) == list(range(1, 51))
    results.close()
    assert len(read) <= 51 + 3 * step


@pytest.mark.parametrize("option", ["chunksize", "buffersize"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_sizes_that_make_no_sense_are_refused(pool, option, value, error):
    with pytest.raises(error, match=option):
        pool(1).map(abs, [1], **{option: value})


def test_an_item_that_cannot_be_pickled_fails_in_its_place_or_at_once(pool):
    one = pool(1, backend="process", capacity=FEW)
    with pytest.raises(SerializationError):
        one.map(abs, [1, threading.Lock()])
    results = one.map(abs, [*range(MANY), threading.Lock(), 1])
    assert [next(results) for _ in range(MANY)] == list(range(MANY))
    with pytest.raises(SerializationError):
        next(results)


def test_two_maps_of_one_pool_and_one_in_a_handler(pool):
    two = pool(2, capacity=FEW)

    def nested(number):
        return sum(two.map(abs, range(number), timeout=WAIT))

    first, second = two.map(nested, [50] * 20), two.map(abs, range(MANY))
    assert list(second) == list(range(MANY))
    assert list(first) == [sum(range(50))] * 20


@pytest.mark.slow
def test_one_ctrl_c_ends_a_program_in_a_map(start_python, until):
    program = start_python(
        "import time\n"
        "from pytoweb.workers import WorkerPool\n"
        "with WorkerPool(2) as pool:\n"
        "    for number in pool.map(lambda n: time.sleep(0.005) or n, range(100_000)):\n"
        "        if number == 5:\n"
        "            print('five', flush=True)\n"
    )
    assert program.line() == "five"
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(WAIT) != 0
