"""How the demonstration chooses a sample and measures its workers against one thread."""

from __future__ import annotations

import json
import os

import pytest
from analyze_handlers import slow
from hypothesis import given
from hypothesis import strategies as st

from analyze import speed
from analyze.facts import FileFacts
from analyze.progress import PlainProgress, Progress
from analyze.report import json_report, report_tables
from analyze.run import Analysis, analyze_tree
from analyze.spread import spread, spread_order
from analyze.totals import Totals
from analyze.tree import SourceTree


class Never:
    """A stop that is never requested."""

    def requested(self) -> bool:
        return False


def analysis_of(count: int, handler, *, stop=None, progress=None, compare=True, **options) -> Analysis:
    tree = SourceTree(os.path.abspath("/nowhere"), [f"{number:06}.py" for number in range(count)])
    return analyze_tree(
        tree, Totals(), backend="thread", compare=compare, handler=handler,
        stop=stop or Never(), progress=progress or Progress(), **options,
    )  # fmt: skip


def speed_text(analysis: Analysis) -> str:
    tables = {table.title: table for table in report_tables(analysis)}
    ((text,),) = tables["Speed-up"].rows
    return text


@given(st.integers(0, 300), st.integers(0, 300))
def test_chosen_places_are_apart(first, second):
    count, total = sorted([first, second])
    places = spread(count, total)
    assert len(places) == count
    assert all(0 <= place < total for place in places)
    gaps = [after - before for before, after in zip(places, places[1:])]
    assert all(gap >= max(1, total // max(1, count)) for gap in gaps)


@given(st.integers(0, 3000))
def test_an_order_has_every_place_once(total):
    assert sorted(spread_order(total)) == list(range(total))


@pytest.mark.parametrize("total", [100, 618, 1000, 1790, 4096])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_front_of_an_order_is_spread(total, share):
    count = int(total * share)
    places = sorted(spread_order(total)[:count])
    gaps = [after - before for before, after in zip([-1, *places], [*places, total])]
    assert max(gaps) <= 4 * total / count


@pytest.mark.slow
def test_workers_that_wait_side_by_side_are_faster():
    analysis = analysis_of(30, slow, size=6)
    measured = analysis.speed_up
    assert measured is not None
    assert measured.files == 30
    assert measured.one_thread_seconds >= 0.3
    assert measured.ratio == measured.one_thread_seconds / measured.workers_seconds
    # Six at a time, and however busy the machine is.
    assert measured.ratio > 1
    assert speed_text(analysis).startswith(f"{measured.ratio:.2f}x one thread on 30 files (")
    assert json.loads(json_report(analysis))["speed_up"] == {
        "ratio": measured.ratio,
        "files": 30,
        "one_thread": measured.one_thread_seconds,
        "workers": measured.workers_seconds,
    }


@pytest.mark.slow
def test_the_time_of_one_thread_is_bounded(monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.1)
    measured = analysis_of(200, slow, size=4).speed_up
    assert measured is not None
    # Two turns, each over with the file in which its time is up.
    assert 2 <= measured.files <= 22


def test_too_little_work_is_not_compared():
    analysis = analysis_of(3, FileFacts, size=2)
    assert analysis.speed_up is not None
    assert analysis.speed_up.ratio is None
    assert speed_text(analysis).startswith("not measured: 3 files in ")
    assert json.loads(json_report(analysis))["speed_up"]["ratio"] is None


def test_no_comparison_unless_asked_for():
    analysis = analysis_of(3, FileFacts, size=2, compare=False)
    assert analysis.speed_up is None
    assert "Speed-up" not in [table.title for table in report_tables(analysis)]
    assert json.loads(json_report(analysis))["speed_up"] is None


def test_a_stop_ends_the_comparison_and_keeps_the_report():
    class Stop(Progress):
        comparing = 0

        def compare(self) -> None:
            self.comparing += 1

        def requested(self) -> bool:
            return self.comparing > 0

    stop = Stop()
    analysis = analysis_of(5, FileFacts, size=2, stop=stop, progress=stop)
    assert stop.comparing == 1
    assert (analysis.complete, analysis.totals.analysed, analysis.speed_up) == (True, 5, None)


def test_a_stop_while_the_workers_are_measured():
    class Stop(Progress):
        in_the_host = 0
        comparing = False

        def compare(self) -> None:
            self.comparing = True

        def requested(self) -> bool:
            return self.in_the_host == 5

        def handler(self, path: str) -> FileFacts:
            self.in_the_host += self.comparing
            return FileFacts(path)

    stop = Stop()
    analysis = analysis_of(5, stop.handler, size=1, stop=stop, progress=stop)
    assert (analysis.complete, analysis.speed_up, analysis.abandoned) == (True, None, 0)


def test_the_comparison_is_announced(capsys):
    analysis_of(2, FileFacts, size=1, progress=PlainProgress())
    assert capsys.readouterr().err.splitlines() == [
        "analysed 1 of 2 files",
        "analysed 2 of 2 files",
        "comparing with one thread",
    ]
