"""WorkerPool: named workers on few threads, and the pool itself as an address."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

import process_handlers as handlers
import pytest

from pytoweb.workers import (
    DeadlineError,
    MailboxFullError,
    PythonWorker,
    WorkerCrashedError,
    WorkerDecorators,
    WorkerPool,
    WorkerStoppedError,
    current_worker,
)

WAIT = 10.0
NEVER = 0.05
"""Seconds for which something that must not happen is watched."""


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(ValueError, match="size"):
        WorkerPool(size)


@pytest.mark.parametrize(("backend", "most"), [("thread", 1_000_000), ("process", 4_096)])
def test_a_size_beyond_any_system_is_refused_and_a_large_one_starts_on_demand(pool, backend, most):
    for size in (most + 1, 10**8, 2**64, 2**100):
        with pytest.raises(ValueError, match=f"at most {most}"):
            WorkerPool(size, backend=backend)
    large = pool(most, backend=backend)
    assert large.size == most
    assert large.stats().threads == 0


@pytest.mark.parametrize("size", [True, 1.5, "2"])
def test_a_size_that_is_not_an_int_is_refused(size):
    with pytest.raises(TypeError):
        WorkerPool(size)


SIZES = """
import os
if AFFINITY:
    os.sched_setaffinity(0, AFFINITY)
from pytoweb.workers import WorkerPool, default_pool
print(WorkerPool().size, default_pool().size, WorkerPool(backend="process").size)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "variable", "size"),
    [
        ((), None, None),
        ((), "5", 5),
        (("-X", "cpu_count=3"), None, 3),
        (("-X", "cpu_count=3"), "5", 3),
        (("-X", "cpu_count=default"), "5", None),
        (("-E",), "5", None),
    ],
)
@pytest.mark.parametrize("pinned", [False, True])
def test_the_default_size_is_the_number_of_usable_cpus(
    run_python, snippet_env, require, flags, variable, size, pinned
):
    require(hasattr(os, "sched_getaffinity"), "os.sched_getaffinity")
    affinity = os.sched_getaffinity(0)
    if pinned:
        affinity = {min(affinity)}
    snippet_env.pop("PYTHON_CPU_COUNT", None)
    if variable is not None:
        snippet_env["PYTHON_CPU_COUNT"] = variable

    done = run_python(SIZES.replace("AFFINITY", repr(affinity if pinned else None)), flags=flags)

    expected = str(len(affinity) if size is None else size)
    assert (done.rc, done.stdout.split(), done.stderr) == (0, [expected] * 3, "")


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend"):
        WorkerPool(2, backend="quantum")


def test_workers_have_names(pool):
    two = pool(2, name="web")
    assert two.get_worker("first") is None
    first = two.create_worker("first", capacity=3, overflow="reject")

    assert isinstance(first, PythonWorker)
    assert first.state == "new"
    assert first.stats().capacity == 3
    assert two.get_worker("first") is first
    assert two.stats().name == "web"
    second = two.create_worker("second")
    assert dict(two.workers) == {"first": first, "second": second}


def test_the_mapping_of_workers_is_read_only(pool):
    two = pool(2)
    two.create_worker("first")
    with pytest.raises(TypeError):
        two.workers["second"] = None
    with pytest.raises(TypeError):
        del two.workers["first"]


def test_a_name_is_taken_until_its_worker_is_stopped(pool):
    two = pool(2)
    first = two.create_worker("same")
    with pytest.raises(ValueError, match="same"):
        two.create_worker("same")
    first.start()
    with pytest.raises(ValueError, match="same"):
        two.create_worker("same")
    first.stop(timeout=WAIT)
    again = two.create_worker("same")
    assert again is not first
    assert two.get_worker("same") is again


def test_bad_options_leave_the_name_free(pool):
    two = pool(2)
    for options in ({"capacity": 0}, {"overflow": "ring"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            two.create_worker("named", **options)
    with pytest.raises(TypeError):
        two.create_worker("named", color="blue")
    with pytest.raises(TypeError):
        two.create_worker(3)
    assert two.get_worker("named") is None
    two.create_worker("named")


def test_remove_worker_drains_and_forgets(pool):
    two, handled = pool(2), []
    one = two.create_worker("removed")
    one.on_message("work", handled.append)
    one.start().post_messages("work", range(100))

    two.remove_worker("removed")
    assert one.state == "stopped"
    assert handled == list(range(100))
    assert two.get_worker("removed") is None
    assert "removed" not in two.workers
    with pytest.raises(KeyError):
        two.remove_worker("removed")
    two.create_worker("removed")


@pytest.mark.parametrize("size", [1, 2, 4])
def test_each_worker_keeps_its_order_and_handles_one_at_a_time(pool, size):
    some, handled, locks = pool(size), {}, {}
    workers = []

    def work(data):
        name, number = data
        assert locks[name].acquire(blocking=False), "two messages of one worker at a time"
        handled[name].append(number)
        locks[name].release()

    for index in range(10):
        name = f"worker-{index}"
        handled[name], locks[name] = [], threading.Lock()
        one = some.create_worker(name)
        one.on_message("work", work)
        workers.append(one.start())
    for number in range(300):
        for one in workers:
            one.post_message("work", (one.name, number))
    some.run_until_idle(WAIT)

    assert some.stats().failed == 0
    assert handled == {one.name: list(range(300)) for one in workers}


def test_two_workers_run_at_the_same_time(pool):
    two, barrier = pool(2), threading.Barrier(2)
    futures = []
    for name in ("first", "second"):
        one = two.create_worker(name)
        one.on_message("meet", lambda data: barrier.wait(WAIT))
        futures.append(one.start().ask("meet"))
    assert sorted(future.result(WAIT) for future in futures) == [0, 1]


def test_a_greedy_worker_does_not_starve_the_others(pool):
    one_thread, done = pool(1), threading.Event()
    greedy, quiet = one_thread.create_worker("greedy"), one_thread.create_worker("quiet")

    @greedy.on_message("again")
    def again(data):
        if not done.is_set():
            greedy.post_message("again")

    quiet.on_message("echo", lambda data: data)
    greedy.start().post_message("again")
    quiet.start()
    assert [quiet.ask("echo", number).result(WAIT) for number in range(20)] == list(range(20))
    done.set()
    one_thread.run_until_idle(WAIT)


def test_a_long_queue_does_not_delay_the_others(pool, gate):
    one_thread, handled = pool(1), []
    blocker = one_thread.create_worker("blocker")
    blocker.on_message("gate", gate)
    greedy, quiet = one_thread.create_worker("greedy"), one_thread.create_worker("quiet")
    greedy.on_message("work", handled.append)
    quiet.on_message("count", lambda data: len(handled))
    blocker.start().post_message("gate")
    gate.wait_entered()
    greedy.start().post_messages("work", range(16_000))
    counted = quiet.start().ask("count")
    gate.open()

    assert counted.result(WAIT) < 8_000
    one_thread.run_until_idle(WAIT)
    assert handled == list(range(16_000))


def test_a_pool_whose_threads_all_wait_runs_a_spare_one(pool):
    two = pool(2)
    depth = 6
    chain = [two.create_worker(f"link-{number}") for number in range(depth)]
    for number, one in enumerate(chain[:-1]):
        one.on_message("call", lambda data, after=chain[number + 1]: after.ask("call", data + 1).result())
    chain[-1].on_message("call", lambda data: data + 1)
    for one in chain:
        one.start()

    assert chain[0].ask("call", 0).result(WAIT) == depth
    assert [chain[0].ask("call", 0).result(WAIT) for _ in range(20)] == [depth] * 20


def test_nested_submits_do_not_hang(pool):
    two = pool(2)

    def fibonacci(number):
        if number < 2:
            return number
        left, right = two.submit(fibonacci, number - 1), two.submit(fibonacci, number - 2)
        return left.result() + right.result()

    assert two.submit(fibonacci, 7).result(WAIT) == 13


def test_the_pool_is_an_address(pool):
    two, barrier = pool(2), threading.Barrier(2)

    @two.on_message("meet")
    def meet(data):
        barrier.wait(WAIT)
        return (data, current_worker() is two)

    futures = [two.ask("meet", number) for number in range(10)]
    assert [future.result(WAIT) for future in futures] == [(number, True) for number in range(10)]
    errors, replies = queue.Queue(), queue.Queue()
    two.on_error(errors.put)
    two.on_message("echo", lambda data: data)
    two.on_message("response", replies.put)
    two.post_message("unheard")
    two.post_message("echo", 1, message_id="a")
    assert two.post_messages("echo", range(5)) == 5
    assert "unheard" in str(errors.get(timeout=WAIT))
    assert replies.get(timeout=WAIT).data == {"id": "a", "result": 1}
    two.run_until_idle(WAIT)
    assert two.stats().own.completed == 16


def test_stop_all_stops_the_named_workers_only(pool):
    two, handled = pool(2), []
    workers = [two.create_worker(f"worker-{number}") for number in range(5)]
    for one in workers:
        one.on_message("work", handled.append)
        one.start().post_messages("work", range(20))
    two.stop_all(timeout=WAIT)

    assert [one.state for one in workers] == ["stopped"] * 5
    assert len(handled) == 100
    assert two.submit(pow, 2, 2).result(WAIT) == 4
    two.create_worker("another")
    two.stop_all(drain=False, timeout=WAIT)


def test_stop_all_without_draining_fails_what_the_pool_itself_has_queued(pool, gate):
    one = pool(1)
    one.submit(gate)
    gate.wait_entered()
    queued = [one.submit(pow, 2, 2) for _ in range(5)]
    one.stop_all(drain=False, timeout=WAIT)
    assert [type(future.exception(WAIT)) for future in queued] == [WorkerStoppedError] * 5
    assert one.stats().own.failed == 5
    gate.open()
    assert one.submit(pow, 2, 3).result(WAIT) == 8, "the pool itself stays open"


def test_the_mailbox_of_a_pool_may_be_small_and_refuse(pool, gate):
    one = pool(1, capacity=2, overflow="reject")
    one.submit(gate)
    gate.wait_entered()
    accepted = [one.submit(pow, 2, 2) for _ in range(2)]
    for refused in (lambda: one.submit(pow, 2, 2), lambda: one.ask("type"), lambda: one.post_message("type")):
        with pytest.raises(MailboxFullError):
            refused()
    assert (one.stats().own.capacity, one.stats().own.rejected) == (2, 3)
    gate.open()
    assert [future.result(WAIT) for future in accepted] == [4, 4]
    for options in ({"capacity": 0}, {"overflow": "ring"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            pool(1, **options)


def test_options_give_each_call_a_deadline(pool, backend):
    two = pool(2, backend=backend).start(WAIT)
    enough, limited = two.options(timeout=WAIT), two.options(timeout=0.05)
    assert enough.submit(pow, 2, exp=3).result(WAIT) == 8
    assert list(enough.map(abs, [-1, -2])) == [1, 2]
    forever = limited.submit(handlers.wait_until_cancelled)
    with pytest.raises(DeadlineError):
        forever.result(WAIT)
    with pytest.raises(DeadlineError):
        list(limited.map(handlers.wait_until_cancelled_with, [None]))
    for bad, error in ((-1, ValueError), ("3", TypeError)):
        with pytest.raises(error, match="timeout"):
            two.options(timeout=bad)


def test_a_started_pool_is_ready(pool, backend):
    two = pool(2, backend=backend, overflow="reject", capacity=1)
    before = threading.active_count()
    assert two.start(WAIT) is two
    if backend == "process":
        assert len(two._pytoweb.runtime.processes.pids()) == 2
        assert None not in two._pytoweb.runtime.processes.pids()
    else:
        assert threading.active_count() == before + 2
    assert two.start(timeout=WAIT) is two, "again, at no cost"
    assert two.submit(pow, 2, 2).result(WAIT) == 4
    assert not two.workers


def test_starting_two_pools_that_never_come_up_in_time(pool, gate):
    one = pool(1, initializer=gate, initargs=(None,))
    with pytest.raises(DeadlineError, match="not ready"):
        one.start(0.01)
    gate.open()
    assert one.start(WAIT) is one


def test_a_shutdown_that_takes_too_long_says_what_runs(pool, backend, gate, until):
    two = pool(2, backend=backend)
    worker = two.create_worker("named").start()
    running = two.submit(handlers.wait_until_cancelled)
    until(lambda: two.stats().own.running == 1)
    queued = worker.ask("type")
    with pytest.raises(DeadlineError, match=two.name):
        two.shutdown(timeout=0.05)
    assert isinstance(running.exception(WAIT), (WorkerStoppedError, WorkerCrashedError))
    assert queued.exception(WAIT) is not None
    two.shutdown(timeout=WAIT)


def test_shutdown_closes_the_pool_and_its_workers(pool, gate, spawn):
    two, handled = pool(2), []
    one = two.create_worker("one")
    one.on_message("gate", gate)
    one.on_message("work", handled.append)
    one.start().post_message("gate")
    gate.wait_entered()
    one.post_messages("work", range(10))
    closing = spawn(two.shutdown)
    assert not closing.done()
    gate.open()
    closing.result(WAIT)

    assert handled == list(range(10))
    assert one.state == "stopped"
    for call in (
        lambda: two.submit(pow, 2, 2),
        lambda: two.map(str, [1]),
        lambda: two.post_message("work"),
        lambda: two.post_messages("work", [1]),
        lambda: two.ask("work"),
        lambda: two.create_worker("late"),
        lambda: one.post_message("work"),
    ):
        with pytest.raises(WorkerStoppedError):
            call()


def test_a_handler_may_make_workers(pool):
    two = pool(2)
    maker = two.create_worker("maker")

    @maker.on_message("make")
    def make(name):
        made = two.create_worker(name)
        made.on_message("echo", lambda data: (name, data))
        made.start()

    maker.start().ask("make", "made").result(WAIT)
    assert two.get_worker("made").ask("echo", 1).result(WAIT) == ("made", 1)


def test_a_worker_takes_no_descriptor_and_no_thread(pool, require):
    require(Path("/proc/self/fd").exists(), "/proc")

    def count(what):
        return len(os.listdir(f"/proc/self/{what}"))

    two = pool(2)
    futures = []
    for number in range(500):
        one = two.create_worker(f"worker-{number}")
        one.on_message("echo", lambda data: data)
        futures.append(one.start().ask("echo", number))
        if number == 9:
            assert futures[-1].result(WAIT) == 9
            before = count("fd"), count("task")
    assert [future.result(WAIT) for future in futures] == list(range(500))
    assert (count("fd"), count("task")) == before


@pytest.mark.slow
def test_ten_thousand_workers(pool):
    two = pool(2)
    workers = [two.create_worker(f"worker-{number}") for number in range(10_000)]
    for one in workers:
        one.on_message("echo", lambda data: (current_worker().name, data))
        one.start()
    futures = [one.ask("echo", number) for number, one in enumerate(workers)]
    assert [future.result(WAIT) for future in futures] == [
        (one.name, number) for number, one in enumerate(workers)
    ]
    assert two.stats().completed == 10_000
    two.shutdown()
    assert {one.state for one in workers} == {"stopped"}


@pytest.mark.parametrize("end", ["shutdown", "terminate"])
@pytest.mark.parametrize("begun", [False, True], ids=["new", "started"])
def test_a_pool_that_is_over_does_not_start(pool, backend, end, begun):
    one = pool(1, backend=backend)
    if begun:
        one.start(WAIT)
    getattr(one, end)()
    with pytest.raises(WorkerStoppedError, match="is shut down"):
        one.start(WAIT)


@pytest.mark.parametrize("wrong", [1, -1, "abs", None])
def test_what_cannot_be_called_is_refused_at_the_call(pool, backend, wrong):
    one = pool(1, backend=backend)
    assert one.submit(abs, -1).result(WAIT) == 1
    for call in (one.submit, one.options(timeout=WAIT).submit, one.options(soft_timeout=WAIT).submit):
        with pytest.raises(TypeError, match=f"a function to call, not {type(wrong).__name__}"):
            call(wrong, 1)
    with pytest.raises(TypeError, match="a function to call"):
        list(one.map(wrong, [1]))


def test_a_coroutine_function_is_run(pool, backend):
    one = pool(2, backend=backend)
    assert one.submit(handlers.echo_later, 2).result(WAIT) == 2
    assert list(one.map(handlers.echo_later, range(3))) == [0, 1, 2]
    assert list(one.map(handlers.echo_later, range(5), chunksize=2)) == [0, 1, 2, 3, 4]
    assert one.options(timeout=WAIT).submit(handlers.echo_later, 2).result(WAIT) == 2


def test_errors_of_its_own_mailbox_name_the_pool(pool, backend):
    one = pool(1, backend=backend, name="imports", initializer=handlers.refuse_to_initialize)
    error = one.submit(abs, 1).exception(WAIT)
    assert "'imports'" in str(error)
    assert "worker" not in str(error)
    assert repr(error.__cause__) == "OSError('not here')"


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: WorkerPool(1, initializer=print, initargs=5), TypeError, "initargs must be a tuple"),
        (lambda: WorkerPool(1, capacity=2**70), ValueError, "capacity must be at most"),
        (lambda: WorkerPool(1, backend="process", max_attempts=2**40), ValueError, "max_attempts"),
        (lambda: WorkerPool(1, backend="process", max_memory=10**30), ValueError, "max_memory"),
        (lambda: WorkerPool(1, backend="process", max_restarts=10**30), ValueError, "max_restarts"),
        (lambda: WorkerPool(1).options(soft_timeout=-1), ValueError, "soft_timeout must be 0 or more"),
        (lambda: WorkerPool(1).map(abs, [1], timeout="x"), TypeError, "timeout must be a number"),
        (lambda: WorkerDecorators.run_in_worker("n", pool=5), TypeError, "pool must be a WorkerPool"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_numbers_of_any_kind_are_taken(pool):
    class Whole:
        def __init__(self, value):
            self.value = value

        def __index__(self):
            return self.value

    assert pool(Whole(2), capacity=Whole(3)).size == 2
    assert pool(1).options(timeout=10**400).submit(abs, -1).result(WAIT) == 1, "more than a clock can tell"
