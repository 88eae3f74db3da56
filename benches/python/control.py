"""Rows of posts that say how they are to be queued, next to posts that ask for nothing, by message.

Every handler is the same no-op. Both sides run with the default mailbox (16 384 messages, a full one
makes the poster wait).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Callable

from pytoweb.workers import PythonWorker
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

POSTED = 500_000
KEYED = 1_000_000
FEW_KEYS = 16
LEVELS = 10
TIMEOUT = 120.0
"""Longer than any round takes."""


def noop(data: Any) -> Any:
    """The handler of every side: hands its argument back."""
    return data


@contextlib.contextmanager
def _posting(post_all: Callable[[PythonWorker, int], None]) -> Iterator[Run]:
    worker = PythonWorker("bench-control")
    worker.on_message("work", noop)

    def run(count: int) -> float:
        begin = time.perf_counter()
        post_all(worker, count)
        worker.run_until_idle(TIMEOUT)
        return (time.perf_counter() - begin) * 1e6 / count

    with worker:
        yield run


def post_plain() -> contextlib.AbstractContextManager[Run]:
    """One ``post_message`` per message."""

    def post_all(worker: PythonWorker, count: int) -> None:
        post = worker.post_message
        for item in range(count):
            post("work", item)

    return _posting(post_all)


def post_urgent() -> contextlib.AbstractContextManager[Run]:
    """The same with each of the ten priorities in turn."""

    def post_all(worker: PythonWorker, count: int) -> None:
        post = worker.post_message
        for item in range(count):
            post("work", item, priority=item % LEVELS)

    return _posting(post_all)


def post_with_few_keys() -> contextlib.AbstractContextManager[Run]:
    """The same with a few keys in turn."""
    keys = [f"customer-{number}" for number in range(FEW_KEYS)]

    def post_all(worker: PythonWorker, count: int) -> None:
        post = worker.post_message
        for item in range(count):
            post("work", item, key=keys[item % FEW_KEYS])

    return _posting(post_all)


def post_with_keys() -> contextlib.AbstractContextManager[Run]:
    """The same with a key for each message, of which no other one has it."""

    def post_all(worker: PythonWorker, count: int) -> None:
        post = worker.post_message
        for item in range(count):
            post("work", item, key=item)

    return _posting(post_all)


def rows(plan: Plan) -> Iterator[Row]:
    """Each wish against none."""
    plain = "post_message"
    for name, label, ours, full, target in (
        ("control-priority", "post_message(priority=), ten in turn", post_urgent, POSTED, 2.0),
        ("control-key", f"post_message(key=), {FEW_KEYS} in turn", post_with_few_keys, POSTED, 2.0),
        ("control-million-keys", "post_message(key=), each its own", post_with_keys, KEYED, 3.0),
    ):
        count = plan.count(full)
        taken = alternate({label: ours, plain: post_plain}, count=count, plan=plan)
        yield Row(
            name,
            f"post + handled of {count:,}, per message",
            "us",
            Side(label, taken[label]),
            [Side(plain, taken[plain])],
            bound=AT_MOST,
            target=target,
        )


if __name__ == "__main__":
    main([rows])
