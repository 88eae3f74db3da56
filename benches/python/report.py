"""The table and the JSON document of a finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from row import RATE, Row

COLUMNS = ("row", "ours", "peer", "ratio", "target", "verdict", "what")
RIGHT_ALIGNED = {"ours", "peer", "ratio", "target"}
GAP = "  "


def amount(value: float, unit: str) -> str:
    """Returns a figure in three digits or so, with its unit."""
    if unit != RATE:
        digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 10 else 3
        return f"{value:,.{digits}f} {unit}"
    for limit, sign in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.2f} {sign}/s" if value < 100 * limit else f"{value / limit:.0f} {sign}/s"
    return f"{value:.0f} /s"


def target(row: Row) -> str:
    """Returns the bound, as a ratio or, without a peer, as a figure."""
    if row.target is None:
        return "-"
    limit = f"{row.target:g}x" if row.peers else amount(row.target, row.unit)
    return f"{row.bound} {limit}"


def verdict(row: Row) -> str:
    """Returns what the target column was decided to be."""
    return {None: "-", True: "pass", False: "MISSED"}[row.passed]


def cells(row: Row) -> list[str]:
    """Returns one line of the table, column by column."""
    peer, ratio = row.peer, row.ratio
    return [
        row.name,
        amount(row.ours.median, row.unit),
        "-" if peer is None else amount(peer.median, row.unit),
        "-" if ratio is None else f"{ratio:.2f}x",
        target(row),
        verdict(row),
        f"{row.title}: {row.ours.label}" + ("" if peer is None else f" against {peer.label}"),
    ]


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[index]) for line in lines) for index in range(len(COLUMNS))]
    return [
        GAP.join(
            cell.rjust(width) if column in RIGHT_ALIGNED else cell.ljust(width)
            for cell, width, column in zip(line, widths, COLUMNS)
        ).rstrip()
        for line in lines
    ]


def table(machine: dict[str, Any], rows: Sequence[Row], *, quick: bool, omitted: Sequence[str] = ()) -> str:
    """Returns header, aligned rows, the peers that were not the best one, and the notes.

    Args:
        machine: What :func:`machine.describe` returned.
        rows: What was measured.
        quick: Whether it was a smoke run.
        omitted: Names of rows that need more cores than the run had.
    """
    cores = f"{machine['cores_used']} of {machine['cores']} cores"
    lines = [
        f"{machine['processor']}, {cores}{' (pinned)' if machine['pinned'] else ''}, {machine['system']}",
        f"{machine['python']}, {machine['rustc']}, pytoweb {machine['pytoweb']}, "
        f"commit {machine['commit']}, {machine['date']}",
        "Medians; ours and the peer alternate in one run. A rate is better high, a time or a size low.",
    ]
    if quick:
        lines.append("QUICK RUN: few messages and rounds, for a look at the harness, not for quoting.")
    body = _aligned([COLUMNS, *(cells(row) for row in rows)])
    lines += ["", body[0], "-" * max(map(len, body)), *body[1:]]
    others = [
        f"  {row.name}: " + ", ".join(f"{side.label} {amount(side.median, row.unit)}" for side in row.peers)
        for row in rows
        if len(row.peers) > 1
    ]
    if others:
        lines += ["", "All peers of the rows that have several (the table shows the best):", *others]
    notes = [f"  {row.name}: {note}" for row in rows for note in row.notes]
    if notes:
        lines += ["", "Notes:", *notes]
    if omitted:
        lines += ["", f"Not measured on one core, where they can show nothing: {', '.join(omitted)}."]
    judged = [row for row in rows if row.passed is not None]
    met = sum(1 for row in judged if row.passed)
    lines += ["", f"{met} of {len(judged)} targets met."]
    return "\n".join(lines)


def document(
    machine: dict[str, Any], rows: Sequence[Row], *, quick: bool, omitted: Sequence[str] = ()
) -> str:
    """Returns one JSON document with every sample; the arguments are those of :func:`table`."""
    parts = {
        "machine": machine,
        "quick": quick,
        "rows": [row.to_dict() for row in rows],
        "omitted": list(omitted),
    }
    return json.dumps(parts, indent=2)
