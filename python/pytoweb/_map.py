"""``WorkerPool.map``: calls of one function on many inputs, and their results in order.

The input is read at once, as the standard library reads it. Calls that find no room in the mailbox wait in a
`MapFeed`, which posts them as room comes, on the threads that make it, so that all are run although no code
takes a result. With ``buffersize`` the input is read as the results are taken instead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from contextvars import copy_context
from itertools import islice

from pytoweb._checks import checked_count
from pytoweb._chunks import make_chunks, run_chunk
from pytoweb._core import Parked, checked_timeout
from pytoweb.errors import MailboxFullError, SerializationError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pytoweb._limits import Wishes
    from pytoweb._pool import WorkerPool
    from pytoweb.futures import WorkerFuture

__all__ = ["MapFeed", "map_calls"]

#: Called for each call that is posted; ``pytoweb.otel`` counts them.
on_posted: Callable[[WorkerPool], object] | None = None


def map_calls(
    pool: WorkerPool,
    function: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
    call_timeout: float | None,
    wishes: Wishes | None = None,
) -> Iterator[Any]:
    """The results of ``function`` for the items of ``iterables``; see ``WorkerPool.map``."""
    checked_count(chunksize, "chunksize")
    if buffersize is not None:
        checked_count(buffersize, "buffersize")
    # As everywhere in `concurrent.futures`, less than nothing is nothing.
    limit = 0.0 if isinstance(timeout, (int, float)) and timeout < 0 else checked_timeout(timeout)
    end = None if limit is None else time.monotonic() + limit
    calls: Iterator[tuple[Any, ...]]
    chunked = chunksize > 1 and pool.backend == "process"
    if chunked:
        calls = _chunked(function, chunksize, iterables)
        function = run_chunk
    else:
        calls = zip(*iterables)
    results: Iterator[Any]
    if buffersize is not None:
        results = _Window(pool, function, calls, buffersize, call_timeout, wishes).results(end)
    else:
        results = _posted(pool, function, calls, call_timeout, wishes).results(end)
    return _flattened(results) if chunked else results


def _chunked(
    function: Callable[..., Any], size: int, iterables: tuple[Iterable[Any], ...]
) -> Iterator[tuple[Any, ...]]:
    for chunk in make_chunks(size, *iterables):
        yield (function, *chunk)


def _flattened(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        # The results that were taken are the taker's alone.
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def _posted(
    pool: WorkerPool,
    function: Callable[..., Any],
    calls: Iterator[tuple[Any, ...]],
    timeout: float | None,
    wishes: Wishes | None,
) -> MapFeed:
    """Posts the calls for which there is room, and reads the others."""
    futures: deque[Any] = deque()
    try_call = pool._pytoweb_try_call
    own = pool._pytoweb
    if own.shut_down:
        raise pool._pytoweb_stopped()
    rest: deque[tuple[Any, ...]] = deque()
    try:
        for call in calls:
            future = try_call(function, call, None, True, timeout, wishes)
            if future is None:
                rest.append(call)
                rest.extend(calls)
                break
            futures.append(future)
            if on_posted is not None:
                on_posted(pool)
    except BaseException:
        # None of the calls is of use to the caller.
        _cancel_all(futures)
        raise
    feed = MapFeed(pool, function, futures, rest, timeout, wishes)
    if rest:
        with own.lock:
            own.feeds.add(feed)
        feed.watch(len(futures))
    return feed


class _Failed:
    """Stands for the future of a call that could not be posted."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def result(self, timeout: float | None = None) -> Any:
        raise self._error

    def cancel(self) -> bool:
        return False


class MapFeed:
    """The calls of one ``map``: the futures of those that were posted, and those that wait for room."""

    def __init__(
        self,
        pool: WorkerPool,
        function: Callable[..., Any],
        futures: deque[Any],
        rest: deque[tuple[Any, ...]],
        timeout: float | None,
        wishes: Wishes | None,
    ) -> None:
        self._pool = pool
        self._function = function
        self._futures = futures
        self._rest = rest
        self._timeout = timeout
        self._wishes = wishes
        #: That of the caller of ``map``: most calls are posted on threads that have nothing of it.
        self._context = copy_context()
        #: Held by the thread that posts; another one that finds it held leaves the work to it.
        self._posting = threading.Lock()
        self._wanted = False
        #: The first of the rest, where it is in the line before the mailbox.
        self._parked: Parked | None = None
        #: Set once nothing waits for room any more.
        self.ended = threading.Event()
        if not rest:
            self.ended.set()

    def watch(self, posted: int) -> None:
        """Goes on when there is room for many of the calls: half of the ``posted`` last ones are done."""
        if posted > 1:
            # From the end: results may have been taken meanwhile.
            try:
                self._futures[-(posted // 2)].add_done_callback(self._post)
                return
            except (AttributeError, IndexError):
                pass
        try:
            call = self._rest[0]
        except IndexError:
            return
        post: Any
        try:
            # In a copy: where there is room already, it posts the others before it returns.
            post = self._context.copy().run(
                self._pool._pytoweb_park_call,
                self._function,
                call,
                None,
                True,
                self._timeout,
                self._post,
                self._wishes,
            )
        except SerializationError as error:
            post = _Failed(error)
        except BaseException as error:
            # Nothing can be posted any more.
            self._fail(error)
            return
        if isinstance(post, Parked):
            self._parked = post
        else:
            self._posted(post)
            self._wanted = True

    def _post(self, _done: object = None) -> None:
        """Posts the calls for which there is room, on whichever thread made it."""
        self._wanted = True
        while self._wanted and self._posting.acquire(blocking=False):
            try:
                self._wanted = False
                posted = self._context.run(self._post_some)
                if self._rest and self._parked is None:
                    # It may call here and now, and then finds the lock held.
                    self.watch(posted)
            finally:
                self._posting.release()
        if not self._rest and not self.ended.is_set():
            self.ended.set()
            self._pool._pytoweb_feed_ended(self)

    def _posted(self, future: Any) -> None:
        self._futures.append(future)
        try:
            self._rest.popleft()
        except IndexError:
            # Given up meanwhile.
            future.cancel()
        if on_posted is not None:
            on_posted(self._pool)

    def _end_parked(self) -> bool:
        """Takes the future of the call that was in line. False: it is still there."""
        parked = self._parked
        if parked is None:
            return True
        if self._rest and not parked.wait(0):
            return False
        self._parked = None
        if not self._rest and parked.withdraw():
            return True
        try:
            self._posted(parked.outcome("it is needed no more"))
        except BaseException as error:
            self._fail(error)
        return True

    def _post_some(self) -> int:
        posted = 0
        if not self._end_parked():
            return 0
        while True:
            try:
                call = self._rest[0]
            except IndexError:
                # All are posted, or given up meanwhile.
                break
            future: Any
            try:
                future = self._pool._pytoweb_try_call(
                    self._function, call, None, True, self._timeout, self._wishes
                )
            except SerializationError as error:
                future = _Failed(error)
            except BaseException as error:
                # Nothing can be posted any more.
                self._fail(error)
                break
            if future is None:
                break
            self._posted(future)
            posted += 1
        return posted

    def _fail(self, error: BaseException) -> None:
        self._rest.clear()
        self._futures.append(_Failed(error))

    def give_up(self, error: BaseException) -> None:
        """Drops the calls that wait for room; their results are ``error``."""
        if self._rest:
            self._fail(error)
            self._post()

    def results(self, end: float | None) -> Iterator[Any]:
        """The results in order; the rest is cancelled when one fails, is late, or is not asked for."""
        try:
            while self._has_next(end):
                yield _result(self._futures.popleft(), end)
        finally:
            self.give_up(CancelledError())
            _cancel_all(self._futures)

    def _has_next(self, end: float | None) -> bool:
        """Waits until the next call is posted; False after the last."""
        while True:
            # Before the look at the futures: a call moves from the one to the other.
            waiting = bool(self._rest)
            if self._futures or not waiting:
                return bool(self._futures)
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise FutureTimeout
            parked = self._parked
            if parked is not None:
                # All that were posted are done: other senders have taken the room.
                try:
                    if not parked.wait(left):
                        raise FutureTimeout
                except MailboxFullError:
                    raise FutureTimeout from None
            self._post()


class _Window:
    """The calls of one ``map`` with ``buffersize``: as many futures, and the input that is still unread."""

    def __init__(
        self,
        pool: WorkerPool,
        function: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        size: int,
        timeout: float | None,
        wishes: Wishes | None,
    ) -> None:
        self._pool = pool
        self._function = function
        self._calls = calls
        self._timeout = timeout
        self._wishes = wishes
        self._futures: deque[WorkerFuture[Any]] = deque()
        for call in islice(calls, size):
            self._post(call)

    def _post(self, call: tuple[Any, ...]) -> None:
        future = self._pool._pytoweb_call(self._function, call, None, True, self._timeout, self._wishes)
        # The first failure is raised, and the others are not news.
        future._note_read()
        self._futures.append(future)

    def results(self, end: float | None) -> Iterator[Any]:
        try:
            while self._futures:
                for call in islice(self._calls, 1):
                    self._post(call)
                yield _result(self._futures.popleft(), end)
        finally:
            _cancel_all(self._futures)


def _cancel_all(futures: deque[Any]) -> None:
    # Not in the generators: an exception raised there refers to their frames, which are to hold no future.
    while futures:
        futures.popleft().cancel()


def _result(future: Any, end: float | None) -> Any:
    try:
        try:
            return future.result(None if end is None else max(0.0, end - time.monotonic()))
        finally:
            future.cancel()
    finally:
        # An exception refers to this frame: it is not to refer to the future.
        del future
