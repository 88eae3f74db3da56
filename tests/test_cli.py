"""The command line of the demonstration, run as a user runs it: in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WAIT = 30.0
"""Seconds for a process that analyses a handful of files."""

STOP = 5.0
"""Seconds from a signal to the end of the process; it takes about one tenth of a second."""

OWN_VARIABLES = ("PYTOWEB_WORKERS", "PYTOWEB_BACKEND", "NO_COLOR", "FORCE_COLOR", "PYTHONWARNINGS")

BACKENDS = ("process", "thread")

DEMO = str(Path(__file__).resolve().parent.parent / "demo")
"""The folder that `make run` starts."""

EVERY_FILE_BLOCKS = f"""
import sys
sys.path[:0] = [{os.path.dirname(__file__)!r}, {DEMO!r}]
from analyze_handlers import read_one_and_wait
from analyze import run
from analyze.command import main

analyze_tree = run.analyze_tree
run.analyze_tree = lambda *args, **kwargs: analyze_tree(*args, handler=read_one_and_wait, **kwargs)
sys.exit(main(sys.argv[1:]))
"""
"""The program with a handler that comes back from the first file only, as from a storage that hangs."""


def children(pid: int) -> list[int]:
    """Returns the processes whose parent is `pid`, where the system has a directory of them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and parent_and_state(int(entry))[0] == pid:
            found.append(int(entry))
    return found


def parent_and_state(pid: int) -> tuple[int | None, str]:
    """Returns the parent of a process and its state as a letter; None and X once it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None, "X"
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(parent), state


def has_ended(pid: int) -> bool:
    return parent_and_state(pid)[1] in "XZ"


def environment(**variables: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    env.update(variables)
    return env


def run_cli(
    *arguments: object, flags: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, DEMO, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WAIT,
        env=environment(PYTHONIOENCODING="utf-8", **variables),
        check=False,
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Returns `start(*arguments, code=None)`: the program as a process that is ended after the test."""
    made: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, code: str | None = None, **pipes: Any) -> subprocess.Popen[str]:
        program = [DEMO] if code is None else ["-c", code]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
        mark = str(tmp_path / "a handler was called")
        made.append(
            subprocess.Popen(
                [sys.executable, *program, *map(str, arguments)],
                env=environment(PYTOWEB_TEST_MARK=mark), text=True, **pipes,
            )
        )  # fmt: skip
        return made[-1]

    yield begin
    for process in made:
        process.kill()
        process.wait(WAIT)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with everything in it."""
    files = {
        "a.py": b"import os.path\n\ndef f(a):\n    return a and 1 or 2\n",
        "pkg/__init__.py": b"",
        "pkg/b.py": b"import os, sys\nclass C:\n    def m(self):\n        x = '\\d'\n        return x\n",
        "pkg/copy.py": b"",
        "encoding.py": b"# coding: nonsense\n",
        "syntax.py": b"x = 1\ny =\n",
        "null.py": b"\x00",
        "README.txt": b"not Python",
        "__pycache__/c.py": b"",
    }
    for name, content in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "tree" / "dangling.py").symlink_to("nowhere")
    (tmp_path / "tree" / "pkg" / "up").symlink_to("..", target_is_directory=True)
    return tmp_path / "tree"


def test_help():
    done = run_cli("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python demo ")
    assert "exit codes: 0 done" in done.stdout


def test_start_up_imports_nothing_heavy(run_python):
    done = run_python(
        f"import sys\nsys.path.insert(0, {DEMO!r})\nfrom analyze.command import make_parser\nmake_parser()\n"
        "heavy = {'rich', 'analyze.run', 'analyze.source'}\n"
        "print(heavy & set(sys.modules))"
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_text_report(tree, backend):
    done = run_cli(tree, "--workers", 2, "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.stdout.startswith(f"{tree}: 8 Python files\n")
    for row in (
        ["3", "2", "f", "a.py:3"],
        ["1", "3", "C.m", f"pkg{os.sep}b.py:3"],
        ["2", "os"],
        ["1", "sys"],
        ["files", "analysed", "4"],
        ["same", "content", "as", "another", "1"],
        ["files", "unreadable", "2"],
        ["files", "unparsable", "2"],
        ["lines", "9"],
        ["workers", "2"],
        ["backend", backend],
        ["messages", "8"],
        ["failures", "0"],
    ):
        assert row in lines, row
    for text in ("dangling.py  No such file", "encoding.py  ", "null.py", "syntax.py:2  invalid syntax"):
        assert text in done.stdout
    for label in (
        "queue wait p50",
        "queue wait p99",
        "run time p50",
        "run time p99",
        "utilisation",
        "wall time",
        "messages per worker",
        # Eight small files: what one thread needs for them cannot be told from chance.
        "not measured: 8 files in ",
    ):
        assert label in done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_json_report(tree, backend):
    done = run_cli(tree, "--json", "--workers", 3, "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert set(document) == {
        "version", "root", "complete", "totals", "most_complex", "imports", "problems",
        "unreadable_directories", "workers", "speed_up", "files",
    }  # fmt: skip
    assert (document["version"], document["root"], document["complete"]) == (1, str(tree), True)
    assert document["totals"] == {
        "files": 8, "analysed": 4, "unreadable": 2, "unparsable": 2, "crashed": 0, "failed": 0,
        "not_analysed": 0, "duplicates": 1, "lines": 9, "bytes": document["totals"]["bytes"],
        "functions": 2, "classes": 1, "complexity": 4,
        "longest_function": {"path": os.path.join("pkg", "b.py"), "name": "C.m", "line": 3, "lines": 3,
                             "complexity": 1},
    }  # fmt: skip
    assert [found["name"] for found in document["most_complex"]] == ["f", "C.m"]
    assert document["imports"] == [{"module": "os", "files": 2}, {"module": "sys", "files": 1}]
    assert [(problem["path"], problem["kind"]) for problem in document["problems"]] == [
        ("dangling.py", "unreadable"),
        ("encoding.py", "unreadable"),
        ("null.py", "unparsable"),
        ("syntax.py", "unparsable"),
    ]
    workers = document["workers"]
    assert [workers[name] for name in ("size", "messages", "completed", "failures", "cancelled")] == [
        3,
        8,
        8,
        0,
        0,
    ]
    assert (workers["backend"], workers["crashes"]) == (backend, 0)
    assert sum(workers["messages_per_worker"]) == 8
    assert len(workers["messages_per_worker"]) <= 3
    assert document["speed_up"].keys() == {"ratio", "files", "one_thread", "workers"}
    assert (document["speed_up"]["ratio"], document["speed_up"]["files"]) == (None, 8)
    assert 0 <= workers["queue_wait_p50"] <= workers["queue_wait_p99"] < WAIT
    assert 0 < workers["run_time_p50"] <= workers["run_time_p99"] < WAIT
    assert 0 <= workers["utilisation"] <= 1
    assert workers["wall_time"] > 0
    assert workers["files_per_second"] == pytest.approx(8 / workers["wall_time"])
    files = {facts["path"]: facts for facts in document["files"]}
    assert sorted(files) == list(files)
    assert len(files) == 8
    content = (tree / "a.py").read_bytes()
    assert files["a.py"] == {
        "path": "a.py", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "lines": 4,
        "classes": 0, "functions": [{"name": "f", "line": 3, "lines": 2, "complexity": 3}],
        "longest_function": {"name": "f", "line": 3, "lines": 2, "complexity": 3}, "imports": ["os"],
        "problem": None,
    }  # fmt: skip
    assert (files["dangling.py"]["sha256"], files["dangling.py"]["problem"]) == (None, "unreadable")


@pytest.mark.parametrize("backend", BACKENDS)
def test_warnings_about_the_source_are_not_shown(tree, backend):
    done = run_cli(tree, "--json", "--backend", backend, flags=("-W", "error"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["totals"]["unparsable"] == 2


def test_names_that_a_terminal_would_obey_or_cannot_show(tmp_path):
    (tmp_path / "red\x1b[31m\n.py").write_text("x =")
    (tmp_path / "f.py").write_text("def \u20ac(): pass\ndef na\u00efve(): pass\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, DEMO, str(tmp_path)],
        capture_output=True, timeout=WAIT, env=environment(PYTHONIOENCODING="ascii"), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"red\\x1b[31m\\n.py:1" in done.stdout
    assert b"invalid character '\\u20ac' (U+20AC)" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_a_name_that_is_no_text(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.py", "w") as file:
        file.write("x = 1\n")
    done = run_cli(tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["files"][0]["path"] == "\udcff.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tree}/gone"], "python demo: error: directory does not exist: '{tree}/gone'"),
        (["{tree}/a.py"], "python demo: error: not a directory: '{tree}/a.py'"),
        (
            ["{tree}/pkg/up/empty"],
            "python demo: error: no Python file in directory: '{tree}/pkg/up/empty'",
        ),
        ([""], "python demo: error: directory does not exist: ''"),
        (["{tree}", "--workers", "0"], "argument --workers: must be a whole number from 1 to 1024, not '0'"),
        (["{tree}", "--workers", "-1"], "argument --workers: "),
        (["{tree}", "--workers", "1025"], "argument --workers: "),
        (
            ["{tree}", "--workers", "two"],
            "argument --workers: must be a whole number from 1 to 1024, not 'two'",
        ),
        (["{tree}", "--progress", "loud"], "argument --progress: "),
        (["{tree}", "--backend", "fibre"], "argument --backend: invalid choice: 'fibre'"),
        (
            ["{tree}", "--crash", "-1"],
            "argument --crash: must be a whole number of files, 0 or more, not '-1'",
        ),
        (["{tree}", "--crash", "some"], "argument --crash: "),
        (["{tree}", "--crash", "9"], "python demo: error: --crash 9: there are only 8 files"),
        (
            ["{tree}", "--crash", "1", "--backend", "thread"],
            "python demo: error: --crash needs --backend process: a crash in a thread would take this"
            " program down with it",
        ),
        (["{tree}", "--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_wrong_use_is_explained(tree, arguments, message):
    (tree / "empty").mkdir()
    done = run_cli(*(argument.format(tree=tree) for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert message.format(tree=tree) in done.stderr
    assert "Traceback" not in done.stderr


def test_two_directories_are_wrong_use(tree):
    done = run_cli(tree, tree)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"python demo: error: unrecognized arguments: {tree}"


@pytest.mark.parametrize(
    ("variable", "arguments", "size"),
    [("3", [], 3), ("3", ["--workers", "1"], 1), ("nonsense", ["--workers", "1"], 1)],
)
def test_workers_argument_wins_over_environment(tree, variable, arguments, size):
    done = run_cli(tree, "--json", *arguments, PYTOWEB_WORKERS=variable)
    assert json.loads(done.stdout)["workers"]["size"] == size


@pytest.mark.parametrize("variable", ["0", "nonsense", "1.5"])
def test_a_wrong_environment_is_explained(tree, variable):
    done = run_cli(tree, PYTOWEB_WORKERS=variable)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"PYTOWEB_WORKERS must be a whole number from 1 to 1024, not '{variable}'" in done.stderr


@pytest.mark.parametrize(
    ("variable", "arguments", "backend"),
    [
        ("", [], "process"),
        ("thread", [], "thread"),
        ("thread", ["--backend", "process"], "process"),
        ("nonsense", ["--backend", "thread"], "thread"),
    ],
)
def test_backend_argument_wins_over_environment_wins_over_default(tree, variable, arguments, backend):
    done = run_cli(tree, "--json", *arguments, PYTOWEB_BACKEND=variable)
    assert json.loads(done.stdout)["workers"]["backend"] == backend


def test_a_wrong_backend_in_the_environment_is_explained(tree):
    done = run_cli(tree, PYTOWEB_BACKEND="fibre")
    assert (done.returncode, done.stdout) == (2, "")
    assert "PYTOWEB_BACKEND must be process or thread, not 'fibre'" in done.stderr
    done = run_cli(tree, "--crash", 1, PYTOWEB_BACKEND="thread")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--crash needs --backend process" in done.stderr


@pytest.mark.slow
def test_crashes_are_survived_and_told(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.py").write_text("def f(): pass\n")
    done = run_cli(tmp_path, "--crash", 2, "--workers", 2)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    for row in (
        ["files", "analysed", "8"],
        ["Crashed:", "2"],
        ["2.py", "signal", "11", "(SIGSEGV)"],
        ["7.py", "signal", "11", "(SIGSEGV)"],
        ["crashes", "survived", "2"],
    ):
        assert row in lines, row
    done = run_cli(tmp_path, "--crash", 2, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    assert document["complete"] is True
    assert [problem["signal"] for problem in document["problems"]] == [signal.SIGSEGV] * 2
    assert (document["totals"]["analysed"], document["totals"]["crashed"]) == (8, 2)


@pytest.mark.slow
def test_a_crash_costs_one_file_of_a_batch(tmp_path):
    for number in range(64):
        (tmp_path / f"{number:02}.py").write_text("def f(): pass\n")
    done = run_cli(tmp_path, "--crash", 2, "--workers", 1, "--no-compare", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    assert (document["totals"]["analysed"], document["totals"]["crashed"]) == (62, 2)
    assert [problem["signal"] for problem in document["problems"]] == [signal.SIGSEGV] * 2
    assert (document["workers"]["batch_size"], document["workers"]["asked_again"]) == (8, 16)


@pytest.mark.slow
def test_the_speed_up_is_measured_on_the_same_files(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.py").write_text("def f(a):\n    return a and [x for x in a if x]\n" * 800)
    done = run_cli(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  \d+\.\d\dx one thread on \d+ files \(", done.stdout, re.MULTILINE), done.stdout
    measured = json.loads(run_cli(tmp_path, "--json").stdout)["speed_up"]
    assert 1 <= measured["files"] <= 8
    assert measured["one_thread"] >= 0.1
    assert measured["ratio"] == measured["one_thread"] / measured["workers"]
    assert "one thread" not in run_cli(tmp_path, "--no-compare").stdout


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_report_shows_every_message(tree, tmp_path, backend):
    path = tmp_path / "run.html"
    done = run_cli(tree, "--report", path, "--no-compare", "--workers", 1, "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    text = path.read_text(encoding="utf-8")
    data = json.loads(
        text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    )
    assert data["title"] == f"Analysis of {tree}"
    assert data["counts"]["posted"] == data["counts"]["completed"] == 8
    assert sum(data["bars"]["looks"][look][4] for look in data["bars"]["look"]) == 8


def test_a_report_that_cannot_be_written_is_an_error_before_the_work(tree, tmp_path):
    for path in (tmp_path / "nowhere" / "run.html", tmp_path):
        done = run_cli(tree, "--report", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "report" in done.stderr and str(tmp_path) in done.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--json", "--backend", "thread"]])
def test_a_signal_leaves_a_partial_report(start, number, exit_code, arguments):
    # The standard library takes seconds; the line for its first file says that the workers work.
    process = start("--progress", "plain", *arguments)
    first = process.stderr.readline()
    assert first.startswith("analysed ")
    sent = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=STOP)
    assert time.monotonic() - sent < STOP
    assert process.returncode == exit_code
    assert "Traceback" not in stderr
    total = int(first.split()[3])
    if arguments:
        document = json.loads(stdout)
        assert document["complete"] is False
        assert document["root"] == sysconfig.get_path("stdlib")
        totals = document["totals"]
        assert totals["files"] == total
        done = totals["analysed"] + totals["unreadable"] + totals["unparsable"]
        assert 1 <= done == total - totals["not_analysed"] < total
        assert len(document["files"]) == done
    else:
        assert ": PARTIAL, stopped after " in stdout.splitlines()[0]
        assert f" of {total:,} Python files" in stdout.splitlines()[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_handler_that_never_returns_does_not_hold_up_the_end(start, tree, backend, until):
    process = start(
        "--progress", "plain", "--json", "--workers", 2, "--backend", backend, tree,
        code=EVERY_FILE_BLOCKS,
    )  # fmt: skip
    assert process.stderr.readline() == "analysed 1 of 8 files\n"
    workers = children(process.pid) if os.path.isdir("/proc") else []
    assert bool(workers) == (backend == "process") or not os.path.isdir("/proc")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=STOP)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    document = json.loads(stdout)
    assert document["complete"] is False
    assert document["totals"]["not_analysed"] == 7
    until(lambda: all(map(has_ended, workers)), "the end of the child processes")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_signal_ends_the_process_at_once(start, tree, backend, until):
    # Without the end of the grace period only the second signal can end it.
    code = EVERY_FILE_BLOCKS.replace(
        "analyze_tree = run",
        "cancel = run.Courier.cancel\n"
        "def announce(self, grace):\n"
        "    print('stopping', file=sys.stderr, flush=True)\n"
        "    cancel(self, 3600)\n"
        "run.Courier.cancel = announce\n"
        "analyze_tree = run",
        1,
    )
    process = start("--progress", "plain", "--workers", 2, "--backend", backend, tree, code=code)
    assert process.stderr.readline() == "analysed 1 of 8 files\n"
    workers = children(process.pid) if os.path.isdir("/proc") else []
    assert bool(workers) == (backend == "process") or not os.path.isdir("/proc")
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=STOP) == ("", "")
    assert process.returncode == -signal.SIGINT
    until(lambda: all(map(has_ended, workers)), "the end of the child processes")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(tmp_path, unbuffered):
    (tmp_path / "a.py").write_text("def f(): pass\n" * 5000)
    process = subprocess.Popen(
        [sys.executable, DEMO, "--json", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(PYTHONUNBUFFERED=unbuffered),
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 1) == b"{"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(WAIT) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_explained(start, tree):
    with open("/dev/full", "w") as full:
        process = start(tree, stdout=full)
        _, stderr = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert stderr == "python demo: error: cannot write the output: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_progress_is_on_the_terminal_and_the_report_is_not(start, tree, require):
    import importlib.util
    import pty

    require(importlib.util.find_spec("rich") is not None, "rich")
    terminal, inner = pty.openpty()
    try:
        process = start(tree, stderr=inner)
        os.close(inner)
        stdout = process.stdout.read()
        assert process.wait(WAIT) == 0
        assert "analysing" in os.read(terminal, 65_536).decode()
        assert stdout.startswith(f"{tree}: 8 Python files\n")
        assert "\x1b" not in stdout
    finally:
        os.close(terminal)
