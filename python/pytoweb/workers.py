"""Browser-style workers: named background workers that get typed messages and reply.

    from pytoweb.workers import PythonWorker

    with PythonWorker("greeter") as worker:
        worker.on_message("greet", lambda name: f"Hello, {name}")
        print(worker.ask("greet", "world").result())

Importing this module starts no thread and installs no signal handler.
"""

from __future__ import annotations

from pytoweb import _aio
from pytoweb._batch import Batch, BatchItemError
from pytoweb._core import DEFAULT_CAPACITY, WorkerMessage, blocking, running_message, running_owner
from pytoweb._decorators import WorkerDecorators
from pytoweb._interpreter import freeze_support
from pytoweb._limits import Limits, Rate, Shed
from pytoweb._pool import WorkerPool, default_pool
from pytoweb._retry import DeadLetter, Retry
from pytoweb._worker import PythonWorker
from pytoweb.errors import (
    AskCycleError,
    DeadlineError,
    ForkedProcessError,
    HandlerError,
    MailboxFullError,
    MessageTooLargeError,
    OverloadedError,
    SerializationError,
    ThreadLimitError,
    UnknownMessageError,
    WorkerCrashedError,
    WorkerError,
    WorkerStoppedError,
)
from pytoweb.futures import WorkerFuture, gather

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb._every import WorkerTimer
    from pytoweb._exits import Exit
    from pytoweb._explain import Explanation
    from pytoweb._health import Health, PoolHealth
    from pytoweb._progress import Progress
    from pytoweb._report import Report
    from pytoweb._stats import ChildStats, PoolStats, TypeStats, WorkerStats
    from pytoweb._worker_stream import WorkerStream

__all__ = [
    "DEFAULT_CAPACITY",
    "AskCycleError",
    "Batch",
    "BatchItemError",
    "ChildStats",
    "DeadLetter",
    "DeadlineError",
    "Exit",
    "Explanation",
    "ForkedProcessError",
    "HandlerError",
    "Health",
    "Limits",
    "MailboxFullError",
    "MessageTooLargeError",
    "OverloadedError",
    "PoolHealth",
    "PoolStats",
    "Progress",
    "PythonWorker",
    "Rate",
    "Report",
    "Retry",
    "SerializationError",
    "Shed",
    "ThreadLimitError",
    "TypeStats",
    "UnknownMessageError",
    "WorkerCrashedError",
    "WorkerDecorators",
    "WorkerError",
    "WorkerFuture",
    "WorkerMessage",
    "WorkerPool",
    "WorkerStats",
    "WorkerStoppedError",
    "WorkerStream",
    "WorkerTimer",
    "blocking",
    "current_message",
    "current_worker",
    "default_pool",
    "freeze_support",
    "gather",
]


def current_message() -> WorkerMessage | None:
    """The message whose handler runs here, on this thread or in this coroutine; None outside of handlers.

    Its ``cancelled`` tells a long-running handler that no caller waits for it any more.
    """
    message = running_message()
    return _aio.running_message() if message is None else message


def current_worker() -> PythonWorker | WorkerPool | None:
    """The worker whose handler runs here, or the pool whose own mailbox it is; None outside of handlers."""
    worker = running_owner()
    if worker is None:
        # There are no endpoints but workers and pools.
        worker = _aio.running_owner()  # type: ignore[assignment]
    return worker


def __getattr__(name: str) -> Any:
    # Their modules cost more to import than they are worth before the first `stats()` or `every()`.
    if name == "WorkerTimer":
        from pytoweb import _every

        return _every.WorkerTimer
    if name == "WorkerStream":
        from pytoweb import _worker_stream

        return _worker_stream.WorkerStream
    if name == "Exit":
        from pytoweb import _exits

        return _exits.Exit
    if name == "Explanation":
        from pytoweb import _explain

        return _explain.Explanation
    if name == "Progress":
        from pytoweb import _progress

        return _progress.Progress
    if name == "Report":
        from pytoweb import _report

        return _report.Report
    if name in ("Health", "PoolHealth"):
        from pytoweb import _health

        return getattr(_health, name)
    if name in ("ChildStats", "PoolStats", "TypeStats", "WorkerStats"):
        from pytoweb import _stats

        return getattr(_stats, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
