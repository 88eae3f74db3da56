"""What the demonstration reports when the process of a worker ends, and what it goes on with."""

from __future__ import annotations

import json
import os
import signal

import pytest
from analyze_handlers import by_name

from analyze.facts import CRASHED, FAILED, FileFacts, Problem
from analyze.progress import Progress
from analyze.report import json_report, report_tables
from analyze.run import Analysis, analyze_tree
from analyze.totals import Totals
from analyze.tree import SourceTree
from pytoweb import _interpreter


class Never:
    """A stop that is never requested."""

    def requested(self) -> bool:
        return False


def analysis_of(names: list[str], **options) -> Analysis:
    options = {"size": 2, "handler": by_name, **options}
    tree, totals = SourceTree(os.path.abspath("/nowhere"), names), Totals(keep_files=True)
    return analyze_tree(tree, totals, progress=Progress(), stop=Never(), **options)


def problems(analysis: Analysis) -> dict[str, Problem | None]:
    return {facts.path: facts.problem for facts in analysis.totals.problems}


def table(analysis: Analysis, title: str) -> list[tuple[str, ...]]:
    return next(table.rows for table in report_tables(analysis) if table.title == title)


def test_each_end_of_a_process_costs_its_file():
    names = ["a.py", "exits.py", "b.py", "killed.py", "c.py", "raises.py", "d.py"]
    analysis = analysis_of(names)
    assert analysis.complete
    assert analysis.totals.analysed == 4
    assert problems(analysis) == {
        "exits.py": Problem(CRASHED, "exit code 3"),
        "killed.py": Problem(CRASHED, "signal 9 (SIGKILL)", signal=signal.SIGKILL),
        "raises.py": Problem(FAILED, "ValueError: gone"),
    }
    assert (analysis.crashes, analysis.workers_lost) == (2, False)
    assert sum(analysis.messages) == 4
    assert table(analysis, "Crashed: 2") == [("exits.py", "exit code 3"), ("killed.py", "signal 9 (SIGKILL)")]
    assert table(analysis, "Failed: 1") == [("raises.py", "ValueError: gone")]
    assert ("crashes survived", "2") in table(analysis, "Workers")
    assert ("byte limit of the mailbox", "8 MiB") in table(analysis, "Workers")


@pytest.mark.slow
def test_the_end_of_a_process_costs_one_file_of_a_batch():
    names = [f"{number:02}.py" for number in range(64)]
    names[20], names[21], names[30], names[40] = "exits.py", "killed.py", "raises.py", "killed-too.py"
    analysis = analysis_of(names, size=1)
    assert analysis.batch == 8
    assert analysis.complete
    assert problems(analysis) == {
        "exits.py": Problem(CRASHED, "exit code 3"),
        "killed.py": Problem(CRASHED, "signal 9 (SIGKILL)", signal=signal.SIGKILL),
        "killed-too.py": Problem(CRASHED, "signal 9 (SIGKILL)", signal=signal.SIGKILL),
        "raises.py": Problem(FAILED, "ValueError: gone"),
    }
    read = [facts.path for facts in analysis.totals.files or () if facts.problem is None]
    assert sorted(read) == [name for name in names if name[0].isdigit()]
    # Two batches of eight: the two files that are next to each other are in one.
    assert analysis.asked_again == 16
    assert ("small files in batches of", "8") in table(analysis, "Workers")
    assert ("asked again, out of a batch", "16") in table(analysis, "Workers")
    document = json.loads(json_report(analysis))["workers"]
    assert (document["batch_size"], document["byte_limit"], document["asked_again"]) == (8, 8 << 20, 16)


def test_a_crash_is_in_the_json_document():
    document = json.loads(json_report(analysis_of(["a.py", "killed.py"])))
    assert document["problems"] == [
        {"path": "killed.py", "kind": "crashed", "reason": "signal 9 (SIGKILL)", "line": None, "signal": 9}
    ]
    totals, workers = document["totals"], document["workers"]
    assert (totals["analysed"], totals["crashed"], totals["failed"], totals["not_analysed"]) == (1, 1, 0, 0)
    assert (workers["backend"], workers["crashes"], workers["failures"]) == ("process", 1, 1)
    assert workers["messages_per_worker"] == [1]
    assert [facts["problem"] for facts in document["files"]] == [None, "crashed"]


@pytest.mark.slow
def test_crashes_that_follow_each_other_do_not_end_the_run():
    # One process, and more of them than a worker survives by default.
    names = [f"killed{number}.py" for number in range(4)]
    analysis = analysis_of([*names, "last.py"], size=1)
    assert (analysis.crashes, analysis.totals.analysed) == (4, 1)
    assert analysis.messages == (1,)


@pytest.mark.slow
def test_asked_for_crashes_are_real_and_spread():
    names = [f"{number:02}.py" for number in range(12)]
    analysis = analysis_of(names, crashes=3)
    assert analysis.complete
    assert analysis.totals.analysed == 9
    crash = Problem(CRASHED, f"signal {signal.SIGSEGV:d} (SIGSEGV)", signal=signal.SIGSEGV)
    assert problems(analysis) == dict.fromkeys(["02.py", "06.py", "10.py"], crash)


def test_every_file_may_crash():
    analysis = analysis_of(["a.py", "b.py"], crashes=2)
    assert (analysis.complete, analysis.crashes, analysis.totals.analysed) == (True, 2, 0)


@pytest.mark.slow
def test_processes_that_never_come_up_end_the_run(monkeypatch):
    monkeypatch.setattr(_interpreter, "PROGRAM", "raise SystemExit(7)")
    names = [f"{number:03}.py" for number in range(5)]
    analysis = analysis_of(names, handler=FileFacts)
    assert analysis.complete
    assert analysis.workers_lost
    assert problems(analysis).keys() == set(names)
    assert all(facts.problem.kind in (CRASHED, FAILED) for facts in analysis.totals.problems)
    assert "crashes survived" not in [row[0] for row in table(analysis, "Workers")]


def test_a_crashed_file_is_not_read_in_the_host():
    # by_name says so in the host, and read by this process the file would be its end.
    analysis = analysis_of(["a.py", "killed.py", "raises.py", "b.py"], compare=True)
    assert analysis.speed_up is not None
    assert analysis.speed_up.files == 2
