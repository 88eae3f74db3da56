"""The functions that a component runs in workers, and what its state says of them.

The last one that was started under a key is the *owner* of what the state has there. All that is kept here is
changed by patches of the state, under the lock of the state: so of a start, an end, a report and an unmount
that meet, each sees those before it, and what it writes is there before the next one looks.

1. `start` posts the function, and a patch makes it the owner. One that cannot be posted changes nothing.
2. Its end, and each report of its progress, is a patch that a thread of the engine posts, which waits for
   nothing. The patch of a run that is no longer wanted writes nothing.
3. `close` takes the key from all of them, so that nothing is written any more when it returns.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from pytoweb._callables import checked_handler
from pytoweb._component_result import AsyncResult
from pytoweb._component_state import StateCell
from pytoweb.errors import ForkedProcessError

if TYPE_CHECKING:
    from pytoweb._options import PoolOptions
    from pytoweb._pool import WorkerPool
    from pytoweb._progress import Progress
    from pytoweb.futures import WorkerFuture

__all__ = ["Runs"]


class ComponentRun:
    """One call of a function."""

    __slots__ = ("exclusive", "future", "is_started", "key", "superseded")

    def __init__(self, key: str, exclusive: bool, future: WorkerFuture[Any]) -> None:
        self.key = key
        self.exclusive = exclusive
        self.future = future
        #: The state says so.
        self.is_started = False
        #: Those that it ends.
        self.superseded: list[ComponentRun] = []

    def give_up(self) -> None:
        """Cancels it, its failure unlogged. That runs callbacks of its future, so no lock may be held."""
        self.future._note_read()
        self.future.cancel()


class Runs:
    """The functions that one component runs."""

    def __init__(self, cell: StateCell, name: str) -> None:
        """Starts with none; errors call the component by the name."""
        self._cell = cell
        self._name = name
        #: By key, in order of start: those whose end the state is to show; the last one is the owner.
        self._wanted: dict[str, list[ComponentRun]] = {}
        #: All that have not ended.
        self._live: dict[ComponentRun, None] = {}
        #: Keys whose owner was given up by `close`.
        self._abandoned: set[str] = set()
        self._closed = False
        _all_runs.add(self)

    def start(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        into: str | None,
        exclusive: bool,
        pool: WorkerPool | PoolOptions | None,
    ) -> WorkerFuture[Any]:
        """Has the function called, and its key loading. A call that raises has changed nothing."""
        checked_handler(function, "the function of run()")
        key = _key_of(function) if into is None else into
        if not isinstance(key, str):
            raise TypeError(f"into must be a str, the key of the state, not {type(key).__name__}")
        if not isinstance(exclusive, bool):
            raise TypeError(f"exclusive must be a bool, not {type(exclusive).__name__}")
        if self._cell.is_patching():
            raise RuntimeError(
                "run() was called in a function given to update_state(), which holds the lock of the state: "
                "call run() after update_state()"
            )
        self._check_open()
        run = ComponentRun(key, exclusive, _submit_of(pool)(function, *args, **kwargs))
        try:
            self._cell.update(partial(self._begin, run), {})
        finally:
            if run.is_started:
                self._follow(run)
            else:
                run.give_up()
        return run.future

    def close(self) -> None:
        """Cancels all of them. When it returns, none writes to the state any more.

        Raises:
            KeyboardInterrupt: A listener of the state raised it; all are cancelled nevertheless.
        """
        self._closed = True
        try:
            self._cell.update(self._seal, {})
        except TimeoutError:
            # A function of another thread has the lock for good. It writes, if at all, what came before.
            self._seal({})
        finally:
            for run in list(self._live):
                run.give_up()

    def open(self) -> None:
        """Lets functions be started again; those that `close` gave up while loading have failed."""
        self._closed = False
        if self._abandoned:
            self._cell.post(self._fail_abandoned)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self._name} is unmounted, and runs nothing: mount() it first")

    def _follow(self, run: ComponentRun) -> None:
        for older in run.superseded:
            older.give_up()
        run.superseded.clear()
        # Before the callback, so that the last report is in line when the end is told of.
        run.future.on_progress(partial(self._report, run))
        run.future.add_done_callback(partial(self._ended, run))

    def _ended(self, run: ComponentRun, future: WorkerFuture[Any]) -> None:
        result, error = _outcome(future)
        self._cell.post(partial(self._end, run, result, error, future.progress))

    def _report(self, run: ComponentRun, progress: Progress) -> None:
        self._cell.post(partial(self._show, run, progress))

    # -- patches, under the lock of the state

    def _begin(self, run: ComponentRun, state: Mapping[str, Any]) -> dict[str, Any]:
        self._check_open()
        wanted = self._wanted.setdefault(run.key, [])
        if run.exclusive:
            run.superseded = wanted[:]
            wanted.clear()
        wanted.append(run)
        self._live[run] = None
        self._abandoned.discard(run.key)
        run.is_started = True
        return {run.key: AsyncResult("loading", previous=_latest(state, run.key))}

    def _show(self, run: ComponentRun, progress: Progress, state: Mapping[str, Any]) -> dict[str, Any]:
        wanted = self._wanted.get(run.key)
        if not wanted or wanted[-1] is not run:
            return {}
        return {run.key: AsyncResult("loading", progress=progress, previous=_latest(state, run.key))}

    def _end(
        self,
        run: ComponentRun,
        result: Any,
        error: BaseException | None,
        progress: Progress | None,
        state: Mapping[str, Any],
    ) -> dict[str, Any]:
        self._live.pop(run, None)
        wanted = self._wanted.get(run.key, [])
        if run not in wanted:
            return {}
        if wanted[-1] is run:
            # Those that were started before it are stale from here on.
            del self._wanted[run.key]
            if error is None:
                return {run.key: AsyncResult("ok", result, progress=progress)}
            previous = _latest(state, run.key)
            return {run.key: AsyncResult("failed", error=error, progress=progress, previous=previous)}
        if error is not None:
            wanted.remove(run)
            return {}
        del wanted[: wanted.index(run) + 1]
        shown = state.get(run.key)
        reported = shown.progress if isinstance(shown, AsyncResult) else None
        return {run.key: AsyncResult("loading", progress=reported, previous=result)}

    def _seal(self, _state: Mapping[str, Any]) -> dict[str, Any]:
        self._abandoned |= self._wanted.keys()
        self._wanted.clear()
        return {}

    def _fail_abandoned(self, state: Mapping[str, Any]) -> dict[str, Any]:
        error = CancelledError(f"{self._name} was unmounted while it ran")
        return self._fail_all(self._abandoned, error, state)

    def _fail_forked(self, state: Mapping[str, Any]) -> dict[str, Any]:
        error = ForkedProcessError(
            f"the function that {self._name} ran belongs to the parent process: run it again in this one"
        )
        keys = {*self._wanted, *self._abandoned}
        self._wanted.clear()
        self._live.clear()
        return self._fail_all(keys, error, state)

    def _fail_all(self, keys: set[str], error: BaseException, state: Mapping[str, Any]) -> dict[str, Any]:
        loading = [key for key in keys if isinstance(state.get(key), AsyncResult) and state[key].loading]
        keys.clear()
        return {key: AsyncResult("failed", error=error, previous=state[key].previous) for key in loading}


def _key_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    if not (isinstance(name, str) and name.isidentifier()):
        raise TypeError(f"{function!r} has no name of its own: say where its result goes, with into='key'")
    return name


def _submit_of(pool: WorkerPool | PoolOptions | None) -> Callable[..., WorkerFuture[Any]]:
    from pytoweb._options import PoolOptions
    from pytoweb._pool import WorkerPool, default_pool

    if isinstance(pool, PoolOptions):
        return pool.submit
    if pool is None:
        pool = default_pool()
    if not isinstance(pool, WorkerPool):
        raise TypeError(
            f"pool must be a WorkerPool, or what its options() returns, not {type(pool).__name__}"
        )
    return pool.submit


def _outcome(future: WorkerFuture[Any]) -> tuple[Any, BaseException | None]:
    """What came of it, without reading it: a failure that the caller does not read is logged all the same."""
    if future.cancelled():
        return None, CancelledError()
    try:
        return future._result, future._exception
    except BaseException as error:  # the reply cannot be unpickled
        return None, error


def _latest(state: Mapping[str, Any], key: str) -> Any:
    shown = state.get(key)
    return shown.latest if isinstance(shown, AsyncResult) else None


_all_runs: weakref.WeakSet[Runs] = weakref.WeakSet()


def _after_fork() -> None:
    """In the child no reply of the parent's workers ever comes."""
    for runs in list(_all_runs):
        if runs._live:
            runs._cell.replace_after_fork(runs._fail_forked)


if hasattr(os, "register_at_fork"):
    # After that of the cells: this module imports theirs.
    os.register_at_fork(after_in_child=_after_fork)
