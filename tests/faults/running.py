"""Runs a row in an interpreter of its own, for as long as it may take."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from conftest import FAMILY, family

from .row import START_UP, Figure, Row

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

LATE = 10.0
"""Seconds that a row may be over its time before it is killed: it ends itself, with every stack printed."""

ORPHANED = 1.0
"""Seconds within which every process that a row started is gone after it."""


_running: set[subprocess.Popen[bytes]] = set()


class Result(NamedTuple):
    """What came out."""

    name: str
    injected: int
    figures: list[Figure]
    seconds: float
    load: float
    problem: str
    log: str
    """What the row noted, where a figure is missed."""

    @property
    def met(self) -> bool:
        """Whether everything is as it was asked for."""
        return not self.problem and all(figure.met for figure in self.figures)


def environment(mark: str) -> dict[str, str]:
    """The environment of rows, and of the interpreters that they start."""
    path = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, FAMILY: mark}


def run(row: Row, scale: float, soak: bool = False) -> Result:
    """Runs a row."""
    mark = f"faults-{os.getpid()}-{time.monotonic_ns()}"
    limit = START_UP + row.seconds * scale + LATE + (3600.0 if soak else 0.0)
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        result, output = os.path.join(directory, "result"), os.path.join(directory, "output")
        command = [sys.executable, "-W", "error", "-m", "faults.one", row.name, result, str(scale)]
        load, began = os.getloadavg()[0], time.monotonic()
        with open(output, "wb") as file:
            process = subprocess.Popen(
                command + ["--soak"] * soak, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                cwd=directory, env=environment(mark), start_new_session=True,
            )  # fmt: skip
            _running.add(process)
            try:
                rc: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                rc = None
                process.kill()
                process.wait()
            finally:
                _running.discard(process)
        problems = _orphans(mark)
        seconds = time.monotonic() - began
        with open(output, encoding="utf-8", errors="replace") as file:
            said = file.read()
        told = {"injected": 0, "figures": [], "logged": []}
        with contextlib.suppress(OSError, ValueError), open(result, encoding="utf-8") as file:
            told = json.load(file)
    if rc is None:
        problems.append(f"it was killed after {limit:.0f} s")
    elif rc != 0:
        problems.append(f"it ended with {rc}")
    if said:
        problems.append(f"it printed:\n{said[-6000:]}")
    figures = [Figure(*figure) for figure in told["figures"]]
    log = [] if all(figure.met for figure in figures) else told["logged"]
    return Result(row.name, told["injected"], figures, seconds, load, "\n".join(problems), "\n".join(log))


def end_all() -> None:
    """Kills the rows that run; their children end with them."""
    for process in list(_running):
        process.kill()


def _orphans(mark: str) -> list[str]:
    end = time.monotonic() + ORPHANED
    while (left := family(mark)) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"processes were left: {left}"] if left else []
