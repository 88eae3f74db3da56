"""The fault run at a fiftieth of its size: each row must have its counts. See faults/README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from faults import rows
from faults.running import environment

SCALE = 0.02
JOBS = 2
POLL = 0.01
LIMIT = 230.0
"""Seconds for the longest row, which ends itself before, and for the one before it."""
LINUX = hasattr(os, "pidfd_open") and os.path.isdir("/proc/self")
"""The rows look at processes from outside, by what only Linux has."""
TIMES = (" ms", " s", " times", " per cent")
"""Units of figures that only `make faults` judges: here it has the machine with other tests."""
FLOODS = ("flood-thread-block", "flood-process-drop_oldest")
"""Of the floods those that stand for all: each takes some seconds, however small it is."""
# The longest first, so that it is not what is waited for in the end.
NAMES = sorted(
    (name for name in rows() if not name.startswith("flood-") or name in FLOODS),
    key=lambda name: name != "soak",
)


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    """Returns `results(name)`: what came out of a row; those that were chosen run side by side."""
    if not LINUX:
        yield None
        return
    chosen = [item.callspec.params["name"] for item in request.session.items if item.module is request.module]
    path = tmp_path_factory.mktemp("faults") / "results"
    command = [sys.executable, "-m", "faults", "--json", "--scale", str(SCALE), "--jobs", str(JOBS)]
    for name in dict.fromkeys(chosen):
        command += ["--only", name]
    with open(path, "wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env=environment(f"faults-{os.getpid()}"),
        )  # fmt: skip

    def look(name):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and json.loads(line)["name"] == name:
                return json.loads(line)
        return None

    def wait(name):
        end = time.monotonic() + LIMIT
        while (found := look(name)) is None and process.poll() is None and time.monotonic() < end:
            time.sleep(POLL)
        return found or look(name)

    yield wait
    process.terminate()
    process.wait(LIMIT)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_injected_is_survived(require, results, name):
    require(LINUX, "Linux")
    result = results(name)
    assert result is not None, "the row did not come to its end"
    assert result["injected"] > 0
    missed = [figure for figure in result["figures"] if not figure["met"] and figure["unit"] not in TIMES]
    assert (missed, result["problem"]) == ([], ""), result["log"]
