"""The rows of the live view: what two snapshots say of each worker, and the columns there is room for."""

from __future__ import annotations

from pytoweb._top_text import printable, seconds_text

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["COLUMNS", "Column", "Row", "count_text", "fitting", "rows_of", "size_text"]

#: What a message counts as when it has been handled.
HANDLED = ("completed", "failed", "expired")
#: States that are as they should be.
CALM = ("ok", "busy", "new", "running", "stopping", "stopped")
#: Of large numbers.
UNITS = ((1e3, "k"), (1e6, "M"), (1e9, "G"))


class Row:
    """One worker's mailbox, or a pool's own."""

    def __init__(
        self,
        pool: str | None,
        numbers: dict[str, Any],
        size: int,
        health: Any,
        children: list[dict[str, Any]],
    ) -> None:
        #: By which the next snapshot has it again.
        self.key = (pool, numbers["name"])
        self.numbers = numbers
        self.name = printable(numbers["name"] if pool is None else f"{pool}/{numbers['name']}")
        #: Handlers that may run at the same time.
        self.size = size
        self.health = health
        self.handled = sum(numbers[name] for name in HANDLED)
        sizes = [child["memory_bytes"] for child in children if child.get("memory_bytes") is not None]
        self.memory: int | None = sum(sizes) if sizes else None
        #: Messages a second, once there are two snapshots.
        self.rate: float | None = None
        self.utilisation = float(numbers["utilisation"])

    def follow(self, before: Row, seconds: float) -> None:
        """Fills in what lies between two snapshots."""
        handled = self.handled - before.handled
        busy = self.numbers["busy_seconds"] - before.numbers["busy_seconds"]
        # Less than before: another worker has the name.
        if seconds > 0 and handled >= 0 and busy >= 0:
            self.rate = handled / seconds
            self.utilisation = min(1.0, busy / seconds / self.size)

    @property
    def state(self) -> str:
        """How it is, in a word."""
        found = self.numbers["state"] if self.health is None else self.health.get("state")
        return printable(found)

    @property
    def is_calm(self) -> bool:
        """Whether that is as it should be."""
        return self.state in CALM


def rows_of(snapshot: dict[str, Any], before: tuple[dict[Any, Row], float] | None) -> list[Row]:
    """The rows of a snapshot.

    Args:
        snapshot: what the program has answered.
        before: the rows of the last one, by their keys, and its time.
    """
    rows = []
    for pool in snapshot["pools"]:
        size, own = pool["size"], pool["own"]
        rows.append(Row(None, own, size, own.get("health") or pool["health"], pool["children"]))
        for worker in pool["workers"]:
            # Those of a pool's children stand with the pool.
            rows.append(Row(pool["name"], worker, worker.get("concurrency", 1), worker["health"], []))
    for worker in snapshot["workers"]:
        size = worker.get("concurrency", 1)
        rows.append(Row(None, worker, size, worker["health"], worker["children"]))
    if before is not None:
        known, at = before
        for row in rows:
            if row.key in known:
                row.follow(known[row.key], snapshot["time"] - at)
    return rows


def count_text(count: float | None) -> str:
    """A number in a few letters."""
    if count is None:
        return "-"
    if count < 10_000:
        return f"{count:.1f}" if count < 10 and count != int(count) else f"{count:.0f}"
    factor, unit = next((pair for pair in UNITS if count < pair[0] * 1000), UNITS[-1])
    part = count / factor
    return f"{part:.3g}{unit}" if part < 100 else f"{part:.0f}{unit}"


def size_text(size: int | None) -> str:
    """Bytes in a few letters."""
    if size is None:
        return "-"
    return f"{size / (1 << 20):.0f}M" if size < 10 << 30 else f"{size / (1 << 30):.0f}G"


class Column:
    """One column: how it is shown, and what it is sorted by."""

    def __init__(
        self, title: str, width: int, rank: int, show: Callable[[Row], str], sort: Callable[[Row], Any]
    ) -> None:
        self.title = title
        self.width = width
        #: Those of high rank are left out first, where the terminal is narrow.
        self.rank = rank
        self.show = show
        self.sort = sort


def _seconds(title: str, name: str, rank: int) -> Column:
    return Column(
        title,
        6,
        rank,
        lambda row: seconds_text(row.numbers[name]),
        lambda row: -1.0 if row.numbers[name] is None else row.numbers[name],
    )


#: In their order on the screen. The name is at least so wide, and takes what is left.
COLUMNS = (
    Column("name", 14, 0, lambda row: row.name, lambda row: row.name),
    Column("msg/s", 6, 1, lambda row: count_text(row.rate), lambda row: row.rate or 0.0),
    Column(
        "queue",
        11,
        2,
        lambda row: f"{count_text(row.numbers['depth'])}/{count_text(row.numbers['capacity'])}",
        lambda row: row.numbers["depth"],
    ),
    Column("run", 4, 3, lambda row: count_text(row.numbers["running"]), lambda row: row.numbers["running"]),
    _seconds("wait50", "wait_p50", 10),
    _seconds("wait99", "wait_p99", 7),
    _seconds("run50", "run_p50", 9),
    _seconds("run99", "run_p99", 6),
    Column("util", 4, 8, lambda row: f"{row.utilisation * 100:.0f}%", lambda row: row.utilisation),
    Column("failed", 6, 4, lambda row: count_text(row.numbers["failed"]), lambda row: row.numbers["failed"]),
    Column("memory", 6, 11, lambda row: size_text(row.memory), lambda row: row.memory or 0),
    Column("health", 10, 5, lambda row: row.state, lambda row: (not row.is_calm, row.state)),
)


def fitting(width: int) -> list[Column]:
    """The columns that there is room for, with a space between them, in their order; three always."""
    found: list[Column] = []
    for column in sorted(COLUMNS, key=lambda column: column.rank):
        if column.rank > 2 and sum(each.width + 1 for each in (*found, column)) - 1 > width:
            break
        found.append(column)
    return [column for column in COLUMNS if column in found]
