"""Handlers that are decorated where they are defined: they go by name, and share their module's globals."""

from __future__ import annotations

import importlib
import sys

import pytest

from pytoweb.workers import SerializationError

WAIT = 25.0


@pytest.fixture
def decorated(monkeypatch):
    """A fresh import of `decorated_handlers`."""
    monkeypatch.delitem(sys.modules, "decorated_handlers", raising=False)
    module = importlib.import_module("decorated_handlers")
    yield module
    module.worker.stop()
    sys.modules.pop("decorated_handlers", None)


def test_decorated_handlers_of_a_module_share_its_globals(decorated):
    one = decorated.worker.start()
    one.ask("put", ("key", 5)).result(WAIT)
    assert one.ask("get", "key").result(WAIT) == (5, 42, [0], "decorated_handlers", 2)
    assert decorated.store == {}, "the child has its own"


def test_a_handler_below_or_above_another_decorator_is_what_was_registered(decorated):
    one = decorated.worker.start()
    assert one.ask("inner", 1).result(WAIT) == (1, [0])
    assert one.ask("outer", 2).result(WAIT) == (2, [0, "wrapped"])
    assert one.ask("inner", 3).result(WAIT) == (3, [0, "wrapped"])
    assert one.ask("of the worker", 3).result(WAIT) == ("decorated", 3, 4)


def test_a_handler_whose_name_leads_elsewhere_by_the_start_goes_by_value(decorated, require):
    require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")
    first, decorated.get = decorated.get, None
    decorated.worker.on_message("get", first)
    assert decorated.worker.start().ask("get", "key").result(WAIT)[1] == 42


def test_without_cloudpickle_that_is_an_error_of_start(decorated, monkeypatch):
    from pytoweb import _by_value

    monkeypatch.setattr(_by_value, "_cloudpickle", None)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    first, decorated.get = decorated.get, None
    with pytest.raises(SerializationError, match="the handler of 'get' of worker 'decorated'"):
        decorated.worker.start()
    decorated.get = first
    assert decorated.worker.start().ask("get", "key").result(WAIT)[1] == 42


SCRIPT = """
from pytoweb.workers import PythonWorker, WorkerPool
{worker}

@worker.on_message("put")
def put(item):
    store.update([item])

@worker.on_message("get")
def get(key):
    return store.get(key), double(21)

@worker.on_message("count")
def count(_):
    global total
    total += 1
    return total, Counter.count()

class Counter:
    @staticmethod
    def count():
        return total

def double(number):
    return 2 * number

store = {{}}
total = 0

if __name__ == "__main__":
    {start}
    with worker:
        worker.ask("put", ("key", 5)).result(20)
        print(worker.ask("get", "key").result(20))
        print([worker.ask("count").result(20) for _ in range(2)], store, total)
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["installed", "absent"])
@pytest.mark.parametrize("kind", ["worker", "pool"])
def test_decorated_handlers_of_a_script_share_its_globals(run_python, cloudpickle_is, state, kind):
    cloudpickle_is(state)
    made = {"worker": 'PythonWorker("w", backend="process")', "pool": 'WorkerPool(1, backend="process")'}
    start = {"worker": "worker.start()", "pool": "pass"}
    done = run_python(SCRIPT.format(worker=f"worker = {made[kind]}", start=start[kind]), timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["(5, 42)", "[(1, 1), (2, 2)] {} 0"]


INITIALIZED = """
from pytoweb.workers import WorkerPool

connection = None

def connect(name):
    global connection
    connection = f"to {name}"

def use(number):
    return connection, number

if __name__ == "__main__":
    with WorkerPool(1, backend="process", initializer=connect, initargs=("a database",)) as pool:
        print(pool.submit(use, 1).result(20), list(pool.map(use, [2])), connection)
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["installed", "absent"])
def test_what_an_initializer_of_the_script_made_is_there_for_its_functions(run_python, cloudpickle_is, state):
    cloudpickle_is(state)
    done = run_python(INITIALIZED, timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["('to a database', 1) [('to a database', 2)] None"]


NOTEBOOK = """
from pytoweb.workers import PythonWorker
worker = PythonWorker("notebook", backend="process")

def cell(code):
    exec(code, globals())

cell('''
limit = 10
store = {}

def helper(value):
    return "old", value

@worker.on_message("put")
def put(item):
    store.update([item])

@worker.on_message("get")
def get(key):
    return helper(store.get(key)), limit
''')
worker.on_error(lambda error: None)
worker.start()
worker.ask("put", ("key", 5)).result(20)
print(worker.ask("get", "key").result(20))

cell('''
limit = 20
store = {}

def helper(value):
    return "new", value

@worker.on_message("get")
def get(key):
    return helper(store.get(key)), limit, later()

def later():
    return "was not there"
''')
print(type(worker.ask("get", "key").exception(20)).__name__)
worker.on_message("get", get)
print(worker.ask("get", "key").result(20))
store = {"key": 6}
worker.on_message("get", get)
print(worker.ask("get", "key").result(20))
worker.stop()
"""


@pytest.mark.slow
def test_registering_again_brings_what_is_new_and_leaves_what_the_child_has_made(
    start_python, require, run_python
):
    require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")
    done = run_python(f"exec({NOTEBOOK!r})", timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "(('old', 5), 10)",
        "NameError",
        "(('new', 5), 20, 'was not there')",
        "(('new', 6), 20, 'was not there')",
    ]


PICKLES = """
import pickle
from pytoweb.workers import PythonWorker, WorkerPool

print("the script runs", __name__, flush=True)

class Point:
    def __init__(self, x):
        self.x = x

def helper(x):
    return x

def own(x):
    return pickle.loads(pickle.dumps(Point(x))).x, pickle.loads(pickle.dumps(helper))(x)

def given(point):
    again = pickle.loads(pickle.dumps(point))
    return type(again) is type(point), again.x

def absent(_):
    import __main__
    return hasattr(__main__, "nothing_of_the_kind"), hasattr(__main__, "PICKLES")

if __name__ == "__main__":
    with PythonWorker("pickling", backend="process") as worker, WorkerPool(1, backend="process") as pool:
        worker.on_message("own", own)
        worker.on_message("given", given)
        worker.on_message("absent", absent)
        print(worker.ask("own", 3).result(20), worker.ask("given", Point(4)).result(20))
        print(worker.ask("absent").result(20))
        print(pool.submit(own, 5).result(20), pool.submit(given, Point(6)).result(20))
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["installed", "absent"])
def test_a_handler_of_the_script_may_pickle_objects_of_its_classes(run_python, cloudpickle_is, state):
    cloudpickle_is(state)
    done = run_python(PICKLES, timeout=WAIT)
    assert (done.rc, done.stderr) == (0, "")
    runs = [line for line in done.stdout.splitlines() if line.startswith("the script runs")]
    assert runs[1:] == ([] if state == "installed" else ["the script runs __mp_main__"] * 2)
    results = [line for line in done.stdout.splitlines() if not line.startswith("the script runs")]
    assert results == ["(3, 3) (True, 4)", "(False, False)", "(5, 5) (True, 6)"]
