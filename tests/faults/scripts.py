"""Interpreters that a row starts besides its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple


class Finished(NamedTuple):
    """How an interpreter ended; without an exit code if it had to be killed."""

    rc: int | None
    stdout: str
    stderr: str


def finished(code: str, *arguments: str, limit: float) -> Finished:
    """Runs a script to its end."""
    with started(code, *arguments) as process:
        try:
            stdout, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            return Finished(None, stdout, f"{stderr}\nkilled after {limit:.0f} s")
    return Finished(process.returncode, stdout, stderr)


@contextlib.contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Starts a script, in a group of its own; it is killed at the end of the body."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
