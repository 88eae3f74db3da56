"""Rows of functions that the script itself defines, as most programs begin; and of ``map`` in chunks.

This file is run as a script, so its functions belong to ``__main__``. The peer forks, as it does by
default where this runs, and so has them for nothing.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable

import process_tasks
from pytoweb.workers import WorkerPool
from rounds import Competitor, Plan, alternate, main
from row import RATE, Row, Side

Run = Callable[[int], float]

CHILDREN = 2
SUBMITTED = 20_000
FILES = 20_000
FILE_CHUNK = 64
MAPPED = 200_000
MAP_CHUNK = 1000

PEER = f"ProcessPoolExecutor({CHILDREN})"
OURS = f"WorkerPool({CHILDREN}, backend='process')"


def own(data: Any) -> Any:
    """A function of the script: hands its argument back."""
    return data


def own_plain(data: Any) -> Any:
    """The same for the row without cloudpickle, so that neither row finds what the other has left."""
    return data


def read(path: str) -> int:
    """Reads a small file and tells its length."""
    with open(path, "rb") as file:
        return len(file.read())


@contextlib.contextmanager
def _hidden_cloudpickle() -> Iterator[None]:
    """A program in which cloudpickle is not installed, as far as it can tell."""
    known = sys.modules.get("cloudpickle")
    sys.modules["cloudpickle"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if known is None:
            del sys.modules["cloudpickle"]
        else:
            sys.modules["cloudpickle"] = known


def record(item: int) -> dict[str, object]:
    """A small dictionary, as programs send them."""
    return {"id": item, "name": "ada", "tags": ["a", "b"]}


def _submits(
    make: Callable[[], Executor],
    function: Callable[[Any], Any],
    data: Callable[[int], Any] = int,
    around: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Competitor[float]:
    """All submitted, then all results taken."""

    @contextlib.contextmanager
    def competitor() -> Iterator[Run]:
        with make() as pool:
            # The children start here: those of the peer fork, and have to before our side has threads.
            pool.submit(process_tasks.noop, None).result()

            def run(count: int) -> float:
                with around():
                    begin = time.perf_counter()
                    futures = [pool.submit(function, data(item)) for item in range(count)]
                    for future in futures:
                        future.result()
                    return count / (time.perf_counter() - begin)

            yield run

    return competitor


def _maps(
    make: Callable[[], Executor],
    function: Callable[[Any], Any],
    items: Callable[[int], Iterable[Any]],
    chunk: int,
) -> Competitor[float]:
    """One ``map``, its results taken one by one."""

    @contextlib.contextmanager
    def competitor() -> Iterator[Run]:
        with make() as pool:
            pool.submit(process_tasks.noop, None).result()

            def run(count: int) -> float:
                given = items(count)
                begin = time.perf_counter()
                taken = sum(1 for _ in pool.map(function, given, chunksize=chunk))
                return taken / (time.perf_counter() - begin)

            yield run

    return competitor


def _theirs() -> Executor:
    return ProcessPoolExecutor(CHILDREN)


def _ours() -> Executor:
    return WorkerPool(CHILDREN, backend="process")


def _row(name: str, title: str, taken: dict[str, list[float]], target: float | None) -> Row:
    return Row(name, title, RATE, Side(OURS, taken[OURS]), [Side(PEER, taken[PEER])], target=target)


def submit_rows(plan: Plan) -> Iterator[Row]:
    """Submits of the script's function, with and without cloudpickle, and of small dictionaries."""
    count = plan.count(SUBMITTED)
    plain = f"{OURS} without cloudpickle"
    taken = alternate(
        {
            PEER: _submits(_theirs, own),
            OURS: _submits(_ours, own),
            plain: _submits(_ours, own_plain, around=_hidden_cloudpickle),
        },
        count=count,
        plan=plan,
        peers=(PEER,),
    )
    title = f"processes, submit of the script's function + result of {count:,}"
    yield _row("script-submit", title, taken, 25)
    taken = {PEER: taken[PEER], OURS: taken[plain]}
    yield _row("script-submit-plain", "the same without cloudpickle", taken, 25)
    sides = {PEER: _submits(_theirs, own, record), OURS: _submits(_ours, own, record)}
    taken = alternate(sides, count=count, plan=plan, peers=(PEER,))
    yield _row("script-submit-records", "the same of dictionaries of three items", taken, 20)


def map_rows(plan: Plan) -> Iterator[Row]:
    """``map`` in chunks: over small files, and over numbers by a function imported or of the script."""
    count = plan.count(FILES)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, str(number))) for number in range(count)]
        for path in paths:
            Path(path).write_bytes(b"x" * 200)
        for name, title, chunk, target in (
            ("map-files", f"processes, map over {count:,} small files", 1, 1.5),
            ("map-files-chunks", f"the same, {FILE_CHUNK} a chunk", FILE_CHUNK, None),
        ):
            taken = alternate(
                {
                    PEER: _maps(_theirs, read, lambda _: paths, chunk),
                    OURS: _maps(_ours, read, lambda _: paths, chunk),
                },
                count=count,
                plan=plan,
                peers=(PEER,),
            )
            yield _row(name, title, taken, target)
    count = plan.count(MAPPED)
    for name, title, function in (
        ("map-imported", f"processes, map over {count:,} numbers, {MAP_CHUNK} a chunk", process_tasks.noop),
        ("map-script", "the same of the script's function", own),
    ):
        taken = alternate(
            {
                PEER: _maps(_theirs, function, range, MAP_CHUNK),
                OURS: _maps(_ours, function, range, MAP_CHUNK),
            },
            count=count,
            plan=plan,
            peers=(PEER,),
        )
        yield _row(name, title, taken, 1)


if __name__ == "__main__":
    main([submit_rows, map_rows])
