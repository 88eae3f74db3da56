"""Failures that a future tells of: logged once when no code has looked at them, by asks and calls alike."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from concurrent.futures import wait
from queue import SimpleQueue

import process_handlers
import pytest

from pytoweb._replies import is_whole
from pytoweb.workers import DeadlineError, WorkerCrashedError, WorkerDecorators, current_message

WAIT = 10.0


@pytest.fixture(params=["thread", "process"])
def owner(request, pool):
    """A pool of one, so that what comes behind a message tells that the message has ended."""
    one = pool(1, backend=request.param, name="owner")
    one.on_message("fail", process_handlers.fail)
    return one


def ask(owner):
    return owner.ask("fail", "seen")


def submit(owner):
    return owner.submit(process_handlers.fail, "seen")


def run_in_worker(owner):
    decorate = WorkerDecorators.run_in_worker("named", pool=owner)
    return decorate(process_handlers.fail).submit("seen")


KINDS = pytest.mark.parametrize("call", [ask, submit, run_in_worker])


@KINDS
def test_a_failure_whose_future_is_held_is_not_logged(owner, call, logged):
    future = call(owner)
    wait([future], WAIT)
    owner.run_until_idle(WAIT)
    assert logged() == []
    assert isinstance(future.exception(WAIT), ValueError)
    del future
    gc.collect()
    owner.shutdown()
    assert logged() == []


@KINDS
def test_one_whose_future_is_dropped_unread_is_logged_once(owner, call, logged):
    future = call(owner)
    wait([future], WAIT)
    assert "ValueError" in repr(future), "to print a future is not to read it"
    assert owner.explain(future).error == "ValueError: seen", "nor is it to explain it"
    del future
    owner.shutdown()

    (record,) = logged()
    name = "named" if call is run_in_worker else "owner"
    assert record.name == f"pytoweb.worker.{name}"
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is ValueError and str(record.exc_info[1]) == "seen"
    assert record.worker_name == name and record.message_type == "fail"
    assert record.message_id is None and record.attempt == 1
    assert record.getMessage() == (
        f"worker {name!r} failed to handle a message of type 'fail', and its future was dropped unread"
    )


@KINDS
def test_one_whose_future_was_dropped_before_is_logged_once(owner, call, caplog, logged):
    call(owner)
    owner.shutdown()
    (record,) = logged()
    assert record.exc_info[0] is ValueError
    assert "fail" in caplog.text, "with its traceback"


@pytest.mark.parametrize("options", [{}, {"chunksize": 3}, {"buffersize": 4}], ids=str)
def test_map_tells_of_the_first_failure_alone(owner, options, logged):
    with pytest.raises(ValueError, match="invalid literal"):
        list(owner.map(int, ["x"] * 20, **options))
    owner.map(int, ["x"] * 20, **options)
    owner.shutdown()
    assert logged() == []


def test_a_callback_that_reads_the_failure_is_a_reader(owner, logged):
    seen = []
    ask(owner).add_done_callback(lambda future: seen.append(future.exception()))
    owner.shutdown()
    assert [type(error) for error in seen] == [ValueError]
    assert logged() == []


def test_a_callback_that_does_not_read_the_failure_is_none(owner, logged):
    seen = []
    ask(owner).add_done_callback(lambda future: seen.append(future.done()))
    owner.shutdown()
    assert seen == [True]
    assert len(logged()) == 1


def test_an_await_reads_the_failure(owner, logged):
    async def main():
        with pytest.raises(ValueError, match="seen"):
            await ask(owner)
        with pytest.raises(ValueError, match="seen"):
            await asyncio.wrap_future(ask(owner))
        (failed,) = await asyncio.gather(ask(owner), return_exceptions=True)
        assert isinstance(failed, ValueError)

    asyncio.run(main())
    owner.shutdown()
    assert logged() == []


def test_an_error_handler_is_told_and_the_log_is_not(owner, logged):
    seen = []
    owner.on_error(seen.append)
    ask(owner)
    owner.shutdown()
    assert [str(error) for error in seen] == ["seen"]
    assert logged() == []


def test_a_post_is_logged_while_it_is_handled(owner, logged):
    owner.post_message("fail", "posted", "task-1")
    owner.shutdown()
    (record,) = logged()
    assert (record.message_id, str(record.exc_info[1])) == ("task-1", "posted")
    assert record.getMessage() == "worker 'owner' failed to handle a message of type 'fail'"


def test_a_cancelled_message_is_not_logged(blocked, gate, logged):
    one = blocked()
    assert one.ask("gate").cancel()
    gate.open()
    one.stop(timeout=WAIT)
    assert logged() == []


def test_a_coroutine_that_was_cancelled_while_it_ran_is_not_logged(worker, logged):
    one = worker("coroutines")
    entered = threading.Event()

    @one.on_message("sleep")
    async def sleep(data):
        entered.set()
        await asyncio.sleep(WAIT)

    future = one.start().ask("sleep")
    assert entered.wait(WAIT)
    future.cancel()
    wait([future], WAIT)
    del future
    one.stop(timeout=WAIT)
    assert logged() == []


@pytest.mark.parametrize("read", [True, False])
def test_a_deadline_is_the_futures_to_tell(blocked, gate, read, logged):
    one = blocked()
    future = one.ask("gate", timeout=0.01)
    wait([future], WAIT)
    if read:
        assert isinstance(future.exception(), DeadlineError)
    del future
    gate.open()
    one.stop(timeout=WAIT)
    assert [record.exc_info[0] for record in logged()] == ([] if read else [DeadlineError])


@pytest.mark.slow
def test_what_a_handler_raises_after_its_deadline_is_in_no_future_and_logged(worker, until, logged):
    one = worker("late")

    @one.on_message("late")
    def late(data):
        message = current_message()
        until(lambda: message.cancelled, "the deadline")
        raise ValueError("late")

    # Long enough for the handler to have begun.
    assert isinstance(one.start().ask("late", timeout=1).exception(WAIT), DeadlineError)
    one.stop(timeout=WAIT)
    assert [record.exc_info[0] for record in logged()] == [ValueError]


@pytest.mark.slow
@pytest.mark.parametrize("read", [True, False])
def test_a_crash_is_the_futures_to_tell(pool, read, logged):
    one = pool(1, backend="process", name="owner")
    future = one.submit(os.abort)
    wait([future], WAIT)
    if read:
        assert isinstance(future.exception(), WorkerCrashedError)
    del future
    one.shutdown()
    assert [isinstance(record.exc_info[1], WorkerCrashedError) for record in logged()] == (
        [] if read else [True]
    )


def test_a_future_that_is_dropped_while_an_exception_passes_leaves_it_alone(owner, logged):
    def hold():
        future = ask(owner)
        wait([future], WAIT)
        raise KeyError("passes")

    try:
        hold()
    except KeyError as passing:
        assert passing.args == ("passes",)
    gc.collect()
    assert len(logged()) == 1


END = """
from concurrent.futures import wait
from pytoweb.workers import PythonWorker, WorkerPool

worker = PythonWorker("kept").start()
held = worker.ask("unheard")
pool = WorkerPool(1)
also = pool.submit(int, "x")
wait([held, also])
"""


def test_the_end_of_the_interpreter_says_nothing_of_futures_that_are_still_held(run_python):
    done = run_python(END)
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")


def test_what_fails_while_the_program_ends_is_logged(run_python):
    done = run_python("from pytoweb.workers import WorkerPool\nWorkerPool(1).submit(int, 'x')\n")
    assert done.rc == 0
    assert done.stderr.count("ValueError: invalid literal") == 1


@pytest.mark.parametrize("chained", [False, True])
def test_one_that_the_collector_drops_with_its_exception_is_logged(pool, logged, chained):
    # The traceback holds a frame that holds the future, whose result is the exception: the collector empties
    # that exception first, or the one that it comes from.
    one, own = pool(1, name="owner"), SimpleQueue()

    def fail():
        _future = own.get(timeout=WAIT)
        try:
            raise LookupError("emptied")
        except LookupError as error:
            if not chained:
                raise
            raise ValueError("whole") from error

    future = one.submit(fail)
    own.put(future)
    wait([future], WAIT)
    one.run_until_idle(WAIT)
    del future
    gc.collect()
    one.shutdown()
    (record,) = logged()
    assert "dropped unread" in record.getMessage()
    assert ("ValueError" if chained else "LookupError") in record.getMessage() or record.exc_info


def test_what_is_printed_of_an_exception_is_whole():
    group = getattr(__builtins__, "ExceptionGroup", None)
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from OSError("cause")
    except ValueError as error:
        error.__context__.__context__ = error
        assert is_whole(error)
        if group is not None:
            assert is_whole(group("many", [error]))
