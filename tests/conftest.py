"""What every test shares: the check that nothing is left behind, and tools that stop what they made.

The rules are in README.md beside this file.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

WAIT = 10.0
"""Seconds after which a wait in a test counts as a hang: far above what any state takes to come."""

SETTLE = 5.0
"""Seconds that threads and descriptors get to be gone after a test."""

POLL = 0.002
"""Seconds between two looks at a state that nothing announces."""

IN_CI = os.environ.get("CI", "").lower() == "true"

# The same examples in every run: a failure that comes and goes tells nobody where to look.
settings.register_profile("pytoweb", derandomize=True, deadline=None, database=None)
settings.load_profile("pytoweb")

OUTCOMES = ("completed", "failed", "dropped", "cancelled", "expired")


def pytest_collection_finish() -> None:
    """Takes what the test tools allocated out of the collections that follow each test."""
    gc.collect()
    gc.freeze()


def os_threads() -> set[int]:
    """Returns the ids of the threads of this process, those Python does not know included."""
    with contextlib.suppress(FileNotFoundError):
        return {int(entry) for entry in os.listdir("/proc/self/task")}
    return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}


def descriptors() -> dict[int, str]:
    """Returns the open file descriptors and what they point to, without the one used to look."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        return found
    for number in range(256):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found[number] = "open"
    return found


def left_behind(threads: set[int], files: dict[int, str]) -> list[str]:
    """Says which threads and descriptors exist now that did not exist before."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    left = [f"thread {tid} ({names.get(tid, 'not known to Python')})" for tid in os_threads() - threads]
    now = descriptors()
    left += [f"descriptor {number} ({now[number]})" for number in now.keys() - files.keys()]
    return left


def close_default_pool() -> None:
    """Shuts down the process-wide pool, which outlives a test on purpose."""
    workers = sys.modules.get("pytoweb.workers")
    if workers is not None:
        workers.default_pool().shutdown(wait=False, cancel_futures=True)


def settle(threads: set[int], files: dict[int, str]) -> list[str]:
    """Waits until nothing is left behind; returns what still is after SETTLE seconds."""
    close_default_pool()
    gc.collect()
    left = left_behind(threads, files)
    deadline = time.monotonic() + SETTLE
    while left and time.monotonic() < deadline:
        time.sleep(POLL)
        gc.collect()
        left = left_behind(threads, files)
    return left


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails the test after which a thread, a descriptor or an unreported error is left (I4)."""
    threads, files = os_threads(), descriptors()
    problems: list[str] = []

    def unraisable(args: Any) -> None:
        problems.append(f"unraisable {args.exc_type.__name__}: {args.err_msg} in {args.object!r:.200}")

    def thread_failed(args: Any) -> None:
        problems.append(f"uncaught {args.exc_type.__name__} in {args.thread!r}")

    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = unraisable, thread_failed
    try:
        yield
        problems += [f"left behind: {what}" for what in settle(threads, files)]
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


class Finished(NamedTuple):
    """How an interpreter ended."""

    rc: int
    stdout: str
    stderr: str


@pytest.fixture
def run_python(tmp_path: Any) -> Callable[..., Finished]:
    """Returns `run_python(code, timeout=WAIT)`: runs a snippet in a fresh interpreter."""

    def run(code: str, *, timeout: float = WAIT, flags: tuple[str, ...] = ()) -> Finished:
        script = tmp_path / "snippet.py"
        script.write_text(code, encoding="utf-8")
        env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
        try:
            done = subprocess.run(
                [sys.executable, *flags, str(script)],
                capture_output=True, text=True, timeout=timeout, cwd=tmp_path, env=env, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            pytest.fail(f"no exit within {timeout} s; stdout {late.stdout!r}, stderr {late.stderr!r}")
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


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


@pytest.fixture
def worker(spawn: object) -> Iterator[Callable[..., Any]]:
    """Returns `worker(name, cls=PythonWorker, **options)`: made here, stopped and counted after the test."""
    made: list[Any] = []

    def make(name: str = "test-worker", *, cls: Any = None, **options: Any) -> Any:
        if cls is None:
            from pytoweb.workers import PythonWorker as cls
        made.append(cls(name, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop(drain=False, timeout=SETTLE)
        check_adds_up(one.stats())


@pytest.fixture
def pool(spawn: object) -> Iterator[Callable[..., Any]]:
    """Returns `pool(size, **options)`: a WorkerPool made here, shut down and counted after the test."""
    made: list[Any] = []

    def make(size: int | None = 2, **options: Any) -> Any:
        from pytoweb.workers import WorkerPool

        made.append(WorkerPool(size, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop_all(drain=False, timeout=SETTLE)
        one.shutdown(wait=False, cancel_futures=True)
        check_adds_up(one.stats())


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
