"""The handler's side of a stream: a generator function whose items go to the reader as they come.

A handler that is a window ahead of its reader waits, where it is: a generator may hold what belongs to its
thread (a connection of SQLite), so it never goes on on another one. Meanwhile another thread of the pool may
run in its place.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType

from pytoweb._callables import has_yield
from pytoweb._core import running_stream

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any, Union

    from pytoweb._core import ChildStreamWriter, StreamWriter

    Writer = Union[StreamWriter, ChildStreamWriter]

#: Seconds that a handler waits for its reader at a time: in between it can be interrupted.
LOOK = 0.25


class StreamHandler:
    """A handler of messages of one type that is a generator function, or may return a generator."""

    __slots__ = ("_handler", "_is_generator", "_message_type", "_option")

    def __init__(self, handler: Callable[[Any], Any], message_type: str, option: str | None) -> None:
        #: That of ``on_message`` for which it has no stream: only what it returns says whether it wants one.
        self._option = option
        self._handler = handler
        self._message_type = message_type
        self._is_generator = has_yield(handler)

    def __call__(self, data: Any) -> Any:
        writer = running_stream()
        if writer is None and self._is_generator:
            raise self._streams()
        returned = self._handler(data)
        if isinstance(returned, GeneratorType):
            if writer is None:
                raise self._streams()
            _put_all(returned, writer)
            return None
        if isinstance(returned, AsyncGeneratorType):
            if writer is None:
                raise self._streams()
            return _put_all_async(returned, writer)
        if writer is None:
            return returned
        if isinstance(returned, CoroutineType):
            # Nothing awaits it.
            returned.close()
        raise TypeError(
            f"the handler of {self._message_type!r} returned {type(returned).__name__}, which is no "
            "generator, and has no stream: use ask()"
        )

    def _streams(self) -> TypeError:
        if self._option is not None:
            return TypeError(
                f"the handler of {self._message_type!r} returned a generator, of which nothing has run: it "
                f"is registered with {self._option}=, which is not for streams. Register it without, and "
                "read it with stream() or astream(); or have it return a value"
            )
        return TypeError(
            f"the handler of {self._message_type!r} streams its answer: read it with stream() or astream()"
        )


def _put_all(items: Generator[object, None, object], writer: Writer) -> None:
    try:
        while writer.put_all(items, LOOK) is None:
            pass
    finally:
        items.close()


async def _put_all_async(items: AsyncGenerator[object, None], writer: Writer) -> None:
    import asyncio

    from pytoweb._aio import bridge_to

    room = asyncio.Event()
    bridge = bridge_to(asyncio.get_running_loop())

    def wake() -> None:
        bridge.call(room.set)

    try:
        async for item in items:
            room.clear()
            put = writer.put_soon(item, wake)
            while put is None:
                await room.wait()
                room.clear()
                put = writer.put_soon(item, wake)
            if not put:
                return
    except asyncio.CancelledError:
        # Its reader has closed it while it awaited something: that is an end like any other.
        if not writer.is_closed():
            raise
    finally:
        await items.aclose()
