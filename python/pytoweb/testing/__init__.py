"""Tools for the tests of programs that use workers. They need no test framework.

    with no_leaks():
        with PythonWorker("thumbnails") as worker:
            worker.on_message("image", make_thumbnail)
            worker.post_message("image", path)
            wait_until_idle(worker)

With pytest there is the fixture ``worker_pool`` as well: a ``WorkerPool`` of two threads that ends with the
test. Import it into the ``conftest.py`` or the test module that uses it; this module itself imports no
pytest.

    from pytoweb.testing import worker_pool

With pytest the fixtures ``pytoweb_worker``, ``pytoweb_pool`` and ``pytoweb_clock`` are there by themselves:
see ``pytoweb.testing.plugin``.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytoweb.testing._tools import FrozenClock, frozen_clock, no_leaks, wait_until_idle
    from pytoweb.workers import WorkerPool

    IDLE_TIMEOUT: float
    LEAK_TIMEOUT: float
    worker_pool: object

__all__ = ["FrozenClock", "frozen_clock", "no_leaks", "wait_until_idle"]

_TOOLS = (*__all__, "IDLE_TIMEOUT", "LEAK_TIMEOUT")


def _worker_pool() -> Iterator[WorkerPool]:
    """A pool of two threads, shut down after the test; no worker made meanwhile may be left running."""
    from pytoweb.testing._tools import no_leaks
    from pytoweb.workers import WorkerPool

    with no_leaks():
        pool = WorkerPool(2)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def __getattr__(name: str) -> object:
    # By need: each test run in an environment with this package imports this module.
    if name in _TOOLS:
        return globals().setdefault(name, getattr(importlib.import_module("pytoweb.testing._tools"), name))
    if name != "worker_pool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not an import statement: type checkers would want a pytest that fits the oldest Python.
    return globals().setdefault(name, importlib.import_module("pytest").fixture(name=name)(_worker_pool))
