"""The report of a pool: what is in it agrees with what ran, whatever ran, and its size has a bound.

`test_report_browser.py` opens it in a browser.
"""

from __future__ import annotations

import asyncio
import gc
import html
import json
import os
import re
import threading
import time

import process_handlers
import pytest

from pytoweb import _report_data, _report_samples
from pytoweb.workers import Batch, Retry, WorkerPool

WAIT = 10.0
HOSTILE = "</script><img src=x onerror=alert(1)>{{data}} \u2028 & \"quoted\" 'x'"


class Bar:
    """One bar of the page, with names in the place of numbers."""

    def __init__(self, data, begin, run, wait, look):
        lane, self.row, worker, kind, self.together, fate = data["bars"]["looks"][look]
        self.begin, self.run, self.wait, self.end = begin, run, wait, begin + run
        self.lane = data["lanes"][lane]
        self.worker, self.type, self.fate = data["workers"][worker], data["types"][kind], data["fates"][fate]


class Page:
    """A report as its script reads it."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")
        (embedded,) = re.findall(
            r'<script type="application/json" id="data">(.*?)</script>', self.text, re.DOTALL
        )
        self.data = json.loads(embedded)
        columns = self.data["bars"]
        self.bars, begin = [], 0
        for gap, *rest in zip(columns["begin"], columns["run"], columns["wait"], columns["look"]):
            begin += gap
            self.bars.append(Bar(self.data, begin, *rest))

    def fates(self, kind):
        return sorted(bar.fate for bar in self.bars if bar.type == kind)

    def numbers(self, kind):
        (numbers,) = (each for each in self.data["numbers"] if self.data["types"][each["type"]] == kind)
        return numbers

    def failures(self):
        return [
            (self.data["types"][each["type"]], each["fate"], each["text"]) for each in self.data["failures"]
        ]


@pytest.fixture(name="path")
def a_path(tmp_path):
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports" / "run.html"


def timed(numbers):
    """How many messages the buckets of a type have: waits, runs."""
    return [sum(count for _, count in numbers[name]) for name in ("waits", "runs")]


def test_every_message_is_there_with_its_lane_its_times_and_its_fate(path, pool, backend):
    own = pool(2, backend=backend, name="shop")
    own.on_message("echo", process_handlers.pid)
    own.on_message("fail", process_handlers.fail_deeply)
    own.on_error(lambda error: None)
    worker = own.create_worker("stock").start()
    worker.on_message("echo", process_handlers.pid)
    own.ask("echo", 0).result(WAIT)
    with own.report(path, title="Two <shops>") as report:
        asked = [own.ask("echo", number) for number in range(30)]
        asked += [worker.ask("echo", number) for number in range(20)]
        asked += [own.ask("fail", number) for number in range(3)]
        for number in range(40):
            own.post_message("echo", number)
        own.run_until_idle(WAIT)
        assert [future.exception(WAIT) for future in asked[:50]] == [None] * 50
    assert report.path == str(path)
    page = Page(path)
    data = page.data
    assert (data["title"], data["pool"], data["backend"], data["size"]) == ("Two <shops>", "shop", backend, 2)
    assert "<title>Two &lt;shops&gt;</title>" in page.text
    assert page.fates("echo") == ["completed"] * 90
    assert page.fates("fail") == ["failed"] * 3
    assert sorted(bar.worker for bar in page.bars) == ["shop"] * 73 + ["stock"] * 20
    assert {bar.lane["kind"] for bar in page.bars} == {backend}
    assert all(re.fullmatch(rf"{backend} \d", lane["name"]) for lane in data["lanes"])
    length = data["seconds"] * 1e9 / data["unit_nanos"]
    assert all(0 <= bar.begin <= bar.end <= length and bar.wait >= 0 for bar in page.bars)
    assert [bar.begin for bar in page.bars] == sorted(bar.begin for bar in page.bars)
    assert page.numbers("echo")["completed"] == 90
    assert page.numbers("fail")["failed"] == 3
    assert (data["counts"]["completed"], data["counts"]["failed"], data["counts"]["posted"]) == (90, 3, 93)
    assert [kind for kind, *_ in page.failures()] == ["fail"] * 3
    assert data["left_out"]["bars"] == data["left_out"]["untimed"] == 0
    # Each failure is on the bar of its message.
    begins = {bar.begin for bar in page.bars if bar.fate == "failed"}
    assert {failure["begin"] for failure in data["failures"]} == begins
    assert timed(page.numbers("echo")) == [90, 90]


def test_a_lane_has_one_message_at_a_time(path, pool, backend):
    own = pool(2, backend=backend)
    own.on_message("nap", time.sleep)
    with own.report(path):
        for future in [own.ask("nap", 0.005) for _ in range(20)]:
            future.result(WAIT)
    page = Page(path)
    assert [lane["rows"] for lane in page.data["lanes"]] == [1] * len(page.data["lanes"])
    assert all(bar.run * page.data["unit_nanos"] >= 5e6 for bar in page.bars)
    if backend == "thread":
        # What a thread does for a worker surrounds its handlers.
        busy = sum(time for *_, time in page.data["busy"])
        assert busy >= sum(bar.run for bar in page.bars) - len(page.bars)


def test_coroutines_have_rows_beside_each_other(path, pool):
    own = pool(3)
    here = []

    @own.on_message("meet")
    async def meet(data):
        here.append(data)
        while len(here) < 3:
            await asyncio.sleep(0.001)

    with own.report(path):
        for future in [own.ask("meet", number) for number in range(3)]:
            future.result(WAIT)
    page = Page(path)
    assert {bar.lane["kind"] for bar in page.bars} == {"coroutines"}
    assert sorted(bar.row for bar in page.bars) == [0, 1, 2]
    assert page.fates("meet") == ["completed"] * 3


def test_attempts_and_batches_are_told_apart(path, pool):
    own = pool(1)
    failed = []

    def twice(data):
        failed.append(data)
        if len(failed) < 3:
            raise ConnectionError(f"attempt {len(failed)}")

    own.on_message("again", twice, retry=Retry(3, backoff=0.001))
    own.on_message("many", lambda batch: None, batch=Batch(4))
    gate = threading.Event()
    own.on_message("wait", lambda data: gate.wait(WAIT))
    with own.report(path):
        own.ask("again").result(WAIT)
        own.post_message("wait")
        asked = [own.ask("many", number) for number in range(4)]
        gate.set()
        for future in asked:
            future.result(WAIT)
    page = Page(path)
    assert page.fates("again") == ["completed", "retried", "retried"]
    assert page.failures() == [
        ("again", "retried", "ConnectionError: attempt 1"),
        ("again", "retried", "ConnectionError: attempt 2"),
    ]
    assert [bar.together for bar in page.bars if bar.type == "many"] == [4]
    assert page.numbers("many")["completed"] == 4
    assert timed(page.numbers("many")) == [4, 4]
    assert page.data["counts"]["retried"] == page.numbers("again")["retried"] == 2


def count_to(number):
    yield from range(number)


def test_streams_and_calls_are_messages_too(path, pool, backend):
    own = pool(2, backend=backend)
    own.on_message("count", count_to)
    with own.report(path):
        assert list(own.stream("count", 5)) == [0, 1, 2, 3, 4]
        assert own.submit(divmod, 7, 2).result(WAIT) == (3, 1)
        assert list(own.map(abs, range(-8, 0), chunksize=4)) == list(range(8, 0, -1))
        own.run_until_idle(WAIT)
    page = Page(path)
    # A chunk of a map is a message where its calls go to a process.
    calls = 2 if backend == "process" else 8
    assert sorted(bar.type for bar in page.bars) == ["abs"] * calls + ["count", "divmod"]
    assert {bar.fate for bar in page.bars} == {"completed"}


def test_batches_of_a_child_are_one_bar(path, pool):
    own = pool(1, backend="process")
    own.on_message("many", process_handlers.pids, batch=Batch(8))
    own.start(WAIT)
    with own.report(path):
        for future in [own.ask("many", number) for number in range(64)]:
            future.result(WAIT)
    page = Page(path)
    assert sum(bar.together for bar in page.bars) == 64
    assert max(bar.together for bar in page.bars) > 1
    assert page.numbers("many")["completed"] == 64


def test_a_crash_a_deadline_and_a_cancel_are_told_apart(path, pool):
    own = pool(1, backend="process", max_restarts=10, grace=0.05)
    own.on_message("exit", process_handlers.exit_with)
    own.on_message("nap", time.sleep)
    own.on_message("echo", process_handlers.pid)
    own.on_error(lambda error: None)
    own.ask("echo", 1).result(WAIT)
    with own.report(path):
        own.ask("exit", 3).exception(WAIT)
        own.ask("echo", 1).result(WAIT)
        own.ask("nap", 30, timeout=0.3).exception(WAIT)
        own.ask("echo", 2).result(WAIT)
        own.run_until_idle(WAIT)
    page = Page(path)
    assert page.fates("exit") == ["crashed"]
    assert page.fates("nap") == ["expired"]
    assert page.fates("echo") == ["completed", "completed"]
    (expired,) = (bar for bar in page.bars if bar.fate == "expired")
    assert expired.run * page.data["unit_nanos"] >= 0.25e9
    kinds = [(kind, fate) for kind, fate, _ in page.failures()]
    assert ("exit", "crashed") in kinds
    assert "exited with code 3" in page.failures()[0][2]
    # The child that took the place of the one that crashed has its lane.
    (lane,) = page.data["lanes"]
    assert (lane["name"], len({pid for pid, _ in lane["pids"]})) == ("process 1", len(lane["pids"]))


def test_workers_with_a_thread_of_their_own_have_a_lane(path, pool):
    own = pool(1, name="shop")
    own.on_message("echo", process_handlers.pid)
    early = own.create_worker("early", pin=True).start()
    early.on_message("echo", process_handlers.pid)
    with own.report(path) as report:
        late = own.create_worker("late", pin=True).start()
        late.on_message("echo", process_handlers.pid)
        # What the thread of the report does ten times a second.
        report._look()
        for one in (own, early, late):
            one.ask("echo", 1).result(WAIT)
    page = Page(path)
    assert {(bar.worker, bar.lane["name"]) for bar in page.bars} == {
        ("shop", "thread 1"), ("early", "early-1"), ("late", "late-1"),
    }  # fmt: skip


def test_names_and_errors_of_others_are_only_text(path, pool):
    own = pool(1, name="shop")
    worker = own.create_worker(HOSTILE).start()

    @worker.on_message(HOSTILE)
    def fail(data):
        raise ValueError(data)

    worker.on_error(lambda error: None)
    with own.report(path, title=HOSTILE):
        worker.ask(HOSTILE, HOSTILE).exception(WAIT)
    page = Page(path)
    assert page.data["title"] == HOSTILE
    assert (page.bars[0].worker, page.bars[0].type) == (HOSTILE, HOSTILE)
    assert page.data["failures"][0]["text"] == f"ValueError: {' '.join(HOSTILE.split())}"
    # Not one of them is in there as it was written.
    assert "<img" not in page.text
    assert page.text.count("<script") == page.text.count("</script") == 2
    assert page.text.count("\u2028") == page.text.count(html.escape(HOSTILE)) == 2, "title and heading"


def test_what_is_no_text_is_in_there(path, pool):
    own = pool(1)

    @own.on_message("fail")
    def fail(data):
        raise ValueError("half \ud800")

    own.on_error(lambda error: None)
    with own.report(path, title="half \ud800"):
        own.ask("fail").exception(WAIT)
    page = Page(path)
    assert page.data["title"] == "half \ud800"
    assert page.failures()[0][2].startswith("ValueError: half ")


def test_the_page_needs_nothing_but_itself(path, pool):
    with pool(1).report(path):
        pass
    text = Page(path).text
    assert not re.search(r"https?://|//[a-z]+\.|@import|\bsrc=|\bhref=|url\(|fetch\(|XMLHttp|import\(", text)
    assert "default-src 'none'" in text
    assert "{{" not in text.replace("{{ ", "")


@pytest.mark.slow
def test_many_messages_have_few_bars_and_all_their_numbers(path, pool):
    own = pool(2)
    own.on_message("quick", lambda number: number)
    own.on_message("long", lambda number: time.sleep(0.002))
    with own.report(path, most_bars=2000):
        for number in range(30_000):
            own.post_message("long" if number % 3000 == 0 else "quick", number)
        own.run_until_idle(WAIT * 3)
    page = Page(path)
    assert 1000 <= len(page.bars) <= 2000
    assert len(page.fates("long")) == 10
    left_out = page.data["left_out"]
    assert (left_out["recorded"], left_out["bars"]) == (30_000, 30_000 - len(page.bars))
    assert page.numbers("quick")["completed"] == 29_990
    assert timed(page.numbers("quick")) == [29_990, 29_990]
    assert path.stat().st_size < 300_000
    # They are of all of the time, not of its end: evenly by number.
    longest = page.bars[-1].end
    early = sum(bar.begin < longest / 2 for bar in page.bars)
    assert early > len(page.bars) / 10


def test_failures_beyond_a_bound_are_counted(path, pool, monkeypatch):
    monkeypatch.setattr(_report_data, "MOST_FAILURES", 10)
    own = pool(1)
    own.on_error(lambda error: None)
    with own.report(path):
        for future in [own.ask("nothing handles it") for _ in range(30)]:
            future.exception(WAIT)
    page = Page(path)
    assert len(page.data["failures"]) == 10
    assert page.data["left_out"]["failures"] == 20
    assert page.data["counts"]["failed"] == 30


def test_looks_are_bounded_and_keep_the_peaks(pool, monkeypatch):
    monkeypatch.setattr(_report_samples, "MOST_SAMPLES", 8)
    own = pool(1)
    samples = _report_samples.Samples(own, lambda: None)
    gate, entered = threading.Event(), threading.Event()

    def wait(data):
        entered.set()
        gate.wait(WAIT)

    own.on_message("wait", wait)
    own.post_message("wait")
    assert entered.wait(WAIT)
    for number in range(100):
        samples.take()
        if number == 50:
            for _ in range(5):
                own.post_message("echo")
    gate.set()
    assert len(samples.kept) < 8
    assert samples.interval > _report_samples.INTERVAL
    assert max(sample.depth for sample in samples.kept) == 5
    times = [sample.time for sample in samples.kept]
    assert times == sorted(times)


def test_nothing_is_recorded_before_and_after(path, pool):
    own = pool(1)
    own.on_message("echo", process_handlers.pid)
    own.ask("echo", 1).result(WAIT)
    report = own.report(path)
    assert "made" in repr(report)
    assert not path.exists()
    with report:
        assert "recording" in repr(report)
        with pytest.raises(RuntimeError, match="being recorded already"):
            own.report(path).start()
    assert "saved" in repr(report)
    own.ask("echo", 1).result(WAIT)
    assert Page(path).bars == []
    with pytest.raises(RuntimeError, match="started once"):
        report.start()
    with pytest.raises(RuntimeError, match="is over"):
        report.save()
    with pytest.raises(RuntimeError, match="was not started"):
        own.report(path).save()
    # Another one may follow.
    again = own.report(path, title="again").start()
    own.ask("echo", 1).result(WAIT)
    assert again.save() == str(path)
    assert len(Page(path).bars) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"path": ""}, ValueError),
        ({"path": 7}, TypeError),
        ({"title": 5}, TypeError),
    ],
)
def test_what_is_no_report_is_refused_at_the_call(path, pool, arguments, error):
    with pytest.raises(error):
        pool(1).report(**{"path": path, **arguments})


def test_a_directory_is_no_file_of_a_report(tmp_path, pool):
    with pytest.raises(IsADirectoryError, match="is to be a file"):
        pool(1).report(tmp_path).start()


def test_a_report_that_could_not_be_written_is_kept(tmp_path, pool):
    directory = tmp_path / "gone"
    directory.mkdir()
    own = pool(1)
    report = own.report(directory / "run.html").start()
    own.submit(len, "abc").result(WAIT)
    directory.rmdir()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            report.save()
    assert "ended" in repr(report)
    elsewhere = tmp_path / "elsewhere.html"
    assert report.save(bytes(elsewhere)) == str(elsewhere)
    assert [bar.type for bar in Page(elsewhere).bars] == ["len"]
    with pytest.raises(RuntimeError, match="is over"):
        report.save()


def test_the_block_that_raises_has_its_report(path, pool):
    own = pool(1)
    with pytest.raises(ZeroDivisionError), own.report(path):
        own.submit(len, "abc").result(WAIT)
        raise ZeroDivisionError
    assert [bar.type for bar in Page(path).bars] == ["len"]


def test_a_pool_that_is_shut_down_in_the_block_has_its_report(path):
    own = WorkerPool(1)
    with own.report(path), own:
        own.submit(len, "abc").result(WAIT)
    assert [bar.fate for bar in Page(path).bars] == ["completed"]


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(path, pool, caplog):
    own = pool(1)
    with pytest.raises(FileNotFoundError, match="no directory for the report"):
        own.report(path / "there" / "run.html").start()
    with pytest.raises(OSError), own.report(path):
        path.mkdir()
    path.rmdir()
    # The exception of the block is the one that is raised.
    with pytest.raises(ZeroDivisionError), own.report(path):
        path.mkdir()
        raise ZeroDivisionError
    assert "is not written" in caplog.text
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"most_bars": 0}, ValueError), ({"most_bars": "many"}, TypeError), ({"most_bars": 10**9}, ValueError)],
)
def test_wrong_options_are_refused(path, pool, options, error):
    with pytest.raises(error):
        pool(1).report(path, **options)


def test_a_report_that_is_dropped_ends_and_says_so(path, pool):
    own = pool(1, name="shop")
    own.submit(len, "abc").result(WAIT)
    with pytest.warns(ResourceWarning, match=r"'shop' was dropped.*not written.*save\(\)"):
        own.report(path).start()
        gc.collect()
    assert not path.exists()
    # Given back: the next one can be recorded.
    with own.report(path):
        own.submit(len, "abc").result(WAIT)
    assert [bar.type for bar in Page(path).bars] == ["len"]


def test_a_report_that_never_began_is_dropped_in_silence(path, pool):
    pool(1).report(path)
    gc.collect()


def test_the_thread_of_a_dropped_report_ends(path, pool, until):
    own = pool(1)
    with pytest.warns(ResourceWarning):
        own.report(path).start()
        gc.collect()
    until(lambda: "pytoweb-report" not in [one.name for one in threading.enumerate()], "its end")


AT_THE_END = """
from pytoweb.workers import WorkerPool
pool = WorkerPool(1, name="shop")
report = pool.report({path!r}).start()
pool.submit(len, "abc")
"""


@pytest.mark.parametrize("shuts_down", [True, False])
def test_a_report_that_runs_at_the_end_of_the_program_is_written(path, run_python, shuts_down):
    code = AT_THE_END.format(path=str(path)) + ("pool.shutdown()\n" if shuts_down else "")
    done = run_python(code)
    assert done.rc == 0
    assert "the report of pool 'shop' was recorded until the end of the program" in done.stderr
    # With what was finished after the main thread.
    assert [bar.type for bar in Page(path).bars] == ["len"]


def test_a_report_of_a_program_that_ctrl_c_ends_is_said_to_be_lost(path, run_python):
    code = AT_THE_END.format(path=str(path))
    code += """
import os, signal, time
@pool.submit
def interrupt():
    # Until the main thread is over, and waits for this.
    while pool.stats().own.state == "running":
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        time.sleep(0.01)
"""
    done = run_python(code)
    assert done.rc == 130
    assert "the report of pool 'shop' is not written" in done.stderr
    assert "Ctrl-C has ended the program" in done.stderr
    assert not path.exists()


def test_a_report_that_cannot_be_written_at_the_end_of_the_program_is_said(tmp_path, run_python):
    path = tmp_path / "gone" / "run.html"
    path.parent.mkdir()
    done = run_python(
        AT_THE_END.format(path=str(path)) + "import os; os.rmdir(os.path.dirname(report.path))\n"
    )
    assert done.rc == 0
    assert "the report of pool 'shop' is not written" in done.stderr
    assert "FileNotFoundError" in done.stderr


def test_a_forked_child_writes_no_report_of_its_parent(path, run_python):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    done = run_python(
        f"""
import os, warnings
warnings.simplefilter("ignore")
from pytoweb.workers import WorkerPool
path = {str(path)!r}
with WorkerPool(1) as pool:
    with pool.report(path):
        pool.submit(len, "abc").result(10)
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            assert not os.path.exists(path)
    if not pid:
        os._exit(0)
"""
    )
    assert (done.rc, done.stderr) == (0, "")
    assert [bar.type for bar in Page(path).bars] == ["len"]


def test_the_file_of_a_report_keeps_what_it_is(tmp_path, pool):
    """Its permissions, the links to it, and that it is a pipe: a report has names and error texts."""
    private, link, pipe = tmp_path / "private.html", tmp_path / "link.html", tmp_path / "pipe"
    private.write_text("old")
    private.chmod(0o600)
    link.symlink_to(private)
    own = pool(1)
    own.report(link).start().save()
    assert link.is_symlink()
    assert private.read_text().startswith("<!doctype html>")
    assert private.stat().st_mode & 0o777 == 0o600

    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    own.report(pipe).start().save()
    reader.join(60)
    assert pipe.is_fifo()
    assert read[0].startswith("<!doctype html>")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.html", "pipe", "private.html"]
