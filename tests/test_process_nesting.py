"""Scripts that are imported by children: of `multiprocessing`, of process workers, and of those again."""

from __future__ import annotations

import os

import pytest

SCRIPT = 30.0
"""Seconds within which an interpreter with children must start, work and end."""

CLOUDPICKLE = ["installed", "absent"]

PRELUDE = f"""
import multiprocessing, os, sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
from pytoweb.workers import *

def double(number):
    return 2 * number

class Point:
    def __init__(self, x):
        self.x = x

def move(point):
    return Point(point.x + 1)
"""

WORK = """
def work(number):
    with WorkerPool(1, backend="process") as pool:
        moved = pool.submit(move, Point(number)).result(20)
        assert type(moved) is Point
        doubled = pool.submit(double, moved.x).result(20)
    with PythonWorker("doubling", backend="process") as worker:
        worker.on_message("double", double)
        return worker.ask("double", doubled).result(20)
"""

NESTED = """
def outer(number):
    return work(number)

if __name__ == "__main__":
    with WorkerPool(1, backend="process") as pool:
        print(pool.submit(outer, 1).result(20))
"""

IN_A_PROCESS = """
def run(number, queue):
    queue.put(work(number))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run, args=(1, queue))
    process.start()
    print(queue.get(timeout=20))
    process.join(20)
    print(process.exitcode)
"""


@pytest.mark.slow
@pytest.mark.parametrize("cloudpickle", CLOUDPICKLE)
@pytest.mark.parametrize("how", ["a script", "by name"])
def test_functions_of_the_script_cross_from_a_child_to_its_own_children(
    run_python, tmp_path, cloudpickle_is, cloudpickle, how
):
    cloudpickle_is(cloudpickle)
    if how == "a script":
        done = run_python(PRELUDE + WORK + NESTED, timeout=SCRIPT)
    else:
        (tmp_path / "by_name.py").write_text(PRELUDE + WORK + NESTED)
        done = run_python("", timeout=SCRIPT, flags=("-m", "by_name"))
    assert (done.rc, done.stderr, done.stdout) == (0, "", "8\n")


@pytest.mark.slow
@pytest.mark.parametrize("cloudpickle", CLOUDPICKLE)
@pytest.mark.parametrize("how", ["a script", "by name"])
def test_functions_of_the_script_cross_from_a_process_of_multiprocessing(
    run_python, tmp_path, cloudpickle_is, cloudpickle, how
):
    cloudpickle_is(cloudpickle)
    if how == "a script":
        done = run_python(PRELUDE + WORK + IN_A_PROCESS, timeout=SCRIPT)
    else:
        (tmp_path / "by_name.py").write_text(PRELUDE + WORK + IN_A_PROCESS)
        done = run_python("", timeout=SCRIPT, flags=("-m", "by_name"))
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["8", "0"]


AT_MODULE_LEVEL = """
pool = WorkerPool(1, backend="process", initializer=double, initargs=(1,))
worker = PythonWorker("module-level", backend="process")

def use(number):
    return double(number)

def use_own_pool(number):
    return pool.submit(double, number).result(20)

if __name__ == "__main__":
    worker.on_message("double", use)
    with pool, worker:
        print(pool.submit(use, 2).result(20), worker.ask("double", 3).result(20))
        print(pool.submit(use_own_pool, 4).result(20))
"""


@pytest.mark.slow
@pytest.mark.parametrize("cloudpickle", CLOUDPICKLE)
def test_a_pool_at_module_level_of_a_guarded_script_works(run_python, cloudpickle_is, cloudpickle):
    cloudpickle_is(cloudpickle)
    code = AT_MODULE_LEVEL
    if cloudpickle == "installed":
        # By value a function brings the pool that it uses, and that cannot go.
        code = code.replace("print(pool.submit(use_own_pool, 4).result(20))", "print(8)")
    done = run_python(PRELUDE + code, timeout=SCRIPT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["4 6", "8"]


STARTED_WITHOUT_GUARD = """
pool = WorkerPool(1, backend="process")
future = {start}
error = future.exception(20)
if __name__ == "__main__":
    print(type(error).__name__)
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", ["pool.submit(double, 1)", "next(iter([pool.ask('none', double)]))"])
def test_a_pool_that_is_used_without_the_guard_is_told_so(run_python, cloudpickle_is, start):
    cloudpickle_is("absent")
    code = STARTED_WITHOUT_GUARD.format(start=start)
    done = run_python(PRELUDE + code + "pool.shutdown()\n", timeout=SCRIPT)
    assert done.rc == 0, done
    assert 'if __name__ == "__main__":' in done.stdout
