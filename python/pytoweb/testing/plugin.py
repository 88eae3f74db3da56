"""The fixtures that pytest has wherever this package is installed; nothing needs to be imported or named.

``pytoweb_worker`` and ``pytoweb_pool``
    Factories: ``pytoweb_worker(name=None, *, cls=PythonWorker, handlers=None, **options)`` gives a started
    worker, ``pytoweb_pool(size=2, **options)`` a pool. They end with the test, without their queues. A test
    that uses one of them and leaves a worker or pool running, one of these or another that was made during
    the test, fails: the failure names it, its threads and its child processes. ``default_pool()`` may stay.

``pytoweb_clock``
    The clock of all workers and pools that the test makes, which stands still until
    ``pytoweb_clock.advance(seconds)``; see ``pytoweb.testing.frozen_clock``.

Until a test asks for one of them, this module imports no other.
"""

from __future__ import annotations

import importlib
import itertools

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from pytoweb.testing import FrozenClock
    from pytoweb.workers import PythonWorker, WorkerPool

# Not an import statement: type checkers would want a pytest that fits the oldest Python.
pytest: Any = importlib.import_module("pytest")

__all__ = ["pytoweb_clock", "pytoweb_pool", "pytoweb_worker"]


@pytest.fixture(name="_pytoweb_watch")  # type: ignore[untyped-decorator]
def _watch() -> Iterator[None]:
    """Fails the test that leaves workers or pools running, and has those abandoned."""
    from pytoweb.testing import _tools

    watch = _tools.Watch()
    yield
    left = watch.left(_tools.LEAK_TIMEOUT)
    for root, _ in left:
        if root is not None:
            # The tests that follow, and the end of the run, are not to suffer for it.
            root.terminate()
    if left:
        pytest.fail(f"left running: {'; '.join(text for _, text in left)}", pytrace=False)


@pytest.fixture  # type: ignore[untyped-decorator]
def pytoweb_worker(_pytoweb_watch: None) -> Iterator[Callable[..., PythonWorker]]:
    """Makes started workers, and stops them after the test."""
    from pytoweb.testing import _tools
    from pytoweb.workers import DeadlineError, PythonWorker

    made: list[PythonWorker] = []
    numbers = itertools.count(1)

    def make(
        name: str | None = None,
        *,
        cls: type[PythonWorker] = PythonWorker,
        handlers: Mapping[str, Callable[..., object]] | None = None,
        **options: Any,
    ) -> PythonWorker:
        worker = cls(f"worker-{next(numbers)}" if name is None else name, **options)
        made.append(worker)
        for message_type, handler in (handlers or {}).items():
            worker.on_message(message_type, handler)
        return worker.start()

    yield make
    for worker in made:
        try:
            worker.stop(drain=False, timeout=_tools.LEAK_TIMEOUT)
        except DeadlineError:
            # It is left running, and told so.
            worker.terminate()
    made.clear()


@pytest.fixture  # type: ignore[untyped-decorator]
def pytoweb_pool(_pytoweb_watch: None) -> Iterator[Callable[..., WorkerPool]]:
    """Makes pools, and shuts them down after the test."""
    from pytoweb.testing import _tools
    from pytoweb.workers import DeadlineError, WorkerPool

    made: list[WorkerPool] = []

    def make(size: int = 2, **options: Any) -> WorkerPool:
        made.append(WorkerPool(size, **options))
        return made[-1]

    yield make
    for pool in made:
        try:
            pool.stop_all(drain=False, timeout=_tools.LEAK_TIMEOUT)
            pool.shutdown(cancel_futures=True, timeout=_tools.LEAK_TIMEOUT)
        except DeadlineError:
            pool.terminate()
    made.clear()


@pytest.fixture  # type: ignore[untyped-decorator]
def pytoweb_clock() -> Iterator[FrozenClock]:
    """The clock of the workers and pools that the test makes; ``advance(seconds)`` moves it."""
    from pytoweb.testing import frozen_clock

    with frozen_clock() as clock:
        yield clock
