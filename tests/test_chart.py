"""What `make bench ARGS=--write` writes: the README's chart in both colours, and the guide's table."""

from __future__ import annotations

import importlib
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {
    "processor": "A <Fast> & Good CPU", "cores": 2, "cores_used": 2, "pinned": False, "system": "Linux",
    "python": "CPython 3.11", "rustc": "rustc 1.95", "pytoweb": "0.1.0", "commit": "abc",
    "date": "2026-01-02",
}  # fmt: skip


@pytest.fixture(scope="module")
def benches():
    """The modules of the benchmarks, which live beside the row files and on no path."""
    before = list(sys.path)
    sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "benches" / "python")]
    names = ("chart", "guide", "report", "row", "run")
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path[:] = before


@pytest.fixture
def rows(benches):
    """A run in which the peer is as fast, ours is ten times, or a time is a tenth."""
    made = []
    for number, name in enumerate(benches.chart.LABELS):
        unit, ours = (benches.row.RATE, 1000.0) if name != "process-bytes" else ("us", 10.0)
        peer = {benches.row.RATE: [100.0, 1000.0][number == 5], "us": 100.0}[unit]
        sides = benches.row.Side("ours", [ours]), [benches.row.Side("the <peer>", [peer])]
        made.append(benches.row.Row(name, f"title of {name}", unit, *sides, target=2))
    return made


def widths(root, kind):
    return [float(bar.get("width")) for bar in root.iter(f"{SVG}rect") if bar.get("class") == kind][1:]


def test_a_picture_has_six_rows_and_says_what_the_user_does(benches, rows):
    for theme in benches.chart.THEMES:
        root = ElementTree.fromstring(benches.chart.svg(MACHINE, rows, theme))
        texts = [text.text for text in root.iter(f"{SVG}text")]
        assert len(benches.chart.LABELS) == 6
        assert [text for text in texts if text in benches.chart.LABELS.values()] == [
            *benches.chart.LABELS.values()
        ]
        assert "100 /s  the <peer>" in texts
        assert any("A <Fast> & Good CPU" in text and "2026-01-02" in text for text in texts)


def test_a_bar_is_as_long_as_its_side_is_fast(benches, rows):
    root = ElementTree.fromstring(benches.chart.svg(MACHINE, rows, benches.chart.THEMES[0]))
    full = benches.chart.BAR_WIDTH
    # The first five are ten times as fast, a time included; the last is as fast.
    assert widths(root, "ours") == [full] * 6
    assert widths(root, "peer") == [full / 10] * 5 + [full]
    ratios = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "ratio"]
    assert ratios == ["10x"] * 5 + ["1.0x"]


def test_a_slower_one_of_ours_is_shown_as_slower(benches, rows):
    slow = benches.row.Row(
        "map-script", "slow", "/s", benches.row.Side("ours", [50]), [benches.row.Side("peer", [100])]
    )
    root = ElementTree.fromstring(benches.chart.svg(MACHINE, [*rows[:5], slow], benches.chart.THEMES[0]))
    assert widths(root, "ours")[-1] == benches.chart.BAR_WIDTH / 2
    assert widths(root, "peer")[-1] == benches.chart.BAR_WIDTH


def test_both_themes_have_colours_of_their_own(benches, rows):
    light, dark = (benches.chart.svg(MACHINE, rows, theme) for theme in benches.chart.THEMES)
    assert light != dark
    for theme in benches.chart.THEMES:
        assert len({theme.text, theme.faint, theme.ours, theme.peer}) == 4


def test_a_run_without_a_row_of_the_chart_draws_nothing(benches, rows, tmp_path):
    with pytest.raises(benches.chart.MissingRows, match="map-script"):
        benches.chart.write(MACHINE, rows[:-1], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_row_of_the_chart_is_a_row_of_the_run(benches):
    assert set(benches.chart.LABELS) <= {row for group in benches.run.ROWS_OF.values() for row in group}


def test_a_run_is_written_into_the_documents_and_one_on_one_core_is_added(benches, rows, tmp_path):
    page = tmp_path / benches.guide.PAGE
    page.parent.mkdir(parents=True)
    page.write_text(f"before\n{benches.guide.BEGIN}\nold\n{benches.guide.END}\nafter\n")

    with pytest.raises(benches.guide.NotWritten):
        benches.guide.write(tmp_path, {**MACHINE, "pinned": True}, rows)
    written = benches.guide.write(tmp_path, MACHINE, rows)
    assert sorted(path.name for path in written) == ["09-performance.md", "speed-dark.svg", "speed-light.svg"]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert (
        "| title of thread-ask | `ours` | the <peer> | 1.00 k/s | 100 /s | 10.00x | at least 2x | - |" in text
    )
    assert "Missed: title of process-bytes; title of map-script." in text

    benches.guide.write(tmp_path, {**MACHINE, "pinned": True}, rows)
    text = page.read_text()
    assert "| at least 2x | 10.00x |" in text
    assert text.count(benches.guide.BEGIN) == text.count(benches.guide.END) == 1


def test_the_documents_have_a_place_for_both(benches):
    page = (ROOT / benches.guide.PAGE).read_text(encoding="utf-8")
    assert page.index(benches.guide.BEGIN) < page.index(benches.guide.END)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for theme in benches.chart.THEMES:
        picture = benches.guide.FIGURES / f"speed-{theme.name}.svg"
        assert str(picture) in readme
        ElementTree.parse(ROOT / picture)
