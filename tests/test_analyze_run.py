"""Which files the demonstration takes, how they pass through the workers, and what is added up."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading

import pytest

from analyze import courier
from analyze.facts import FAILED, UNPARSABLE, UNREADABLE, FileFacts, FunctionFacts, Problem
from analyze.progress import Progress
from analyze.report import headline, json_report
from analyze.run import analyze_tree
from analyze.source import MAX_SOURCE_BYTES, analyze_file, analyze_source
from analyze.stop import SIGNALS, StopSignals
from analyze.totals import TOP, Totals
from analyze.tree import SourceTree, find_python_files, standard_library

WAIT = 10.0


class Never:
    """A stop that is never requested."""

    def requested(self) -> bool:
        return False


# Files and trees ------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes(b"import os\r\n")
    assert analyze_file(str(path)) == analyze_source(b"import os\r\n", str(path))


def test_what_is_no_regular_file_is_unreadable(tmp_path):
    (tmp_path / "directory.py").mkdir()
    (tmp_path / "dangling.py").symlink_to("nowhere")
    (tmp_path / "loop.py").symlink_to("loop.py")
    names = ["directory.py", "dangling.py", "loop.py", "missing.py", "null\0byte.py"]
    if hasattr(os, "mkfifo"):  # opening it would wait for a writer
        os.mkfifo(tmp_path / "pipe.py")
        names.append("pipe.py")
    for name in names:
        facts = analyze_file(str(tmp_path / name))
        assert facts.problem is not None, name
        assert facts.problem.kind == UNREADABLE, name
        assert facts.sha256 is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("x = 1\n")
    path.chmod(0)
    assert analyze_file(str(path)).problem == Problem(UNREADABLE, "Permission denied")


def test_a_huge_file_is_not_parsed(tmp_path):
    path = tmp_path / "a.py"
    with path.open("wb") as file:
        file.truncate(MAX_SOURCE_BYTES + 1)
    assert analyze_file(str(path)).problem == Problem(UNREADABLE, "larger than 8 MiB")


def test_a_tree_is_searched_without_following_links(tmp_path):
    for name in [
        "b.py",
        "a/z.py",
        "a/y.txt",
        "a/x.py/w.py",
        "__pycache__/c.py",
        ".git/d.py",
        "lib/site-packages/e.py",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "a" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "a" / "link.py").symlink_to("../a", target_is_directory=True)
    (tmp_path / "file.py").symlink_to("b.py")
    (tmp_path / "self.py").symlink_to("self.py")
    everything = find_python_files(str(tmp_path)).files
    expected = ["a/x.py/w.py", "a/z.py", "b.py", "file.py", "lib/site-packages/e.py", "self.py"]
    assert everything == [name.replace("/", os.sep) for name in expected]
    assert len(find_python_files(str(tmp_path), skip=["site-packages"]).files) == len(expected) - 1


def test_a_directory_deeper_than_the_recursion_limit_is_searched(tmp_path, monkeypatch):
    levels = sys.getrecursionlimit() + 100
    monkeypatch.chdir(tmp_path)
    try:
        for _ in range(levels):
            os.mkdir("d")
            os.chdir("d")
        with open("a.py", "w"):
            pass
        tree = find_python_files(str(tmp_path))
    finally:
        # By hand: shutil.rmtree, which cleans up after pytest, recurses.
        os.remove("a.py")
        for _ in range(levels):
            os.chdir("..")
            os.rmdir("d")
    assert tree.complete
    assert len(tree.files) == 1 or tree.unreadable  # where the system has no paths of that length


def test_a_missing_directory_is_unreadable(tmp_path):
    tree = find_python_files(str(tmp_path / "gone"))
    assert (tree.files, tree.unreadable) == ([], [(".", "No such file or directory")])


def test_a_search_can_be_stopped():
    tree = find_python_files(standard_library(), stopped=lambda: True)
    assert not tree.complete
    assert not tree.files


# Totals ---------------------------------------------------------------------------------------


def sample(number: int) -> FileFacts:
    functions = tuple(
        FunctionFacts(f"f{i}", i + 1, number + i, 1 + (number * i) % 7) for i in range(number % 5)
    )
    problem = Problem((UNREADABLE, UNPARSABLE, FAILED)[number % 3], "reason") if number % 4 == 0 else None
    sha256 = hashlib.sha256(bytes([number % 10])).hexdigest()
    return FileFacts(
        f"{number:03}.py", number, number, sha256, functions, 1, (f"m{number % 12}", "os"), problem
    )


def test_totals_do_not_depend_on_the_order():
    files = [sample(number) for number in range(60)]
    first, second = Totals(), Totals()
    for facts in files:
        first.add(facts)
    random.Random(7).shuffle(files)
    for facts in files:
        second.add(facts)
    for name in (
        "analysed",
        "lines",
        "functions",
        "classes",
        "complexity",
        "duplicates",
        "most_complex",
        "longest",
    ):
        assert getattr(first, name) == getattr(second, name), name
    assert first.import_ranking() == second.import_ranking()
    assert first.import_ranking()[0] == ("os", first.analysed)
    assert first.done == 60
    assert first.count(UNREADABLE) + first.count(UNPARSABLE) + first.count(FAILED) == 15
    every = [found for facts in files if not facts.problem for found in facts.functions]
    assert [found.function.complexity for found in first.most_complex] == sorted(
        (function.complexity for function in every), reverse=True
    )[:TOP]


# Through the workers --------------------------------------------------------------------------


def fake_tree(count: int) -> SourceTree:
    return SourceTree("/nowhere", [f"{number:06}.py" for number in range(count)])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_more_files_than_a_mailbox_holds(backend):
    totals = Totals()
    analysis = analyze_tree(
        fake_tree(20_000), totals, backend=backend, size=2, progress=Progress(), stop=Never(),
        handler=FileFacts,
    )  # fmt: skip
    assert analysis.complete
    assert analysis.backend == backend
    assert totals.analysed == analysis.stats.posted == analysis.stats.completed == 20_000
    assert sum(analysis.messages) == 20_000
    assert 1 <= len(analysis.messages) <= 2


@pytest.mark.parametrize(
    ("files", "workers", "size"),
    [(0, 1, 1), (8, 1, 1), (16, 1, 2), (1790, 2, 8), (1790, 64, 3), (100, 16, 1)],
)
def test_a_small_tree_has_small_batches(files, workers, size):
    assert courier.batch_size(files, workers) == size
    # Enough for each worker to have one that waits.
    assert courier.in_flight(workers, size) >= 2 * workers * size


def test_a_large_file_is_in_no_batch(tmp_path):
    for name, size in (("small.py", courier.LARGE_BYTES - 1), ("large.py", courier.LARGE_BYTES)):
        (tmp_path / name).write_bytes(b"#" * size)
    names = ("small.py", "large.py", "missing.py", "null\0.py")
    kinds = [courier.errand(str(tmp_path), name) for name in names]
    assert kinds == [courier.ANALYZE, courier.ALONE, courier.ANALYZE, courier.ANALYZE]


def test_a_handler_that_raises_costs_one_file():
    def handler(path: str) -> FileFacts:
        if path.endswith("000003.py"):
            raise SystemExit("gone")
        return FileFacts(path)

    totals = Totals()
    analysis = analyze_tree(
        fake_tree(10), totals, backend="thread", size=2, progress=Progress(), stop=Never(), handler=handler
    )
    assert analysis.complete
    assert (totals.analysed, analysis.stats.failed) == (9, 1)
    assert totals.problems == [FileFacts("000003.py", problem=Problem(FAILED, "SystemExit: gone"))]


def test_a_stop_keeps_what_was_done_and_does_not_wait(monkeypatch):
    monkeypatch.setattr(courier, "GRACE_SECONDS", 0.05)
    held, hold, stopped = threading.Semaphore(0), threading.Event(), threading.Event()

    def handler(path: str) -> FileFacts:
        if not path.endswith("000000.py"):
            held.release()
            assert hold.wait(WAIT)
        return FileFacts(path)

    class Stop(Progress):
        def update(self, done: int) -> None:
            if not stopped.is_set():
                for _worker in range(2):
                    assert held.acquire(timeout=WAIT)
                stopped.set()

        def requested(self) -> bool:
            return stopped.is_set()

    stop, totals = Stop(), Totals(keep_files=True)
    try:
        analysis = analyze_tree(
            fake_tree(500), totals, backend="thread", size=2, progress=stop, stop=stop, handler=handler
        )
        assert not analysis.complete
        assert (totals.analysed, analysis.abandoned) == (1, 2)
        assert analysis.stats.posted < 500
        assert "PARTIAL, stopped after 1 of 500" in headline(analysis)
        document = json.loads(json_report(analysis))
        assert (document["complete"], document["totals"]["not_analysed"]) == (False, 499)
        assert document["workers"]["cancelled"] == document["workers"]["messages"] - 3
    finally:
        hold.set()


def test_a_stop_waits_for_what_is_almost_done():
    entered, stopped = threading.Event(), threading.Event()

    def handler(path: str) -> FileFacts:
        if path.endswith("000001.py"):
            entered.set()
            assert stopped.wait(WAIT)
        else:
            assert entered.wait(WAIT)
        return FileFacts(path)

    class Stop(Progress):
        def update(self, done: int) -> None:
            stopped.set()

        def requested(self) -> bool:
            return stopped.is_set()

    stop, totals = Stop(), Totals()
    analysis = analyze_tree(
        fake_tree(3), totals, backend="thread", size=2, progress=stop, stop=stop, handler=handler
    )
    assert analysis.abandoned == 0
    assert "000001.py" not in [facts.path for facts in totals.problems]
    assert totals.analysed >= 2


def test_stop_signals_ask_first_and_end_the_process_then():
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals() as stop:
        assert not stop.requested()
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested()
        assert stop.signal == signal.SIGTERM
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(number) for number in SIGNALS] == before
