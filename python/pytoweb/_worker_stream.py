"""``WorkerStream``: the answer of a handler that is a generator function, as its reader has it."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytoweb import _exit
from pytoweb._aio import bridge_to
from pytoweb._core import StreamReader
from pytoweb.errors import DeadlineError, WorkerStoppedError

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from pytoweb._progress import Progress
    from pytoweb.futures import WorkerFuture

T = TypeVar("T")

__all__ = ["WorkerStream"]

#: Items that a task reads without a wait before its event loop has a turn: other tasks are not to starve.
IN_A_ROW = 128

#: Those that are not at their end.
_open: weakref.WeakSet[WorkerStream[Any]] = weakref.WeakSet()


class WorkerStream(StreamReader, Generic[T]):
    """The answer of a handler that is a generator function, item by item: an iterator, synchronous or not.

    ``for item in stream`` waits for each item, ``async for`` without blocking the event loop. Items come in
    order and as soon as the handler yields them. It may be a window of items ahead; then it waits for the
    reader. The handler's exception comes after the items before it; so do ``DeadlineError`` and
    ``WorkerStoppedError``.

    ``close()``, leaving a ``with`` block, and dropping the stream end it early: the generator is closed where
    it yields next, a coroutine at once, and a message that has not begun is cancelled. A program that ends
    closes its streams when the main thread is over. One thread or task at a time may read.

    Made by ``stream`` and ``astream``, never by hand.
    """

    __slots__ = ("__weakref__", "_future", "_in_a_row", "_is_awaited", "_item_timeout", "_text", "_was_ended")

    def __init__(self, future: WorkerFuture[Any], item_timeout: float | None, text: str) -> None:
        self._future = future
        self._item_timeout = item_timeout
        #: Names it in errors.
        self._text = text
        self._was_ended = False
        #: A task waits for the next item.
        self._is_awaited = False
        #: Items that came without a wait.
        self._in_a_row = 0
        _open.add(self)

    if TYPE_CHECKING:
        # The native half, which takes what is there, does not know the type of the items.
        def __iter__(self) -> WorkerStream[T]: ...
        def __next__(self) -> T: ...

    def _wait_for_item(self) -> T:
        found = self._take(self._item_timeout)
        if found is None:
            raise self._late()
        if found:
            item: T = found[0]
            return item
        self._raise_end()
        raise StopIteration

    def __aiter__(self) -> WorkerStream[T]:
        return self

    async def __anext__(self) -> T:
        import asyncio

        if self._is_awaited:
            raise RuntimeError(f"{self._text} is being read by another task: one at a time may read it")
        self._in_a_row += 1
        if self._in_a_row > IN_A_ROW:
            self._in_a_row = 0
            self._is_awaited = True
            try:
                # Before an item is taken: a task that is cancelled here loses none.
                await asyncio.sleep(0)
            finally:
                self._is_awaited = False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        bridge = bridge_to(loop)

        def wake() -> None:
            bridge.call(_end_wait, waiter)

        found = self._take_soon(wake)
        if found is None:
            self._in_a_row, timer = 0, None
            if self._item_timeout is not None:
                timer = loop.call_later(self._item_timeout, _end_wait, waiter)
            self._is_awaited = True
            edge = None
            try:
                edge = self._future._wait_edge()
                await waiter
            finally:
                del edge
                self._is_awaited = False
                if timer is not None:
                    timer.cancel()
            found = self._take(0)
        if found is None:
            raise self._late()
        if found:
            item: T = found[0]
            return item
        self._raise_end()
        raise StopAsyncIteration

    def _late(self) -> DeadlineError:
        self.close()
        return DeadlineError(
            f"no item of {self._text} came within the item_timeout of {self._item_timeout:g} s; it is closed"
        )

    def _raise_end(self) -> None:
        """Raises what ended it, unless that was its handler's return or ``close()``."""
        _open.discard(self)
        if self._was_ended:
            raise WorkerStoppedError(f"{self._text} was closed, because the program is ending")
        if not self._is_closed():
            self._future.result()

    @property
    def progress(self) -> Progress | None:
        """As that of a ``WorkerFuture``."""
        return self._future.progress

    def on_progress(self, handler: Any = None) -> Any:
        """As that of a ``WorkerFuture``. Calls come in no order with the items.

        Args:
            handler: called with a ``Progress``; it may be ``async def``. Without it, this is a decorator.

        Returns:
            The handler, or a decorator.

        Raises:
            TypeError: the handler is not callable, or a generator function.
        """
        return self._future.on_progress(handler)

    def close(self) -> None:
        """Ends it: no item comes any more, and its handler is told. Does not wait; again does nothing."""
        _open.discard(self)
        self._close()

    async def aclose(self) -> None:
        """``close()``, as asynchronous generators have it."""
        self.close()

    def __enter__(self) -> WorkerStream[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> WorkerStream[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, _finalizing: Any = sys.is_finalizing) -> None:
        if not _finalizing():
            self._close()

    def __repr__(self) -> str:
        return f"<WorkerStream: {self._text}>"


def _end_wait(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def open_of(names: set[str]) -> int:
    """How many streams of the workers of these names are open, whose handlers have not ended."""
    futures = [stream._future for stream in list(_open)]
    return sum(not future.done() and future._worker_name() in names for future in futures)


def _close_all() -> None:
    """The main thread is over: handlers that wait for a reader would keep the program from ending."""
    for stream in list(_open):
        stream._was_ended = True
        stream.close()


_exit.call_at_end(_close_all)

WorkerStream.__module__ = "pytoweb.workers"
