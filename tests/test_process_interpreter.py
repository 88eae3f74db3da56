"""Which program a child is: the host's interpreter, another that is named, or the frozen host itself."""

from __future__ import annotations

import multiprocessing.spawn
import os
import stat
import sys

import process_handlers as handlers
import pytest

from pytoweb.workers import PythonWorker, WorkerPool, freeze_support

WAIT = 10.0
SCRIPT = 60.0


def wrapper(path):
    """A program that leaves a line and then is the interpreter."""
    path.write_text(f'#!/bin/sh\necho started >>"{path}.log"\nexec "{sys.executable}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_environment_names_the_interpreter(pool, tmp_path, monkeypatch):
    program = wrapper(tmp_path / "program")
    monkeypatch.setenv("PYTOWEB_PYTHON", program)
    assert pool(1, backend="process").submit(pow, 2, 3).result(WAIT) == 8
    assert handlers.noted(program + ".log") == ["started"]


def test_what_multiprocessing_was_told_counts_too(pool, tmp_path, monkeypatch):
    program = wrapper(tmp_path / "program")
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(program))
    assert pool(1, backend="process").submit(pow, 2, 3).result(WAIT) == 8
    assert handlers.noted(program + ".log") == ["started"]


@pytest.fixture(params=["uwsgi", "", None])
def embedded(request, tmp_path, monkeypatch):
    """A program that embeds Python: `sys.executable` is another program, or none."""
    name = request.param
    program = wrapper(tmp_path / name) if name else name
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", program)
    yield tmp_path
    assert not (tmp_path / "uwsgi.log").exists(), "it was started a second time"


def test_a_program_that_embeds_python_has_the_interpreter_of_its_library(pool, embedded):
    assert pool(1, backend="process").submit(pow, 2, 3).result(WAIT) == 8


def test_a_program_without_an_interpreter_is_told_at_the_call(pool, worker, embedded, monkeypatch):
    for prefix in ("prefix", "exec_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, prefix, str(embedded / "nowhere"))
    with pytest.raises(RuntimeError, match="PYTOWEB_PYTHON"):
        pool(1, backend="process").submit(pow, 2, 3)
    one = worker(backend="process")
    with pytest.raises(RuntimeError, match="PYTOWEB_PYTHON"):
        one.start()
    assert one.state == "new"


def test_an_interpreter_that_is_not_there_is_named(pool, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTOWEB_PYTHON", str(tmp_path / "python-of-another-day"))
    error = pool(1, backend="process").submit(pow, 2, 3).exception(WAIT)
    assert "No such file" in str(error)


def test_freeze_support_does_nothing_in_an_ordinary_program():
    assert freeze_support() is None


def test_a_frozen_program_without_freeze_support_is_told_at_the_call(pool, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(RuntimeError, match="freeze_support"):
        pool(1, backend="process").submit(pow, 2, 3)
    with pytest.raises(RuntimeError, match="freeze_support"):
        PythonWorker("frozen", backend="process").start()
    assert isinstance(pool(1, backend="process"), WorkerPool), "at module level it may be made"


FROZEN = """
import multiprocessing
import os
import sys

from pytoweb.workers import PythonWorker, WorkerPool, freeze_support

with open(os.environ["STARTS"], "a") as file:
    file.write("start\\n")

pool = WorkerPool(2, backend="process")

def double(number):
    return 2 * number, getattr(sys, "frozen", False)

def share(value):
    from multiprocessing.shared_memory import SharedMemory
    block = SharedMemory(create=True, size=1)
    block.buf[0] = value
    block.close()
    return block.name

if __name__ == "__main__":
    freeze_support()
    with pool, PythonWorker("frozen", backend="process") as worker:
        worker.on_message("double", double)
        print(worker.ask("double", 21).result(30), pool.submit(double, 4).result(30))
        if sys.argv[1:] == ["share"]:
            from multiprocessing.shared_memory import SharedMemory
            block = SharedMemory(pool.submit(share, 7).result(30))
            print(block.buf[0])
            block.close()
            block.unlink()
"""


@pytest.fixture(scope="module", params=["--onedir", "--onefile"])
def frozen(request, tmp_path_factory):
    """A program that PyInstaller made of FROZEN; None where it is not installed."""
    import importlib.util
    import subprocess

    import pytoweb

    if importlib.util.find_spec("PyInstaller") is None:
        return None
    place = tmp_path_factory.mktemp("frozen")
    (place / "program.py").write_text(FROZEN)
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", request.param, "--noconfirm", "--log-level", "ERROR",
         "--paths", os.path.dirname(os.path.dirname(pytoweb.__file__)), "program.py"],
        cwd=place, check=True, timeout=300, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    program = place / "dist" / "program"
    if request.param == "--onefile":
        # The resource tracker may still be starting when the program ends, and its files with it.
        return [str(program)]
    return [str(program / "program"), "share"]


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_frozen_program_has_process_workers(frozen, require, snippet_env, tmp_path):
    import subprocess

    require(frozen is not None, "PyInstaller")
    starts = tmp_path / "starts"
    done = subprocess.run(
        frozen, env={**snippet_env, "STARTS": str(starts)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=SCRIPT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["(42, True) (8, True)", *["7"] * (len(frozen) - 1)]
    # The program, one child of the worker, one or two of the pool, and the resource tracker.
    assert len(handlers.noted(starts)) <= 5
