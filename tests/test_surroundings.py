"""Where workers cannot run: sub-interpreters and programs whose threads are greenlets."""

from __future__ import annotations

import pytest

IN_SUBINTERPRETER = """
import sys

BEFORE

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters
run = getattr(interpreters, "exec", interpreters.run_string)

code = '''
try:
    import pytoweb.workers
except ImportError as error:
    print(error)
else:
    print("imported")
'''
for kind in ("legacy", "isolated") if sys.version_info >= (3, 13) else (None,):
    made = interpreters.create(kind) if kind else interpreters.create()
    run(made, code)
AFTER
"""

USED = """
from pytoweb.workers import PythonWorker
with PythonWorker("main") as worker:
    worker.on_message("work", lambda data: data)
    assert worker.ask("work", 1).result(10) == 1
"""


@pytest.mark.parametrize(("before", "after"), [("", ""), (USED, ""), ("", USED)])
def test_a_subinterpreter_is_refused_and_the_main_one_goes_on(run_python, before, after):
    done = run_python(IN_SUBINTERPRETER.replace("BEFORE", before).replace("AFTER", after))

    assert (done.rc, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said
    for line in said:
        assert "cannot be used in a sub-interpreter" in line
        assert "WSGIApplicationGroup" in line


PATCHED = """
import sys, types

def patcher(name, question, patched):
    module = types.ModuleType(name)
    setattr(module, question, lambda what: what in patched)
    sys.modules[name] = module

patcher("gevent.monkey", "is_module_patched", GEVENT)
patcher("eventlet.patcher", "is_monkey_patched", EVENTLET)
from pytoweb.workers import PythonWorker, WorkerPool, default_pool

for make in (lambda: PythonWorker("one"), WorkerPool, lambda: WorkerPool(1, backend="process"), default_pool):
    try:
        made = make()
    except RuntimeError as error:
        print(error)
    else:
        print("made")
        getattr(made, "stop", getattr(made, "shutdown", None))()
"""


@pytest.mark.parametrize(
    ("gevent", "eventlet", "name"), [("threading", "", "gevent"), ("", "thread", "eventlet")]
)
def test_greenlets_in_the_place_of_threads_are_refused(run_python, gevent, eventlet, name):
    code = PATCHED.replace("GEVENT", repr({gevent})).replace("EVENTLET", repr({eventlet}))
    done = run_python(code)
    assert (done.rc, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len(said) == 4
    assert all(line.startswith(f"{name} has replaced the threads of Python") for line in said)


def test_other_patches_of_theirs_do_no_harm(run_python):
    done = run_python(PATCHED.replace("GEVENT", "{'socket'}").replace("EVENTLET", "{'socket'}"))
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["made"] * 4, "")
