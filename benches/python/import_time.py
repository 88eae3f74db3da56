"""Row of the import: time in a fresh interpreter, and proof that it starts no thread."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from rounds import Plan, main
from row import AT_MOST, Row, Side

INTERPRETERS = 11
QUICK_INTERPRETERS = 5
LIMIT_MS = 30
CHILD_SECONDS = 30

CHILD = """
import json, os, threading, time
tasks = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
before = tasks()
begin = time.perf_counter()
import pytoweb.workers
taken = time.perf_counter() - begin
print(json.dumps({"ms": taken * 1e3, "threads": threading.active_count(), "new_tasks": tasks() - before}))
"""
"""Nothing but the import is timed; the module's own dependencies count, the interpreter's start does not."""


def import_once() -> float:
    """Imports in a fresh interpreter.

    Returns:
        The time in milliseconds.

    Raises:
        AssertionError: The import started a thread.
    """
    printed = subprocess.run(
        [sys.executable, "-c", CHILD],
        check=True,
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
    ).stdout
    child = json.loads(printed)
    if child["threads"] != 1 or child["new_tasks"] != 0:
        raise AssertionError(f"the import started a thread: {child}")
    return float(child["ms"])


def import_rows(plan: Plan) -> Iterator[Row]:
    """Import of ``pytoweb.workers``, after one unmeasured import that leaves the byte code behind."""
    import_once()
    samples = [import_once() for _ in range(QUICK_INTERPRETERS if plan.quick else INTERPRETERS)]
    yield Row(
        "import-time",
        f"import of pytoweb.workers, {len(samples)} fresh interpreters, no thread started",
        "ms",
        Side("pytoweb.workers", samples),
        bound=AT_MOST,
        target=LIMIT_MS,
    )


if __name__ == "__main__":
    main([import_rows])
