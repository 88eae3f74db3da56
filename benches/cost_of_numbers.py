"""Measures what the numbers of workers cost: every row of ``run.py``, with them and in a build without.

Our side runs alone; the builds take turns, each time in a process of its own. For Rust, callgrind counts the
instructions of a message as well.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "python"))

import run  # noqa: E402

import builds  # noqa: E402 - these modules live beside the row files, not on the path
import instructions  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402
import rust_rows  # noqa: E402
from row import RATE, Row  # noqa: E402

BOUND = 1.05
"""What a message may cost with its numbers, of what it costs without."""
ROUNDS = 7
SAMPLES = 2
"""Of each process: the processes of one build differ more than the samples of one process."""

LEAST_ROUNDS = 3
"""Fewer say nothing, except of what is counted."""
COUNTED = "Ir"
"""The unit of instructions, of which any run has the same number."""

LOOKS = ("read-numbers", "watched-scrape-cpu", "watched-top-cpu")
"""Rows that time a look at the numbers, and have bounds of their own."""


@dataclass
class Cost:
    """One row with numbers and without: the median of each process, in turn."""

    name: str
    unit: str
    with_numbers: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)

    def _of(self, with_numbers: float, without: float) -> float:
        if not (with_numbers and without):
            return math.nan
        return without / with_numbers if self.unit == RATE else with_numbers / without

    @property
    def ratio(self) -> float:
        """How many times as much it costs with numbers, by the medians."""
        return self._of(statistics.median(self.with_numbers), statistics.median(self.without))

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the ratios of the rounds: how far chance reaches."""
        ratios = [self._of(*pair) for pair in zip(self.with_numbers, self.without)]
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> str:
        """Within the bound or above it, where three of four rounds say so; else it may be either."""
        low, high = self.spread
        if self.unit != COUNTED and len(self.with_numbers) < LEAST_ROUNDS:
            return "unsure"
        return "pass" if high <= BOUND else "ABOVE" if low > BOUND else "unsure"


def _measure(group: str, build: builds.Build, options: argparse.Namespace) -> list[Row]:
    arguments = ["--alone", "--samples", str(options.samples)]
    if group == run.RUST:
        named = options.only if any(options.only in row for row in rust_rows.ROWS) else ""
        return rust_rows.run(quick=options.quick, only=named, target=build.rust, arguments=arguments)
    return run.measure(group, quick=options.quick, arguments=arguments, environment=build.environment())


def _compare(group: str, options: argparse.Namespace) -> list[Cost]:
    """Measures the rows of one group, both builds in turn; every second round begins with the other one."""
    costs: dict[str, Cost] = {}
    shown: dict[tuple[float, ...], str] = {}
    for number in range(options.rounds):
        print(f"measuring {group}, round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        order = [builds.WITH, builds.WITHOUT]
        for build in order if number % 2 == 0 else reversed(order):
            for row in _measure(group, build, options):
                # Rows that compare the same samples with another peer are one row here.
                samples = (build.has_numbers, *row.ours.samples)
                same = row.unit == RATE or len(row.ours.samples) > 1
                if row.name in LOOKS or (same and shown.setdefault(samples, row.name) != row.name):
                    continue
                cost = costs.setdefault(row.name, Cost(row.name, row.unit))
                (cost.with_numbers if build.has_numbers else cost.without).append(row.ours.median)
    return [cost for cost in costs.values() if cost.with_numbers and cost.without]


def _count(only: str) -> Iterator[Cost]:
    """Instructions of each shape of message, from Python and from Rust."""
    script = [sys.executable, str(HERE / "python" / "counted.py")]
    shapes = [(f"instructions-{shape}", shape, False) for shape in instructions.PYTHON_SHAPES]
    shapes += [(f"instructions-rust-{shape}", shape, True) for shape in instructions.RUST_SHAPES]
    named = [shape for shape in shapes if only in shape[0]]
    both = (builds.WITH, builds.WITHOUT)
    has_rust = any(is_rust for *_, is_rust in named)
    programs = {build: [str(build.instructions())] for build in both if has_rust}
    for name, shape, is_rust in named:
        print(f"counting {name}", file=sys.stderr, flush=True)
        counts = [
            instructions.of_message([*(programs[build] if is_rust else script), shape], build.environment())
            for build in both
        ]
        yield Cost(name, COUNTED, *([count] for count in counts))


def _lines(costs: Sequence[Cost]) -> list[str]:
    columns = ["row", "with", "without", "ratio", "quartiles", "bound", "verdict"]
    cells = [columns]
    for cost in costs:
        low, high = cost.spread
        medians = map(statistics.median, (cost.with_numbers, cost.without))
        sides = [report.amount(median, cost.unit) for median in medians]
        ratio, between = f"{cost.ratio:.3f}x", f"{low:.2f} to {high:.2f}"
        cells.append([cost.name, *sides, ratio, between, f"<= {BOUND:g}x", cost.verdict])
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    said = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="benches/cost_of_numbers.py", description=said)
    parser.add_argument("--quick", action="store_true", help="a smoke run: few messages and rounds")
    parser.add_argument("--pin", type=int, metavar="CORE", help="run everything on this one core")
    parser.add_argument("--only", metavar="NAME", default="", help="only rows or groups named like this")
    parser.add_argument("--rounds", type=int, default=0, help=f"processes of each build ({ROUNDS})")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"samples of each process ({SAMPLES})")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else ROUNDS)
    if options.rounds < 1 or options.samples < 1:
        parser.error("--rounds and --samples want a positive number")
    return options


def main() -> int:
    """Builds, measures and prints; returns 1 if a group failed, 2 for a bad command line, else 0."""
    options = arguments()
    groups = [group for group, rows in run.ROWS_OF.items() if run.selected(rows, group, options.only)]
    with_rust = run.selected(run.RUST_ROWS, run.RUST, options.only)
    counts = options.only in "instructions" or options.only.startswith("instructions")
    if not (groups or with_rust or counts):
        print(f"no row or group is named like {options.only!r}", file=sys.stderr)
        return 2
    for build in (builds.WITH, builds.WITHOUT):
        print(f"building {'with' if build.has_numbers else 'without'} numbers", file=sys.stderr, flush=True)
        build.make(python=bool(groups) or counts, rust=with_rust)
    costs: list[Cost] = []
    notes = [f"Not judged, since they time a look at the numbers: {', '.join(LOOKS)}."]
    if counts and instructions.valgrind() is None:
        notes.append("valgrind is not installed: the instructions of a message were not counted.")
    elif counts:
        # Before the affinity is set: a count is the same anywhere, and builds want all cores.
        costs += _count(options.only)
    if options.pin is not None:
        os.sched_setaffinity(0, {options.pin})
    if machine.cores_used() < 2:
        left_out = [group for group in groups if group in run.NEEDS_TWO_CORES]
        groups = [group for group in groups if group not in left_out]
        notes += [f"Not measured on one core: {', '.join(left_out)}."] if left_out else []
    failed = []
    for group in groups + ([run.RUST] if with_rust else []):
        try:
            measured = _compare(group, options)
        except subprocess.SubprocessError as error:
            print(f"{group} failed: {error}", file=sys.stderr)
            failed.append(group)
            continue
        # One that names rows wants no others of their group.
        named = [cost for cost in measured if options.only in cost.name]
        costs += named or measured
    header = machine.describe(HERE.parent, pinned=options.pin is not None)
    load = os.getloadavg()[0]
    print(
        f"{header['processor']}, {header['cores_used']} of {header['cores']} cores"
        f"{' (pinned)' if header['pinned'] else ''}, load {load:.1f}, {header['system']}\n"
        f"{header['python']}, {header['rustc']}, pytoweb {header['pytoweb']}, commit {header['commit']}, "
        f"{header['date']}\n"
        f"Medians of {options.rounds} processes of each build, in turn, {options.samples} samples each.\n"
        "A ratio above 1 is what the numbers cost; the quartiles are those of the rounds' ratios."
    )
    if options.quick:
        print("QUICK RUN: few messages and rounds, for a look at the harness, not for quoting.")
    print("", *_lines(costs), "", *notes, sep="\n")
    verdicts = Counter(cost.verdict for cost in costs)
    counts_of = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("pass", "ABOVE", "unsure"))
    print(f"{len(costs)} rows: {counts_of}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
