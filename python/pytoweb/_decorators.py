"""``WorkerDecorators``: functions that run in workers, and methods that handle messages."""

from __future__ import annotations

import functools
import importlib
import sys
import threading

from pytoweb import _aio, _exit
from pytoweb._addressable import MESSAGE_TYPES
from pytoweb._callables import checked_callable, checked_handler
from pytoweb._checks import checked_backend, checked_name, checked_text
from pytoweb._core import checked_timeout, running_owner
from pytoweb._functions import is_coroutine_function, is_method, method_of
from pytoweb._pool import WorkerPool, default_pool

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Protocol, TypeVar, overload

    from typing_extensions import Concatenate, ParamSpec

    from pytoweb._worker import Backend, PythonWorker
    from pytoweb.futures import WorkerFuture

    C = TypeVar("C", covariant=True)
    F = TypeVar("F", bound=Callable[..., object])
    P = ParamSpec("P")
    Q = ParamSpec("Q")
    R = TypeVar("R")
    S = TypeVar("S")

    class WorkerFunction(Protocol[P, C, R]):
        """What a decorated function is to type checkers: what a call gives, and what the worker makes."""

        __name__: str
        __qualname__: str
        __wrapped__: Callable[..., Any]

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C: ...
        def submit(self, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[R]: ...
        @overload
        def __get__(self, instance: None, owner: type[Any]) -> WorkerFunction[P, C, R]: ...
        @overload
        def __get__(
            self: WorkerFunction[Concatenate[S, Q], C, R], instance: S, owner: type[Any]
        ) -> WorkerFunction[Q, C, R]: ...

    class RunInWorker(Protocol):
        """The decorator. An ``async def`` function stays one."""

        @overload
        def __call__(
            self, function: Callable[P, Coroutine[Any, Any, R]]
        ) -> WorkerFunction[P, Coroutine[Any, Any, R], R]: ...
        @overload
        def __call__(self, function: Callable[P, R]) -> WorkerFunction[P, R, R]: ...


__all__ = ["WorkerDecorators"]

_lock = threading.RLock()


def _unlock() -> None:
    global _lock
    _lock = threading.RLock()


_exit.unlock_after_fork(_unlock)


def _started_worker(name: str, pool: WorkerPool) -> PythonWorker:
    worker = pool.get_worker(name)
    if worker is None or not worker.is_alive():
        with _lock:
            worker = pool.get_worker(name)
            if worker is None or worker.state == "stopped":
                worker = pool.create_worker(name)
            worker.start()
    return worker


class _Undecorated:
    """A decorated function, as it is named: what goes to a child in the place of the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__qualname__ = function.__qualname__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _undecorated, (self.function.__module__, self.function.__qualname__)


def _undecorated(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found.__wrapped__ if hasattr(found, "submit") else found


def _by_name(function: Callable[..., Any]) -> Any:
    """What is sent of a decorated function; by value where it has no name that a child could look up."""
    if "<locals>" in function.__qualname__:
        return function
    if function.__module__ == "__main__":
        from pytoweb import _by_value

        if _by_value.find_cloudpickle() is not None:
            return function
    return _Undecorated(function)


def _child_worker() -> Any:
    """In a child process: the worker whose handler runs here."""
    child = sys.modules.get("pytoweb._child")
    return running_owner() if child is not None and child.is_child else None


def _runs_in_child_of(worker_name: str) -> bool:
    worker = _child_worker()
    if worker is None:
        return False
    if worker.name == worker_name:
        return True
    _refuse_in_child(worker_name)
    return False


def _refuse_in_child(worker_name: str) -> None:
    worker = _child_worker()
    if worker is not None:
        raise RuntimeError(
            f"the process of worker {worker.name!r} cannot reach worker {worker_name!r}, which lives in "
            "another one: call it from the host"
        )


class WorkerDecorators:
    """Decorators that bring functions and workers together."""

    @staticmethod
    def run_in_worker(
        worker_name: str,
        *,
        pool: WorkerPool | None = None,
        timeout: float | None = None,
        backend: Backend | None = None,
    ) -> RunInWorker:
        """Has a function run in a named worker.

        Calling the decorated function waits for the result and returns it, or raises what the function
        raised. Its ``submit(...)`` returns a ``WorkerFuture`` instead, which can be awaited. Calls take their
        turn in the worker: one at a time, in order. Called from inside that same worker it runs inline.

        An ``async def`` function runs on the pool's event loop, and stays one: awaiting the call waits for
        room in the mailbox and for the result without blocking the caller's event loop.

        Args:
            worker_name: the worker, made and started on the first call. Functions may share one.
            pool: where the worker lives; None is ``default_pool(backend)``.
            timeout: seconds that each call may take, queued and running, before it raises ``DeadlineError``.
            backend: ``"thread"`` or ``"process"``; None is that of the pool. In a child process, functions of
                its own worker run inline, and those of another process worker raise ``RuntimeError``.

        Raises:
            TypeError: ``timeout`` is not a number, or ``pool`` not a pool.
            ValueError: ``pool`` has another backend, or ``timeout`` is negative or NaN.
        """
        checked_name(worker_name)
        timeout = checked_timeout(timeout)
        if pool is not None and not isinstance(pool, WorkerPool):
            raise TypeError(f"pool must be a WorkerPool or None, not {type(pool).__name__}")
        if backend is not None:
            checked_backend(backend)
            if pool is not None and pool.backend != backend:
                raise ValueError(f"pool {pool.name!r} has the backend {pool.backend!r}, not {backend!r}")
        kind: Any = backend or ("thread" if pool is None else pool.backend)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            checked_handler(function, "what run_in_worker decorates")
            awaits = is_coroutine_function(function)

            # In a child the function is found by its name, which is that of the decorated one. Found by the
            # first call; a list, because a decorated function may itself go to a child by value.
            known: list[Any] = [function] if kind == "thread" else []

            def sent() -> Any:
                if not known:
                    known.append(_by_name(function))
                return known[0]

            def target() -> PythonWorker:
                worker = _started_worker(worker_name, default_pool(kind) if pool is None else pool)
                if awaits and kind == "thread":
                    worker._pytoweb.runtime.start_loop()
                return worker

            def submit(*args: Any, **kwargs: Any) -> WorkerFuture[Any]:
                if kind == "process":
                    _refuse_in_child(worker_name)
                worker = target()
                return worker._pytoweb_call(sent(), args, kwargs or None, awaits, timeout)

            def call(*args: Any, **kwargs: Any) -> Any:
                if kind == "process" and _runs_in_child_of(worker_name):
                    return function(*args, **kwargs)
                worker = target()
                if worker._pytoweb_is_current():
                    return function(*args, **kwargs)
                return worker._pytoweb_call(sent(), args, kwargs or None, False, timeout).result()

            async def acall(*args: Any, **kwargs: Any) -> Any:
                if kind == "process" and _runs_in_child_of(worker_name):
                    return await function(*args, **kwargs)
                worker = target()
                if _aio.running_owner() is worker:
                    return await function(*args, **kwargs)
                return await worker._pytoweb_acall(sent(), args, kwargs or None, timeout)

            made: Any = functools.wraps(function)(acall if awaits else call)
            if is_method(function):
                return method_of(made, submit, awaits)  # type: ignore[no-any-return]
            made.submit = submit
            return made  # type: ignore[no-any-return]

        return decorate  # type: ignore[return-value]  # it does not know of the overloads

    @staticmethod
    def worker_method(message_type: str) -> Callable[[F], F]:
        """Marks a function of ``self`` and data as the handler of a message type.

        On a method of a ``PythonWorker`` subclass: every instance handles the type with it. A plain function
        that is marked and given to ``worker.on_message(message_type, function)`` gets that worker as
        ``self``.

        Args:
            message_type: the type to handle; the decorator may be stacked for several.

        Raises:
            TypeError: ``message_type`` is not a str, or what is decorated is not callable.
            ValueError: ``message_type`` has lone surrogates.
        """
        checked_text(message_type, "a message type")

        def mark(function: F) -> F:
            checked_callable(function, "what worker_method decorates")
            setattr(function, MESSAGE_TYPES, (*getattr(function, MESSAGE_TYPES, ()), message_type))
            return function

        return mark


WorkerDecorators.__module__ = "pytoweb.workers"
