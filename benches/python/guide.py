"""Writes a run into the documents: the table of the guide's page about performance, and the README's chart.

`make bench` runs everything twice, on all cores and on one. The first run is kept under `target/`, and the
second adds its column to the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chart
import report
from row import Row

PAGE = Path("docs/guide/09-performance.md")
FIGURES = Path("docs/figures")
KEPT = Path("target/bench/all-cores.json")
"""The run on all cores, for the column of the run on one."""

BEGIN = "<!-- make bench ARGS=--write: begin -->"
END = "<!-- make bench ARGS=--write: end -->"
HEADINGS = ("what", "ours", "peer", "ours", "the peer's", "ratio", "target", "on one core")


class NotWritten(ValueError):
    """The run cannot go into the documents."""


def _figure(row: Row) -> str:
    return report.amount(row.ours.median, row.unit) if row.ratio is None else f"{row.ratio:.2f}x"


def _target(row: Row) -> str:
    missed = ": missed" if row.passed is False else ""
    return report.target(row).replace(">=", "at least").replace("<=", "at most") + missed


def _line(row: Row, alone: Row | None) -> str:
    peer = row.peer
    cells = (
        row.title,
        f"`{row.ours.label}`",
        "-" if peer is None else peer.label,
        report.amount(row.ours.median, row.unit),
        "-" if peer is None else report.amount(peer.median, row.unit),
        "-" if row.ratio is None else f"{row.ratio:.2f}x",
        _target(row),
        "-" if alone is None else _figure(alone),
    )
    return "| " + " | ".join(cells) + " |"


def table(machine: Mapping[str, Any], rows: Sequence[Row], alone: Sequence[Row]) -> str:
    """Returns the Markdown between the marks of the page.

    Args:
        machine: What `machine.describe` returned for the run on all cores.
        rows: Its rows.
        alone: The rows of the run on one core; empty before that has run.
    """
    on_one = {row.name: row for row in alone}
    missed = [row.title for row in rows if row.passed is False]
    lines = [
        f"Printed by `make bench` on {machine['date']}, commit {machine['commit']}: {machine['processor']}, "
        f"{machine['cores_used']} of {machine['cores']} cores, {machine['system']}, {machine['python']}, "
        f"{machine['rustc']}, release builds.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
        *(_line(row, on_one.get(row.name)) for row in rows),
        "",
        f"Missed: {'; '.join(missed)}." if missed else "Every target is met.",
    ]
    return "\n".join(lines)


def _replaced(page: str, content: str) -> str:
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise NotWritten(f"{PAGE} has no {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def write(root: Path, machine: dict[str, Any], rows: Sequence[Row]) -> list[Path]:
    """Writes a full run on all cores, or adds one that was pinned to a core; returns the files written.

    Raises:
        NotWritten: There is no run on all cores that a pinned one could be added to.
        chart.MissingRows: The run has not measured every row of the chart.
    """
    page, kept = root / PAGE, root / KEPT
    alone: Sequence[Row] = ()
    written = [page]
    if machine["pinned"]:
        if not kept.exists():
            raise NotWritten("the run on all cores comes first")
        first = json.loads(kept.read_text(encoding="utf-8"))
        alone, machine, rows = rows, first["machine"], [Row.from_dict(part) for part in first["rows"]]
    else:
        written += chart.write(machine, rows, root / FIGURES)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(report.document(machine, rows, quick=False), encoding="utf-8")
    text = _replaced(page.read_text(encoding="utf-8"), table(machine, rows, alone))
    page.write_text(text, encoding="utf-8")
    return written
