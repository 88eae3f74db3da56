"""What workers and pools have for many items: ``stream`` out of a handler, ``feed`` into the mailbox."""

from __future__ import annotations

from pytoweb._checks import checked_count, named_by_themselves
from pytoweb._core import MOST_AHEAD, Endpoint, checked_timeout
from pytoweb._limits import wished

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
    from datetime import datetime
    from typing import Any

    from pytoweb._internals import Internals
    from pytoweb._room import PostWaiter
    from pytoweb._worker_stream import WorkerStream
    from pytoweb.futures import WorkerFuture

#: Items that a handler may be ahead of its reader, where the caller does not say: at first, and on a thread
#: while its reader empties that before the handler can be woken. A million small items are 0.7 times as quick
#: or quicker than through a ``queue.SimpleQueue`` then, with 32 throughout 0.2 times.
WINDOW = (32, 1024)


@named_by_themselves
class Streaming(Endpoint):
    """Messages whose handlers are generator functions, and messages from iterators."""

    if TYPE_CHECKING:
        _pytoweb: Internals
        apost_message: Callable[..., Coroutine[Any, Any, None]]

        async def _pytoweb_when_room(
            self, park: Callable[[float | None, PostWaiter], Any], timeout: float | None
        ) -> Any: ...

    def stream(
        self,
        message_type: str,
        data: object = None,
        *,
        timeout: float | None = None,
        item_timeout: float | None = None,
        window: int | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> WorkerStream[Any]:
        """Posts a message whose handler is a generator function, ``async def`` or not, and returns its items.

        ``for item in worker.stream(...)`` waits for each item, ``async for`` without blocking the event loop.
        The worker is at this message until the generator is at its end; one that is ``window`` items ahead of
        its reader waits. Closing the stream, leaving its ``with`` block or dropping it ends the generator
        where it yields next. It is tried once, also where its process ends.

        Args:
            message_type: the type, which chooses the handler.
            data: what the handler gets.
            timeout: seconds from now for all of it: then the stream raises ``DeadlineError`` after the items
                that came before, and the handler is told as that of an ``ask``. None is no limit.
            item_timeout: seconds that the reader waits for one item at most: then the stream is closed, and
                raises ``DeadlineError``. None is no limit.
            window: how many items the handler may be ahead of its reader, from 1 to 4095. None: 32 at first,
                and up to 1024 while its reader reads half of them before a handler on a thread can be woken.
            priority: as for ``ask``.
            key: as for ``ask``.
            delay: as for ``ask``.
            at: as for ``ask``.

        Returns:
            The stream, to be read by one thread or task at a time.

        Raises:
            MailboxFullError: as for ``ask``.
            WorkerStoppedError: it is stopped or stopping.
            SerializationError: the data cannot be sent to another process.
            TypeError: the handler of this type is no generator function, or as for ``ask``.
            ValueError: ``window`` is not from 1 to 4095, ``item_timeout`` is negative or NaN, or as for
                ``ask``.
        """
        item_timeout, ahead = self._pytoweb_check_stream(message_type, item_timeout, window)
        wishes = wished(priority, key, delay, at, False)
        future: Any = self._pytoweb_stream(message_type, data, timeout, ahead, wishes)
        return self._pytoweb_read(future, message_type, item_timeout)

    async def astream(
        self,
        message_type: str,
        data: object = None,
        *,
        timeout: float | None = None,
        item_timeout: float | None = None,
        window: int | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> WorkerStream[Any]:
        """``stream`` for coroutines: waits for room in the mailbox without blocking the event loop.

        ``async for item in await worker.astream(...)``.

        Args:
            message_type: as for ``stream``.
            data: as for ``stream``.
            timeout: as for ``stream``, the wait for room included.
            item_timeout: as for ``stream``.
            window: as for ``stream``.
            priority: as for ``ask``.
            key: as for ``ask``.
            delay: as for ``ask``, from the moment at which there is room.
            at: as for ``ask``.

        Returns:
            The stream.

        Raises:
            MailboxFullError: no room came within ``timeout``, or the policy refuses instead of waiting.
            WorkerStoppedError: it is stopped or stopping.
            SerializationError: the data cannot be sent to another process.
            TypeError: as for ``stream``.
            ValueError: as for ``stream``.
        """
        item_timeout, ahead = self._pytoweb_check_stream(message_type, item_timeout, window)
        wishes = wished(priority, key, delay, at, False)
        future = await self._pytoweb_when_room(
            lambda left, told: self._pytoweb_stream(message_type, data, left, ahead, wishes, told), timeout
        )
        return self._pytoweb_read(future, message_type, item_timeout)

    def feed(
        self,
        message_type: str,
        items: Iterable[object],
        *,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> int:
        """Posts one message per item, each as soon as the iterable has it.

        A mailbox with the policy ``"block"`` slows the iterable to the pace of the handler; another policy
        does with an item for which there is no room what it does with any message. For items that are all
        there ``post_messages`` is quicker: it takes them in chunks.

        Args:
            message_type: the type, which chooses the handler.
            items: the data of each. It may be endless.
            priority: as for ``post_message``, of each of them.
            key: as for ``post_message``, of all of them.

        Returns:
            How many were posted, those included that the policy dropped.

        Raises:
            MailboxFullError: as for ``post_message``. The items before stay queued.
            WorkerStoppedError: it is stopped or stopping, perhaps since the first item.
            SerializationError: an item cannot be sent to another process.
            TypeError: ``message_type`` is not a str, or ``items`` cannot be iterated over.
            BaseException: what the iterable raises.
        """
        if not hasattr(type(items), "__iter__") and hasattr(type(items), "__aiter__"):
            raise TypeError(
                "feed() takes a plain iterable: use `await worker.afeed(...)` for an asynchronous one"
            )
        posted = 0
        for item in items:
            self.post_message(message_type, item, priority=priority, key=key)
            posted += 1
        return posted

    async def afeed(
        self,
        message_type: str,
        items: AsyncIterable[object] | Iterable[object],
        *,
        priority: int | None = None,
        key: str | int | bytes | None = None,
    ) -> int:
        """``feed`` for coroutines: waits for room without blocking the event loop, and takes ``async for``.

        Args:
            message_type: as for ``feed``.
            items: the data of each; an asynchronous iterable or a plain one, which may be endless.
            priority: as for ``feed``.
            key: as for ``feed``.

        Returns:
            How many were posted, those included that the policy dropped.

        Raises:
            MailboxFullError: the policy refuses instead of waiting. The items before stay queued.
            WorkerStoppedError: it is stopped or stopping, perhaps since the first item.
            SerializationError: an item cannot be sent to another process.
            TypeError: ``message_type`` is not a str, or ``items`` cannot be iterated over.
            BaseException: what the iterable raises.
        """
        posted = 0
        if hasattr(type(items), "__aiter__"):
            async for item in items:  # type: ignore[union-attr]
                await self.apost_message(message_type, item, priority=priority, key=key)
                posted += 1
        else:
            for item in items:  # type: ignore[union-attr]
                await self.apost_message(message_type, item, priority=priority, key=key)
                posted += 1
        return posted

    def _pytoweb_check_stream(
        self, message_type: str, item_timeout: float | None, window: int | None
    ) -> tuple[float | None, tuple[int, int]]:
        own = self._pytoweb
        if message_type in own.handlers and message_type not in own.streams:
            option = own.unstreamed.get(message_type)
            if option is None:
                why = "is no generator function, and has no stream: use ask()"
            else:
                why = (
                    f"is registered with {option}=, and has no stream: use ask(), or, if it returns a "
                    f"generator, register it without {option}="
                )
            raise TypeError(f"the handler of {message_type!r} {why}")
        limit = checked_timeout(item_timeout, "item_timeout")
        if window is None:
            return limit, WINDOW
        fixed = checked_count(window, "window", most=MOST_AHEAD)
        return limit, (fixed, fixed)

    def _pytoweb_read(
        self, future: WorkerFuture[Any], message_type: str, item_timeout: float | None
    ) -> WorkerStream[Any]:
        from pytoweb._worker_stream import WorkerStream

        text = f"the stream {message_type!r} of {self._pytoweb.name!r}"
        return WorkerStream(future, item_timeout, text)
