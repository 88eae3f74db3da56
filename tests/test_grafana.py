"""The dashboard of Grafana: what its queries name is what the program exports."""

from __future__ import annotations

import collections
import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pytoweb import metrics
from pytoweb._core import METRICS
from pytoweb.workers import PythonWorker, WorkerPool

WAIT = 10.0
DASHBOARD = Path(__file__).parent.parent / "docs/grafana/pytoweb.json"
SERIES = re.compile(r"\b(pytoweb_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"')


@pytest.fixture(scope="module")
def board():
    return json.loads(DASHBOARD.read_text(encoding="ascii"))


@pytest.fixture(scope="module")
def exported():
    """What a program exports that has a bit of everything: the values of each label, by sample."""
    found = collections.defaultdict(lambda: collections.defaultdict(set))
    with WorkerPool(1, name="family", backend="process") as pool, PythonWorker("one") as one:
        assert pool.submit(abs, -1).result(WAIT) == 1
        one.on_message("work", abs)
        assert one.ask("work", -1).result(WAIT) == 1
        for family in text_string_to_metric_families(metrics.render()):
            for sample in family.samples:
                for label, value in sample.labels.items():
                    found[sample.name][label].add(value)
    return found


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board):
    """Each query, with the texts beside it that name labels."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"], ""


def test_queries_name_what_is_exported(board, exported):
    for query, legend in queries(board):
        series = SERIES.findall(query)
        assert series, query
        for name, matchers in series:
            assert name in exported, query
            for label, value in MATCHER.findall(matchers):
                assert label in exported[name], query
                if not value.startswith("$"):
                    assert value in exported[name][label], query
        kept = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
        kept |= set(re.findall(r"label_values\(.*, (\w+)\)", query))
        assert all(label in exported[name] for label in kept for name, _ in series), query
        # What is summed has no other labels.
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept, legend


def test_counters_are_read_as_rates_and_histograms_by_bucket(board):
    kinds = {name: kind for name, kind, _, _ in METRICS}
    for query, _ in queries(board):
        for name, _ in SERIES.findall(query):
            base = re.sub("_(bucket|sum|count)$", "", name)
            kind = kinds.get(name) or kinds[base]
            is_rated = re.search(rf"(rate|increase)\({name}\b", query) is not None
            assert is_rated == (kind != "gauge"), query
        if "histogram_quantile" in query:
            assert "sum by (le" in query and "_bucket{" in query


def test_every_metric_is_shown(board):
    shown = {name for query, _ in queries(board) for name, _ in SERIES.findall(query)}
    shown |= {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert {name for name, *_ in METRICS} <= shown


def test_it_can_be_imported_anywhere(board):
    assert board["id"] is None and board["schemaVersion"] >= 42
    names = {variable["name"]: variable["type"] for variable in board["templating"]["list"]}
    assert names == {"datasource": "datasource", "pool": "query", "worker": "query"}
    sources = {
        (source["type"], source["uid"])
        for panel in panels(board)
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"]))
    }
    assert sources == {("prometheus", "${datasource}")}
    used = set(re.findall(r"\$(\w+)", " ".join(query for query, _ in queries(board))))
    assert used == {"pool", "worker", "__rate_interval"}
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_panels_do_not_lie_on_each_other(board):
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
