"""How the demonstration shows what it found, and that it is working."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyze.facts import UNPARSABLE, FileFacts, Problem
from analyze.progress import BarProgress, PlainProgress, Progress, open_progress
from analyze.render import render_plain, render_rich, text_report
from analyze.report import Table, format_seconds, printable, report_tables
from analyze.run import Analysis, analyze_tree
from analyze.totals import Totals
from analyze.tree import SourceTree


def analysis_of(tree: SourceTree, handler=FileFacts) -> Analysis:
    class Quiet(Progress):
        def requested(self) -> bool:
            return False

    return analyze_tree(
        tree, Totals(), backend="thread", size=2, progress=Quiet(), stop=Quiet(), handler=handler
    )


def fake_tree(count: int) -> SourceTree:
    return SourceTree(os.path.abspath("/nowhere"), [f"{number:06}.py" for number in range(count)])


def has_rich() -> bool:
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 us"),
        (1.2345e-5, "12.3 us"),
        (0.001, "1 ms"),
        (0.25, "250 ms"),
        (0.9999, "1.00 s"),
        (1234.5, "1234.50 s"),
    ],
)
def test_durations_have_units(seconds, text):
    assert format_seconds(seconds) == text


def test_names_cannot_control_the_terminal():
    assert printable("a\nb\x1b[31m\udcff\u202e") == "a\\nb\\x1b[31m\\udcff\\u202e"
    assert printable("na\u00efve") == "na\u00efve"


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_printable_is_printable_ascii_kept(text):
    shown = printable(text)
    assert shown.isprintable()
    assert not text.isprintable() or shown == text


TABLES = [
    Table(
        "Numbers",
        ("n", "name"),
        [("1", "one"), ("1,000", "[bold]thousand[/bold]")],
        frozenset([0]),
        "and 1 more",
    ),
    Table("Pairs", ("", ""), [("a", "b")]),
]


def test_plain_tables_are_aligned():
    assert render_plain("Title", TABLES) == (
        "Title\n\nNumbers\n      n  name\n      1  one\n  1,000  [bold]thousand[/bold]\n  and 1 more\n"
        "\nPairs\n  a  b\n"
    )


def test_rich_tables_take_names_as_they_are(require, capsys):
    require(has_rich(), "rich")
    text = render_rich("Title", TABLES)
    assert text is not None
    for part in ("Title", "Numbers", "1,000", "[bold]thousand[/bold]", "and 1 more", "Pairs"):
        assert part in text


def test_no_color_is_honoured(require, monkeypatch):
    require(has_rich(), "rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = render_rich("Title", TABLES)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = render_rich("Title", TABLES)
    assert coloured is not None
    assert plain is not None
    assert "\x1b[1;36m" in coloured
    assert "36m" not in plain


def test_without_rich_everything_is_plain(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert render_rich("Title", TABLES) is None
    assert isinstance(open_progress("auto"), PlainProgress)
    assert text_report(analysis_of(fake_tree(1))).startswith(
        f"{os.path.abspath('/nowhere')}: 1 Python file\n"
    )


def test_progress_shows_nothing_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert type(open_progress("auto")) is Progress
    assert type(open_progress("none")) is Progress
    monkeypatch.setattr(sys, "stderr", None)
    assert type(open_progress("auto")) is Progress


def test_a_bar_where_there_is_a_terminal(require, monkeypatch):
    require(has_rich(), "rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with open_progress("auto") as progress:
        assert isinstance(progress, BarProgress)
        progress.start(2)
        progress.update(1)
        progress.update(2)


def test_plain_progress_prints_the_first_and_the_last(capsys):
    with open_progress("plain") as progress:
        progress.start(1000)
        for done in range(1, 1001):
            progress.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "analysed 1 of 1000 files"
    assert lines[-1] == "analysed 1000 of 1000 files"
    assert len(lines) < 100


def test_text_names_ten_problems_and_counts_the_rest():
    def handler(path: str) -> FileFacts:
        return FileFacts(path, problem=Problem(UNPARSABLE, "bad\nsyntax", 3))

    tree = fake_tree(25)
    tree.unreadable.append(("secret", "Permission denied"))
    analysis = analysis_of(tree, handler)
    tables = {table.title: table for table in report_tables(analysis)}
    unparsable = tables["Unparsable: 25"]
    assert unparsable.rows == [(f"{number:06}.py:3", "bad\\nsyntax") for number in range(10)]
    assert unparsable.note == "and 15 more"
    assert tables["Unreadable: 1"].rows == [("secret", "directory: Permission denied")]
    assert "Most complex functions" not in tables
