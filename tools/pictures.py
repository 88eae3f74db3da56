"""Makes the pictures of the guide in docs/figures, from programs that run: ``make pictures``.

    tools/pictures.py CHROMIUM [PICTURE...]

Needs the packages of the tests, and tests/browser.py on the path. Look at the pictures before a commit.
"""

from __future__ import annotations

import asyncio
import io
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from browser import Browser

from pytoweb import metrics
from pytoweb.workers import Batch, Retry, WorkerPool

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
LARGEST = 200_000
"""Bytes of one picture: the guide is read over slow networks too."""

SECONDS = 4.0
"""How long the shop of the pictures is open."""


def resize(milliseconds):
    """Waits, as code does that lets go of the interpreter lock."""
    time.sleep(milliseconds / 1000)


def render(milliseconds):
    """Computes."""
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass


def store(rows):
    """Takes as long for many rows as for one."""
    time.sleep(0.006)


async def fetch(milliseconds):
    """Awaits."""
    await asyncio.sleep(milliseconds / 1000)


class Shop:
    """A pool with something of everything: workers, coroutines, batches, attempts, failures, deadlines."""

    def __init__(self):
        """Makes the pool, and starts its workers."""
        self.tried = {}
        self.random = random.Random(7)
        self.pool = WorkerPool(4, name="shop")
        quiet = lambda error: None  # noqa: E731
        self.images = self.pool.create_worker("images").start()
        self.mail = self.pool.create_worker("mail").start()
        for one in (self.pool, self.images, self.mail):
            one.on_error(quiet)
        for kind, handler in (("resize", resize), ("render", render)):
            self.pool.on_message(kind, handler)
            self.images.on_message(kind, handler)
        self.pool.on_message("fetch", fetch)
        self.pool.on_message("store", store, batch=Batch(16))
        self.pool.on_message("pay", self.pay, retry=Retry(3, backoff=0.03))
        self.mail.on_message("send", self.send)

    def pay(self, order):
        """Fails at first, for some orders."""
        time.sleep(0.008)
        self.tried[order] = self.tried.get(order, 0) + 1
        if order % 5 == 0 and self.tried[order] < 2:
            raise TimeoutError("the bank does not answer")

    def send(self, order):
        """Fails for good, for some orders."""
        time.sleep(0.011)
        if order % 11 == 0:
            raise ConnectionError("mail.example.org: connection refused")

    def serve(self, seconds=SECONDS):
        """Serves customers, more and more of them, and then fewer."""
        end = time.monotonic() + seconds
        asked, number, draw = [], 0, self.random.uniform
        while (left := end - time.monotonic()) > 0:
            number += 1
            asked.append(self.images.ask("resize", draw(3, 16)))
            asked.append(self.pool.ask("render", draw(0.5, 6)))
            if number % 2:
                asked.append(self.mail.ask("send", number))
                asked.append(self.pool.ask("fetch", draw(20, 120)))
            if number % 3 == 0:
                asked.append(self.pool.ask("pay", number))
                asked += [self.pool.ask("store", row) for row in range(8)]
            if number % 17 == 0:
                asked.append(self.pool.ask("resize", draw(80, 200), timeout=0.12))
            rush = 1.0 if abs(left / seconds - 0.55) > 0.2 else 0.45
            time.sleep(draw(0.012, 0.03) * rush)
        for future in asked:
            future.exception(10)


def report(browser, directory):
    """The report, by day and by night."""
    path = directory / "run.html"
    shop = Shop()
    with shop.pool, shop.pool.report(path, title="A day in the shop"):
        shop.serve()
    for name, dark in (("report-light", False), ("report-dark", True)):
        tab = browser.open(path.as_uri(), 1180, 1000, dark=dark)
        tab.settle()
        height = tab.evaluate("document.getElementById('failures-title').getBoundingClientRect().top")
        tab.resize(1180, int(height))
        tab.settle()
        yield f"{name}.png", tab.picture((0, 0, 1180, height - 14))
        tab.close()
    tab = browser.open(path.as_uri(), 1180, 1000)
    tab.evaluate("document.getElementById('stream').focus()")
    for key in ("+", "+", "+", "+"):
        tab.press(key)
    left, top, width, height = tab.box("#stream")
    # Where a bar that failed is, from the top to the bottom.
    found = False
    for x in range(int(left) + 140, int(left + width) - 20, 7):
        tab.mouse("mouseMoved", x, top + 34)
        if "refused" in tab.evaluate("document.getElementById('tip').textContent"):
            found = not tab.evaluate("document.getElementById('tip').hidden")
        if found:
            break
    section = tab.box("#stream-title")
    legend = tab.box("#legend")
    yield "report-zoom.png", tab.picture((0, section[1] - 10, 1180, legend[1] - section[1] + 20))
    tab.close()


def page_of_metrics(browser, directory):
    """The page that Prometheus reads, as a browser shows it."""
    shop = Shop()
    with shop.pool:
        shop.serve(0.5)
        text = metrics.render()
    path = directory / "metrics.txt"
    path.write_text(text, encoding="utf-8")
    tab = browser.open(path.as_uri(), 1000, 620)
    yield "metrics.png", tab.picture((0, 0, 1000, 620))
    tab.close()


def top(browser, directory):
    """The live view, as it draws a program."""
    from rich.console import Console

    from pytoweb import _snapshot
    from pytoweb._core import watch_failures
    from pytoweb._top_screen import ScreenView

    failures = _snapshot.Failures()
    watch_failures(failures.note)
    shop, view = Shop(), ScreenView()
    with shop.pool, ThreadPoolExecutor(1) as customers:
        served = customers.submit(shop.serve)
        for _ in range(2):
            # Into the middle of the rush: what stands in the queues is of interest.
            time.sleep(SECONDS / 4)
            view.take({**_snapshot.snapshot(failures), "program": "shop.py", "pid": 4711})
        served.result()
    watch_failures(None)
    console = Console(
        record=True, width=104, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(view.draw(104, 16))
    yield "top.svg", console.export_svg(title="python -m pytoweb top", unique_id="top").encode()


PICTURES = {"report": report, "metrics": page_of_metrics, "top": top}


def main(program, *wanted):
    """Makes the pictures of these names, or all."""
    with Browser(program) as browser, tempfile.TemporaryDirectory() as directory:
        for name in wanted or PICTURES:
            for file, picture in PICTURES[name](browser, Path(directory)):
                (FIGURES / file).write_bytes(picture)
                print(f"{file}: {len(picture):,} bytes")
                if len(picture) > LARGEST:
                    sys.exit(f"{file} is larger than {LARGEST:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
