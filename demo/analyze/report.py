"""What is reported: as tables for people, as one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analyze.facts import CRASHED, FAILED, UNPARSABLE, UNREADABLE, FileFacts, FunctionFacts
from analyze.totals import TOP, Found

if TYPE_CHECKING:
    from analyze.run import Analysis

JSON_VERSION = 1
"""Of the JSON document; grows when a field is removed or changes its meaning."""


@dataclass
class Table:
    """One part of the report for people.

    Attributes:
        title: Its heading.
        columns: Headings of the columns; all empty for a table that needs none.
        rows: Texts, as many in each row as there are columns.
        right: Numbers of the columns that are aligned to the right.
        note: A last line, or empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    right: frozenset[int] = frozenset()
    note: str = ""


def printable(text: str) -> str:
    """Replaces what a terminal would obey or cannot show (line ends, escapes, broken bytes) by its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def format_seconds(seconds: float | None) -> str:
    """Formats a duration with three digits and its unit; `-` for one that was not measured."""
    if seconds is None:
        return "-"
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.2f} s"


def headline(analysis: Analysis) -> str:
    """One line: what was analysed, and if something is missing."""
    root, found = printable(analysis.tree.root), len(analysis.tree.files)
    if analysis.complete:
        return f"{root}: {_count(found, 'Python file')}"
    found_text = f"{found:,}" if analysis.tree.complete else f"more than {found:,}"
    return f"{root}: PARTIAL, stopped after {analysis.totals.done:,} of {found_text} Python files"


def report_tables(analysis: Analysis) -> list[Table]:
    """Lays the report out; tables without rows are left out."""
    totals = analysis.totals
    functions = Table(
        "Most complex functions", ("complexity", "lines", "function", "where"), right=frozenset([0, 1])
    )
    functions.rows = [
        (f"{f.complexity:,}", f"{f.lines:,}", printable(f.name), f"{printable(path)}:{f.line}")
        for path, f in totals.most_complex
    ]
    ranking = totals.import_ranking()
    imports = Table("Most imported modules", ("files", "module"), right=frozenset([0]))
    imports.rows = [(f"{files:,}", printable(module)) for module, files in ranking[:TOP]]
    if len(ranking) > TOP:
        imports.note = f"and {len(ranking) - TOP:,} more"
    tables = [functions, imports, _totals_table(analysis)]
    tables += [_problems_table(analysis, kind) for kind in (UNREADABLE, UNPARSABLE, CRASHED, FAILED)]
    tables += [_workers_table(analysis), _speed_table(analysis)]
    return [table for table in tables if table.rows]


def _totals_table(analysis: Analysis) -> Table:
    totals = analysis.totals
    table = Table("Totals", ("", ""), right=frozenset([1]))
    table.rows = [
        ("files analysed", f"{totals.analysed:,}"),
        ("  same content as another", f"{totals.duplicates:,}"),
        ("files unreadable", f"{totals.count(UNREADABLE):,}"),
        ("files unparsable", f"{totals.count(UNPARSABLE):,}"),
        ("lines", f"{totals.lines:,}"),
        ("bytes", f"{totals.size_bytes:,}"),
        ("functions", f"{totals.functions:,}"),
        ("classes", f"{totals.classes:,}"),
    ]
    if totals.functions:
        table.rows.append(("complexity, mean", f"{totals.complexity / totals.functions:.2f}"))
    if totals.longest is not None:
        path, function = totals.longest
        table.note = (
            f"longest function: {printable(function.name)}, {_count(function.lines, 'line')},"
            f" {printable(path)}:{function.line}"
        )
    return table


def _problems_table(analysis: Analysis, kind: str) -> Table:
    rows: list[tuple[str, ...]] = []
    for path, reason, line in _problems(analysis, kind):
        where = printable(path) if line is None else f"{printable(path)}:{line}"
        rows.append((where, printable(reason)))
    table = Table(f"{kind.capitalize()}: {len(rows):,}", ("", ""), rows[:TOP])
    if len(rows) > TOP:
        table.note = f"and {len(rows) - TOP:,} more"
    return table


def _problems(analysis: Analysis, kind: str) -> list[tuple[str, str, int | None]]:
    """The files, and for `UNREADABLE` also the directories, as path, reason and line; by path."""
    found = [
        (facts.path, facts.problem.reason, facts.problem.line)
        for facts in analysis.totals.problems
        if facts.problem is not None and facts.problem.kind == kind
    ]
    if kind == UNREADABLE:
        found += [(path, f"directory: {reason}", None) for path, reason in analysis.tree.unreadable]
    return sorted(found, key=lambda problem: problem[0])


def _workers_table(analysis: Analysis) -> Table:
    stats = analysis.stats
    table = Table("Workers", ("", ""), right=frozenset([1]))
    table.rows = [
        ("workers", f"{stats.size:,}"),
        ("backend", analysis.backend),
        ("messages", f"{stats.posted:,}"),
        ("messages per worker", _range(analysis.messages)),
        ("small files in batches of", f"{analysis.batch:,}" if analysis.batch > 1 else "1 (no batches)"),
        ("byte limit of the mailbox", f"{analysis.byte_limit >> 20:,} MiB"),
        ("failures", f"{stats.failed:,}"),
    ]
    if stats.cancelled:
        table.rows.append(("cancelled", f"{stats.cancelled:,}"))
    if analysis.crashes:
        label = "crashes" if analysis.workers_lost else "crashes survived"
        table.rows.append((label, f"{analysis.crashes:,}"))
    if analysis.asked_again:
        table.rows.append(("asked again, out of a batch", f"{analysis.asked_again:,}"))
    table.rows += [
        ("queue wait p50", format_seconds(stats.wait_p50)),
        ("queue wait p99", format_seconds(stats.wait_p99)),
        ("run time p50", format_seconds(stats.run_p50)),
        ("run time p99", format_seconds(stats.run_p99)),
        ("utilisation", f"{stats.utilisation:.0%}"),
        ("wall time", format_seconds(analysis.wall_seconds)),
        ("files per second", f"{_rate(analysis):,.0f}"),
    ]
    return table


def _speed_table(analysis: Analysis) -> Table:
    table = Table("Speed-up", ("",))
    measured = analysis.speed_up
    if measured is None:
        return table
    files = _count(measured.files, "file")
    one, workers = format_seconds(measured.one_thread_seconds), format_seconds(measured.workers_seconds)
    if measured.ratio is None:
        text = f"not measured: {files} in {one} on one thread are too little work to tell"
    else:
        text = (
            f"{measured.ratio:.2f}x one thread on {files} ({one} on one thread, {workers} with the workers)"
        )
    table.rows.append((text,))
    return table


def json_report(analysis: Analysis) -> str:
    """Writes the report as one JSON document with a line end.

    Its shape, all durations in seconds, all paths relative to `root`, lists in a fixed order:

        {"version": 1, "root": str, "complete": bool,
         "totals": {"files", "analysed", "unreadable", "unparsable", "crashed", "failed",
                    "not_analysed", "duplicates", "lines", "bytes", "functions", "classes",
                    "complexity": int,
                    "longest_function": {"path", "name", "line", "lines", "complexity"} or null},
         "most_complex": [{"path", "name", "line", "lines", "complexity"}],     the first ten
         "imports": [{"module": str, "files": int}],                            all of them
         "problems": [{"path", "kind": "unreadable" | "unparsable" | "crashed" | "failed", "reason",
                       "line": int or null, "signal": int or null}],            all of them
         "unreadable_directories": [{"path", "reason"}],
         "workers": {"backend": "process" | "thread",
                     "size", "messages", "completed", "failures", "cancelled", "crashes": int,
                     "messages_per_worker": [int],                              most first
                     "batch_size", "byte_limit", "asked_again": int,
                     "queue_wait_p50", "queue_wait_p99", "run_time_p50", "run_time_p99": float or null,
                     "utilisation": float, "wall_time": float, "files_per_second": float},
         "speed_up": null or {"ratio": float or null, "files": int, "one_thread", "workers": float},
         "files": [{"path", "sha256": str or null, "bytes", "lines", "classes": int,
                    "functions": [{"name", "line", "lines", "complexity"}],
                    "longest_function": {the same} or null, "imports": [str],
                    "problem": null or "unreadable" | "unparsable" | "crashed" | "failed"}]}

    Args:
        analysis: What came out; its totals must have kept the files.

    Returns:
        The document, in ASCII.
    """
    tree, totals, stats = analysis.tree, analysis.totals, analysis.stats
    document: dict[str, Any] = {
        "version": JSON_VERSION,
        "root": tree.root,
        "complete": analysis.complete,
        "totals": {
            "files": len(tree.files),
            "analysed": totals.analysed,
            "unreadable": totals.count(UNREADABLE),
            "unparsable": totals.count(UNPARSABLE),
            "crashed": totals.count(CRASHED),
            "failed": totals.count(FAILED),
            "not_analysed": len(tree.files) - totals.done,
            "duplicates": totals.duplicates,
            "lines": totals.lines,
            "bytes": totals.size_bytes,
            "functions": totals.functions,
            "classes": totals.classes,
            "complexity": totals.complexity,
            "longest_function": None if totals.longest is None else _found(totals.longest),
        },
        "most_complex": [_found(found) for found in totals.most_complex],
        "imports": [{"module": module, "files": files} for module, files in totals.import_ranking()],
        "problems": [
            {"path": facts.path, **facts.problem._asdict()}
            for facts in sorted(totals.problems, key=lambda facts: facts.path)
            if facts.problem is not None
        ],
        "unreadable_directories": [{"path": path, "reason": reason} for path, reason in tree.unreadable],
        "workers": {
            "backend": analysis.backend,
            "size": stats.size,
            "messages": stats.posted,
            "completed": stats.completed,
            "failures": stats.failed,
            "cancelled": stats.cancelled,
            "crashes": analysis.crashes,
            "messages_per_worker": list(analysis.messages),
            "batch_size": analysis.batch,
            "byte_limit": analysis.byte_limit,
            "asked_again": analysis.asked_again,
            "queue_wait_p50": stats.wait_p50,
            "queue_wait_p99": stats.wait_p99,
            "run_time_p50": stats.run_p50,
            "run_time_p99": stats.run_p99,
            "utilisation": stats.utilisation,
            "wall_time": analysis.wall_seconds,
            "files_per_second": _rate(analysis),
        },
        "speed_up": _speed_up(analysis),
        "files": [_file(facts) for facts in sorted(totals.files or (), key=lambda facts: facts.path)],
    }
    return json.dumps(document, indent=1) + "\n"


def _file(facts: FileFacts) -> dict[str, Any]:
    return {
        "path": facts.path,
        "sha256": facts.sha256,
        "bytes": facts.size_bytes,
        "lines": facts.lines,
        "classes": facts.classes,
        "functions": [function._asdict() for function in facts.functions],
        "longest_function": None if facts.longest is None else facts.longest._asdict(),
        "imports": list(facts.imports),
        "problem": None if facts.problem is None else facts.problem.kind,
    }


def _speed_up(analysis: Analysis) -> dict[str, Any] | None:
    measured = analysis.speed_up
    if measured is None:
        return None
    return {
        "ratio": measured.ratio,
        "files": measured.files,
        "one_thread": measured.one_thread_seconds,
        "workers": measured.workers_seconds,
    }


def _found(found: Found) -> dict[str, Any]:
    function: FunctionFacts = found.function
    return {"path": found.path, **function._asdict()}


def _rate(analysis: Analysis) -> float:
    return analysis.totals.done / analysis.wall_seconds if analysis.wall_seconds else 0.0


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return "-"
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
