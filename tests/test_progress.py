"""Progress bars of `tqdm` and `rich`, and what the contract of progress does not see."""

from __future__ import annotations

import asyncio
import io
import pickle
import subprocess
import sys

import pytest

from pytoweb.progress import track
from pytoweb.workers import Progress, WorkerPool, current_worker

WAIT = 10.0


def convert(pages):
    for page in range(1, pages + 1):
        current_worker().progress(page, pages, f"page {page}")
    return pages


@pytest.fixture
def tqdm(monkeypatch):
    bar = pytest.importorskip("tqdm").tqdm
    # Its thread that redraws slow bars outlives the test.
    monkeypatch.setattr(bar, "monitor_interval", 0)
    return bar


@pytest.fixture
def converter(worker, backend):
    one = worker("converter", backend=backend)
    one.on_message("convert", convert)
    return one.start()


def test_a_tqdm_bar_shows_the_last_report_when_the_result_is_there(converter, tqdm):
    file = io.StringIO()
    with tqdm(file=file, ascii=True, mininterval=0) as bar:
        tracked = track(converter.ask("convert", 300), bar, "starting")
        assert tracked.result(WAIT) == 300
        assert (bar.n, bar.total) == (300, 300)
    last = file.getvalue().rstrip().split("\r")[-1]
    assert "page 300" in last and "300/300" in last


def test_a_rich_bar_shows_the_last_report_when_the_result_is_there(converter):
    progress, console = pytest.importorskip("rich.progress"), pytest.importorskip("rich.console")
    file = io.StringIO()
    with progress.Progress(console=console.Console(file=file, width=80)) as bars:
        first = track(converter.ask("convert", 300), bars, "first")
        second = track(converter.ask("convert", 200), bars, "second")
        assert [first.result(WAIT), second.result(WAIT)] == [300, 200]
        assert [(task.completed, task.total) for task in bars.tasks] == [(300, 300), (200, 200)]
        assert all(task.finished for task in bars.tasks)
    assert "page 300" in file.getvalue()


def test_a_bar_is_drawn_on_the_event_loop(converter, tqdm):

    async def main():
        with tqdm(file=io.StringIO()) as bar:
            assert await asyncio.wait_for(track(converter.ask("convert", 300), bar), WAIT) == 300
            return bar.n

    assert asyncio.run(main()) == 300


def test_a_failure_comes_through_the_bar(worker, backend, tqdm):
    one = worker("failing", backend=backend)
    one.on_message("convert", convert)
    one.start()
    with tqdm(file=io.StringIO()) as bar, pytest.raises(TypeError):
        track(one.ask("convert", "three"), bar).result(WAIT)


def test_anything_else_is_no_bar(converter):
    with pytest.raises(TypeError, match="must be a tqdm or a rich"):
        track(converter.ask("convert", 3), object())


def test_functions_of_a_pool_have_progress(backend):
    with WorkerPool(2, backend=backend) as pool:
        future = pool.submit(convert, 10)
        assert future.result(WAIT) == 10
        assert future.progress == Progress(10, 10, "page 10")
        assert list(pool.map(convert, [3, 4])) == [3, 4]


def test_a_progress_cannot_be_changed():
    one = Progress(1, 2, "three")
    with pytest.raises(AttributeError):
        one.done = 2
    assert pickle.loads(pickle.dumps(one)) == one == Progress(1, 2, "three") != Progress(1)
    assert repr(one) == "Progress(done=1, total=2, text='three')"


def test_the_bars_are_no_dependency():
    code = "import sys, pytoweb.progress; assert not {'tqdm', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
