"""Scripts whose handlers are functions of their own: with the guard or without it."""

from __future__ import annotations

import os

import pytest

CLOUDPICKLE = ["installed", "absent", "broken"]
SCRIPT = 25.0
"""Seconds within which an interpreter with children must start, work and end."""

PRELUDE = f"""
import os, sys
sys.path.append({os.path.dirname(os.path.abspath(__file__))!r})
from pytoweb.workers import *

with open("imports", "a") as file:
    file.write(f"{{os.getpid()}} {{__name__}}\\n")

def double(number):
    return 2 * number, __name__

def open_worker():
    return PythonWorker("scripted", backend="process")
"""

ASK_DOUBLE = """
worker = open_worker()
worker.on_message("double", double)
worker.start()
error = worker.ask("double", 21).exception(20)
if error is None:
    print("result", worker.ask("double", 21).result(20)[0])
else:
    print(type(error).__name__)
    print(error)
worker.stop()
print("end")
"""

GUARDED = 'if __name__ == "__main__":\n' + "\n".join("    " + line for line in ASK_DOUBLE.splitlines()) + "\n"


@pytest.fixture
def script(run_python, cloudpickle_is):
    """Returns `script(code, cloudpickle="installed")`: runs it after the prelude."""

    def run(code, *, cloudpickle="installed", flags=()):
        cloudpickle_is(cloudpickle)
        return run_python(PRELUDE + code, timeout=SCRIPT, flags=flags)

    return run


def imports(tmp_path):
    """The processes that ran the script, and under which names."""
    return [line.split() for line in (tmp_path / "imports").read_text().splitlines()]


@pytest.mark.slow
def test_without_cloudpickle_importable_handlers_work(script):
    done = script(
        """
import process_handlers
worker = open_worker()
worker.on_message("add_one", process_handlers.add_one)
print("result", worker.start().ask("add_one", 1).result(20))
worker.stop()
""",
        cloudpickle="absent",
    )
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["result", "2"], "")


@pytest.mark.slow
def test_without_cloudpickle_a_lambda_is_refused_with_the_hint(script):
    done = script(
        """
worker = open_worker()
def local():
    return lambda data: data
for handler in (lambda data: data, local()):
    try:
        worker.on_message("work", handler)
    except SerializationError as error:
        print(error)
""",
        cloudpickle="absent",
    )
    assert (done.rc, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "'work'" in line
        assert "install cloudpickle" in line


@pytest.mark.slow
@pytest.mark.parametrize("cloudpickle", CLOUDPICKLE)
def test_a_script_with_the_guard_has_handlers_of_its_own(script, tmp_path, cloudpickle):
    done = script(GUARDED, cloudpickle=cloudpickle)
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["result", "42", "end"], "")
    names = [name for _, name in imports(tmp_path)]
    assert names == (["__main__"] if cloudpickle == "installed" else ["__main__", "__mp_main__"])


@pytest.mark.slow
@pytest.mark.parametrize("cloudpickle", CLOUDPICKLE)
def test_classes_of_a_script_cross_both_ways(script, cloudpickle):
    done = script(
        """
class Point:
    def __init__(self, x):
        self.x = x

def move(point):
    assert isinstance(point, Point)
    return Point(point.x + 1)

class Wrong(Exception):
    pass

def fail(data):
    raise Wrong(data)

if __name__ == "__main__":
    worker = open_worker()
    worker.on_message("move", move)
    worker.on_message("fail", fail)
    worker.on_error(lambda error: None)
    worker.start()
    moved = worker.ask("move", Point(1)).result(20)
    print(type(moved) is Point, moved.x)
    error = worker.ask("fail", "why").exception(20)
    print(type(error) is Wrong, error.args)
    worker.stop()
""",
        cloudpickle=cloudpickle,
    )
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True 2", "True ('why',)"]


@pytest.mark.slow
def test_a_script_without_the_guard_works_with_cloudpickle(script, tmp_path):
    done = script(ASK_DOUBLE)
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["result", "42", "end"], "")
    assert len(imports(tmp_path)) == 1


@pytest.mark.slow
def test_a_script_without_the_guard_is_told_of_it_and_starts_no_more_processes(script, tmp_path):
    done = script(ASK_DOUBLE, cloudpickle="absent")
    assert done.rc == 0, done
    lines = done.stdout.splitlines()
    assert lines[0] == "SerializationError"
    assert lines[-1] == "end"
    assert 'if __name__ == "__main__":' in done.stdout
    assert "cloudpickle" in done.stdout
    runs = imports(tmp_path)
    assert [name for _, name in runs].count("__main__") == 1
    assert len({pid for pid, _ in runs}) <= 2, "the host and its one child, and none below"


@pytest.mark.slow
def test_a_script_without_the_guard_and_importable_handlers_needs_none(script, tmp_path):
    done = script(
        """
import process_handlers
worker = open_worker()
worker.on_message("add_one", process_handlers.add_one)
print("result", worker.start().ask("add_one", 1).result(20))
worker.stop()
""",
        cloudpickle="absent",
    )
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["result", "2"], "")
    assert len(imports(tmp_path)) == 1, "the child does not import the script without need"


@pytest.mark.slow
@pytest.mark.parametrize("cloudpickle", CLOUDPICKLE)
def test_a_module_that_is_run_by_name_has_handlers_of_its_own(script, tmp_path, cloudpickle):
    (tmp_path / "by_name.py").write_text(PRELUDE + GUARDED)
    done = script("", cloudpickle=cloudpickle, flags=("-m", "by_name"))
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["result", "42", "end"], "")


@pytest.mark.slow
def test_functions_without_a_file_need_cloudpickle(script):
    typed = ("-c", PRELUDE + ASK_DOUBLE)
    done = script("", flags=typed)
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["result", "42", "end"], "")
    done = script("", flags=typed, cloudpickle="absent")
    assert done.rc == 0, done
    assert done.stdout.splitlines()[0] == "SerializationError"
    assert "cloudpickle" in done.stdout
