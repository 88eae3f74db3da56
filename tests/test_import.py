"""The import: it gives the documented names and does nothing else."""

from __future__ import annotations

import builtins
import concurrent.futures
import importlib
import sys
from pathlib import Path

import pytest

import pytoweb
import pytoweb.workers
from pytoweb._imported import imported
from pytoweb.workers import WorkerFuture, WorkerPool

WAIT = 10.0

NAMES = {
    "PythonWorker", "WorkerPool", "WorkerDecorators", "WorkerMessage", "WorkerFuture",
    "WorkerStats", "PoolStats", "current_message", "current_worker", "default_pool",
    "WorkerError", "MailboxFullError", "WorkerStoppedError", "UnknownMessageError", "DeadlineError",
    "WorkerCrashedError", "HandlerError", "SerializationError", "AskCycleError", "ForkedProcessError",
    "blocking", "ThreadLimitError",
}  # fmt: skip

LOOK = """
import signal, sys, threading, os
import warnings
warnings.simplefilter("error")

def handlers():
    return {number: signal.getsignal(number) for number in signal.valid_signals()}

def tasks():
    if os.path.exists("/proc/self/task"):
        return len(os.listdir("/proc/self/task"))
    return threading.active_count()

def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

signals, files = handlers(), descriptors()
import MODULE
assert tasks() == threading.active_count() == 1, "a thread was started"
assert handlers() == signals, "a signal handler was installed"
assert descriptors() == files, "a descriptor was opened"
print(" ".join(sorted(sys.modules)))
"""


@pytest.mark.parametrize("module", ["pytoweb", "pytoweb.workers", "pytoweb.errors", "pytoweb.components"])
def test_an_import_starts_nothing(run_python, module):
    done = run_python(LOOK.replace("MODULE", module))
    assert (done.rc, done.stderr) == (0, "")
    imported = done.stdout.split()
    assert module in imported
    for heavy in ("asyncio", "multiprocessing", "subprocess", "rich", "argparse", "pytest"):
        assert heavy not in imported


def test_making_handles_starts_no_thread(run_python):
    done = run_python("""
import threading, os
from pytoweb.workers import PythonWorker
worker = PythonWorker("new")
worker.on_message("work", print)
worker.post_message("work")
print(len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else threading.active_count())
""")
    assert (done.rc, done.stdout) == (0, "1\n")
    assert "was never started: 1 message" in done.stderr


def test_the_documented_names_are_there():
    assert set(pytoweb.workers.__all__) >= NAMES
    for name in pytoweb.workers.__all__:
        assert getattr(pytoweb.workers, name).__doc__, name


def test_a_star_import_gives_the_documented_names_only():
    names = {}
    exec("from pytoweb.workers import *", names)
    assert set(names) - {"__builtins__"} == set(pytoweb.workers.__all__)


def test_the_package_has_a_version_and_types():
    assert pytoweb.__version__.split(".")[0].isdigit()
    assert (Path(pytoweb.__file__).with_name("py.typed")).exists()


def test_the_types_of_the_standard_library_are_the_real_ones():
    assert issubclass(WorkerPool, concurrent.futures.Executor)
    assert issubclass(WorkerFuture, concurrent.futures.Future)


def test_a_module_that_another_thread_imports_is_waited_for(tmp_path, monkeypatch, spawn, gate):
    # `on_message` right after `start()` found half of a `multiprocessing` that the child's thread imported.
    (tmp_path / "imported_slowly.py").write_text(
        "import builtins\nbuiltins.imported_slowly_gate()\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "imported_slowly_gate", gate, raising=False)
    assert imported("imported_slowly") is None
    importing = spawn(importlib.import_module, "imported_slowly")
    gate.wait_entered()
    found = spawn(lambda: imported("imported_slowly").whole)
    gate.open()
    importing.result(WAIT)
    try:
        assert found.result(WAIT) is True
    finally:
        del sys.modules["imported_slowly"]
