"""The peers of the rows about processes: every one with two children and the same two lines of use.

A peer gives ``submit(function, argument)``, which returns something whose ``result()`` waits. Where
a library has several ways to run a single task, this is the fastest of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import multiprocessing.pool
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable

from process_tasks import noop

Submit = Callable[[Callable[[Any], Any], Any], Any]
"""Starts one task; the result has the method that :data:`Take` calls."""
Take = Callable[[Any], Any]
"""Waits for what a submit returned, and gives its value."""
Peer = Callable[[], contextlib.AbstractContextManager[tuple[Submit, Take]]]

CHILDREN = 2
EXECUTOR = f"ProcessPoolExecutor({CHILDREN})"
"""The peer that the targets name. The others are context."""


def _result(future: Any) -> Any:
    return future.result()


@contextlib.contextmanager
def executor() -> Iterator[tuple[Submit, Take]]:
    """The standard library's executor, with the start method that the platform has by default."""
    with ProcessPoolExecutor(CHILDREN) as processes:
        # It starts its children at the first task: here, before another side has threads.
        processes.submit(noop, None).result()
        yield processes.submit, _result


@contextlib.contextmanager
def pool() -> Iterator[tuple[Submit, Take]]:
    """``multiprocessing.Pool``, one ``apply_async`` for each task."""
    with multiprocessing.Pool(CHILDREN) as processes:
        yield (
            lambda function, argument: processes.apply_async(function, (argument,)),
            multiprocessing.pool.AsyncResult.get,
        )


@contextlib.contextmanager
def loky() -> Iterator[tuple[Submit, Take]]:
    """loky's executor, without the time limit after which idle children end."""
    import loky as library

    with library.ProcessPoolExecutor(CHILDREN) as processes:
        processes.submit(noop, None).result()
        yield processes.submit, _result


@contextlib.contextmanager
def pebble() -> Iterator[tuple[Submit, Take]]:
    """pebble's pool, without a limit on the time of a task."""
    import pebble as library

    with library.ProcessPool(max_workers=CHILDREN) as processes:
        processes.schedule(noop, args=(None,)).result()
        yield (lambda function, argument: processes.schedule(function, args=(argument,))), _result


def installed() -> dict[str, Peer]:
    """Label to peer: the standard library's two, and of loky and pebble those that are there."""
    found: dict[str, Peer] = {EXECUTOR: executor, f"multiprocessing.Pool({CHILDREN})": pool}
    for name, peer in (("loky", loky), ("pebble", pebble)):
        if importlib.util.find_spec(name) is not None:
            found[f"{name}({CHILDREN})"] = peer
    return found
