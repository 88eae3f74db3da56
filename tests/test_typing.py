"""The types and the documentation that editors and type checkers show."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pytoweb
from pytoweb import _core
from pytoweb._functions import is_coroutine_function
from pytoweb.workers import PythonWorker, WorkerFuture, WorkerPool

WAIT = 50.0
"""Seconds for mypy with a cold cache."""

ROOT = Path(__file__).resolve().parent.parent
STUB = ast.parse(Path(_core.__file__).parent.joinpath("_core.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}

PUBLIC = [
    *("Endpoint.post_message", "Endpoint.post_messages", "Endpoint.ask", "Endpoint._pytoweb_submit"),
    *("FutureBase.result", "FutureBase.exception", "FutureBase.done", "FutureBase.cancelled"),
    *("FutureBase.running", "FutureBase.cancel", "FutureBase.add_done_callback"),
    *("WorkerMessage.type", "WorkerMessage.data", "WorkerMessage.id", "WorkerMessage.worker"),
    *("WorkerMessage.attempt", "WorkerMessage.cancelled"),
]
"""What users meet of the native module, through the classes of `pytoweb.workers`."""


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT)
def test_a_type_checker_understands_the_public_api(require):
    require(importlib.util.find_spec("mypy") is not None, "mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "tests/typed_usage.py"],
        capture_output=True,
        text=True,
        timeout=WAIT,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_package_says_that_it_is_typed():
    assert Path(pytoweb.__file__).with_name("py.typed").exists()


def test_a_future_can_be_told_the_type_of_its_result():
    assert WorkerFuture[int].__origin__ is WorkerFuture


@pytest.mark.parametrize("name", PUBLIC)
def test_help_and_the_stub_say_the_same(name):
    kind, attribute = name.split(".")
    (node,) = [
        node for node in CLASSES[kind].body if isinstance(node, ast.FunctionDef) and node.name == attribute
    ]
    assert inspect.getdoc(getattr(getattr(_core, kind), attribute)) == ast.get_docstring(node)


@pytest.mark.parametrize("kind", [PythonWorker, WorkerPool, WorkerFuture])
def test_every_public_method_is_documented(kind):
    silent = [
        name
        for name in dir(kind)
        if not name.startswith("_") and not inspect.getdoc(inspect.getattr_static(kind, name))
    ]
    assert silent == []


def test_the_import_of_workers_leaves_out_what_only_some_need(run_python):
    done = run_python("""
import sys
before = set(sys.modules)
import pytoweb.workers
print(*sorted(set(sys.modules) - before))
""")
    assert (done.rc, done.stderr) == (0, "")
    heavy = {"asyncio", "dataclasses", "inspect", "typing", "pytest", "pytoweb._stats"}
    assert heavy & set(done.stdout.split()) == set()


async def coroutine_function() -> None: ...


async def asynchronous_generator():
    yield


def plain_function() -> None: ...


class Methods:
    async def method(self) -> None: ...

    @staticmethod
    async def static() -> None: ...

    async def __call__(self) -> None: ...


@functools.wraps(coroutine_function)
def wrapping() -> None: ...


def marked() -> None: ...


if hasattr(inspect, "markcoroutinefunction"):
    inspect.markcoroutinefunction(marked)

FUNCTIONS = [
    *(coroutine_function, asynchronous_generator, plain_function, wrapping, marked, print, Methods),
    *(Methods.method, Methods().method, Methods.static, Methods()),
    *(functools.partial(coroutine_function), functools.partial(plain_function)),
    *(functools.partial(Methods().method), functools.partial(functools.partial(coroutine_function))),
]


@pytest.mark.parametrize("without_inspect", [False, True])
@pytest.mark.parametrize(
    "function", FUNCTIONS, ids=lambda made: getattr(made, "__qualname__", type(made).__name__)
)
def test_coroutine_functions_are_known_as_inspect_knows_them(monkeypatch, function, without_inspect):
    if without_inspect:
        if function is marked:
            pytest.skip("only inspect marks functions")
        monkeypatch.delitem(sys.modules, "inspect")
    assert is_coroutine_function(function) == inspect.iscoroutinefunction(function)
