"""What runs in a child before its first message: start hooks, initializers, subclasses of workers."""

from __future__ import annotations

import os
import threading

import process_handlers as handlers
import pytest

from pytoweb.workers import HandlerError, SerializationError, WorkerCrashedError, WorkerDecorators

WAIT = 10.0


def test_the_start_hook_runs_before_the_first_message(worker, backend):
    one = worker(backend=backend)
    one.on_message("color", handlers.started_color)
    assert one.on_start(handlers.start_with_color) is handlers.start_with_color
    assert one.start().ask("color").result(WAIT) == "started"


def test_on_start_is_a_decorator_too(worker, backend):
    one = worker(backend=backend)
    one.on_message("color", handlers.started_color)
    assert one.on_start()(handlers.start_with_color) is handlers.start_with_color
    assert one.start().ask("color").result(WAIT) == "started"


def test_the_start_hook_runs_where_the_handlers_do(worker, backend, tmp_path):
    one = worker(backend=backend)
    one.on_message("pid", handlers.pid)
    one.on_start(handlers.NotingHook(tmp_path / "hooks"))
    child = one.start().ask("pid").result(WAIT)
    assert handlers.noted(tmp_path / "hooks") == [str(child)]
    assert (child == os.getpid()) == (backend == "thread")


def test_the_start_hook_of_a_thread_worker_runs_on_its_thread(worker):
    one, threads = worker(), []
    one.on_start(lambda: threads.append(threading.current_thread()))
    one.on_message("thread", lambda data: threading.current_thread())
    assert threads == []
    assert one.start().ask("thread").result(WAIT) is threads[0]
    assert threads[0] is not threading.current_thread()


def test_the_start_hook_runs_again_in_a_new_child(remote, tmp_path):
    one = remote(start=False)
    one.on_error(lambda error: None)
    one.on_start(handlers.NotingHook(tmp_path / "hooks"))
    first = one.start().ask("pid").result(WAIT)
    one.ask("exit_with", 1).exception(WAIT)
    second = one.ask("pid").result(WAIT)
    assert handlers.noted(tmp_path / "hooks") == [str(first), str(second)]
    assert first != second


def test_a_start_hook_that_is_not_callable_is_refused(worker, backend):
    with pytest.raises(TypeError):
        worker(backend=backend).on_start("hook")


@pytest.mark.parametrize("handler", ["add", "report", "both"])
def test_the_methods_of_a_subclass_run_in_the_child(worker, handler):
    one = worker("counting", cls=handlers.Counter, first=100, backend="process").start()
    if handler == "add":
        assert [one.ask("add", number).result(WAIT) for number in (1, 2, 3)] == [101, 103, 106]
        assert (one.total, one.added) == (100, []), "the child has its own"
    elif handler == "report":
        one.post_message("add", 5)
        total, added, child, name, is_self = one.ask("report").result(WAIT)
        assert (total, added, name, is_self) == (105, [5], "counting", True)
        assert child != os.getpid()
    else:
        assert one.ask("both").result(WAIT) == "both"
        assert one.ask("either").result(WAIT) == "either"


def test_attributes_are_taken_at_the_start(worker):
    one = worker(cls=handlers.Counter, backend="process")
    one.total = 40
    one.start()
    assert one.ask("add", 2).result(WAIT) == 42
    one.total = 1000
    assert one.ask("add", 1).result(WAIT) == 43


def test_an_overridden_method_is_the_one_that_runs(worker):
    one = worker(cls=handlers.TenTimes, backend="process").start()
    assert [one.ask("add", number).result(WAIT) for number in (1, 2)] == [10, 30]


def test_a_new_child_begins_with_the_attributes_of_the_start(worker):
    one = worker(cls=handlers.Counter, backend="process", first=7)
    one.on_message("exit_with", handlers.exit_with)
    one.on_error(lambda error: None)
    assert one.start().ask("add", 1).result(WAIT) == 8
    one.ask("exit_with", 1).exception(WAIT)
    assert one.ask("add", 1).result(WAIT) == 8


def test_an_attribute_that_cannot_be_pickled_is_named_at_the_start(worker):
    one = worker(cls=handlers.Counter, backend="process")
    one.connection = threading.Lock()
    with pytest.raises(SerializationError, match="connection"):
        one.start()


def test_a_bound_method_of_the_worker_is_a_handler(worker):
    one = worker(cls=handlers.Counter, backend="process")
    one.on_message("plus", one.add)
    one.start()
    assert (one.ask("plus", 1).result(WAIT), one.ask("add", 1).result(WAIT)) == (1, 2), (
        "one and the same self"
    )


def test_a_marked_function_gets_the_worker(worker):
    one = worker("marked", backend="process")
    one.on_message("marked", handlers.marked)
    assert one.start().ask("marked", 5).result(WAIT) == ("marked", 5)


def test_the_default_handlers_of_a_subclass_may_be_replaced(worker):
    class Replaced(handlers.Counter):
        """Local on purpose: its class goes by value."""

        @WorkerDecorators.worker_method("add")
        def other(self, number):
            return "other", self.total

    one = worker(cls=Replaced, backend="process").start()
    assert one.ask("add", 1).result(WAIT) == ("other", 0)


def test_the_initializer_runs_once_in_each_child(pool, tmp_path, remote_gates):
    two = pool(2, backend="process", initializer=handlers.initialize, initargs=(str(tmp_path / "i"), "word"))
    gates = [remote_gates(), remote_gates()]
    futures = [two.submit(gate) for gate in gates]
    for gate in gates:
        gate.wait_entered()
        gate.open()
    assert [future.result(WAIT) for future in futures] == [None, None]
    assert {two.submit(handlers.initialized, None).result(WAIT)[1] for _ in range(20)} == {"word"}
    lines = handlers.noted(tmp_path / "i")
    assert sorted(lines) == sorted(f"{gate.pids()[0]} word" for gate in gates)


def test_the_initializer_runs_again_in_a_new_child(pool, tmp_path):
    one = pool(1, backend="process", initializer=handlers.initialize, initargs=(str(tmp_path / "i"), "word"))
    first, _ = one.submit(handlers.initialized, None).result(WAIT)
    assert isinstance(one.submit(handlers.exit_with, 1).exception(WAIT), WorkerCrashedError)
    second, word = one.submit(handlers.initialized, None).result(WAIT)
    assert word == "word"
    assert handlers.noted(tmp_path / "i") == [f"{first} word", f"{second} word"]


def test_an_initializer_that_raises_breaks_the_pool_and_says_why(pool, tmp_path):
    path = tmp_path / "i"
    one = pool(1, name="broken", backend="process",
               initializer=handlers.fail_to_initialize, initargs=(str(path),))  # fmt: skip
    named = one.create_worker("named")
    named.on_message("echo", handlers.echo)
    named.on_error(lambda error: None)
    futures = [one.submit(handlers.pid, None) for _ in range(3)]
    futures.append(named.start().ask("echo"))
    for future in futures:
        error = future.exception(WAIT)
        assert isinstance(error, WorkerCrashedError)
        assert "initializer" in str(error)
        assert isinstance(error.__cause__, (ValueError, HandlerError))
        assert "no database today" in str(error.__cause__)
        assert "fail_to_initialize" in str(error.__cause__.__cause__)
    assert len(handlers.noted(path)) == 1, "it is not tried again"
    with pytest.raises(WorkerCrashedError, match="initializer"):
        one.submit(handlers.pid, None).result(WAIT)


def test_an_initializer_that_cannot_be_pickled_is_refused(pool):
    with pytest.raises(SerializationError, match="initializer"):
        pool(1, backend="process", initializer=print, initargs=(threading.Lock(),))
