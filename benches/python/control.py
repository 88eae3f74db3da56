"""Rows of posts that say how they are to be queued, and of batches, next to plain ones, by message.

Every handler is the same no-op, or works for 10 us whenever it is called. Both sides run with the default
mailbox (16 384 messages, a full one makes the poster wait).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Callable

from pytoweb.workers import Batch, PythonWorker
from rounds import Plan, alternate, main
from row import AT_MOST, Row, Side

Run = Callable[[int], float]

POSTED = 500_000
KEYED = 1_000_000
FEW_KEYS = 16
LEVELS = 10
BATCH = 64
BATCHED = {"thread": 200_000, "process": 50_000}
WORKS = 10e-6
"""Seconds that a handler works which has something to do for a call, and little for each message of it."""
TIMEOUT = 120.0
"""Longer than any round takes."""


def noop(data: Any) -> Any:
    """The handler of every side: hands its argument back."""
    return data


def work(data: Any) -> Any:
    """Works for a time, and hands its argument back."""
    end = time.perf_counter() + WORKS
    while time.perf_counter() < end:
        pass
    return data


@contextlib.contextmanager
def _posting(
    post_all: Callable[[PythonWorker, int], None],
    handler: Callable[[Any], Any] = noop,
    backend: Any = "thread",
    **options: Any,
) -> Iterator[Run]:
    worker = PythonWorker("bench-control", backend=backend)
    worker.on_message("work", handler, **options)

    def run(count: int) -> float:
        begin = time.perf_counter()
        post_all(worker, count)
        worker.run_until_idle(TIMEOUT)
        return (time.perf_counter() - begin) * 1e6 / count

    with worker:
        yield run


def _post_plain(worker: PythonWorker, count: int) -> None:
    post = worker.post_message
    for item in range(count):
        post("work", item)


def post_plain() -> contextlib.AbstractContextManager[Run]:
    """One ``post_message`` per message."""
    return _posting(_post_plain)


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
        taken = alternate({label: ours, plain: post_plain}, count=count, plan=plan, peers=(plain,))
        yield Row(
            name,
            f"post + handled of {count:,}, per message",
            "us",
            Side(label, taken[label]),
            [Side(plain, taken[plain])],
            bound=AT_MOST,
            target=target,
        )


def batch_rows(plan: Plan) -> Iterator[Row]:
    """A handler that gets its messages in batches against the same one that gets them one by one."""
    single, together = "one by one", f"batches of {BATCH}"
    for backend, full in BATCHED.items():
        for handler, text, target in ((noop, "nothing to do", None), (work, "10 us a call", 0.2)):
            count = plan.count(full)

            def side(
                handler: Callable[[Any], Any] = handler, backend: str = backend, **options: Any
            ) -> Callable[[], contextlib.AbstractContextManager[Run]]:
                return lambda: _posting(_post_plain, handler, backend, **options)

            sides = {together: side(batch=Batch(BATCH)), single: side()}
            taken = alternate(sides, count=count, plan=plan, peers=(single,))
            yield Row(
                f"control-batch-{backend}{'' if handler is noop else '-10us'}",
                f"post + handled of {count:,}, {text}, {backend}, per message",
                "us",
                Side(together, taken[together]),
                [Side(single, taken[single])],
                bound=AT_MOST,
                target=target,
            )


if __name__ == "__main__":
    main([rows, batch_rows])
