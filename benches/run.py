"""Runs every side-by-side benchmark and prints one table, or with ``--json`` one document.

Each group of rows runs in a process of its own, so that no group inherits another's heap or
threads; within a group ours and its peers alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "python"))

import chart  # noqa: E402 - these modules live beside the row files, not on the path
import guide  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402
import rust_rows  # noqa: E402
from row import Row  # noqa: E402

ROWS_OF = {
    "throughput": ("thread-post", "thread-post-batch", "thread-post-call", "thread-ask", "pool-submit"),
    "control": (
        "control-priority",
        "control-key",
        "control-million-keys",
        "control-batch-thread",
        "control-batch-thread-10us",
        "control-batch-process",
        "control-batch-process-10us",
    ),
    "watched": ("watched-scrape", "watched-scrape-cpu", "watched-top", "watched-top-cpu"),
    "streams": ("stream-thread", "stream-process"),
    "streams_million": ("stream-million-thread", "stream-million-thread-queue", "stream-million-process"),
    "balance": ("control-balance", "control-balance-process"),
    "round_trip": ("round-trip-p50", "round-trip-p99"),
    "asyncio_rows": ("asyncio-ask", "asyncio-gather", "asyncio-gather-tasks"),
    "many_workers": (
        "many-workers-spread",
        "many-workers-bursts",
        "idle-worker-memory",
        "idle-worker-memory-used",
        "read-numbers",
    ),
    "neighbours": ("greedy-neighbour-1", "greedy-neighbour-2"),
    "queued_memory": ("queued-ask-memory", "queued-ask-memory-process"),
    "growth": ("growth-queued", "growth-workers"),
    "import_time": ("import-time",),
    "process_messages": (
        "process-ask",
        "process-ask-others",
        "process-ask-records",
        "process-submit",
        "process-post",
        "process-trip-p50",
        "process-trip-p50-others",
        "process-trip-p99",
        "process-trip-p99-others",
    ),
    "process_payloads": (
        "process-bytes",
        "process-bytes-others",
        "process-array",
        "process-array-others",
    ),
    "process_script": (
        "script-submit",
        "script-submit-plain",
        "script-submit-records",
        "map-files",
        "map-files-chunks",
        "map-imported",
        "map-script",
    ),
    "process_compute": ("process-compute",),
    "recording": (
        "report-thread",
        "report-thread-10us",
        "report-process",
        "report-process-10us",
    ),
    "process_life": (
        "process-memory-rss",
        "process-memory-pss",
        "process-start",
        "process-start-fork",
        "process-kill",
    ),
}
"""File in ``python/`` to the rows it prints, so that ``--only`` starts no group in vain."""

NEEDS_TWO_CORES = ("process_compute",)
"""Groups whose rows ask what a second core is good for: left out, and named, where there is one."""

RUST = "rust"
RUST_ROWS = rust_rows.ROWS
GROUP_SECONDS = 600
"""Upper bound of one group, many times what it takes: a hang ends here."""


def selected(rows: Sequence[str], group: str, only: str | None) -> bool:
    """Tells whether ``--only`` asks for any row of a group, by part of a row's or the group's name."""
    return only is None or only in group or any(only in row for row in rows)


def measure(
    group: str, *, quick: bool, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> list[Row]:
    """Runs one row file in a fresh interpreter.

    Args:
        group: The file's name, without its end.
        quick: Whether it is a smoke run.
        arguments: More of them for the file.
        environment: That of the interpreter, if it is not this one's.

    Raises:
        subprocess.CalledProcessError: The group failed; its traceback is on standard error.
        subprocess.TimeoutExpired: The group took longer than ``GROUP_SECONDS``.
    """
    file = str(HERE / "python" / f"{group}.py")
    command = [sys.executable, file, *(["--quick"] if quick else []), *arguments]
    printed = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=GROUP_SECONDS, env=environment
    )
    return [Row.from_dict(part) for part in json.loads(printed.stdout)]


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benches/run.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document with every sample")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few messages and rounds")
    parser.add_argument("--pin", type=int, metavar="CORE", help="run everything on this one core")
    parser.add_argument("--only", metavar="NAME", help="only rows or groups whose name contains this")
    parser.add_argument(
        "--write", action="store_true", help="write the run into the guide and draw the README's chart"
    )
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write wants a full run, without --quick and --only")
    return options


def main() -> int:
    """Runs what was asked for; returns 1 if a group failed, 2 for a bad command line, else 0."""
    options = arguments()
    groups = [group for group, rows in ROWS_OF.items() if selected(rows, group, options.only)]
    with_rust = selected(RUST_ROWS, RUST, options.only)
    if not groups and not with_rust:
        print(f"no row or group is named like {options.only!r}", file=sys.stderr)
        return 2
    if with_rust:
        print("building the Rust rows", file=sys.stderr, flush=True)
        rust_rows.build()
    if options.pin is not None:
        # Before any thread or child exists: all of them inherit it.
        os.sched_setaffinity(0, {options.pin})
    alone = machine.cores_used() < 2
    left_out = [group for group in groups if alone and group in NEEDS_TWO_CORES]
    groups = [group for group in groups if group not in left_out]
    rows: list[Row] = []
    failed = []
    for group in groups + ([RUST] if with_rust else []):
        print(f"measuring {group}", file=sys.stderr, flush=True)
        try:
            quick = options.quick
            if group == RUST:
                # One that names the group asks for all of its rows.
                named = [row for row in RUST_ROWS if options.only and options.only in row]
                rows += rust_rows.run(quick=quick, only=options.only if named else "")
            else:
                rows += measure(group, quick=quick)
        except subprocess.SubprocessError as error:
            print(f"{group} failed: {error}", file=sys.stderr)
            failed.append(group)
    named = [row for row in rows if options.only is not None and options.only in row.name]
    rows = named or rows
    header = machine.describe(HERE.parent, pinned=options.pin is not None)
    show = report.document if options.json else report.table
    omitted = [row for group in left_out for row in ROWS_OF[group]]
    print(show(header, rows, quick=options.quick, omitted=omitted))
    if options.write and not failed:
        try:
            written = guide.write(HERE.parent, header, rows)
        except (guide.NotWritten, chart.MissingRows) as error:
            print(f"not written: {error}", file=sys.stderr)
            return 1
        print(f"wrote {', '.join(str(path) for path in written)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
