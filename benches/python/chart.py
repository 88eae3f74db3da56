"""The chart of the README: six rows of a run as an SVG picture, for light and for dark pages.

A row has two bars, ours and the peer's. A bar is as long as its side is fast, and the faster side of a row
has the whole width, so that each row is read by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from report import amount
from row import RATE, Row

LABELS: Mapping[str, str] = {
    "thread-ask": "Ask a worker, then take the replies",
    "pool-submit": "Submit a function to 4 threads",
    "asyncio-ask": "Await replies in 64 asyncio tasks",
    "script-submit": "Submit a function of your script to 2 processes",
    "process-bytes": "Send 1 MiB to a process and get it back",
    "map-script": "Map a function of your script over many numbers, in chunks, 2 processes",
}
"""The rows of the chart, in this order, and what the user does in each."""


@dataclass(frozen=True)
class Theme:
    """The colours of one picture."""

    name: str
    text: str
    faint: str
    ours: str
    peer: str


THEMES = (
    Theme("light", text="#1f2328", faint="#59636e", ours="#0969da", peer="#afb8c1"),
    Theme("dark", text="#f0f6fc", faint="#9198a1", ours="#58a6ff", peer="#484f58"),
)

WIDTH = 820
LEFT, BAR_WIDTH = 10, 500
ROW_HEIGHT, HEAD, FOOT = 66, 34, 34
BAR_HEIGHT, BAR_GAP = 15, 3
LEAST_BAR = 3
"""Pixels: a bar that is hundreds of times shorter is still to be seen."""
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


class MissingRows(ValueError):
    """The run has not measured every row of the chart."""


def chosen(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of the chart, in its order.

    Raises:
        MissingRows: Some were not measured.
    """
    known = {row.name: row for row in rows}
    missing = [name for name in LABELS if name not in known or known[name].peer is None]
    if missing:
        raise MissingRows(f"the chart needs the rows {', '.join(missing)}")
    return [known[name] for name in LABELS]


def speed(row: Row) -> tuple[float, float]:
    """Returns how fast ours and the peer are, in any unit that they share."""
    peer = row.peer
    assert peer is not None
    if row.unit == RATE:
        return row.ours.median, peer.median
    return 1 / row.ours.median, 1 / peer.median


def times(row: Row) -> str:
    """Returns how many times as fast ours is, as a person would say it."""
    ours, peer = speed(row)
    ratio = ours / peer
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.1f}x"


def _text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(content)}</text>'


def _bar(top: float, share: float, kind: str, label: str) -> list[str]:
    width = max(LEAST_BAR, share * BAR_WIDTH)
    return [
        f'<rect x="{LEFT}" y="{top:g}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2" class="{kind}"/>',
        _text(LEFT + width + 6, top + BAR_HEIGHT - 3, label, "figure"),
    ]


def _row(row: Row, top: float) -> list[str]:
    ours, theirs = speed(row)
    peer = row.peer
    assert peer is not None
    fastest = max(ours, theirs)
    first = top + 22
    return [
        _text(LEFT, top + 14, LABELS[row.name], "what"),
        _text(WIDTH - 10, top + 14, times(row), "ratio"),
        *_bar(first, ours / fastest, "ours", amount(row.ours.median, row.unit)),
        *_bar(
            first + BAR_HEIGHT + BAR_GAP,
            theirs / fastest,
            "peer",
            f"{amount(peer.median, row.unit)}  {peer.label}",
        ),
    ]


def svg(machine: Mapping[str, Any], rows: Sequence[Row], theme: Theme) -> str:
    """Returns the picture in the colours of a theme.

    Args:
        machine: What `machine.describe` returned.
        rows: The rows of the run; those of the chart are among them.
        theme: The colours.

    Raises:
        MissingRows: Some rows of the chart were not measured.
    """
    shown = chosen(rows)
    height = HEAD + ROW_HEIGHT * len(shown) + FOOT
    spoken = "; ".join(f"{LABELS[row.name]}: {times(row)} the speed of {_label(row)}" for row in shown)
    foot = f"{machine['cores_used']} cores, {machine['processor']}, {machine['python']}, {machine['date']}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">',
        '<title id="title">PytoWeb Workers next to the standard library</title>',
        f'<desc id="desc">{escape(spoken)}</desc>',
        "<style>",
        f"text {{ font-family: {FONT}; fill: {theme.text}; font-size: 14px }}",
        ".what { font-weight: 600 }",
        ".ratio { font-weight: 700; text-anchor: end; font-size: 17px }",
        f".figure, .note {{ font-size: 12px; fill: {theme.faint} }}",
        f".ours {{ fill: {theme.ours} }} .peer {{ fill: {theme.peer} }}",
        "</style>",
        f'<rect x="{LEFT}" y="8" width="12" height="12" rx="2" class="ours"/>',
        _text(LEFT + 18, 18, "PytoWeb Workers", "note"),
        f'<rect x="{LEFT + 130}" y="8" width="12" height="12" rx="2" class="peer"/>',
        _text(
            LEFT + 148, 18, "the standard library; longer is faster, each row on a scale of its own", "note"
        ),
    ]
    for number, row in enumerate(shown):
        lines += _row(row, HEAD + number * ROW_HEIGHT)
    lines += [_text(LEFT, height - 12, foot, "note"), "</svg>"]
    return "\n".join(lines) + "\n"


def _label(row: Row) -> str:
    return "" if row.peer is None else row.peer.label


def write(machine: Mapping[str, Any], rows: Sequence[Row], folder: Path) -> list[Path]:
    """Writes the picture of each theme, ``speed-<theme>.svg``; returns the files.

    Raises:
        MissingRows: Some rows of the chart were not measured; nothing is written.
    """
    pictures = {folder / f"speed-{theme.name}.svg": svg(machine, rows, theme) for theme in THEMES}
    folder.mkdir(parents=True, exist_ok=True)
    for path, picture in pictures.items():
        path.write_text(picture, encoding="utf-8")
    return list(pictures)
