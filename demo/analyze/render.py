"""The report as text: with rich on a terminal, in plain aligned columns elsewhere or without rich."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from analyze.report import Table, headline, report_tables

if TYPE_CHECKING:
    from analyze.run import Analysis

GAP = "  "
"""Between two columns."""


def text_report(analysis: Analysis) -> str:
    """Renders the report for standard output as it is now: a terminal or not, with rich or without.

    Honours `NO_COLOR`, and `FORCE_COLOR` where there is no terminal.

    Args:
        analysis: What came out.

    Returns:
        The text with its last line end.
    """
    title, tables = headline(analysis), report_tables(analysis)
    if _is_terminal():
        rich = render_rich(title, tables)
        if rich is not None:
            return rich
    return render_plain(title, tables)


def render_plain(title: str, tables: list[Table]) -> str:
    """Renders tables in aligned columns, without colours and however wide they get."""
    lines = [title]
    for table in tables:
        lines += ["", table.title]
        shown = [table.columns, *table.rows] if any(table.columns) else table.rows
        widths = [max(len(row[number]) for row in shown) for number in range(len(table.columns))]
        for row in shown:
            cells = [
                cell.rjust(width) if number in table.right else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths))
            ]
            lines.append((GAP + GAP.join(cells)).rstrip())
        if table.note:
            lines.append(GAP + table.note)
    return "\n".join(lines) + "\n"


def render_rich(title: str, tables: list[Table]) -> str | None:
    """Renders tables with rich, for the terminal at standard output; None if rich is not installed."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text
    except ImportError:
        return None
    console = Console(file=sys.stdout, highlight=False)
    # Text, not str: names may contain what rich would take for markup.
    with console.capture() as capture:
        console.print(Text(title, style="bold"))
        for table in tables:
            headed = any(table.columns)
            rich_table = RichTable(
                show_header=headed,
                box=box.SIMPLE_HEAD if headed else None,
                show_edge=False,
                header_style="dim",
            )
            for number, column in enumerate(table.columns):
                right = number in table.right
                rich_table.add_column(column, justify="right" if right else "left", overflow="fold")
            for row in table.rows:
                rich_table.add_row(*(Text(cell) for cell in row))
            console.print()
            console.print(Text(table.title, style="bold cyan"))
            console.print(rich_table)
            if table.note:
                console.print(Text(GAP + table.note, style="dim"))
    return capture.get()


def _is_terminal() -> bool:
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
