"""The socket through which a program is looked at: private, read-only, in the way of nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

import process_handlers
import pytest

from pytoweb import _expose
from pytoweb.workers import PythonWorker, WorkerPool

WAIT = 10.0

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def runtime(monkeypatch, snippet_env):
    """A directory of the user's own, with a path short enough for sockets; for snippets too."""
    directory = tempfile.mkdtemp(prefix="pw-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
    snippet_env["XDG_RUNTIME_DIR"] = directory
    yield directory
    _expose.close_socket()
    shutil.rmtree(directory)


class View:
    """A connection to a program."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def say(self, text):
        self.socket.sendall(text)

    def answer(self):
        return json.loads(self.file.readline() or b"null")

    def ask(self, what):
        self.say(json.dumps({"version": 1, "ask": what}).encode() + b"\n")
        answer = self.answer()
        assert answer["version"] == 1
        return answer.get(what, answer)

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def asked(path, what="snapshot"):
    """What a program says once."""
    with View(path) as view:
        return view.ask(what)


def test_the_socket_is_the_users_own(runtime, worker):
    path = worker("seen").expose()
    assert path == os.path.join(runtime, "pytoweb", f"{os.getpid()}.sock")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert worker("other").expose() == path
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_without_a_runtime_directory_it_is_where_temporary_files_are(runtime, worker, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", runtime)
    assert worker("seen").expose() == f"{runtime}/pytoweb-{os.geteuid()}/{os.getpid()}.sock"


def test_a_directory_that_is_open_to_others_is_closed(runtime, worker):
    os.mkdir(f"{runtime}/pytoweb")
    os.chmod(f"{runtime}/pytoweb", 0o777)
    worker("seen").expose()
    assert stat.S_IMODE(os.stat(f"{runtime}/pytoweb").st_mode) == 0o700


def test_a_link_is_refused(runtime, worker):
    os.mkdir(f"{runtime}/elsewhere")
    os.symlink(f"{runtime}/elsewhere", f"{runtime}/pytoweb")
    with pytest.raises(NotADirectoryError, match="is not a directory, and the socket is not made there"):
        worker("seen").expose()
    assert os.listdir(f"{runtime}/elsewhere") == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_the_directory_of_another_user_is_refused(runtime, worker):
    os.mkdir(f"{runtime}/pytoweb")
    os.chown(f"{runtime}/pytoweb", 65_534, -1)
    with pytest.raises(PermissionError, match="belongs to user 65534"):
        worker("seen").expose()


def test_a_platform_without_unix_sockets_is_told_so(runtime, worker, monkeypatch):
    one = worker("seen")
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(NotImplementedError, match=r"expose\(\) needs Unix sockets"):
        one.expose()


def test_files_of_dead_processes_are_removed(runtime, worker):
    os.mkdir(f"{runtime}/pytoweb")
    living, dead = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with living, dead:
        living.bind(f"{runtime}/pytoweb/1.sock")
        living.listen()
        dead.bind(f"{runtime}/pytoweb/2.sock")
        path = worker("seen").expose()
        assert sorted(os.listdir(f"{runtime}/pytoweb")) == sorted(["1.sock", os.path.basename(path)])


def test_a_socket_of_this_number_that_lives_is_left_alone(runtime, worker):
    os.mkdir(f"{runtime}/pytoweb")
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(f"{runtime}/pytoweb/{os.getpid()}.sock")
        living.listen()
        assert worker("seen").expose() == f"{runtime}/pytoweb/{os.getpid()}-2.sock"


def test_a_snapshot_has_the_numbers_of_all(runtime, pool, worker, gate):
    alone = worker("alone", capacity=7)
    made = pool(2, name="shared")
    member = made.create_worker("member")
    member.on_message("gate", gate)
    member.start()
    member.post_message("gate")
    member.post_message("gate")
    gate.wait_entered()
    path = alone.expose()
    before = time.time()
    seen = asked(path)
    assert (seen["pid"], seen["ending"], seen["failures"]) == (os.getpid(), False, [])
    assert before - 1 < seen["time"] < time.time() + 1
    assert seen["cost_seconds"] == 0.0
    mine = {entry["name"]: entry for entry in seen["workers"]}["alone"]
    assert (mine["capacity"], mine["state"], mine["backend"]) == (7, "new", "thread")
    shared = {entry["name"]: entry for entry in seen["pools"]}["shared"]
    assert (shared["size"], shared["own"]["name"], shared["posted"]) == (2, "shared", 2)
    [row] = shared["workers"]
    assert (row["name"], row["depth"], row["running"], row["posted"]) == ("member", 1, 1, 2)
    gate.open()


def test_what_has_ended_is_left_out(runtime, worker, pool):
    path = worker("alone").expose()
    with PythonWorker("short") as short, WorkerPool(1, name="brief") as brief:
        assert [row["name"] for row in asked(path)["workers"]] == ["alone", "short"]
        assert "brief" in [row["name"] for row in asked(path)["pools"]]
    assert short.state == "stopped"
    seen = asked(path)
    assert [row["name"] for row in seen["workers"]] == ["alone"]
    assert brief.name not in [row["name"] for row in seen["pools"]]


def test_names_of_users_classes_do_not_stand_in_the_way(runtime, worker):
    class Odd(PythonWorker):
        stats = health = "mine"

    odd = Odd("odd")
    with odd:
        assert "odd" in [entry["name"] for entry in asked(odd.expose())["workers"]]


def test_the_last_failures_are_kept(runtime, pool):
    def fail(data):
        raise ValueError(f"number\n{data}")

    made = pool(1, name="failing")
    made.on_error(lambda error: None)
    one = made.create_worker("one")
    one.on_message("fail", fail)
    one.start()
    path = made.expose()
    begun = time.time()
    for number in range(30):
        one.post_message("fail", number)
    assert isinstance(made.submit(fail, "submitted").exception(WAIT), ValueError)
    assert isinstance(one.ask("fail", "asked").exception(WAIT), ValueError)
    failures = asked(path)["failures"]
    assert len(failures) == 20
    texts = {failure["error"] for failure in failures}
    assert {"ValueError: number submitted", "ValueError: number asked", "ValueError: number 29"} <= texts
    assert {(failure["worker"], failure["type"]) for failure in failures} == {
        ("one", "fail"), ("failing", "test_the_last_failures_are_kept.<locals>.fail"),
    }  # fmt: skip
    assert all(begun - 1 < failure["time"] < time.time() + 1 for failure in failures)


def test_an_exception_without_a_text_is_a_failure_all_the_same(runtime, worker):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def fail(data):
        raise Odd

    one = worker("odd").start()
    one.on_message("fail", fail)
    path = one.expose()
    assert isinstance(one.ask("fail").exception(WAIT), Odd)
    [failure] = asked(path)["failures"]
    assert failure["error"].endswith("Odd: (its text cannot be had)")


def test_the_stacks_of_threads(runtime, pool, gate):
    def outer(data):
        inner(data)

    def inner(data):
        gate(data)

    made = pool(2, name="busy")
    one = made.create_worker("one")
    one.on_message("stand", outer)
    one.on_message("response", lambda reply: None)
    one.start()
    one.post_message("stand", message_id="id-1")
    gate.wait_entered()
    called = threading.Event()
    future = made.submit(called.wait, WAIT)
    path = made.expose()
    with View(path) as view:
        while len(found := {entry["type"]: entry for entry in view.ask("stacks")}) < 2:
            continue
        stood = found["stand"]
        assert (stood["worker"], stood["pool"], stood["where"]) == ("one", "busy", "thread")
        assert (stood["id"], stood["attempt"]) == ("id-1", 1)
        assert stood["thread"].startswith("pytoweb-busy-")
        codes = [frame["code"] for frame in stood["stack"]]
        assert codes[:2] == ["inner(data)", "gate(data)"]
        assert stood["stack"][0]["file"] == __file__
        assert (found["Event.wait"]["worker"], found["Event.wait"]["pool"]) == ("busy", "busy")
        # By the second look it knows for how long.
        again = {entry["type"]: entry for entry in view.ask("stacks")}
        assert again["stand"]["seconds"] >= 0.0
        assert future.running()
        called.set()
        assert future.result(WAIT) is True
        gate.open()
        made.run_until_idle(WAIT)
        assert view.ask("stacks") == []


def test_the_stacks_of_coroutines(runtime, worker, spawn):
    entered = threading.Event()

    async def outer(data):
        opened = asyncio.Event()
        await inner(opened)

    async def inner(opened):
        entered.set()
        await opened.wait()

    async def enter(opened):
        await opened.wait()

    one = worker("awaiting").start()
    one.on_message("stand", outer)
    future = one.ask("stand")
    assert entered.wait(WAIT)
    path = one.expose()
    with View(path) as view:
        # Until it waits, its stack is that of the loop's thread.
        while True:
            [stood] = view.ask("stacks")
            codes = [frame["code"] for frame in stood["stack"]]
            if codes[1:2] == ["await opened.wait()"]:
                break
        assert (stood["worker"], stood["type"], stood["where"]) == ("awaiting", "stand", "coroutine")
        assert codes[0] == "await inner(opened)"
        assert stood["thread"].startswith("pytoweb-loop-")
        assert stood["seconds"] is None or stood["seconds"] >= 0.0
        assert future.cancel() is False
        one.run_until_idle(WAIT)
        assert view.ask("stacks") == []


def test_what_is_known_of_children(runtime, remote, tmp_path):
    one = remote("far")
    one.on_message("wait_for", process_handlers.wait_for)
    opened = tmp_path / "opened"
    future = one.ask("wait_for", str(opened))
    with View(one.expose()) as view:
        while not (found := view.ask("stacks")):
            continue
        [stood] = found
        assert (stood["worker"], stood["type"], stood["where"]) == ("far", "wait_for", "process")
        [row] = view.ask("snapshot")["workers"]
        assert [child["pid"] for child in row["children"]] == [stood["pid"]]
        assert stood["stack"] == []
        opened.write_text("now")
        future.result(WAIT)
        one.run_until_idle(WAIT)
        assert view.ask("stacks") == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense\n", "a request is a line of JSON"),
        (b"\xff\xfe\n", "a request is a line of JSON"),
        (b"[" * 4000 + b"\n", "a request is a line of JSON"),
        (b"[]\n", 'a request is an object with "version": 1'),
        (b'{"version": 2, "ask": "snapshot"}\n', 'a request is an object with "version": 1'),
        (b'{"version": 1, "ask": "stop"}\n', 'there is "ask": "snapshot" and "ask": "stacks"'),
        (b'{"version": 1, "ask": ["snapshot"]}\n', 'there is "ask": "snapshot" and "ask": "stacks"'),
    ],
)
def test_bad_input_is_answered_by_an_error(runtime, worker, line, error):
    with View(worker("seen").expose()) as view:
        view.say(line)
        answer = view.answer()
        assert answer["version"] == 1
        assert answer["error"].startswith(error)
        # It may go on.
        assert view.ask("snapshot")["pid"] == os.getpid()


def test_requests_may_come_in_pieces_and_together(runtime, worker):
    with View(worker("seen").expose()) as view:
        request = b'{"version": 1, "ask": "stacks"}\n'
        view.say(request[:7])
        view.say(request[7:] + request + request[:3])
        assert [view.answer(), view.answer()] == [{"version": 1, "stacks": []}] * 2
        view.say(request[3:])
        assert view.answer() == {"version": 1, "stacks": []}


def test_a_request_without_end_is_cut_off(runtime, worker):
    with View(worker("seen").expose()) as view:
        view.say(b"x" * 4097)
        assert "more than 4096 bytes" in view.answer()["error"]
        assert view.answer() is None


def test_more_views_than_there_may_be_are_told_so(runtime, worker):
    path = worker("seen").expose()
    views = [View(path) for _ in range(16)]
    try:
        assert all(view.ask("stacks") == [] for view in views)
        with View(path) as last:
            assert last.answer()["error"] == "16 views look at this program already"
            assert last.answer() is None
        views.pop().close()
        while "error" in (asked(path, "stacks") or ()):
            continue
    finally:
        for view in views:
            view.close()


@pytest.mark.slow
def test_a_view_that_does_not_read_holds_up_no_other(runtime, pool):
    made = pool(1)
    for number in range(200):
        made.create_worker(f"worker-{number}")
    path = made.expose()
    with View(path) as slow:
        slow.say(b'{"version": 1, "ask": "snapshot"}\n' * 20)
        assert len(asked(path)["pools"][0]["workers"]) == 200
        assert made.submit(len, "abc").result(WAIT) == 3
        # And gets all of its answers in the end.
        assert all(len(slow.answer()["snapshot"]["pools"][0]["workers"]) == 200 for _ in range(20))


def test_a_view_that_goes_away_is_no_error(runtime, worker):
    path = worker("seen").expose()
    for line in (b"", b"{", b'{"version": 1, "ask": "snapshot"}\n' * 20):
        with View(path) as view:
            view.say(line)
    assert asked(path)["pid"] == os.getpid()


def test_an_import_exposes_nothing(runtime, run_python, snippet_env):
    snippet_env["PYTOWEB_EXPOSE"] = "1"
    done = run_python("""
import os, threading
import pytoweb.workers
print(threading.active_count(), os.listdir(os.environ["XDG_RUNTIME_DIR"]))
""")
    assert (done.rc, done.stdout, done.stderr) == (0, "1 []\n", "")


SEEN = """
import glob, os
def seen():
    return sorted(glob.glob(os.environ["XDG_RUNTIME_DIR"] + "/pytoweb/*"))
"""


@pytest.mark.parametrize("value", ["", "0", "1"])
def test_the_environment_exposes_a_program_from_its_first_worker_on(runtime, run_python, snippet_env, value):
    snippet_env["PYTOWEB_EXPOSE"] = value
    code = """
from pytoweb.workers import PythonWorker
worker = PythonWorker("first")
print([os.path.basename(path) == f"{os.getpid()}.sock" for path in seen()])
"""
    done = run_python(SEEN + code)
    assert (done.rc, done.stdout, done.stderr) == (0, "[True]\n" if value == "1" else "[]\n", "")
    assert os.listdir(runtime) == (["pytoweb"] if value == "1" else [])
    assert value != "1" or os.listdir(f"{runtime}/pytoweb") == []


def test_a_program_that_cannot_be_exposed_runs_all_the_same(runtime, run_python, snippet_env):
    snippet_env["PYTOWEB_EXPOSE"] = "1"
    os.symlink("/", f"{runtime}/pytoweb")
    done = run_python("""
from pytoweb.workers import PythonWorker
with PythonWorker("first") as first, PythonWorker("second") as second:
    first.on_message("work", lambda data: data)
    print(first.ask("work", 5).result(10))
""")
    assert (done.rc, done.stdout) == (0, "5\n")
    assert done.stderr.count("this program is not exposed, although the environment asks for it") == 1


def test_children_of_a_pool_expose_nothing(runtime, run_python, snippet_env):
    snippet_env["PYTOWEB_EXPOSE"] = "1"
    code = """
from pytoweb.workers import PythonWorker, WorkerPool

def look():
    with WorkerPool(1):
        return len(seen())

if __name__ == "__main__":
    with WorkerPool(1, backend="process") as pool:
        print(pool.submit(look).result(30), len(seen()))
"""
    done = run_python(SEEN + code, timeout=40)
    assert (done.rc, done.stdout, done.stderr) == (0, "1 1\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_socket_of_its_own(runtime, run_python, snippet_env):
    snippet_env["PYTOWEB_EXPOSE"] = "1"
    code = """
import json, socket, sys
from pytoweb.workers import WorkerPool

def name():
    with socket.socket(socket.AF_UNIX) as view:
        view.settimeout(10)
        view.connect(os.path.dirname(seen()[0]) + f"/{os.getpid()}.sock")
        view.sendall(b'{"version": 1, "ask": "snapshot"}\\n')
        answer = json.loads(view.makefile().readline())["snapshot"]
    assert answer["pid"] == os.getpid()
    return answer["pools"][0]["name"]

pool = WorkerPool(1, name="preloaded")
pid = os.fork()
if pid == 0:
    print(name(), len(seen()), flush=True)
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
print(name(), len(seen()), flush=True)
"""
    done = run_python(SEEN + code)
    # From Python 3.12 on a fork beside the thread that answers is warned of.
    assert (done.rc, done.stdout) == (0, "preloaded 2\npreloaded 1\n"), done.stderr


def test_a_child_of_a_program_that_exposed_itself_by_call_is_not_exposed(runtime, run_python):
    code = """
import sys
from pytoweb.workers import WorkerPool
pool = WorkerPool(1)
path = pool.expose()
pid = os.fork()
if pid == 0:
    assert seen() == [path]
    assert pool.expose() != path
    assert len(seen()) == 2
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
print(seen() == [path])
"""
    done = run_python(SEEN + code)
    assert (done.rc, done.stdout) == (0, "True\n"), done.stderr


ENDS = {
    "returns": "",
    "raises": "raise SystemExit(3)",
    "is interrupted": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("end", list(ENDS))
def test_the_file_is_removed_at_the_end(runtime, run_python, end):
    done = run_python(f"""
import os, socket
from pytoweb.workers import PythonWorker
worker = PythonWorker("seen").start()
worker.on_message("work", print)
path = worker.expose()
# A view that has asked, and does not read.
view = socket.socket(socket.AF_UNIX)
view.connect(path)
view.sendall(b'{{"version": 1, "ask": "snapshot"}}\\n' * 100)
worker.post_message("work", os.path.exists(path))
{ENDS[end]}
""")
    assert (done.rc == 0) == (end == "returns"), done.stderr
    assert done.stdout == "True\n"
    assert os.listdir(f"{runtime}/pytoweb") == []


def test_queues_that_are_finished_at_the_end_can_be_seen(runtime, start_python):
    talking = start_python("""
import sys
from pytoweb.workers import PythonWorker
worker = PythonWorker("last").start()
worker.on_message("read", lambda data: sys.stdin.readline())
print(worker.expose(), flush=True)
worker.post_message("read")
""")
    path = talking.line()
    while not (seen := asked(path))["ending"]:
        continue
    assert [(row["name"], row["running"]) for row in seen["workers"]] == [("last", 1)]
    talking.process.stdin.write("\n")
    talking.process.stdin.flush()
    assert talking.process.wait(WAIT) == 0
    assert not os.path.exists(path)


def test_ctrl_c_at_the_end_removes_the_file(runtime, start_python):
    talking = start_python("""
import threading
from pytoweb.workers import PythonWorker
worker = PythonWorker("hanging").start()
worker.on_message("hang", lambda data: threading.Event().wait())
print(worker.expose(), flush=True)
worker.post_message("hang")
""")
    path = talking.line()
    while not asked(path)["ending"]:
        continue
    talking.process.send_signal(signal.SIGINT)
    assert talking.process.wait(WAIT) == 130
    assert not os.path.exists(path)


def test_what_a_killed_program_leaves_is_removed_by_the_next(runtime, snippet_env):
    code = "from pytoweb.workers import WorkerPool; print(WorkerPool(1).expose(), flush=True); input()"
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": snippet_env}
    paths = []
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code], **options) as process:
            paths.append(process.stdout.readline().strip())
            assert os.listdir(f"{runtime}/pytoweb") == [os.path.basename(paths[-1])]
            process.kill()
    assert paths[0] != paths[1]


def test_what_is_not_set_up_cannot_expose(runtime):
    with pytest.raises(RuntimeError, match="super"):
        WorkerPool.__new__(WorkerPool).expose()
