"""Globals of a script's own functions, which go to the child by value where cloudpickle is installed."""

from __future__ import annotations

import pytest

SCRIPT = """
from pytoweb.workers import PythonWorker

count = 0
resource = None

def open_resource():
    global resource
    resource = "open"

def step():
    global count
    count += 1
    return count

def add(_):
    return step()

def look(_):
    return count, resource

def add_again(_):
    return step() + 100

if __name__ == "__main__":
    with PythonWorker("counting", backend="process") as worker:
        worker.on_start(open_resource)
        worker.on_message("add", add)
        worker.on_message("look", look)
        print(worker.ask("add").result(20), worker.ask("add").result(20), worker.ask("look").result(20))
        worker.on_message("add", add_again)
        print(worker.ask("add").result(20), worker.ask("look").result(20))
    print(count, resource)
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["installed", "absent"])
def test_handlers_of_a_script_share_its_globals_in_the_child(run_python, cloudpickle_is, state):
    cloudpickle_is(state)
    done = run_python(SCRIPT, timeout=30)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1 2 (2, 'open')", "103 (3, 'open')", "0 None"]


UNGUARDED = """
from pytoweb.workers import PythonWorker

print("the script runs")

class Point:
    def __init__(self, x):
        self.x = x

def make(x):
    return Point(x)

worker = PythonWorker("making", backend="process")
worker.on_message("make", make)
worker.start()
reply = worker.ask("make", 3).result(20)
print(type(reply) is Point, reply.x)
worker.stop()
"""


@pytest.mark.slow
def test_a_reply_of_a_class_of_the_script_does_not_run_the_script_again(run_python, cloudpickle_is):
    cloudpickle_is("installed")
    done = run_python(UNGUARDED, timeout=30)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["the script runs", "True 3"]


@pytest.mark.slow
def test_a_start_hook_that_is_registered_late_runs_before_the_next_message(remote, tmp_path):
    from process_handlers import noted

    path = tmp_path / "starts"
    one = remote()
    assert one.ask("add_one", 1).result(20) == 2
    one.on_start(_Note(str(path)))
    assert not path.exists()
    assert one.ask("add_one", 1).result(20) == 2
    assert one.ask("add_one", 1).result(20) == 2
    assert len(noted(str(path))) == 1


class _Note:
    """Leaves a line in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("started\n")
