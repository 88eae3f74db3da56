"""Messages that are tried again, beyond what the contract of all backends says."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import time

import pytest

from pytoweb.workers import (
    Batch,
    DeadLetter,
    Limits,
    PythonWorker,
    Rate,
    Retry,
    Shed,
    WorkerPool,
    current_message,
)

WAIT = 20


def crash_twice(data):
    attempt = current_message().attempt
    if attempt < 3:
        os._exit(3)
    return attempt


async def fail_twice(data):
    attempt = current_message().attempt
    if attempt < 3:
        raise OSError(f"attempt {attempt}")
    return attempt


@pytest.mark.skipif(os.name != "posix", reason="process workers need a POSIX system")
def test_a_crash_is_tried_again_whatever_the_classes():
    """And the attempts of both kinds are counted together."""
    with PythonWorker("w", backend="process") as worker:
        worker.on_message("crash", crash_twice, retry=Retry(4, 0.01, on=KeyError))
        assert worker.ask("crash").result(WAIT) == 3
        assert worker.stats().retried == 2


@pytest.mark.parametrize("backend", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_a_coroutine_is_tried_again(backend):
    """Where several run at the same time, too."""
    limits = Limits(concurrency=4) if backend == "thread" else Limits()
    with PythonWorker("w", backend=backend, limits=limits) as worker:
        worker.on_message("work", fail_twice, retry=Retry(5, 0.001))
        futures = [worker.ask("work", number) for number in range(20)]
        assert [future.result(WAIT) for future in futures] == [3] * 20
        assert worker.stats().retried == 40


def test_a_retry_is_logged(caplog):
    """At INFO, with the attempt and how long it waits."""
    with caplog.at_level(logging.INFO, "pytoweb.worker.w"), PythonWorker("w") as worker:
        worker.on_message("work", fail_twice, retry=Retry(3, 0.001))
        assert worker.ask("work").result(WAIT) == 3
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert "attempt 1 of a message of type 'work' failed" in texts[0]


def test_waits_double_up_to_the_highest():
    """And jitter moves them by no more than its share."""
    begun = []

    def fail(data):
        begun.append(time.monotonic())
        raise ValueError(data)

    with PythonWorker("w") as worker:
        worker.on_message("work", fail, retry=Retry(5, 0.02, jitter=0.5, max_backoff=0.05))
        assert isinstance(worker.ask("work").exception(WAIT), ValueError)
    waits = [after - before for before, after in zip(begun, begun[1:])]
    # Never earlier than half of it.
    assert all(wait >= least for wait, least in zip(waits, (0.01, 0.02, 0.025, 0.025)))


def test_a_dead_letter_outlives_its_worker():
    """And says so when it is posted again."""
    worker = PythonWorker("gone").start()
    worker.on_message("work", lambda data: 1 / data, retry=Retry(1))
    worker.ask("work", 0).exception(WAIT)
    (letter,) = worker.dead_letters()
    assert isinstance(letter, DeadLetter)
    assert "'work' of 'gone'" in repr(letter)
    worker.stop(timeout=WAIT)
    del worker
    gc.collect()
    with pytest.raises(RuntimeError, match="gone"):
        letter.post_again()


def test_a_handler_of_dead_letters_that_raises_is_logged(caplog):
    """The message fails as it would have."""
    with PythonWorker("w") as worker:
        worker.on_message("work", lambda data: 1 / data, retry=Retry(2, 0.001))

        @worker.on_dead_letter
        def raise_too(letter):
            raise LookupError("no")

        assert isinstance(worker.ask("work", 0).exception(WAIT), ZeroDivisionError)
    assert "dead letter handler" in caplog.text


def test_what_is_no_handler_of_dead_letters_is_refused():
    """A coroutine function would never run."""

    async def later(letter):
        pass

    for handler in (5, later):
        with pytest.raises(TypeError):
            PythonWorker("w").on_dead_letter(handler)


def test_a_pool_s_own_messages_are_tried_again():
    """Beside others, and with its dead letters."""
    with WorkerPool(2) as pool:
        pool.on_message("work", fail_twice, retry=Retry(2, 0.001))
        pool.on_message("echo", lambda data: data)
        failing = pool.ask("work")
        assert [pool.ask("echo", n).result(WAIT) for n in range(10)] == list(range(10))
        assert isinstance(failing.exception(WAIT), OSError)
        (letter,) = pool.dead_letters()
        assert letter.worker == pool.name


def test_a_worker_keeps_the_last_thousand_dead_letters():
    """The oldest go."""
    with PythonWorker("w") as worker:
        worker.on_message("work", lambda data: 1 / 0, retry=Retry(1))
        worker.on_error(lambda error: None)
        worker.post_messages("work", range(1_010))
        worker.run_until_idle(WAIT)
        assert [letter.data for letter in worker.dead_letters()] == list(range(10, 1_010))


def test_a_backoff_of_zero_stays_zero_however_often_it_is_doubled():
    with PythonWorker("flaky") as worker:
        worker.on_message("fail", lambda data: 1 / 0, retry=Retry(1_200, 0))
        worker.on_error(lambda error: None)
        worker.post_message("fail")
        worker.run_until_idle(30)
        assert worker.stats().retried == 1_199


def test_a_dead_letter_is_posted_again_as_often_as_it_is_asked_to_be():
    """Also one that is no longer among those that are kept."""
    seen = []
    letters = []
    with PythonWorker("parser") as worker:
        worker.on_message("parse", lambda data: 1 / 0, retry=Retry(2, 0))
        worker.on_error(lambda error: None)
        worker.on_dead_letter(letters.append)
        for number in range(1_001):
            worker.post_message("parse", number)
        worker.run_until_idle(30)
        worker.on_message("parse", seen.append)
        for _ in range(2):
            letters[0].post_again()
            letters[1].post_again()
        worker.run_until_idle(30)
        assert len(worker.dead_letters()) == 999
    assert seen == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "value",
    [
        Retry(3, 0.25, jitter=0, max_backoff=2, on=(OSError, ValueError)),
        Limits(messages=7, bytes=9, rate=Rate("3/min"), shed=Shed(0.5, 2), size_of=len),
        Rate("3/min", burst=2, per_key=True),
        Shed(0.5, 2),
        Batch(4, 0.5),
    ],
    ids=repr,
)
def test_options_are_values(value):
    """They are equal where they say the same, and can be copied and sent."""
    again = pickle.loads(pickle.dumps(value))
    assert (again, hash(again), repr(again)) == (value, hash(value), repr(value))
    assert copy.deepcopy(value) == copy.copy(value) == value
    assert value != (Limits() if isinstance(value, Limits) else type(value)(5))


def test_an_error_handler_sees_the_number_of_the_last_attempt():
    """And a stop that comes between two attempts does not count the one that is not made."""
    seen = []
    with PythonWorker("w") as worker:
        worker.on_message("work", lambda data: 1 / 0, retry=Retry(3, 0.001))
        worker.on_error(lambda error: seen.append(current_message().attempt))
        worker.ask("work").exception(WAIT)
    assert seen == [3]


def test_a_program_ends_whose_workers_were_let_go_of_with_messages_that_sleep(run_python):
    """Those that wait for a rate are handled, and the others fail."""
    done = run_python("""
from pytoweb.workers import Limits, PythonWorker, Retry

def fail(data):
    raise OSError(data)

def main():
    worker = PythonWorker("w", limits=Limits(rate="300/s"))
    worker.on_message("echo", lambda data: data, rate="500/s")
    worker.on_message("fail", fail, retry=Retry(50, 0.5))
    worker.on_error(lambda error: None)
    worker.start()
    for number in range(30):
        worker.post_message("echo", number, priority=number % 10, key=number % 3)
        worker.post_message("echo", number, delay=3600)
        worker.post_message("fail", number, key=number % 2)

main()
""")
    assert done.rc == 0
    (text,) = done.stderr.splitlines()
    assert text.startswith("worker 'w' stops before the time of delayed messages: 30 messages will not be")
