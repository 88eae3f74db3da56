"""Where a child finds its modules, and what else it takes from its host when it is started."""

from __future__ import annotations

import logging
import os
import sys

import process_handlers as handlers
import pytest

WAIT = 10.0
SCRIPT = 30.0
"""Seconds within which an interpreter with children must start, work and end."""

TESTS = os.path.dirname(os.path.abspath(__file__))

ASK = f"""
import sys
from pytoweb.workers import PythonWorker

if __name__ == "__main__":
    sys.path.append({TESTS!r})
    import process_handlers
    with PythonWorker("asked", backend="process") as worker:
        worker.on_message("echo", process_handlers.echo)
        print(worker.ask("echo", "answered").result(20))
"""

HIJACK = "open({!r}, 'a').write(__file__); raise ImportError('hijacked')\n"


@pytest.fixture
def hijack(tmp_path):
    """Returns `hijack(directory, *names)`: makes modules there that must never be imported."""
    trace = tmp_path / "hijacked"

    def make(directory, *names):
        directory.mkdir(exist_ok=True)
        for name in names:
            (directory / f"{name}.py").write_text(HIJACK.format(str(trace)))

    yield make
    assert not trace.exists()


OF_THE_STANDARD_LIBRARY = (
    "types",
    "enum",
    "logging",
    "pickle",
    "re",
    "socket",
    "queue",
    "__future__",
    "selectors",
)


@pytest.mark.slow
def test_modules_in_the_current_directory_do_not_break_a_child(run_python, tmp_path, hijack, snippet_env):
    hijack(tmp_path / "current", *OF_THE_STANDARD_LIBRARY)
    done = run_python(f"import os; os.chdir({str(tmp_path / 'current')!r})\n" + ASK, timeout=SCRIPT)
    assert (done.rc, done.stderr, done.stdout) == (0, "", "answered\n")


@pytest.mark.slow
def test_modules_beside_the_package_do_not_break_a_child(run_python, tmp_path, hijack, snippet_env):
    import pytoweb

    # As in a directory of installed packages with `enum34` among them.
    packages = tmp_path / "packages"
    hijack(packages, *OF_THE_STANDARD_LIBRARY)
    (packages / "pytoweb").symlink_to(os.path.dirname(pytoweb.__file__))
    code = f"import sys; sys.path.append({str(packages)!r})\n" + ASK
    done = run_python("import sys; sys.path[:] = [p for p in sys.path if not p.endswith('python')]\n" + code,
                      timeout=SCRIPT)  # fmt: skip
    assert (done.rc, done.stderr, done.stdout) == (0, "", "answered\n")


@pytest.mark.slow
def test_a_child_has_the_package_of_its_host(run_python, tmp_path):
    import pytoweb

    place = os.path.dirname(os.path.dirname(pytoweb.__file__))
    (tmp_path / "pytoweb").mkdir()
    (tmp_path / "pytoweb" / "__init__.py").write_text("raise ImportError('another one')\n")
    code = f"import sys; sys.path.insert(0, {place!r})\n" + ASK
    done = run_python(code, timeout=SCRIPT)
    assert (done.rc, done.stderr, done.stdout) == (0, "", "answered\n")


TYPED = """
import os, sys
from pytoweb.workers import PythonWorker
import their_handlers

os.chdir(sys.argv[1])
with PythonWorker("moved", backend="process", max_messages=1) as worker:
    worker.on_message("where", their_handlers.where)
    print([worker.ask("where").result(20) == os.getcwd() for _ in range(3)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moved", ["before the pool", "after the first child"])
def test_handlers_of_the_first_directory_are_found_after_chdir(run_python, tmp_path, moved):
    (tmp_path / "their_handlers.py").write_text("import os\ndef where(_):\n    return os.getcwd()\n")
    (tmp_path / "elsewhere").mkdir()
    code = TYPED
    if moved != "before the pool":
        line = "os.chdir(sys.argv[1])\n"
        code = code.replace(line, "").replace(
            "    print", f"    worker.ask('where').result(20)\n    {line}    print"
        )
    done = run_python("", flags=("-c", code, str(tmp_path / "elsewhere")), timeout=SCRIPT)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout == "[True, True, True]\n"


def test_a_child_takes_what_is_so_when_it_is_started(pool, monkeypatch, tmp_path):
    one = pool(1, backend="process")
    monkeypatch.setenv("PYTOWEB_TEST_LATE", "set")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "argv", ["late"])
    log = logging.getLogger("tests.late")
    log.setLevel(logging.ERROR)
    try:
        assert one.submit(look_around, None).result(WAIT) == ("set", str(tmp_path), ["late"], logging.ERROR)
        log.setLevel(logging.DEBUG)
        monkeypatch.setenv("PYTOWEB_TEST_LATE", "again")
        one.submit(handlers.exit_with, 1).exception(WAIT)
        assert one.submit(look_around, None).result(WAIT) == ("again", str(tmp_path), ["late"], logging.DEBUG)
    finally:
        log.setLevel(logging.NOTSET)


def look_around(data):
    """The environment, the path, the arguments and a log level of this process."""
    level = logging.getLogger("tests.late").level
    return os.environ.get("PYTOWEB_TEST_LATE"), sys.path[-1], sys.argv, level
