"""``WorkerPool.options``: what cannot be a keyword of ``submit``, whose keywords are the function's."""

from __future__ import annotations

from pytoweb._core import check_wishes, checked_timeout
from pytoweb._map import map_calls

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    from typing_extensions import ParamSpec

    from pytoweb._limits import Wishes
    from pytoweb._pool import WorkerPool
    from pytoweb.futures import WorkerFuture

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["PoolOptions"]


class PoolOptions:
    """A pool whose ``submit`` and ``map`` have options; made by ``WorkerPool.options``.

    It keeps nothing but the pool and the options, so it may be made for each call or kept. A function that
    takes an executor for its ``submit``, such as ``loop.run_in_executor``, takes it too.
    """

    __slots__ = ("_pool", "_soft_timeout", "_timeout", "_wishes")

    def __init__(
        self,
        pool: WorkerPool,
        timeout: float | None,
        soft_timeout: float | None,
        wishes: Wishes | None,
    ) -> None:
        self._pool = pool
        if wishes is not None:
            check_wishes(wishes)
        self._wishes = wishes
        self._timeout = checked_timeout(timeout)
        self._soft_timeout = checked_timeout(soft_timeout, "soft_timeout")

    def _limited(self, function: Any) -> Any:
        if self._soft_timeout is None or not callable(function):
            # The post refuses an object that cannot be called.
            return function
        from pytoweb._soft import LimitedFunction

        return LimitedFunction(function, self._soft_timeout)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[T]:
        """As ``WorkerPool.submit``, with the options.

        Args:
            fn: what to call.
            *args: its arguments.
            **kwargs: its keyword arguments.

        Returns:
            The future of what it returns.

        Raises:
            MailboxFullError: as for ``WorkerPool.submit``; or no room came within ``timeout``.
            WorkerStoppedError: the pool is shut down.
        """
        return self._pool._pytoweb_call(
            self._limited(fn), args, kwargs or None, True, self._timeout, self._wishes
        )

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As ``WorkerPool.map``, with the options for each of its messages.

        Args:
            fn: as for ``WorkerPool.map``.
            *iterables: as for ``WorkerPool.map``.
            timeout: as for ``WorkerPool.map``: for all results together.
            chunksize: as for ``WorkerPool.map``; the timeout of the options is that of a chunk, the soft one
                that of each call.
            buffersize: as for ``WorkerPool.map``.

        Returns:
            The results, in order.
        """
        fn = self._limited(fn)
        return map_calls(
            self._pool, fn, iterables, timeout, chunksize, buffersize, self._timeout, self._wishes
        )

    def __repr__(self) -> str:
        soft = "" if self._soft_timeout is None else f" soft_timeout={self._soft_timeout}"
        wished = "" if self._wishes is None else f" priority={self._wishes[0]} key={self._wishes[1]!r}"
        return f"<PoolOptions timeout={self._timeout}{soft}{wished} of {self._pool!r}>"
