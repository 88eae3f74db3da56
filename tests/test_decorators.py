"""WorkerDecorators: functions that run in a named worker, methods that handle a type."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading

import pytest

from pytoweb.workers import (
    DeadlineError,
    PythonWorker,
    WorkerDecorators,
    WorkerFuture,
    current_message,
    current_worker,
    default_pool,
)

WAIT = 10.0
run_in_worker = WorkerDecorators.run_in_worker
worker_method = WorkerDecorators.worker_method


@run_in_worker("module-level")
def describe(first, second=2, *rest, keyword=None, **more):
    """Says what it was called with."""
    return (first, second, rest, keyword, more, threading.get_ident())


def test_the_function_keeps_its_name_and_documentation():
    assert describe.__name__ == "describe"
    assert describe.__doc__ == "Says what it was called with."
    assert describe.__wrapped__(1)[0] == 1


def test_the_call_waits_and_returns_the_result():
    *got, thread = describe(1, 2, 3, keyword=4, self=5, timeout=6)
    assert got == [1, 2, (3,), 4, {"self": 5, "timeout": 6}]
    assert thread != threading.get_ident()


def test_the_call_raises_what_the_function_raises(caplog):
    raised = KeyError("original")

    @run_in_worker("failing")
    def fail():
        raise raised

    with pytest.raises(KeyError) as caught:
        fail()
    assert caught.value is raised
    assert fail.submit().exception(WAIT) is raised
    default_pool().get_worker("failing").stop(timeout=WAIT)
    assert [record for record in caplog.records if record.name.startswith("pytoweb")] == []


def test_arguments_that_do_not_fit_are_the_callers_error():
    with pytest.raises(TypeError):
        describe()


def test_submit_returns_a_future():
    future = describe.submit(1)
    assert isinstance(future, WorkerFuture)
    assert future.result(WAIT)[0] == 1


def test_functions_of_one_name_share_one_worker_of_the_default_pool():
    @run_in_worker("shared")
    def first():
        return current_worker()

    @run_in_worker("shared")
    def second():
        return current_worker()

    assert first() is second() is default_pool().get_worker("shared")


def test_the_worker_is_made_on_first_use():
    @run_in_worker("lazy")
    def work():
        return current_worker().name

    assert default_pool().get_worker("lazy") is None
    assert work() == "lazy"


def test_a_worker_that_exists_is_used(pool):
    two = pool(2)
    one = two.create_worker("existing", capacity=3)
    one.start()

    @run_in_worker("existing", pool=two)
    def work():
        return current_worker()

    assert work() is one


def test_it_starts_over_in_a_new_default_pool():
    @run_in_worker("again")
    def work():
        return "done"

    assert work() == "done"
    before = default_pool()
    before.shutdown()
    assert work() == "done"
    assert default_pool() is not before


def test_the_type_is_the_qualified_name(pool):
    @run_in_worker("typed", pool=pool(1))
    def work():
        return current_message().type

    assert work() == work.__qualname__


def test_calls_of_one_worker_run_one_at_a_time(spawn, pool):
    inside = threading.Lock()

    @run_in_worker("serial", pool=pool(4))
    def work(value):
        assert inside.acquire(blocking=False)
        inside.release()
        return value

    calls = [spawn(work, number) for number in range(16)]
    assert [outcome.result(WAIT) for outcome in calls] == list(range(16))


def test_from_inside_the_same_worker_it_runs_inline(pool):
    threads = []

    @run_in_worker("inline", pool=pool(2))
    def factorial(number):
        threads.append(threading.get_ident())
        return 1 if number < 2 else number * factorial(number - 1)

    assert factorial(5) == 120
    assert len(set(threads)) == 1


def test_a_timeout_is_a_deadline(pool, until):
    @run_in_worker("slow", pool=pool(1), timeout=0.05)
    def slow():
        until(lambda: current_message().cancelled, "the signal")

    with pytest.raises(DeadlineError):
        slow()


def test_a_coroutine_function_stays_one_and_does_not_block_the_loop(pool):
    one = pool(1)
    loops = set()

    @run_in_worker("coroutines", pool=one)
    async def fetch(url, *, times=1):
        """Gets it."""
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return url * times

    @run_in_worker("coroutines", pool=one)
    async def fetch_inline(url):
        return await fetch(url, times=3)

    for is_coroutine_function in (inspect.iscoroutinefunction, asyncio.iscoroutinefunction):
        assert is_coroutine_function(fetch)
    assert list(inspect.signature(fetch).parameters) == ["url", "times"]
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Gets it.")

    async def main():
        one.get_worker("coroutines")
        turns = 0
        calls = asyncio.gather(fetch("a", times=2), fetch("b"), fetch_inline("c"))
        while not calls.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 1
        return await calls

    assert asyncio.run(asyncio.wait_for(main(), WAIT)) == ["aa", "b", "ccc"]
    assert len(loops) == 1
    assert fetch.submit("d").result(WAIT) == "d"


def test_an_awaited_call_waits_for_room_without_blocking_the_loop(pool, gate):
    one = pool(1)
    worker = one.create_worker("narrow", capacity=1).start()
    worker.on_message("gate", gate)

    @run_in_worker("narrow", pool=one)
    async def echo(value):
        return value

    async def main():
        worker.post_message("gate")
        gate.wait_entered()
        calls = asyncio.gather(*(echo(number) for number in range(5)))
        await asyncio.sleep(0)
        gate.open()
        return await calls

    assert asyncio.run(asyncio.wait_for(main(), WAIT)) == [0, 1, 2, 3, 4]


class Report:
    """Has methods that run in a worker."""

    def __init__(self, title):
        self.title = title

    @run_in_worker("reports")
    def line(self, number, *, unit=""):
        """Makes one line."""
        return f"{self.title} {number}{unit}"

    @run_in_worker("reports")
    async def page(self, number):
        await asyncio.sleep(0)
        return f"{self.title}, page {number}"


def test_a_method_and_its_submit_know_their_instance():
    report = Report("yearly")
    assert report.line(1, unit="m") == "yearly 1m"
    assert report.line.submit(2, unit="m").result(WAIT) == "yearly 2m"
    assert report.page.submit(3).result(WAIT) == "yearly, page 3"
    assert asyncio.run(report.page(4)) == "yearly, page 4"
    assert Report.line(report, 5) == "yearly 5"
    assert Report.line.submit(report, 6).result(WAIT) == "yearly 6"
    assert (report.line.__self__, report.line.__name__, report.line.__doc__) == (
        report,
        "line",
        "Makes one line.",
    )
    assert list(inspect.signature(report.line).parameters) == ["number", "unit"]
    for is_coroutine_function in (asyncio.iscoroutinefunction, inspect.iscoroutinefunction):
        assert not is_coroutine_function(report.line)
    assert asyncio.iscoroutinefunction(report.page)


def test_a_method_is_pickled_by_name():
    copy = pickle.loads(pickle.dumps(Report("yearly").line))
    assert copy(7) == "yearly 7"
    assert pickle.loads(pickle.dumps(Report.line)) is Report.line


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_bad_timeout_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout"):
        run_in_worker("bad", timeout=timeout)(describe)()


class Counter(PythonWorker):
    """A worker with state and methods."""

    def __init__(self, name):
        super().__init__(name)
        self.total = 0

    @worker_method("add")
    def add(self, data):
        """Adds."""
        self.total += data
        return self.total

    @worker_method("total")
    def get_total(self, data):
        return self.total


class Doubling(Counter):
    """A subclass with a type more and one replaced."""

    @worker_method("add")
    def add(self, data):
        return super().add(2 * data)

    @worker_method("reset")
    def reset(self, data):
        self.total = 0


def test_every_instance_handles_the_type_with_its_own_method(worker):
    first, second = worker("first", cls=Counter).start(), worker("second", cls=Counter).start()
    assert [first.ask("add", 1).result(WAIT) for _ in range(3)] == [1, 2, 3]
    assert second.ask("add", 10).result(WAIT) == 10
    assert (first.total, second.total) == (3, 10)
    assert first.ask("total").result(WAIT) == 3


def test_a_subclass_inherits_and_replaces(worker):
    one = worker("doubling", cls=Doubling).start()
    assert one.ask("add", 4).result(WAIT) == 8
    assert one.ask("total").result(WAIT) == 8
    one.ask("reset").result(WAIT)
    assert one.ask("total").result(WAIT) == 0


def test_a_marked_method_is_still_a_method(worker):
    one = worker("direct", cls=Counter)
    assert one.add(5) == 5
    assert Counter.add.__doc__ == "Adds."


def test_on_message_replaces_a_marked_method(worker):
    one = worker("replaced", cls=Counter)
    one.on_message("add", lambda data: "replaced")
    assert one.start().ask("add", 1).result(WAIT) == "replaced"


def test_a_marked_plain_function_is_bound_to_the_worker(worker):
    @worker_method("name-and-data")
    def name_and_data(self, data):
        return (self.name, data)

    first, second = worker("first"), worker("second")
    for one in (first, second):
        one.on_message("name-and-data", name_and_data)
        one.start()
    assert first.ask("name-and-data", 1).result(WAIT) == ("first", 1)
    assert second.ask("name-and-data", 2).result(WAIT) == ("second", 2)


@pytest.mark.parametrize("message_type", [None, 3, describe])
def test_the_type_of_a_method_is_a_string(message_type):
    with pytest.raises(TypeError):
        worker_method(message_type)


@pytest.mark.parametrize("message_type", ["response", "error"])
def test_a_method_may_handle_replies(worker, message_type, until):
    class Owner(PythonWorker):
        def __init__(self, name):
            super().__init__(name)
            self.replies = []

        @worker_method(message_type)
        def replied(self, message):
            self.replies.append(message.type)

    one = worker("owner", cls=Owner)
    one.on_message("work", lambda data: data[0])
    one.on_error(lambda error: None)
    one.start().post_message("work", [1] if message_type == "response" else [], "id")
    until(lambda: one.replies == [message_type], "the reply")
