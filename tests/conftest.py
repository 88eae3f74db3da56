"""What every test shares: the check that nothing is left behind, and tools that stop what they made.

The rules are in README.md beside this file.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

WAIT = 10.0
"""Seconds after which a wait in a test counts as a hang: far above what any state takes to come."""

SETTLE = 5.0
"""Seconds that threads, descriptors and child processes get to be gone after a test."""

WINDOWS = 128 << 20
"""Bytes of shared memory that a worker of a whole file may keep mapped from one test to the next."""

POLL = 0.002
"""Seconds between two looks at a state that nothing announces."""

IN_CI = os.environ.get("CI", "").lower() == "true"

# The same examples in every run: a failure that comes and goes tells its reader nothing.
settings.register_profile("pytoweb", derandomize=True, deadline=None, database=None)
settings.load_profile("pytoweb")

OUTCOMES = ("completed", "failed", "dropped", "cancelled", "expired")


# A shell ignores Ctrl-C in what it starts in the background, and so would each interpreter of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Takes what the test tools allocated out of the collections that follow each test."""
    gc.collect()
    gc.freeze()


def is_tidying(thread: str) -> bool:
    """Tells whether a thread of this process is the one that gives free memory back."""
    try:
        with open(f"/proc/self/task/{thread}/comm", encoding="utf-8") as file:
            return file.read() == "pytoweb-memory\n"
    except OSError:
        return False


def comm(thread: int) -> str:
    """What the system calls a thread that Python does not know."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm", encoding="utf-8") as file:
        return f"{file.read().strip()}, not known to Python"
    return "not known to Python"


def os_threads() -> set[int]:
    """Returns the ids of the threads of this process, those Python does not know included.

    One that gives free memory back after a test with large messages ends some seconds later.
    """
    with contextlib.suppress(FileNotFoundError):
        return {int(entry) for entry in os.listdir("/proc/self/task") if not is_tidying(entry)}
    return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}


def descriptors() -> dict[int, str]:
    """Returns the open file descriptors and what they point to, without the one used to look.

    That of the watchdog is there from the first handler to the end of the process.
    """
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/self/fd/{entry}")
                if "memfd:pytoweb-watchdog" not in target:
                    found[int(entry)] = target
        return found
    for number in range(256):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found[number] = "open"
    return found


def is_running(pid: int) -> bool:
    """Says whether a process is there and has not ended; one that only waits to be reaped has."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def has_no_children() -> bool:
    """Says that there is no child process, reaped or not, at a hundredth of the cost of looking for them."""
    lists = glob.glob("/proc/self/task/*/children")
    with contextlib.suppress(OSError):
        return bool(lists) and not any(Path(path).read_bytes() for path in lists)
    return False


def children() -> dict[int, str]:
    """Returns the child processes of this one, those included that were not reaped, and their names."""
    if has_no_children():
        return {}
    found, own = {}, str(os.getpid()).encode()
    for entry in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
            if tail.split()[1] == own:
                found[int(entry)] = head.partition(b"(")[2].decode(errors="replace")
    return found


def shared_bytes() -> int:
    """Returns how much address space maps nameless shared memory."""
    size = 0
    with contextlib.suppress(FileNotFoundError), open("/proc/self/maps", encoding="utf-8") as lines:
        for line in lines:
            if "/memfd:" in line:
                first, _, last = line.split()[0].partition("-")
                size += int(last, 16) - int(first, 16)
    return size


class Seen(NamedTuple):
    """What a process has at one instant."""

    threads: set[int]
    files: dict[int, str]
    children: dict[int, str]
    shared: int

    @classmethod
    def now(cls) -> Seen:
        """Looks."""
        return cls(os_threads(), descriptors(), children(), shared_bytes())


def left_behind(before: Seen) -> list[str]:
    """Says which threads, descriptors, child processes and shared memory were not there before."""
    now = Seen.now()
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    left = [f"thread {tid} ({names.get(tid) or comm(tid)})" for tid in now.threads - before.threads]
    left += [f"descriptor {key} ({now.files[key]})" for key in now.files.keys() - before.files.keys()]
    left += [f"child {pid} ({now.children[pid]})" for pid in now.children.keys() - before.children.keys()]
    # What a worker of the whole file has mapped comes and goes with its payloads.
    if now.shared > before.shared + (WINDOWS if now.children else 0):
        left.append(f"{now.shared - before.shared} bytes of mapped shared memory")
    return left


def close_default_pool() -> None:
    """Shuts down the process-wide pool, which outlives a test on purpose."""
    pools = sys.modules.get("pytoweb._pool")
    if pools is not None:
        for pool, _ in pools._defaults.values():
            pool.shutdown(wait=False, cancel_futures=True)


def settle(before: Seen) -> list[str]:
    """Waits until nothing is left behind; returns what still is after SETTLE seconds."""
    close_default_pool()
    gc.collect()
    left = left_behind(before)
    deadline = time.monotonic() + SETTLE
    while left and time.monotonic() < deadline:
        time.sleep(POLL)
        gc.collect()
        left = left_behind(before)
    return left


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails the test that leaves a thread, descriptor, child, shared memory or unreported error (I4)."""
    before = Seen.now()
    problems: list[str] = []

    def unraisable(args: Any) -> None:
        problems.append(f"unraisable {args.exc_type.__name__}: {args.err_msg} in {args.object!r:.200}")

    def thread_failed(args: Any) -> None:
        problems.append(f"uncaught {args.exc_type.__name__} in {args.thread!r}")

    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = unraisable, thread_failed
    try:
        yield
        problems += [f"left behind: {what}" for what in settle(before)]
    finally:
        sys.unraisablehook, threading.excepthook = hooks
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def require() -> Callable[[bool, str], None]:
    """Returns `require(present, what)`: skips where something is absent, but fails in CI."""

    def check(present: bool, what: str) -> None:
        if present:
            return
        if IN_CI:
            pytest.fail(f"CI must have {what}")
        pytest.skip(f"needs {what}")

    return check


@pytest.fixture(params=["thread", "process"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both places where handlers run, one after the other; the state that they left here is taken back."""
    import process_handlers

    before = dict(process_handlers.state)
    yield request.param
    process_handlers.state.clear()
    process_handlers.state.update(before)


@pytest.fixture(name="is_running", scope="session")
def is_running_of_this_file() -> Callable[[int], bool]:
    """Returns `is_running(pid)`."""
    return is_running


class Finished(NamedTuple):
    """How an interpreter ended."""

    rc: int
    stdout: str
    stderr: str


FAMILY = "PYTOWEB_TEST_FAMILY"
"""The environment variable by which the processes of a test are found, wherever they have moved."""


def family(mark: str) -> list[int]:
    """Returns the processes that run and were started with this mark, or by one that was."""
    found, wanted = [], f"{FAMILY}={mark}".encode()
    for entry in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
            if wanted in file.read().split(b"\0") and is_running(int(entry)):
                found.append(int(entry))
    return found


@pytest.fixture
def snippet_env() -> Iterator[dict[str, str]]:
    """The environment for interpreters that a test starts; what is left of them and theirs fails it."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    yield {**env, FAMILY: mark}
    deadline = time.monotonic() + SETTLE
    while (left := family(mark)) and time.monotonic() < deadline:
        time.sleep(POLL)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left:
        pytest.fail(f"left behind: the processes {left}", pytrace=False)


@pytest.fixture
def run_python(tmp_path: Any, snippet_env: dict[str, str]) -> Callable[..., Finished]:
    """Returns `run_python(code, timeout=WAIT)`: runs a snippet in a fresh interpreter."""

    def run(code: str, *, timeout: float = WAIT, flags: tuple[str, ...] = ()) -> Finished:
        script = tmp_path / "snippet.py"
        script.write_text(code, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, *flags, str(script)],
                capture_output=True, text=True, timeout=timeout, cwd=tmp_path, env=snippet_env, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            pytest.fail(f"no exit within {timeout} s; stdout {late.stdout!r}, stderr {late.stderr!r}")
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def cloudpickle_is(
    tmp_path: Any, snippet_env: dict[str, str], require: Callable[[bool, str], None]
) -> Callable[[str], None]:
    """Returns `cloudpickle_is(state)`: makes it "installed", "absent" or "broken" for snippets and theirs."""

    def set_up(state: str) -> None:
        if state == "installed":
            require(importlib.util.find_spec("cloudpickle") is not None, "cloudpickle")
        elif state == "absent":
            (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['cloudpickle'] = None\n")
        else:
            (tmp_path / "cloudpickle.py").write_text("raise ImportError('not for this interpreter')\n")
        snippet_env["PYTHONPATH"] = str(tmp_path)

    return set_up


class Talking:
    """An interpreter that runs and is listened to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def line(self, timeout: float = WAIT) -> str:
        """The next line that it says."""
        stream = self.process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], timeout)
        assert ready, f"nothing was said within {timeout} s"
        return stream.readline().strip()


@pytest.fixture
def start_python(tmp_path: Any, snippet_env: dict[str, str]) -> Iterator[Callable[[str], Talking]]:
    """Returns `start_python(code)`: a fresh interpreter, in a session of its own, killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> Talking:
        script = tmp_path / "talking.py"
        script.write_text(code, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-u", str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            cwd=tmp_path, env=snippet_env, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return Talking(process)

    yield start
    for process in started:
        process.kill()
        process.wait(SETTLE)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Returns `until(predicate)`: a bounded wait for a state that nothing announces."""

    def wait(predicate: Callable[[], object], what: str = "the state", timeout: float = WAIT) -> None:
        deadline = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come within {timeout} s")
            time.sleep(POLL)

    return wait


@pytest.fixture
def spawn() -> Iterator[Callable[..., Future[Any]]]:
    """Returns `spawn(function, *args)`: runs it on a plain thread, the outcome is a Future."""
    started: list[threading.Thread] = []

    def start(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(function(*args, **kwargs))
            except BaseException as error:
                outcome.set_exception(error)

        thread = threading.Thread(target=run, daemon=True, name="test-spawn")
        started.append(thread)
        thread.start()
        return outcome

    yield start
    for thread in started:
        thread.join(SETTLE)
    assert not any(thread.is_alive() for thread in started), "a spawned thread hangs"


def check_adds_up(stats: Any) -> None:
    """Checks I1: every accepted message is in exactly one place."""
    accounted = sum(getattr(stats, outcome) for outcome in OUTCOMES) + stats.depth + stats.running
    assert stats.posted == accounted, f"the counters do not add up: {stats}"


@pytest.fixture(scope="session")
def adds_up() -> Callable[[Any], None]:
    """Returns the check of I1 over a WorkerStats or PoolStats."""
    return check_adds_up


def stop_all(made: list[Any], stop: Callable[[Any], None]) -> None:
    """Stops what a test made, checks its counters, and lets go of it."""
    for one in made:
        stop(one)
        check_adds_up(one.stats())
    # pytest holds the fixture, and so the list, until the test is over.
    made.clear()


@pytest.fixture
def worker(spawn: object) -> Iterator[Callable[..., Any]]:
    """Returns `worker(name, cls=PythonWorker, **options)`: made here, stopped and counted after the test."""
    made: list[Any] = []

    def make(name: str = "test-worker", *, cls: Any = None, **options: Any) -> Any:
        if cls is None:
            from pytoweb.workers import PythonWorker as cls
        made.append(cls(name, **options))
        return made[-1]

    def stop(one: Any) -> None:
        try:
            one.stop(drain=False, timeout=SETTLE)
        except BaseException:
            # The test fails; what never ends is not to slow down those that follow.
            one.terminate()
            raise

    yield make
    stop_all(made, stop)


@pytest.fixture
def pool(spawn: object) -> Iterator[Callable[..., Any]]:
    """Returns `pool(size, **options)`: a WorkerPool made here, shut down and counted after the test."""
    made: list[Any] = []

    def make(size: int | None = 2, **options: Any) -> Any:
        from pytoweb.workers import WorkerPool

        made.append(WorkerPool(size, **options))
        return made[-1]

    def stop(one: Any) -> None:
        one.stop_all(drain=False, timeout=SETTLE)
        one.shutdown(wait=False, cancel_futures=True)

    yield make
    stop_all(made, stop)


class Gate:
    """A handler that says when it was entered and returns its data when it is let through."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.calls: list[Any] = []

    def __call__(self, data: Any = None) -> Any:
        self.calls.append(data)
        self.entered.set()
        if not self.opened.wait(WAIT):
            raise TimeoutError("the gate was never opened")
        return data

    def wait_entered(self) -> None:
        """Waits until a handler stands in the gate."""
        assert self.entered.wait(WAIT), "no handler came to the gate"

    def open(self) -> None:
        """Lets everyone through, from now on."""
        self.opened.set()


@pytest.fixture
def gates(worker: object, pool: object) -> Iterator[Callable[[], Gate]]:
    """Returns a factory of gates, opened before the workers of the test are stopped."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def gate(gates: Callable[[], Gate]) -> Gate:
    """A gate of the test."""
    return gates()


@pytest.fixture
def blocked(worker: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    """Returns `blocked(**options)`: a started worker whose handler of "gate" stands in the gate."""

    def make(name: str = "blocked", **options: Any) -> Any:
        one = worker(name, **options)
        one.on_message("gate", gate)
        one.start()
        one.post_message("gate")
        gate.wait_entered()
        return one

    return make


@pytest.fixture
def remote(worker: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `remote(name, **options)`: a started process worker with the handlers of `process_handlers`."""

    def make(name: str = "remote", *, start: bool = True, **options: Any) -> Any:
        import process_handlers

        one = worker(name, backend="process", **options)
        for kind, handler in process_handlers.ANSWERING.items():
            one.on_message(kind, handler)
        return one.start() if start else one

    return make


@pytest.fixture
def timed(remote: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `timed(**options)`: one of `remote` whose child is up, with `errors` that `on_error` got."""

    def make(name: str = "timed", **options: Any) -> Any:
        one = remote(name, start=False, **options)
        one.errors = []
        one.on_error(one.errors.append)
        one.start()
        one.pid = one.ask("pid").result(WAIT)
        return one

    return make


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Any]]:
    """Returns `logged()`: the records of workers and pools so far."""
    return lambda: [record for record in caplog.records if record.name.startswith("pytoweb")]


@pytest.fixture
def remote_gates(worker: object, pool: object, tmp_path: Any) -> Iterator[Callable[[], Any]]:
    """Returns a factory of gates for handlers in other processes; opened like those of `gates`."""
    made: list[Any] = []

    def make() -> Any:
        import process_handlers

        directory = tmp_path / f"gate-{len(made)}"
        directory.mkdir()
        made.append(process_handlers.Gate(directory))
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def remote_gate(remote_gates: Callable[[], Any]) -> Any:
    """A gate of the test across processes."""
    return remote_gates()


@pytest.fixture
def remote_blocked(remote: Callable[..., Any], remote_gate: Any) -> Callable[..., Any]:
    """Returns `remote_blocked(**options)`: one like `remote`'s whose child stands in `remote_gate`."""

    def make(name: str = "blocked", **options: Any) -> Any:
        one = remote(name, start=False, **options)
        one.on_message("gate", remote_gate)
        one.start().post_message("gate")
        remote_gate.wait_entered()
        return one

    return make
