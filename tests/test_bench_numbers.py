"""What `make bench-numbers` concludes from what it measured."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def benches():
    """The modules of the benchmarks, which live beside the row files and on no path."""
    before = list(sys.path)
    sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "benches" / "python")]
    names = ("cost_of_numbers", "rounds", "row")
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path[:] = before


@pytest.mark.parametrize(
    ("unit", "with_numbers", "without", "ratio", "verdict"),
    [
        # A rate that is lower, and a time that is higher, cost alike.
        ("/s", [100.0, 100.0, 100.0], [104.0, 104.0, 104.0], 1.04, "pass"),
        ("/s", [100.0, 100.0, 100.0], [110.0, 112.0, 111.0], 1.11, "ABOVE"),
        ("us", [1.1, 1.12, 1.11], [1.0, 1.0, 1.0], 1.11, "ABOVE"),
        ("us", [0.9, 1.04, 1.0], [1.0, 1.0, 1.0], 1.0, "pass"),
        # Within it or above by the medians, but too many rounds say that it is not.
        ("us", [0.9, 1.2, 1.0], [1.0, 1.0, 1.0], 1.0, "unsure"),
        ("us", [0.9, 1.2, 1.06, 1.2], [1.0, 1.2, 1.0, 1.05], 1.103, "unsure"),
        # A count is exact, two rounds of anything else are chance.
        ("Ir", [1060.0], [1000.0], 1.06, "ABOVE"),
        ("us", [1.1, 1.1], [1.0, 1.0], 1.1, "unsure"),
    ],
)
def test_a_row_is_within_its_bound_or_above_it_where_most_rounds_say_so(
    benches, unit, with_numbers, without, ratio, verdict
):
    cost = benches.cost_of_numbers.Cost("row", unit, with_numbers, without)
    assert cost.ratio == pytest.approx(ratio, rel=1e-3)
    assert cost.verdict == verdict


def test_a_run_of_ours_alone_sets_up_no_peer(benches):
    ran = []

    def side(label):
        @contextlib.contextmanager
        def set_up():
            ran.append(label)
            yield float

        return set_up

    sides = {"ours": side("ours"), "peer": side("peer")}
    plan = benches.rounds.Plan(alone=True, samples=2)
    taken = benches.rounds.alternate(sides, count=7, plan=plan, peers=("peer",))
    assert (ran, taken) == (["ours"], {"ours": [7.0, 7.0], "peer": []})
    ours, peer = (benches.row.Side(label, samples) for label, samples in taken.items())
    row = benches.row.Row("row", "title", "us", ours, [peer])
    assert math.isnan(benches.row.Row.from_dict(row.to_dict()).ratio)
    everyone = benches.rounds.alternate(sides, count=7, plan=benches.rounds.Plan(samples=1), peers=("peer",))
    assert everyone == {"ours": [7.0], "peer": [7.0]}
