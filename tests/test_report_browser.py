"""The report in a real browser: it draws what it has, needs no network, and answers mouse, keys and width.

`make test-browser` runs these tests; they need a Chromium, whose path it gives in `PYTOWEB_BROWSER`.
"""

from __future__ import annotations

import os
import time

import pytest
from browser import Browser
from test_report import HOSTILE, Page

from pytoweb.workers import Retry, WorkerPool

WAIT = 10.0

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COLOURS = """
(id => {
  const canvas = document.getElementById(id);
  const seen = new Map();
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  for (let place = 0; place < data.length; place += 4) {
    if (data[place + 3] < 250) continue;
    const colour = data.slice(place, place + 3).join(" ");
    seen.set(colour, (seen.get(colour) || 0) + 1);
  }
  return Object.fromEntries(seen);
})
"""
"""The pixels of a canvas by colour."""

TYPES = ["63 127 193", "224 163 58", "74 165 138"]
RED = "201 24 43"


@pytest.fixture(scope="module", name="browser")
def a_browser():
    program = os.environ.get("PYTOWEB_BROWSER")
    if not program:
        pytest.fail("PYTOWEB_BROWSER names no Chromium: call `make test-browser`")
    with Browser(program) as browser:
        yield browser


@pytest.fixture(scope="module", name="report")
def a_report(tmp_path_factory):
    """A report of a run with failures, attempts and names that would do harm."""
    path = tmp_path_factory.mktemp("report") / "run.html"
    tried = []

    def flaky(number):
        tried.append(number)
        if tried.count(number) == 1:
            raise ConnectionError("once")

    def fail(data):
        time.sleep(0.002)
        raise ValueError(HOSTILE)

    with WorkerPool(2, name="shop") as pool:
        pool.on_error(lambda error: None)
        worker = pool.create_worker(HOSTILE).start()
        worker.on_error(lambda error: None)
        worker.on_message("nap", time.sleep)
        worker.on_message(HOSTILE, fail)
        pool.on_message("nap", time.sleep)
        pool.on_message("flaky", flaky, retry=Retry(3, backoff=0.001))
        with pool.report(path, title=HOSTILE):
            asked = [pool.ask("nap", 0.01) for _ in range(40)]
            asked += [worker.ask("nap", 0.02) for _ in range(10)]
            asked += [worker.ask(HOSTILE) for _ in range(3)]
            asked += [pool.ask("flaky", number) for number in range(5)]
            for future in asked:
                future.exception(WAIT)
    return path


@pytest.fixture(name="opened")
def opens(browser):
    """Returns `opened(path, **options)`: a tab, drawn, closed after the test; it must have no fault."""
    tabs = []

    def open_it(path, **options):
        tab = browser.open(path.as_uri(), **options)
        tab.address = path.as_uri()
        tabs.append(tab)
        tab.settle()
        return tab

    yield open_it
    for tab in tabs:
        tab.settle()
        assert tab.errors == []
        assert tab.evaluate("document.documentElement.dataset.errors") == "0"
        # Nothing but the file itself, whatever was done with it.
        assert tab.requests == [tab.address]
        tab.close()


def data(tab, name):
    return tab.evaluate(f"document.documentElement.dataset.{name}")


def test_every_bar_is_painted(opened, report):
    tab = opened(report)
    page = Page(report)
    assert data(tab, "bars") == str(len(page.bars)) == "63"
    assert int(data(tab, "painted")) >= 40, "but for those that share a pixel"
    colours = tab.evaluate(f"{COLOURS}('stream')")
    assert colours[TYPES[0]] > 1000, "the type that ran longest"
    assert colours[RED] > 100
    for id in ("overview", "depth", "load", "memory", "waits", "runs"):
        assert len(tab.evaluate(f"{COLOURS}('{id}')")) > 2, id


def test_the_texts_of_others_are_texts(opened, report):
    tab = opened(report)
    assert tab.evaluate("document.querySelector('h1').textContent") == HOSTILE
    assert tab.evaluate("document.images.length") == 0
    assert tab.evaluate("document.scripts.length") == 2
    cells = tab.evaluate("[...document.querySelectorAll('#failures td')].map(cell => cell.textContent)")
    assert HOSTILE in cells
    assert f"ValueError: {' '.join(HOSTILE.split())}" in cells


def test_failures_have_rows_that_lead_to_them(opened, report):
    tab = opened(report)
    rows = "document.querySelectorAll('#failures tbody tr')"
    assert tab.evaluate(f"{rows}.length") == 8
    assert tab.evaluate(f"[...{rows}].filter(row => row.textContent.includes('tried again')).length") == 5
    before = tab.picture(tab.box("#axis"))
    tab.evaluate("document.querySelector('#failures tbody tr').click()")
    tab.settle()
    tab.evaluate("scrollTo(0, 0)")
    assert tab.picture(tab.box("#axis")) != before


def test_a_bar_says_what_it_is(opened, report):
    tab = opened(report)
    page = Page(report)
    longest = max(page.bars, key=lambda bar: bar.run)
    length = page.data["seconds"] * 1e9 / page.data["unit_nanos"]
    left, top, width, _ = tab.box("#stream")
    x = left + 132 + (longest.begin + longest.run / 2) / length * (width - 132)
    shown = []
    for y in range(20, 90, 6):
        tab.mouse("mouseMoved", x, top + y)
        if not tab.evaluate("document.getElementById('tip').hidden"):
            shown.append(tab.evaluate("document.getElementById('tip').textContent"))
    assert any(text.startswith("nap") and "waited" in text and "began at" in text for text in shown), shown


def test_zoom_pan_and_all(opened, report):
    tab = opened(report)
    drawn = lambda: tab.picture(tab.box("#axis"))  # noqa: E731
    whole = drawn()
    left, top, width, height = tab.box("#stream")
    middle = (left + width / 2, top + height / 2)
    tab.mouse("mouseWheel", *middle, deltaX=0, deltaY=-300, modifiers=2)
    near = drawn()
    assert near != whole
    tab.mouse("mousePressed", *middle, button="left", buttons=1, clickCount=1)
    tab.mouse("mouseMoved", middle[0] - 150, middle[1], button="left", buttons=1)
    tab.mouse("mouseReleased", middle[0] - 150, middle[1], button="left", clickCount=1)
    assert drawn() not in (near, whole)
    tab.click("#zoom-all")
    assert drawn() == whole
    tab.evaluate("document.getElementById('stream').focus()")
    tab.press("+")
    assert drawn() != whole
    tab.press("0")
    assert drawn() == whole
    # Without a modifier the wheel scrolls the page.
    tab.mouse("mouseWheel", *middle, deltaX=0, deltaY=200)
    assert data(tab, "errors") == "0"


def test_types_are_hidden_and_found(opened, report):
    tab = opened(report)
    nap = tab.evaluate(f"{COLOURS}('stream')")[TYPES[0]]
    tab.click("#legend button")
    assert tab.evaluate(f"{COLOURS}('stream')").get(TYPES[0], 0) < nap / 20
    assert tab.evaluate("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"
    tab.click("#legend button")
    assert tab.evaluate(f"{COLOURS}('stream')")[TYPES[0]] == nap
    tab.evaluate(
        "(f => { f.value = 'flaky'; f.dispatchEvent(new Event('input')); })(document.getElementById('find'))"
    )
    tab.settle()
    assert tab.evaluate(f"{COLOURS}('stream')").get(TYPES[0], 0) < nap / 20


@pytest.mark.parametrize("width", [360, 800, 2200])
def test_it_fits_every_width(opened, report, width):
    tab = opened(report, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(f"{COLOURS}('stream')")[TYPES[0]] > 300
    tab.resize(500, 900)
    tab.settle()
    assert tab.evaluate("document.getElementById('stream').clientWidth") <= 500
    assert tab.evaluate("document.getElementById('stream').width") <= 1500


def test_it_is_dark_where_that_is_asked_for(opened, report):
    tab = opened(report, dark=True)
    assert tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 24, 31)"
    colours = tab.evaluate(f"{COLOURS}('stream')")
    assert RED not in colours and "255 90 102" in colours


def test_it_prints(opened, report):
    tab = opened(report, dark=True)
    printed = tab.call("Page.printToPDF", printBackground=True)["data"]
    assert len(printed) > 10_000


def test_a_report_of_nothing_is_drawn(opened, tmp_path):
    path = tmp_path / "nothing.html"
    with WorkerPool(1, name="idle") as pool, pool.report(path):
        pass
    tab = opened(path)
    assert data(tab, "bars") == data(tab, "painted") == "0"
    assert tab.evaluate("document.getElementById('no-failures').hidden") is False


def test_a_report_of_very_many_messages_is_drawn(opened, tmp_path):
    path = tmp_path / "many.html"
    with WorkerPool(2, name="busy") as pool:
        pool.on_message("quick", lambda number: number)
        with pool.report(path):
            for number in range(150_000):
                pool.post_message("quick", number)
            pool.run_until_idle(50)
    assert path.stat().st_size < 3_000_000
    tab = opened(path)
    assert 25_000 <= int(data(tab, "bars")) <= 50_000
    assert int(data(tab, "painted")) > 300
    said = tab.evaluate("document.getElementById('left-out').textContent")
    assert "messages are not drawn: of 150,000" in said
