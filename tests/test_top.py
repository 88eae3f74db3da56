"""``python -m pytoweb top``: which program it finds, what it prints, and the live view on a terminal."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from pytoweb import _expose, _top, _top_client, _top_text
from pytoweb.__main__ import main

WAIT = 10.0

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

HAS_RICH = importlib.util.find_spec("rich") is not None
if HAS_RICH and sys.platform != "win32":
    from pytoweb._top_rows import COLUMNS, count_text, fitting, rows_of, size_text
    from pytoweb._top_screen import ScreenView
    from pytoweb._top_view import keys_of, pause_of


@pytest.fixture(autouse=True)
def rich(require):
    require(HAS_RICH, "rich")


@pytest.fixture
def runtime(tmp_path, monkeypatch, snippet_env):
    """A directory of the user's own, with a path short enough for sockets; for snippets too."""
    directory = tempfile.mkdtemp(prefix="pw-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
    # A program of another test is in neither of the places.
    monkeypatch.setattr(tempfile, "tempdir", directory)
    snippet_env.update(XDG_RUNTIME_DIR=directory, TMPDIR=directory)
    yield directory
    _expose.close_socket()
    shutil.rmtree(directory)


@pytest.fixture
def run_top(snippet_env):
    """Returns `run_top(*arguments)`: runs it without a terminal."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "pytoweb", "top", *map(str, arguments)],
            capture_output=True, text=True, timeout=2 * WAIT, env=snippet_env, check=False,
        )  # fmt: skip

    return run


class Terminal:
    """A pseudo terminal on which the view runs."""

    def __init__(self, columns, lines, arguments, env):
        import fcntl
        import pty
        import termios

        self.outer, self.inner = pty.openpty()
        fcntl.ioctl(self.inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.modes = termios.tcgetattr(self.inner)
        self.received = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytoweb", "top", "--interval", "0.1", *map(str, arguments)],
            stdin=self.inner, stdout=self.inner, stderr=self.inner, start_new_session=True,
            env={**env, "TERM": "xterm-256color"},
        )  # fmt: skip

    def read(self, seconds):
        """Reads what has come, if anything comes in this time. Returns whether something did."""
        if not select.select([self.outer], [], [], seconds)[0]:
            return False
        self.received += os.read(self.outer, 1 << 16).decode()
        return True

    def frame(self):
        """The last whole screen, line by line, without what colours it."""
        whole = self.received.split("\x1b[H")[1:-1]
        return plain(whole[-1]).splitlines() if whole else []

    def until(self, seen):
        """Waits for a screen of which `seen` is true, or that contains it; returns its lines."""
        predicate = seen if callable(seen) else lambda lines: any(seen in line for line in lines)
        deadline = time.monotonic() + 2 * WAIT
        while not predicate(self.frame()):
            assert time.monotonic() < deadline, "\n".join([f"{seen!r} never came", *self.frame()])
            assert self.process.poll() is None, plain(self.received)
            self.read(0.1)
        return self.frame()

    def press(self, keys):
        os.write(self.outer, keys.encode())

    def end(self):
        """Waits for the end; returns the exit code and what stands on the screen that was there before."""
        code = self.process.wait(WAIT)
        while self.read(0.0):
            continue
        return code, plain(self.received.rpartition("\x1b[?1049l")[2])

    def close(self):
        import termios

        self.process.kill()
        self.process.wait(WAIT)
        modes = termios.tcgetattr(self.inner)
        os.close(self.outer)
        os.close(self.inner)
        return modes


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "")


@pytest.fixture
def terminal(snippet_env, require):
    """Returns `terminal(columns, lines, *arguments, **variables)`: the view on a terminal of that size."""
    require(importlib.util.find_spec("pty") is not None, "pseudo terminals")
    made = []

    def make(columns, lines, *arguments, **variables):
        env = {name: value for name, value in snippet_env.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        made.append(Terminal(columns, lines, arguments, {**env, **variables}))
        return made[-1]

    yield make
    for one in made:
        # However it ended, the terminal is as it was.
        ended_by_itself = one.process.poll() is not None
        modes = one.close()
        assert not ended_by_itself or modes == one.modes


def snapshot(*workers, at=100.0, pools=()):
    return {
        "pid": 7, "pytoweb": "0", "python": "3", "program": "app.py", "time": at, "ending": False,
        "memory_bytes": 50 << 20, "pools": list(pools), "workers": list(workers), "failures": [],
    }  # fmt: skip


def numbers(name, **others):
    return {
        "name": name, "state": "running", "capacity": 16_384, "depth": 0, "running": 0, "posted": 0,
        "completed": 0, "failed": 0, "expired": 0, "busy_seconds": 0.0, "utilisation": 0.0, "wait_p50": None,
        "wait_p99": None, "run_p50": None, "run_p99": None, "health": None, "children": [], **others,
    }  # fmt: skip


# What it prints once.


def test_it_prints_a_snapshot_as_json(runtime, worker, run_top):
    worker("seen", capacity=7).expose()
    done = run_top("--json")
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert (seen["pid"], [row["capacity"] for row in seen["workers"]]) == (os.getpid(), [7])


def test_it_prints_the_stacks_of_handlers(runtime, blocked, run_top, gate):
    path = blocked("standing").expose()
    done = run_top("--stacks", "--socket", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("'gate' in 'standing' (thread, pytoweb-standing-1)\n  File \"")
    assert "in Gate.__call__\n    if not self.opened.wait(WAIT):\n" in done.stdout.replace(
        "in __call__", "in Gate.__call__"
    )
    done = run_top("--stacks", "--json", "--pid", os.getpid())
    assert [entry["worker"] for entry in json.loads(done.stdout)] == ["standing"]
    gate.open()


def test_stacks_as_text():
    entry = {
        "where": "thread", "worker": "w", "pool": "p", "type": "t\x1b[2J", "id": "i", "attempt": 2,
        "thread": "pytoweb-p-1", "seconds": 1.5, "stack": [],
    }  # fmt: skip
    assert list(_top_text.stack_lines([])) == ["no handler runs"]
    assert list(_top_text.stack_lines([entry, {**entry, "where": "process", "pid": 9, "pool": None}])) == [
        "'t?[2J' in 'w' of pool 'p' (thread, pytoweb-p-1), id 'i', attempt 2, for 1.5s or longer",
        "  no Python code: a native function runs",
        "",
        "'t?[2J' in 'w' (process 9), id 'i', attempt 2, for 1.5s or longer",
        "  its stack is in the child",
    ]


# Which program it is.


def test_without_a_program_it_says_how_to_expose_one(runtime, run_top):
    done = run_top("--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no program of this user is exposed: call pool.expose() or worker.expose()" in done.stderr
    done = run_top("--json", "--pid", os.getpid())
    assert (done.returncode, done.stdout) == (1, "")
    assert f"process {os.getpid()} is not exposed" in done.stderr
    done = run_top("--json", "--socket", f"{runtime}/none.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no program answers at {runtime}/none.sock" in done.stderr


def test_of_several_programs_one_is_to_be_chosen(runtime, worker, run_top, start_python):
    worker("here").expose()
    other = start_python("""
import sys
from pytoweb.workers import PythonWorker
worker = PythonWorker("there")
print(worker.expose(), flush=True)
sys.stdin.readline()
""")
    other.line()
    done = run_top("--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "several programs are exposed; choose one:\n" in done.stderr
    assert re.search(rf"--pid {other.pid} +.*talking\.py\n", done.stderr)
    assert f"--pid {os.getpid()} " in done.stderr
    done = run_top("--json", "--pid", other.pid)
    assert [row["name"] for row in json.loads(done.stdout)["workers"]] == ["there"]
    # One that was killed is none.
    other.process.kill()
    other.process.wait(WAIT)
    done = run_top("--json")
    assert [row["name"] for row in json.loads(done.stdout)["workers"]] == ["here"]


def test_a_program_that_does_not_answer_is_told_of(runtime, monkeypatch, capsys):
    monkeypatch.setattr(_top_client.ProgramConnection.ask, "__defaults__", (0.1,))
    monkeypatch.setattr(_top_client, "GLANCE", 0.1)
    os.mkdir(f"{runtime}/pytoweb")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{runtime}/pytoweb/123.sock")
        silent.listen()
        assert _top_client.found_programs() == [
            (123, f"{runtime}/pytoweb/123.sock", "(does not answer)"),
        ]
        assert main(["top", "--json", "--pid", "123"]) == 1
    assert "does not answer within 0.1 s" in capsys.readouterr().err


def test_what_the_program_refuses_is_told(runtime, worker, capsys):
    path = worker("seen").expose()
    with contextlib.ExitStack() as views:
        for _ in range(16):
            view = views.enter_context(contextlib.closing(_top_client.ProgramConnection(path)))
            view.ask("stacks")
        assert main(["top", "--json"]) == 1
    assert "the program refuses: 16 views look at this program already" in capsys.readouterr().err


def test_a_program_that_ends_meanwhile_is_no_error(runtime, capsys, spawn):
    path = f"{runtime}/ending.sock"
    with socket.socket(socket.AF_UNIX) as ending:
        ending.bind(path)
        ending.listen()
        answered = spawn(lambda: ending.accept()[0].close())
        assert main(["top", "--json", "--socket", path]) == 0
        answered.result(WAIT)
    assert capsys.readouterr().out == "the program has ended\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--interval", "0"),
        ("--interval", "nan"),
        ("--interval", "x"),
        ("--pid", "x"),
        ("--pid", "1", "--socket", "x"),
    ],
)
def test_wrong_arguments_are_explained(run_top, arguments):
    done = run_top(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m pytoweb top")


def test_the_view_needs_a_terminal(run_top):
    done = run_top()
    assert (done.returncode, done.stdout) == (2, "")
    assert "the live view needs a terminal: --json and --stacks print once" in done.stderr


def test_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich", None)
    options = argparse.Namespace(json=False, stacks=False, pid=None, socket=None, interval=1.0)
    assert _top.main(options) == 1
    assert "pip install 'pytoweb[top]'" in capsys.readouterr().err


# What the view makes of the numbers.


def test_rates_lie_between_two_snapshots():
    first = rows_of(snapshot(numbers("w", completed=10, busy_seconds=1.0)), None)
    assert first[0].rate is None
    known = {row.key: row for row in first}, 100.0
    later = numbers("w", completed=25, failed=3, expired=2, busy_seconds=1.5)
    [row] = rows_of(snapshot(later, at=102.0), known)
    assert (row.rate, row.utilisation) == (10.0, 0.25)
    # Another one with the name has begun anew, and the clock of the machine may be set back.
    [row] = rows_of(snapshot(numbers("w", completed=5), at=102.0), known)
    assert row.rate is None
    [row] = rows_of(snapshot(later, at=99.0), known)
    assert row.rate is None


def test_a_pool_has_a_row_for_its_mailbox_and_one_for_each_worker():
    children = [{"pid": 1, "memory_bytes": 3 << 20}, {"pid": 2, "memory_bytes": None}]
    pool = {
        "name": "p", "size": 4, "threads": 4, "own": numbers("p", busy_seconds=1.0), "children": children,
        "health": {"state": "stuck", "reason": "why"}, "workers": [numbers("w")],
    }  # fmt: skip
    own, worker = rows_of(snapshot(pools=[pool]), None)
    assert (own.name, own.size, own.memory, own.state, own.is_calm) == ("p", 4, 3 << 20, "stuck", False)
    assert (worker.name, worker.size, worker.memory, worker.state) == ("p/w", 1, None, "running")


@pytest.mark.parametrize("width", [1, 40, 60, 80, 100, 250])
def test_columns_fit_the_terminal(width):
    columns = fitting(width)
    taken = sum(column.width + 1 for column in columns) - 1
    assert taken <= max(width, 33)
    titles = [column.title for column in columns]
    assert titles[:3] == ["name", "msg/s", "queue"]
    if width >= 60:
        assert {"run", "failed", "health"} <= set(titles)
    assert (width < 110) or len(columns) == len(COLUMNS)


def test_numbers_in_a_few_letters():
    counts = [None, 0, 3, 9.26, 12.3, 9999, 16_384, 123_456, 999_999, 1_234_567, 5e12]
    assert list(map(count_text, counts)) == [
        "-", "0", "3", "9.3", "12", "9999", "16.4k", "123k", "1000k", "1.23M", "5000G",
    ]  # fmt: skip
    times = [None, 0.0, 2.88e-7, 1.5e-6, 9.999e-4, 2e-3, 1.25, 99.9, 125.0, 7260.0]
    assert list(map(_top_text.seconds_text, times)) == [
        "-", "0ns", "288ns", "1.5us", "1000us", "2ms", "1.25s", "99.9s", "2m05s", "2h01m",
    ]  # fmt: skip
    assert list(map(size_text, [None, 5 << 20, 20 << 30])) == ["-", "5M", "20G"]


def test_keys_are_known_by_what_a_terminal_sends():
    sent = "q/\x1b[A\x1b[B\x1bOC\x1b[D\r\x7f\x1b[1;5C\x1b[5~x\x1b"
    assert list(keys_of(sent)) == [
        "q", "/", "up", "down", "right", "left", "enter", "backspace", "page up", "x", "escape",
    ]  # fmt: skip


def press(view, *keys):
    for key in keys:
        view.press(key, 80, 10)


@pytest.fixture
def view():
    made = ScreenView()
    made.take(
        snapshot(
            numbers("mail", depth=5, failed=1), numbers("images", depth=9), numbers("index", failed=7)
        )
    )  # fmt: skip
    return made


def names(view):
    return [row.name for row in view.shown()]


def test_rows_are_sorted_by_the_column_that_is_chosen(view):
    assert names(view) == ["images", "index", "mail"]
    press(view, ">")
    assert (view.sorted_by, names(view)) == ("queue", ["images", "mail", "index"])
    press(view, "r")
    assert names(view) == ["index", "mail", "images"]
    press(view, "r", "left", "left")
    assert (view.sorted_by, names(view)) == ("name", ["images", "index", "mail"])
    press(view, "r")
    assert names(view) == ["mail", "index", "images"]
    press(view, "<")
    assert view.sorted_by == fitting(80)[-1].title


def test_rows_are_filtered_by_name(view):
    press(view, "/", "I", "x", "backspace")
    assert (view.is_typing, names(view)) == (True, ["images", "index", "mail"])
    press(view, "n", "q", "backspace", "enter")
    assert (view.is_typing, names(view), view.is_over) == (False, ["index"], False)
    press(view, "escape")
    assert len(names(view)) == 3
    press(view, "/", "m", "a", "escape")
    assert (view.is_typing, len(names(view))) == (False, 3)


def test_a_row_is_selected_and_shown_alone(view):
    assert view.selected_row().name == "images"
    press(view, "down", "down")
    assert view.selected_row().name == "index"
    # It stays the selected one wherever it is.
    press(view, ">", "r")
    assert view.selected_row().name == "index"
    press(view, "up", "up", "up")
    assert view.selected_row().name == "index"
    press(view, "page down")
    assert view.selected_row().name == "images"
    press(view, "enter", "/", "<")
    assert (view.is_detail, view.is_typing, view.sorted_by) == (True, False, "queue")
    press(view, "escape", "q")
    assert (view.is_detail, view.is_over) == (False, True)


def drawn(view, width, height, **others):
    from rich.console import Console

    console = Console(width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(view.draw(width, height, **others))
    return capture.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(60, 24), (60, 10), (200, 50), (20, 6)])
@pytest.mark.parametrize("keys", [(), ("enter",), ("/", "x"), ("p",)])
def test_a_screen_is_as_large_as_the_terminal(width, height, keys):
    view = ScreenView()
    hostile = "evil\x1b[2J\nname[bold]" + "x" * 300
    seen = snapshot(*(numbers(f"w{number}") for number in range(100)), numbers(hostile, failed=10**9))
    failure = {"time": 99.0, "worker": hostile, "type": hostile, "error": hostile}
    seen["failures"] = [failure] * 20
    seen["program"] = hostile
    view.take(seen)
    press(view, *keys)
    lines = drawn(view, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)


def test_before_the_first_answer_there_is_a_screen():
    assert drawn(ScreenView(), 80, 24) == ["waiting for the first answer"]


def test_what_is_out_of_the_ordinary_is_said(view):
    assert not [line for line in drawn(view, 80, 24, silence=1.0) if "no answer" in line]
    assert any("no answer for 5 s" in line for line in drawn(view, 80, 24, silence=5.0))
    view.snapshot["ending"] = True
    press(view, "p")
    assert any("the program ends  paused" in line for line in drawn(view, 80, 24, silence=5.0))
    press(view, "/", "z", "enter")
    assert any("no worker has a name with that" in line for line in drawn(view, 80, 24))


def test_many_workers_are_looked_at_less_often():
    assert pause_of(1.0, None) == 1.0
    assert pause_of(1.0, {**snapshot(), "cost_seconds": 0.001}) == 1.0
    assert pause_of(1.0, {**snapshot(), "cost_seconds": 0.03}) == pytest.approx(3.0)
    assert pause_of(1.0, {**snapshot(), "cost_seconds": 0.3}) == 5.0
    assert pause_of(60.0, {**snapshot(), "cost_seconds": 0.3}) == 60.0


# On a terminal.


@pytest.mark.slow
def test_the_view_follows_a_program(runtime, pool, terminal):
    made = pool(2, name="shared")
    one = made.create_worker("one", capacity=50)
    gate = threading.Event()
    one.on_message("wait", lambda data: gate.wait(WAIT))
    one.start()
    made.expose()
    screen = terminal(60, 16, COLUMNS="200", LINES="50")
    lines = screen.until("shared/one")
    assert max(map(len, lines)) <= 60
    assert [title for title in ("name", "msg/s", "queue", "run", "failed", "health") if title in lines[3]]
    try:
        one.post_messages("wait", range(5))
        screen.until(lambda lines: any("shared/one" in line and " 4/50 " in line for line in lines))
        # In the detail there is the stack.
        screen.press("/one\r\r")
        screen.until("'wait' in 'one' of pool 'shared'")
        screen.until("gate.wait(WAIT)")
        screen.press("\x7fp")
        screen.until("paused")
    finally:
        gate.set()
    screen.press("pq")
    assert screen.end() == (0, "")


@pytest.mark.slow
def test_failures_are_shown_and_colours_left_out_where_they_are_not_wanted(
    runtime, worker, snippet_env, terminal
):
    def fail(data):
        raise ValueError("cannot take that")

    one = worker("failing").start()
    one.on_error(lambda error: None)
    one.on_message("fail", fail)
    one.expose()
    one.post_message("fail")
    one.run_until_idle(WAIT)
    coloured = terminal(80, 24)
    coloured.until("failing fail: ValueError: cannot take that")
    assert re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", coloured.received)
    coloured.press("q")
    assert coloured.end() == (0, "")
    plainer = terminal(80, 24, NO_COLOR="1")
    plainer.until("failing fail: ValueError: cannot take that")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", plainer.received)
    plainer.press("q")
    assert plainer.end() == (0, "")


@pytest.mark.slow
def test_a_program_that_ends_while_it_is_watched_is_told_of(runtime, terminal, start_python):
    program = start_python("""
import sys
from pytoweb.workers import PythonWorker
with PythonWorker("short") as worker:
    worker.expose()
    print("ready", flush=True)
    sys.stdin.readline()
""")
    program.line()
    screen = terminal(80, 24)
    screen.until("short")
    program.process.stdin.write("\n")
    program.process.stdin.flush()
    code, left = screen.end()
    assert code == 0
    assert f"the program has ended (process {program.pid}, " in left


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_as_it_was(runtime, worker, terminal, number, code):
    worker("seen").expose()
    screen = terminal(80, 24)
    screen.until("seen")
    screen.process.send_signal(number)
    assert screen.end() == (code, "")
