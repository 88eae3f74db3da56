"""Process workers where memory is short or cannot be shared: slower, or an error, never a dead child."""

from __future__ import annotations

import os
import sys

import process_handlers as handlers
import pytest

WAIT = 60.0

pytestmark = pytest.mark.slow

HOST = f"""
import os, sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
import limited, process_handlers as handlers
from limited import MIB
from pytoweb.workers import *

def make(**options):
    worker = PythonWorker("limited", backend="process", **options)
    for kind, handler in handlers.ANSWERING.items():
        worker.on_message(kind, handler)
    for handler in (limited.address_space, limited.stores, limited.leave_address_space, limited.make):
        worker.on_message(handler.__name__, handler)
    return worker.start()

def echoes(worker, size):
    data = handlers.pattern(size)
    assert worker.ask("echo", data).result(30) == data, size
"""


@pytest.fixture
def run_host(run_python, require):
    """Returns `run_host(code)`: the output of a program that starts with `HOST`, which has to end well."""
    require(sys.platform == "linux", "shared memory and the limits of Linux")

    def run(code):
        done = run_python(HOST + code, timeout=WAIT)
        assert (done.rc, done.stderr) == (0, "")
        return done.stdout

    return run


def test_data_of_every_size_crosses_where_address_space_is_limited(run_host):
    # `ulimit -v 1500000`, before anything of this project runs.
    out = run_host("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (1_500_000 << 10, resource.RLIM_INFINITY))
with make() as worker:
    first = worker.ask("pid").result(30)
    for size in (1, 16 << 10, 1 << 20, 17 << 20, 80 << 20, 16 << 10):
        echoes(worker, size)
    print(first == worker.ask("pid").result(30))
""")
    assert out == "True\n"


def test_many_workers_fit_into_a_limited_address_space(run_host):
    out = run_host("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))
with WorkerPool(8, backend="process") as pool:
    print(sum(map(len, pool.map(limited.make, [MIB] * 64))) >> 20)
""")
    assert out == "64\n"


def test_a_worker_takes_address_space_for_what_it_is_sent(run_host):
    out = run_host("""
def grown():
    return max(limited.address_space() - before, worker.ask("address_space").result(30) - bare) >> 20

before = limited.address_space()
with make() as worker:
    bare = worker.ask("address_space").result(30)
    echoes(worker, 100_000)
    print(grown())
    echoes(worker, 100 << 20)
    echoes(worker, 100_000)
    print(grown())
""")
    first, later = map(int, out.split())
    # Threads and the allocator take most of it, some 64 MiB for each thread.
    assert first < 600
    assert later < 600


def test_what_cannot_be_mapped_goes_through_the_descriptor(run_host):
    out = run_host("""
with make() as worker:
    echoes(worker, 10)
    child = worker.ask("leave_address_space", 3 * MIB).result(30)
    limited.leave_address_space(3 * MIB)
    for _ in range(20):
        echoes(worker, 500_000)
    print(limited.stores(), worker.ask("stores").result(30), child == worker.ask("pid").result(30))
""")
    assert out == "[] [] True\n"


def test_a_child_without_memory_for_data_says_so_and_lives(run_host):
    out = run_host("""
worker = make()
worker.on_error(lambda error: None)
with worker:
    echoes(worker, 10)
    child = worker.ask("leave_address_space", 3 * MIB).result(30)
    for kind, data in [("echo", bytes(64 * MIB)), ("make", 64 * MIB)]:
        print("MemoryError" in repr(worker.ask(kind, data).exception(30)))
        echoes(worker, 100_000)
    print(child == worker.ask("pid").result(30))
""")
    assert out == "True\nTrue\nTrue\n"


def test_a_host_without_memory_for_a_reply_says_so_and_goes_on(run_host):
    out = run_host("""
worker = make()
worker.on_error(lambda error: None)
with worker:
    echoes(worker, 10)
    child = worker.ask("pid").result(30)
    limited.leave_address_space(3 * MIB)
    print("MemoryError" in repr(worker.ask("make", 64 * MIB).exception(30)))
    echoes(worker, 100_000)
    print(child == worker.ask("pid").result(30))
""")
    assert out == "True\nTrue\n"


def test_replies_go_through_the_ring_where_a_child_gets_no_store(run_host):
    out = run_host("""
import signal
with make(max_restarts=10) as worker:
    worker.on_error(lambda error: None)
    echoes(worker, 10)
    limited.limit_files(MIB)
    worker.ask("kill_self", signal.SIGKILL).exception(30)
    for size in (1, 16 << 10, 130_000, 131_055, 131_056, 1 << 20, 30 << 20):
        echoes(worker, size)
    futures = [worker.ask("make", 300_000 + number) for number in range(50)]
    print([len(future.result(30)) - 300_000 for future in futures] == list(range(50)))
    print(any("replies" in store for store in worker.ask("stores").result(30)))
""")
    assert out == "True\nFalse\n"


def test_without_nameless_memory_workers_use_sockets(run_host, require):
    out = run_host("""
if not limited.refuse_memfd():
    print("no seccomp")
    sys.exit()
worker = make()
errors = []
worker.on_error(errors.append)
with worker:
    for size in (1, 16 << 10, 1 << 20, 30 << 20):
        echoes(worker, size)
    print(limited.stores(), worker.ask("stores").result(30))
    # What a child writes about its end has a place all the same.
    print("segfault" in str(worker.ask("segfault").exception(30)))
""")
    require(out != "no seccomp\n", "seccomp filters")
    assert out == "[] []\nTrue\n"


def test_an_initializer_may_have_large_arguments(pool, tmp_path):
    word = "x" * 3_000_000
    one = pool(
        1,
        backend="process",
        initializer=handlers.initialize,
        initargs=(str(tmp_path / "initialized"), word),
    )
    _, found = one.submit(handlers.initialized, None).result(WAIT)
    assert found == word
