"""A pool of processes beyond the contract: which child runs a message, and when one starts or ends."""

from __future__ import annotations

import os
import threading

import process_handlers as handlers
import pytest

from pytoweb.workers import (
    AskCycleError,
    WorkerCrashedError,
    WorkerDecorators,
)

WAIT = 10.0


@pytest.fixture
def processes(pool):
    """Returns `processes(size, **options)`: a pool of processes."""
    return lambda size=2, **options: pool(size, backend="process", **options)


def named(some, name):
    """A started worker of the pool that answers."""
    one = some.create_worker(name)
    for kind in ("echo", "pid", "count", "exit_with", "add_one"):
        one.on_message(kind, handlers.ANSWERING[kind])
    one.on_error(lambda error: None)
    return one.start()


def test_named_workers_are_spread_over_the_children(processes):
    some = processes(2)
    workers = [named(some, f"worker-{number}") for number in range(4)]
    pids = [one.ask("pid").result(WAIT) for one in workers]
    assert os.getpid() not in pids
    assert len(set(pids)) == 2
    assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2]


def test_a_named_worker_stays_in_its_child(processes):
    some = processes(2)
    one, other = named(some, "one"), named(some, "other")
    for _ in range(20):
        some.submit(handlers.pid, None).result(WAIT)
    assert len({one.ask("pid").result(WAIT) for _ in range(20)}) == 1
    assert [one.ask("count").result(WAIT) for _ in range(3)] == [1, 2, 3]
    assert other.ask("count").result(WAIT) == 1


def test_two_children_work_at_the_same_time(processes, remote_gates):
    some, gates = processes(2), [remote_gates(), remote_gates()]
    futures = [some.submit(gate, number) for number, gate in enumerate(gates)]
    for gate in gates:
        gate.wait_entered()
    assert gates[0].pids() != gates[1].pids()
    for gate in gates:
        gate.open()
    assert [future.result(WAIT) for future in futures] == [0, 1]


def test_a_child_has_the_public_module_whatever_its_handlers_import(processes):
    loaded = "'pytoweb.workers' in __import__('sys').modules"
    assert processes(1).submit(eval, loaded).result(WAIT)


@pytest.mark.parametrize(("of_pool", "of_worker"), [("process", "thread"), ("thread", "process")])
def test_a_worker_of_the_other_backend_is_refused(pool, of_pool, of_worker):
    some = pool(1, backend=of_pool)
    with pytest.raises(ValueError, match=f"(?s){of_pool}.*kind"):
        some.create_worker("other", backend=of_worker)
    assert some.get_worker("other") is None
    assert some.create_worker("other", backend=of_pool).backend == of_pool


@pytest.mark.slow
def test_a_crash_costs_one_message_of_one_child(processes):
    some = processes(2)
    one, other = named(some, "one"), named(some, "other")
    pid = other.ask("pid").result(WAIT)
    assert isinstance(one.ask("exit_with", 3).exception(WAIT), WorkerCrashedError)
    assert one.ask("echo", "alive").result(WAIT) == "alive"
    assert other.ask("pid").result(WAIT) == pid, "the other child is the same"


def test_neighbours_in_a_crashed_child_go_on_in_the_next_one(processes, remote_gate):
    some = processes(1)
    one, other = named(some, "one"), named(some, "other")
    other.on_message("gate", remote_gate)
    assert other.ask("count").result(WAIT) == 1
    one.on_message("gate", remote_gate)
    blocked = one.ask("gate")
    remote_gate.wait_entered()
    crash, queued = one.ask("exit_with", 3), [other.ask("add_one", number) for number in range(20)]
    remote_gate.open()
    assert blocked.result(WAIT) is None
    assert isinstance(crash.exception(WAIT), WorkerCrashedError)
    assert [future.result(WAIT) for future in queued] == list(range(1, 21))
    assert some.stats().failed == 1


def test_run_in_worker_runs_in_a_process(processes):
    some = processes(2)
    run = WorkerDecorators.run_in_worker("background", pool=some)
    where, add = run(handlers.pid), run(handlers.add_one)
    first = where(None)
    assert first != os.getpid()
    assert where.submit(None).result(WAIT) == first, "one worker, one child"
    assert add(41) == 42
    with pytest.raises(ValueError, match="from there"):
        run(handlers.fail)("from there")
    assert some.get_worker("background").backend == "process"


def test_run_in_worker_by_its_usual_syntax(processes):
    some, factor = processes(1), 3

    @WorkerDecorators.run_in_worker("tripler", pool=some, timeout=WAIT)
    def triple(number):
        return factor * number, os.getpid()

    value, pid = triple(14)
    assert value == 42
    assert pid != os.getpid()


def test_workers_of_one_pool_that_wait_for_each_other_in_the_host_are_told(processes):
    # A handler in a child has no handle of another worker; replies in the host do.
    some = processes(1)
    one = named(some, "one")
    seen, done = [], threading.Event()

    @one.on_message("response")
    def response(message):
        try:
            seen.append(one.ask("echo", "from the reply").result(WAIT))
        except AskCycleError as error:
            seen.append(error)
        done.set()

    one.post_message("echo", "first", message_id="task")
    assert done.wait(WAIT)
    assert seen == ["from the reply"]


@pytest.mark.slow
def test_calls_one_after_the_other_start_one_child(pool, tmp_path):
    path = str(tmp_path / "initialized")
    some = pool(16, backend="process", initializer=handlers.initialize, initargs=(path, "word"))
    pids = {some.submit(handlers.pid, None).result(WAIT) for _ in range(40)}
    some.on_message("pid", handlers.pid)
    pids |= {some.ask("pid").result(WAIT) for _ in range(20)}
    assert len(pids) == some.stats().processes == len(handlers.noted(path)) == 1


@pytest.mark.slow
def test_another_child_starts_when_none_is_idle(pool, remote_gate):
    some = pool(3, backend="process")
    blocked = some.submit(remote_gate)
    remote_gate.wait_entered()
    pids = {some.submit(handlers.pid, None).result(WAIT) for _ in range(20)}
    assert len(pids) == 1
    assert pids != {remote_gate.pids()[0]}
    assert some.stats().processes == 2
    remote_gate.open()
    blocked.result(WAIT)


def test_a_pool_of_any_size_costs_what_is_used_of_it(pool):
    some = pool(4_096, backend="process")
    before = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
    assert [some.submit(handlers.echo, number).result(WAIT) for number in range(3)] == [0, 1, 2]
    assert some.stats().processes == 1
    if before:
        assert len(os.listdir("/proc/self/task")) - before <= 4, "threads of the pool, a reader, a supervisor"
