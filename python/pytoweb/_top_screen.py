"""The screen of the live view: what is shown, what the user has chosen of it, and what each key changes."""

from __future__ import annotations

import os

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pytoweb._top_rows import COLUMNS, Row, count_text, fitting, rows_of, size_text
from pytoweb._top_text import printable, seconds_text, stack_lines

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["SHOWN_FAILURES", "ScreenView"]

#: Failures below the table, of those that there are.
SHOWN_FAILURES = 5
#: Seconds without an answer after which the view says so.
SILENCE = 2.0
HELP = "q quit  </> sort  r reverse  / filter  p pause  up/down select  enter detail"
DETAIL_HELP = "q quit  esc back  p pause  up/down scroll"


class ScreenView:
    """What is shown: the last snapshot, and what the user has chosen of it."""

    def __init__(self) -> None:
        self.snapshot: dict[str, Any] | None = None
        self.rows: list[Row] = []
        self.stacks: list[dict[str, Any]] = []
        self.is_paused = False
        self.is_reversed = False
        self.sorted_by = "msg/s"
        self.filter = ""
        #: The text of the filter is being typed.
        self.is_typing = False
        #: The selected row.
        self.selected: Any = None
        #: It alone is shown, from this line on.
        self.is_detail = False
        self.scrolled = 0
        self.is_over = False

    def take(self, snapshot: dict[str, Any]) -> None:
        """Takes in a snapshot."""
        before = None
        if self.snapshot is not None:
            before = {row.key: row for row in self.rows}, self.snapshot["time"]
        self.snapshot, self.rows = snapshot, rows_of(snapshot, before)

    def shown(self) -> list[Row]:
        """The rows that pass the filter, in their order."""
        column = next(column for column in COLUMNS if column.title == self.sorted_by)
        rows = [row for row in self.rows if self.filter.lower() in row.name.lower()]
        rows.sort(key=lambda row: row.name)
        # Numbers begin with the largest, names with the first.
        rows.sort(key=column.sort, reverse=(column.title != "name") != self.is_reversed)
        return rows

    def press(self, key: str, width: int, page: int) -> None:
        """Does what a key means.

        Args:
            key: its name, or the letter.
            width: columns of the terminal.
            page: rows that are on the screen.
        """
        if self.is_typing:
            self._type(key)
        elif key == "q":
            self.is_over = True
        elif key in ("p", " "):
            self.is_paused = not self.is_paused
        elif key in ("up", "k", "down", "j", "page up", "page down"):
            step = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page}[key]
            self._move(step)
        elif self.is_detail:
            if key in ("escape", "backspace", "left"):
                self.is_detail = False
        elif key == "/":
            self.is_typing = True
        elif key == "escape":
            self.filter = ""
        elif key in ("<", ">", "left", "right"):
            titles = [column.title for column in fitting(width)]
            at = titles.index(self.sorted_by) if self.sorted_by in titles else 0
            self.sorted_by = titles[(at + (1 if key in (">", "right") else -1)) % len(titles)]
        elif key == "r":
            self.is_reversed = not self.is_reversed
        elif key == "enter" and self.selected_row() is not None:
            self.is_detail, self.scrolled, self.stacks = True, 0, []

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.is_typing = False
            if key == "escape":
                self.filter = ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key

    def _move(self, step: int) -> None:
        if self.is_detail:
            self.scrolled = max(0, self.scrolled + step)
            return
        rows = self.shown()
        if rows:
            keys = [row.key for row in rows]
            at = keys.index(self.selected) + step if self.selected in keys else 0
            self.selected = keys[min(max(at, 0), len(keys) - 1)]

    def selected_row(self) -> Row | None:
        """The row that the user is at: the first one before any was chosen."""
        rows = self.shown()
        return next((row for row in rows if row.key == self.selected), rows[0] if rows else None)

    def draw(self, width: int, height: int, silence: float = 0.0) -> Group:
        """The whole screen.

        Args:
            width: columns of the terminal.
            height: its lines.
            silence: seconds for which an answer has been missing.
        """
        lines: list[Any] = list(self._head(width, silence))
        if self.snapshot is None:
            return Group(*lines)
        if self.is_detail:
            detail = list(self._detail(width))
            room = max(1, height - len(lines) - 1)
            self.scrolled = min(self.scrolled, max(0, len(detail) - room))
            lines += detail[self.scrolled : self.scrolled + room]
            lines += [Text("")] * (height - len(lines) - 1)
            return _fitted([*lines, Text(DETAIL_HELP, "dim")])
        failures = self.snapshot["failures"][-SHOWN_FAILURES:]
        below = len(failures) + 1 if failures and height > 12 else 0
        room = max(1, height - len(lines) - below - 2)
        table = self._table(width, room)
        lines += table
        used = len(lines) - len(table) + (1 + min(room, len(self.shown())))
        lines += [Text("")] * (height - used - below - 1)
        if below:
            lines.append(Text("last failures", "bold"))
            lines += [_failure(failure, self.snapshot["time"]) for failure in reversed(failures)]
        last = f"filter: {self.filter}_" if self.is_typing else HELP
        return _fitted([*lines, Text(last, "" if self.is_typing else "dim")])

    def _head(self, width: int, silence: float) -> Iterator[Text]:
        if self.snapshot is None:
            yield Text("waiting for the first answer", "dim")
            return
        seen = self.snapshot
        head = Text(printable(os.path.basename(seen["program"]) or seen["program"]), "bold")
        head.append(f"  pid {seen['pid']}  Python {seen['python']}  pytoweb {seen['pytoweb']}", "not bold")
        yield head
        rates = [row.rate for row in self.rows if row.rate is not None]
        children = sum(row.memory or 0 for row in self.rows)
        threads = sum(pool["threads"] for pool in seen["pools"])
        parts = [
            f"{count_text(sum(rates) if rates else None)} msg/s",
            f"{count_text(sum(row.numbers['depth'] for row in self.rows))} queued",
            f"{count_text(sum(row.numbers['running'] for row in self.rows))} running",
            f"{count_text(sum(row.numbers['failed'] for row in self.rows))} failed",
            f"memory {size_text(seen['memory_bytes'])}"
            + (f" + {size_text(children)} children" if children else ""),
            f"{len(seen['pools'])} pools of {threads} threads",
        ]
        yield Text("  ".join(parts))
        notes = []
        if seen["ending"]:
            notes.append("the program ends")
        if self.is_paused:
            notes.append("paused")
        elif silence >= SILENCE:
            notes.append(f"no answer for {silence:.0f} s")
        if self.filter and not self.is_typing:
            notes.append(f"filter: {printable(self.filter)}")
        yield Text("  ".join(notes), "yellow")

    def _table(self, width: int, room: int) -> list[Any]:
        rows, columns = self.shown(), fitting(width)
        if not rows:
            return [Text("no worker has a name with that" if self.filter else "no workers", "dim")]
        selected = self.selected_row()
        at = rows.index(selected) if selected is not None else 0
        first = max(0, min(at - room // 2, len(rows) - room))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, header_style="")
        names = width - sum(column.width + 1 for column in columns[1:])
        for column in columns:
            mark = "bold reverse" if column.title == self.sorted_by else "bold"
            is_name = column.title == "name"
            table.add_column(
                Text(column.title, mark),
                width=max(column.width, names - 1) if is_name else column.width,
                no_wrap=True,
                overflow="ellipsis",
                justify="left" if is_name or column.title == "health" else "right",
            )
        for row in rows[first : first + room]:
            style = "" if row.is_calm else "red"
            table.add_row(
                *(Text(column.show(row), style) for column in columns),
                style="reverse" if row is selected and self.selected is not None else "",
            )
        return [table]

    def _detail(self, width: int) -> Iterator[Text]:
        row = self.selected_row()
        assert self.snapshot is not None
        if row is None:
            yield Text("this worker is gone", "dim")
            return
        yield Text(row.name, "bold reverse")
        reason = None if row.health is None else row.health.get("reason")
        yield Text(f"{row.state}: {printable(reason)}" if reason else row.state, "" if row.is_calm else "red")
        pool, name = row.key
        pools = (pool,) if pool is not None else (None, name)
        mine = [entry for entry in self.stacks if entry["worker"] == name and entry["pool"] in pools]
        for line in stack_lines(mine):
            yield Text(line)
        yield Text("")
        numbers = {**row.numbers, "rate": row.rate}
        types = numbers.pop("types", None) or {}
        pairs = [
            f"{printable(name)} {_number(name, value)}"
            for name, value in numbers.items()
            if name not in ("name", "state", "health")
        ]
        yield from _packed(pairs, width)
        for kind, each in types.items():
            yield Text(f"type {printable(kind)}", "bold")
            yield from _packed([f"{name} {_number(name, value)}" for name, value in each.items()], width)
        failures = [failure for failure in self.snapshot["failures"] if failure["worker"] == name]
        if failures:
            yield Text("")
            yield Text("last failures", "bold")
        for failure in reversed(failures):
            yield _failure(failure, self.snapshot["time"])


def _packed(pairs: list[str], width: int) -> Iterator[Text]:
    """As many on a line as there is room for, below each other."""
    cell = max(map(len, pairs), default=0) + 3
    # A long one has a line for itself.
    cell = min(cell, 34)
    line = ""
    for pair in pairs:
        room = -(-(len(pair) + 2) // cell) * cell
        if line and len(line) + len(pair) + 2 > width:
            yield Text(line.rstrip())
            line = ""
        line += f"  {pair}".ljust(room)
    if line:
        yield Text(line.rstrip())


def _number(name: str, value: Any) -> str:
    if name == "children":
        return " ".join(f"{child['pid']}:{size_text(child['memory_bytes'])}" for child in value) or "-"
    if name == "rate" or (isinstance(value, int) and not isinstance(value, bool)):
        return count_text(value)
    if isinstance(value, float):
        is_time = name[-4:] in ("_p50", "_p90", "_p99", "_max", "_age") or "seconds" in name
        return seconds_text(value) if is_time else f"{value:.3g}"
    if isinstance(value, dict):
        return "  ".join(f"{printable(key)} {_number(key, each)}" for key, each in value.items())
    return "-" if value is None else printable(value)


def _failure(failure: dict[str, Any], now: float) -> Text:
    ago = seconds_text(max(0.0, now - failure["time"]))
    text = Text(f"{ago:>6} ago  ", "dim")
    text.append(f"{printable(failure['worker'])} {printable(failure['type'])}: ", "not dim")
    text.append(printable(failure["error"]), "red not dim")
    return text


def _fitted(lines: list[Any]) -> Group:
    for line in lines:
        if isinstance(line, Text):
            line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)
