"""What a handler that fails does to its message, to its owner, and to nothing else."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import pickle
import queue
import signal
import threading
import traceback
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.thread import BrokenThreadPool

import process_handlers
import pytest

import pytoweb.errors
import pytoweb.workers
from pytoweb.workers import (
    AskCycleError,
    DeadlineError,
    ForkedProcessError,
    HandlerError,
    MailboxFullError,
    SerializationError,
    ThreadLimitError,
    UnknownMessageError,
    WorkerCrashedError,
    WorkerError,
    WorkerStoppedError,
    current_message,
    current_worker,
)

WAIT = 10.0


class OwnBaseException(BaseException):
    """A type that is not even an Exception."""


class TwoArguments(Exception):
    """An exception that cannot be made again from its args."""

    def __init__(self, first, second):
        super().__init__(f"{first}-{second}")


class NastyText(Exception):
    """An exception that cannot be shown."""

    def __str__(self):
        raise RuntimeError("no text")

    def __repr__(self):
        raise RuntimeError("no representation")


class NastyReduce(Exception):
    """An exception that cannot be pickled."""

    def __reduce__(self):
        raise RuntimeError("no pickle")


class NastyAttributes(Exception):
    """An exception that refuses to be annotated."""

    def __setattr__(self, name, value):
        raise RuntimeError("no attributes")


RAISED = {
    ValueError: ("plain",),
    SystemExit: (3,),
    KeyboardInterrupt: (),
    GeneratorExit: (),
    OwnBaseException: ("own",),
    StopIteration: (4,),
    StopAsyncIteration: (5,),
    asyncio.CancelledError: (),
    concurrent.futures.CancelledError: (),
    concurrent.futures.TimeoutError: (),
    MemoryError: (),
    TwoArguments: (1, 2),
    NastyText: (),
    NastyReduce: (),
    NastyAttributes: (),
}


@pytest.fixture(params=RAISED.items(), ids=lambda item: f"{item[0].__module__}.{item[0].__name__}")
def raised(request):
    """A fresh exception of each kind, for a raised one keeps the frames it went through."""
    kind, arguments = request.param
    return kind(*arguments)


@pytest.fixture
def failing(worker):
    """Returns a worker that raises its data, when it is told "fail"."""
    one = worker("failing")
    one.on_message("fail", fail)
    one.on_message("echo", lambda data: data)
    return one.start()


def fail(data):
    """The handler that fails."""
    raise data


def test_the_tree_of_errors():
    leaves = [
        MailboxFullError, WorkerStoppedError, UnknownMessageError, DeadlineError, WorkerCrashedError,
        HandlerError, SerializationError, AskCycleError, ForkedProcessError, ThreadLimitError,
    ]  # fmt: skip
    assert issubclass(WorkerError, Exception)
    for leaf in leaves:
        assert WorkerError in leaf.__bases__
        assert getattr(pytoweb.errors, leaf.__name__) is getattr(pytoweb.workers, leaf.__name__)
    assert issubclass(WorkerStoppedError, RuntimeError)
    assert issubclass(ThreadLimitError, RuntimeError)
    assert issubclass(DeadlineError, TimeoutError)
    assert issubclass(DeadlineError, concurrent.futures.TimeoutError)
    assert issubclass(WorkerCrashedError, concurrent.futures.BrokenExecutor)
    assert issubclass(SerializationError, pickle.PicklingError)


def test_a_broken_pool_is_one_of_the_standard_library(pool, backend):
    one = pool(1, backend=backend, initializer=divmod, initargs=(1, 0))
    error = one.ask("anything").exception(WAIT)
    standard = {"thread": BrokenThreadPool, "process": BrokenProcessPool}
    assert isinstance(error, WorkerCrashedError)
    assert [kind for kind, one in standard.items() if isinstance(error, one)] == [backend]
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_a_crashed_process_is_a_broken_process_pool(remote):
    one = remote(start=False)
    one.on_error(lambda error: None)
    error = one.start().ask("kill_self", signal.SIGKILL).exception(WAIT)
    assert isinstance(error, (WorkerCrashedError, BrokenProcessPool))
    with pytest.raises(BrokenProcessPool, match="SIGKILL"):
        raise error
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.signal, str(again)) == (type(error), signal.SIGKILL, str(error))


def test_the_standard_library_s_classes_are_imported_when_they_are_needed(run_python):
    done = run_python(
        """
import sys
import pytoweb.workers
print([name for name in sys.modules if name.startswith(("multiprocessing", "concurrent.futures."))])
from pytoweb.errors import ProcessCrashedError
from concurrent.futures.process import BrokenProcessPool
print(issubclass(ProcessCrashedError, (BrokenProcessPool, )), ProcessCrashedError)
"""
    )
    assert (done.rc, done.stderr) == (0, "")
    loaded, later = done.stdout.splitlines()
    assert loaded == "['concurrent.futures._base']"
    assert later == "True <class 'pytoweb.errors.ProcessCrashedError'>"


def test_the_original_exception_is_raised_again_with_its_traceback(failing, raised):
    failing.on_error(lambda error: None)
    future = failing.ask("fail", raised)

    assert future.exception(WAIT) is raised
    assert not future.cancelled()
    frames = [frame.name for frame in traceback.extract_tb(future.exception().__traceback__)]
    assert "fail" in frames
    with pytest.raises(type(raised)) as caught:
        future.result(WAIT)
    assert caught.value is raised


def test_any_exception_fails_its_message_only(failing, raised):
    seen = queue.Queue()
    failing.on_error(lambda error: seen.put((error, threading.get_ident())))
    thread = queue.Queue()
    failing.on_message("where", lambda data: thread.put(threading.get_ident()))

    failing.post_message("fail", raised)
    failing.post_message("where")
    assert failing.ask("echo", "alive").result(WAIT) == "alive"

    error, ident = seen.get(timeout=WAIT)
    assert error is raised
    assert ident == thread.get(timeout=WAIT), "on_error runs on the worker's thread"
    stats = failing.stats()
    assert (stats.failed, stats.completed, stats.state) == (1, 2, "running")


def test_any_exception_without_on_error_is_logged_once(failing, raised, logged):
    failing.post_message("fail", raised, "task-9")
    assert failing.ask("echo", "alive").result(WAIT) == "alive"

    (record,) = logged()
    assert record.name == "pytoweb.worker.failing"
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is raised
    assert "fail" in [frame.name for frame in traceback.extract_tb(record.exc_info[2])]
    assert record.worker_name == "failing"
    assert record.message_id == "task-9"
    assert record.message_type == "fail"
    assert record.attempt == 1
    assert "fail" in record.getMessage()


def test_on_error_replaces_the_log_and_sees_the_message(failing, logged):
    seen = queue.Queue()
    failing.on_error(lambda error: seen.put((error, current_message())))
    error = ValueError("seen")
    failing.post_message("fail", error, "task-1")

    got, message = seen.get(timeout=WAIT)
    assert got is error
    assert (message.type, message.data, message.id, message.worker) == ("fail", error, "task-1", "failing")
    failing.stop(timeout=WAIT)
    assert logged() == []


def test_on_error_comes_before_the_next_message(failing):
    order = []
    failing.on_error(lambda error: order.append(str(error)))
    failing.on_message("note", order.append)
    for number in range(10):
        failing.post_message("fail", ValueError(f"error {number}"))
        failing.post_message("note", number)
    failing.stop(timeout=WAIT)
    assert order == [item for number in range(10) for item in (f"error {number}", number)]


def test_on_error_may_be_replaced(failing):
    first, second = queue.Queue(), queue.Queue()
    failing.on_error(first.put)
    failing.ask("fail", ValueError(1)).exception(WAIT)
    first.get(timeout=WAIT)
    failing.on_error(second.put)
    failing.ask("fail", ValueError(2)).exception(WAIT)
    assert str(second.get(timeout=WAIT)) == "2"
    assert first.empty()


def test_an_on_error_that_raises_is_logged_and_the_worker_lives(failing, raised, logged):
    failing.on_error(lambda error: fail(raised))
    failing.post_message("fail", ValueError("first"))
    assert failing.ask("echo", "alive").result(WAIT) == "alive"

    (record,) = logged()
    assert record.name == "pytoweb.worker.failing"
    assert record.exc_info[1] is raised
    assert failing.stats().failed == 1


def test_an_unknown_type_reaches_everyone(failing):
    errors, replies = queue.Queue(), queue.Queue()
    failing.on_error(errors.put)
    failing.on_message("error", replies.put)

    failing.post_message("unheard", message_id="a")
    future = failing.ask("nowhere")

    first = errors.get(timeout=WAIT)
    assert isinstance(first, UnknownMessageError)
    assert "unheard" in str(first)
    assert replies.get(timeout=WAIT).data["id"] == "a"
    assert isinstance(future.exception(WAIT), UnknownMessageError)
    assert errors.get(timeout=WAIT) is future.exception()
    assert failing.stats().failed == 2


def test_the_cause_of_an_exception_is_kept(failing):
    failing.on_error(lambda error: None)

    @failing.on_message("chain")
    def chain(data):
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    error = failing.ask("chain").exception(WAIT)
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, KeyError)


def test_a_handler_that_never_ends_recursing_fails_alone(failing):
    failing.on_error(lambda error: None)

    @failing.on_message("deep")
    def deep(data):
        return deep(data)

    assert isinstance(failing.ask("deep").exception(WAIT), RecursionError)
    assert failing.ask("echo", "alive").result(WAIT) == "alive"


def test_a_logging_handler_that_raises_does_not_end_the_worker(failing, monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("no room")

    logger = logging.getLogger("pytoweb.worker.failing")
    broken = Broken()
    monkeypatch.setattr("sys.unraisablehook", lambda args: None)
    logger.addHandler(broken)
    try:
        failing.post_message("fail", ValueError("unlogged"))
        assert failing.ask("echo", "alive").result(WAIT) == "alive"
    finally:
        logger.removeHandler(broken)


def test_what_a_call_of_the_executor_raises_is_the_callers_alone(pool, logged):
    two = pool(2)
    seen = []
    two.on_error(seen.append)
    assert isinstance(two.submit(fail, ValueError("mine")).exception(WAIT), ValueError)
    two.shutdown()
    assert seen == []
    assert logged() == []


@pytest.mark.parametrize("backend", ["thread", "process"])
def test_the_error_handler_of_a_pool_is_told_of_its_workers(pool, backend, logged):
    some = pool(1, backend=backend, name="some")
    quiet, loud = some.create_worker("quiet"), some.create_worker("loud")
    for one in (some, quiet, loud):
        one.on_message("fail", process_handlers.fail)
    quiet.start()
    loud.start()
    told, own = [], []
    quiet.post_message("fail", "before")
    some.run_until_idle(WAIT)
    assert len(logged()) == 1

    some.on_error(lambda error: told.append((current_worker().name, current_message().type, str(error))))
    loud.on_error(lambda error: own.append(str(error)))
    for one in (some, quiet, loud):
        one.post_message("fail", "posted")
        assert isinstance(one.ask("fail", "asked").exception(WAIT), ValueError)
    some.run_until_idle(WAIT)
    assert told == [
        ("some", "fail", "posted"),
        ("some", "fail", "asked"),
        ("quiet", "fail", "posted"),
        ("quiet", "fail", "asked"),
    ]
    assert own == ["posted", "asked"]
    assert len(logged()) == 1


def test_a_coroutine_of_a_pool_is_told_of_its_workers(pool):
    some, told = pool(1, name="some"), []
    one = some.create_worker("one")
    one.on_message("fail", process_handlers.fail)

    @some.on_error
    async def on_error(error):
        await asyncio.sleep(0)
        told.append((current_worker().name, str(error)))

    one.start()
    assert isinstance(one.ask("fail", "asked").exception(WAIT), ValueError)
    assert told == [("one", "asked")]
