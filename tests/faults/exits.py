"""The end of the interpreter, in several ways, while process workers run, are blocked, or have a queue."""

from __future__ import annotations

import itertools
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .book import Book
from .row import WAIT, Trial, percentile, row
from .scripts import started

SCRIPT = """
import contextlib, sys, threading
from faults.book import Book
from faults.handlers import Last
from pytoweb.workers import PythonWorker, WorkerPool, WorkerStoppedError

state, end, path = sys.argv[1:]
last = Last(Book(path))
blocked = state == "blocked"
if state == "pool":
    target = WorkerPool(2, backend="process")
else:
    target = PythonWorker("exiting", backend="process", capacity=1 if blocked else 100)
target.on_message("last", last)
if state != "pool":
    target.start()
target.ask("last", 0.0).result(20)
# Long enough for a Ctrl-C that is to come while it runs.
future = target.ask("last", 0.3 if end == "interrupt" else 0.05)
for number in range({"queued": 50, "pool": 50}.get(state, 0)):
    target.post_message("last", 0.002)
if blocked:
    # It waits for room when the main thread ends, and then is refused.
    def post():
        with contextlib.suppress(WorkerStoppedError):
            while True:
                target.post_message("last", 0.01)
    threading.Thread(target=post).start()
if end == "sys.exit":
    sys.exit(3)
if end == "exception":
    raise LookupError("on purpose")
if end == "interrupt":
    print("waits", flush=True)
    future.result(20)
"""

STATES = ("running", "blocked", "queued", "pool")
ENDS = {
    "end": (0, ""),
    "sys.exit": (3, ""),
    "exception": (1, "LookupError: on purpose"),
    "interrupt": (-signal.SIGINT, "KeyboardInterrupt"),
}
"""Exit code and last line of stderr of each end."""

AT_ONCE = 2
"""Interpreters side by side: their start-up is what takes the time."""


class End(NamedTuple):
    """How an interpreter ended."""

    problem: str
    past: float
    """Seconds between the end of its last handler and its own."""


def run(state: str, end: str, path: str) -> End:
    """Runs one interpreter."""
    book = Book(path, 8)
    with started(SCRIPT, state, end, path) as process:
        if end == "interrupt":
            assert process.stdout is not None
            process.stdout.readline()
            # It may be on its way into `result()`; Ctrl-C ends it there, or on the way.
            process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=WAIT)
        except Exception:
            return End(f"{state}, {end}: it hangs", float("inf"))
        past = time.monotonic() - book.stamped(0)
    book.close()
    code, line = ENDS[end]
    said = stderr.rstrip().rsplit("\n", 1)[-1]
    quiet = stderr.count("Traceback") == bool(line)
    right = process.returncode == code and said == line and quiet
    return End("" if right else f"{state}, {end}: {process.returncode}, {stderr[-1500:]}", past)


@row("interpreter-exits", 900)
def interpreter_exits(trial: Trial) -> None:
    """Five hundred interpreters, each state with each end."""
    cases = list(itertools.product(STATES, ENDS))
    count = trial.count(500, least=len(cases))
    with ThreadPoolExecutor(AT_ONCE) as executor:
        ends = list(executor.map(
            lambda number: run(*cases[number % len(cases)], trial.path(f"exit-{number}")), range(count)
        ))  # fmt: skip
    trial.injected = count
    wrong = [end.problem for end in ends if end.problem]
    trial.logged += wrong[:5]
    past = [end.past for end in ends]
    trial.exactly("wrong exit codes or output", len(wrong))
    trial.tell("past the work median", percentile(past, 0.5), " s")
    trial.at_most("past the work max", max(past), 2, " s")
