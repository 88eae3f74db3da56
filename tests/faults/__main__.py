"""``python -m faults``: runs the rows and prints a table; exit code 1 if something asked for was missed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from . import rows
from .running import Result, end_all, run


def main() -> int:
    """Runs the rows."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size (default: 1)")
    parser.add_argument("--only", action="append", metavar="NAME", help="run this row; may be repeated")
    parser.add_argument("--soak", action="store_true", help="let the row 'soak' take an hour")
    parser.add_argument("--jobs", type=int, default=1, help="rows side by side (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    arguments = parser.parse_args()
    known = rows()
    if arguments.list:
        print(*known, sep="\n")
        return 0
    chosen = arguments.only or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown or not arguments.scale > 0:
        parser.error(f"unknown rows {unknown}" if unknown else "--scale must be above 0")
    if not arguments.json:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        python, system = platform.python_version(), f"{platform.system()} {platform.release()}"
        date = time.strftime("%Y-%m-%d")
        print(f"CPython {python}, {system}, {cores} cores, scale {arguments.scale:g}, {date}")
        print("figures in brackets are what is asked for\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    missed = []
    with ThreadPoolExecutor(max(1, arguments.jobs)) as executor:
        for result in executor.map(
            lambda name: run(known[name], arguments.scale, arguments.soak and name == "soak"), chosen
        ):
            if not result.met:
                missed.append(result.name)
            print(as_json(result) if arguments.json else as_text(result), flush=True)
    if not arguments.json:
        print(f"\n{len(chosen) - len(missed)} of {len(chosen)} met", *missed, sep="\nmissed: ")
    return 1 if missed else 0


def leave(number: int, frame: object) -> None:
    """Ends the rows that run, which have sessions of their own, and this."""
    end_all()
    os._exit(128 + number)


def as_text(result: Result) -> str:
    """A row of the table, and what went wrong."""
    lines = [
        f"{'met' if result.met else 'MISSED':7}{result.name:22}{result.injected:>8} injected, "
        f"{result.seconds:.1f} s, load {result.load:.1f}"
    ]
    for figure in result.figures:
        lines.append(f"    {'  ' if figure.met else '! '}{figure}")
    lines += [f"    ! {line}" for line in (result.problem + "\n" + result.log).splitlines() if line]
    return "\n".join(lines)


def as_json(result: Result) -> str:
    """The same for programs."""
    figures = [{**figure._asdict(), "met": figure.met} for figure in result.figures]
    return json.dumps({**result._asdict(), "figures": figures, "met": result.met})


if __name__ == "__main__":
    sys.exit(main())
