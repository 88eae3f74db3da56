"""The contract of streams: handlers that are generator functions, and their readers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from unittest import mock

from pytoweb.testing import _handlers
from pytoweb.workers import (
    AskCycleError,
    Batch,
    DeadlineError,
    MailboxFullError,
    Retry,
    WorkerStoppedError,
)

from ._subject import NEVER, WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import PythonWorker

__all__ = ["StreamContract"]

KINDS = ("count", "count_later")
"""Handlers that answer with so many numbers."""


class StreamContract(Subject):
    """What the reader of a stream may rely on."""

    def streaming(self, **options: Any) -> PythonWorker:
        """A started worker with the handlers of these tests."""
        one = self.new_worker(**options)
        for handler in (
            _handlers.count,
            _handlers.count_later,
            _handlers.count_and_fail,
            _handlers.count_and_fail_later,
            _handlers.count_on,
            _handlers.count_on_later,
            _handlers.stand_still,
            _handlers.describe_stream,
        ):
            one.on_message(handler.__name__, handler)
        return one.start()

    def until_closed(self) -> None:
        """Waits until a handler has noted its end."""
        self.until(lambda: self.noted()[-1:] == ["closed"], "the end of the generator")

    def test_a_stream_whose_reader_was_never_made_ends(self) -> None:
        """Ctrl-C came between the post and the stream: nothing is left that could close it."""
        one = self.streaming()
        with mock.patch.object(type(one), "_pytoweb_read", side_effect=KeyboardInterrupt):
            for _ in range(3):
                with contextlib.suppress(KeyboardInterrupt):
                    one.stream("count_on")
        assert list(one.stream("count", 3)) == [0, 1, 2]
        one.run_until_idle(WAIT)

    def test_items_come_in_order_and_then_the_end(self) -> None:
        """All of them, however many there are, through a window of any size."""
        one = self.streaming()
        for kind in KINDS:
            for window in (1, 2, 32, 4095):
                assert list(one.stream(kind, 500, window=window)) == list(range(500))
            assert list(one.stream(kind, 0)) == []
        assert one.ask("echo", 1).result(WAIT) == 1

    def test_an_item_comes_before_the_next_one_is_made(self) -> None:
        """It is pushed when it is yielded, not at the end."""
        one, gate = self.new_worker(), self.gate()
        one.on_message("pass", _handlers.pass_item)
        one.start()
        stream = one.stream("pass", gate, item_timeout=WAIT)
        assert next(stream) == "before"
        gate.wait_entered()
        gate.open()
        assert list(stream) == ["after"]

    def test_the_exception_of_the_handler_comes_after_its_items(self) -> None:
        """As from a generator of one's own."""
        one = self.streaming()
        for kind in ("count_and_fail", "count_and_fail_later"):
            stream = one.stream(kind, 3)
            assert [next(stream) for _ in range(3)] == [0, 1, 2]
            assert raised(ValueError, next, stream).args == ("no more",)
            assert raised(ValueError, next, stream).args == ("no more",)
        assert one.stats().failed == 2

    def test_a_slow_reader_slows_the_handler(self) -> None:
        """It is a window ahead at most, and one item that it has made and cannot put yet."""
        one = self.streaming()
        for kind in ("count_on", "count_on_later"):
            with one.stream(kind, self.path(kind), window=5) as stream:
                for number in range(50):
                    assert next(stream) == number
                    assert len(self.noted(kind)) <= number + 1 + 5 + 1

    def test_a_closed_stream_closes_the_generator(self) -> None:
        """By close(), by the end of a with block, and by dropping it; the worker goes on."""
        one = self.streaming()
        for kind in ("count_on", "count_on_later", "stand_still"):
            for way in range(3):
                stream = one.stream(kind, self.path())
                assert next(stream) == 0
                if way == 0:
                    stream.close()
                    stream.close()
                    assert list(stream) == []
                elif way == 1:
                    with stream:
                        pass
                    assert list(stream) == []
                del stream
                gc.collect()
                self.until_closed()
                one.run_until_idle(WAIT)
        assert one.ask("echo", 1).result(WAIT) == 1
        assert one.stats().failed == 0

    def test_a_stream_that_has_not_begun_is_cancelled(self) -> None:
        """When it is closed."""
        one, gate = self.blocked()
        one.on_message("count_on", _handlers.count_on)
        stream = one.stream("count_on", self.path())
        stream.close()
        assert one.stats().cancelled == 1
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == [] == list(stream)

    def test_a_stream_that_is_closed_at_once_leaves_nothing_behind(self) -> None:
        """Wherever its message is at that moment: queued, on its way, or with a process that starts."""
        for kind in ("count_on", "count_on_later"):
            one = self.streaming(name=kind)
            for _ in range(20):
                one.stream(kind, self.path()).close()
            one.run_until_idle(WAIT)
            stats = one.stats()
            assert (stats.posted, stats.completed + stats.cancelled) == (20, 20)

    def test_a_deadline_ends_the_whole_stream(self) -> None:
        """After the items that came before; it closes the generator."""
        one = self.streaming()
        assert one.ask("echo", 1).result(WAIT) == 1
        stream = one.stream("count_on", self.path(), timeout=0.5, window=2)
        assert next(stream) == 0
        self.until_closed()
        assert "count_on" in str(raised(DeadlineError, list, stream))
        one.run_until_idle(WAIT)
        assert one.stats().expired == 1

    def test_an_item_that_comes_too_late_ends_the_stream(self) -> None:
        """The time counts for each item, from when its reader waits."""
        one = self.streaming()
        stream = one.stream("stand_still", self.path(), item_timeout=NEVER)
        self.until(self.noted, "the handler")
        assert "item_timeout" in str(raised(DeadlineError, list, stream))
        self.until_closed()
        assert list(stream) == []

    def test_a_stream_is_read_by_coroutines(self) -> None:
        """With async for, without blocking the event loop."""
        one = self.streaming()

        async def read(kind: str) -> list[int]:
            return [item async for item in one.stream(kind, 200)]

        async def read_all() -> list[list[int]]:
            both = await asyncio.wait_for(asyncio.gather(*map(read, KINDS)), WAIT)
            async with one.stream("count_on", self.path()) as stream:
                async for item in stream:
                    if item == 70:
                        break
            late = one.stream("stand_still", self.path("late"), item_timeout=NEVER)
            try:
                async for _ in late:
                    pass
            except DeadlineError:
                return both
            raise AssertionError("it has an end")

        assert asyncio.run(read_all()) == [list(range(200))] * 2
        self.until_closed()

    def test_a_coroutine_waits_for_room_before_its_stream(self) -> None:
        """Where ``stream`` refuses to block the event loop."""
        one, gate = self.blocked(capacity=1)
        one.on_message("count", _handlers.count)

        async def read() -> list[int]:
            filler = one.ask("echo", 1)
            raised(MailboxFullError, one.stream, "count", 3)
            waiting = asyncio.ensure_future(one.astream("count", 3))
            await asyncio.sleep(0)
            assert not waiting.done()
            gate.open()
            stream = await asyncio.wait_for(waiting, WAIT)
            assert await filler == 1
            return [item async for item in stream]

        assert asyncio.run(read()) == [0, 1, 2]

    def test_a_stop_waits_for_the_reader(self) -> None:
        """As for any message; terminate() does not, and the stream says so."""
        one = self.streaming()
        stream = one.stream("count", 100, window=3)
        stopping = self.spawn(one.stop, timeout=WAIT)
        self.until(lambda: one.state == "stopping", "the stop")
        assert list(stream) == list(range(100))
        stopping.result(WAIT)
        other = self.streaming(name="other")
        stream = other.stream("count_on", self.path(), window=3)
        assert next(stream) == 0
        other.terminate()
        assert "other" in str(raised(WorkerStoppedError, list, stream))

    def test_a_stream_that_could_never_come_is_refused(self) -> None:
        """A handler of any kind that reads a stream of its own worker."""
        one = self.new_worker()
        if self.backend == "process":
            return

        async def read_later(data: int) -> list[int]:
            return [item async for item in one.stream("count", data)]

        async def read_in_turn(data: int) -> Any:
            async for item in await one.astream("count", data):
                yield item

        one.on_message("count", _handlers.count)
        one.on_message("read", lambda data: list(one.stream("count", data)))
        one.on_message("read_later", read_later)
        one.on_message("read_in_turn", read_in_turn)
        one.start()
        for kind in ("read", "read_later"):
            raised(AskCycleError, one.ask(kind, 3).result, WAIT)
        raised(AskCycleError, list, one.stream("read_in_turn", 3, timeout=WAIT))

    def test_the_handler_finds_its_message_and_its_context(self) -> None:
        """At each item."""
        one = self.streaming()
        _handlers.color.set("blue")
        first, second = one.stream("describe_stream", "data")
        assert first == second
        assert first[:3] == ("describe_stream", "data", "blue")

    def test_asks_and_streams_are_told_apart(self) -> None:
        """At the call, by the type's handler."""
        one = self.streaming()
        for call in (one.ask, one.post_message):
            assert "stream()" in str(raised(TypeError, call, "count", 1))
        assert "ask()" in str(raised(TypeError, one.stream, "echo", 1))
        one.on_message("count", _handlers.echo)
        assert one.ask("count", 1).result(WAIT) == 1

    def test_options_that_make_no_sense_are_refused(self) -> None:
        """By name, where they are given."""
        one = self.streaming()
        for window in (0, 4096):
            assert "window" in str(raised(ValueError, one.stream, "count", 1, window=window))
        assert "window" in str(raised(TypeError, one.stream, "count", 1, window=1.5))
        assert "item_timeout" in str(raised(ValueError, one.stream, "count", 1, item_timeout=-1))
        refused = raised(ValueError, one.on_message, "count", _handlers.count, retry=Retry(2))
        assert "retry" in str(refused)
        refused = raised(ValueError, one.on_message, "count", _handlers.count, batch=Batch(2))
        assert "batch" in str(refused)
        raised(TypeError, one.on_message, "response", _handlers.count)

    def test_an_iterable_is_fed_at_the_pace_of_the_handler(self) -> None:
        """Each item as it comes, and no more of them than the mailbox has room for."""
        one, gate = self.blocked(capacity=3)
        one.on_message("note", _handlers.note_item)
        taken: list[int] = []

        def source() -> Any:
            for number in range(20):
                taken.append(number)
                yield self.path(), number

        feeding = self.spawn(one.feed, "note", source())
        self.until(lambda: one.stats().depth == 3, "a full mailbox")
        assert not feeding.done() and len(taken) <= 5
        gate.open()
        assert feeding.result(WAIT) == 20
        one.run_until_idle(WAIT)
        assert [int(number) for number in self.noted()] == list(range(20))

    def test_coroutines_feed_from_iterables_of_both_kinds(self) -> None:
        """Waiting for room without blocking the event loop."""
        one = self.new_worker(capacity=2)
        one.on_message("note", _handlers.note_item)
        one.start()

        async def source() -> Any:
            for number in range(20):
                await asyncio.sleep(0)
                yield self.path(), number

        async def feed() -> int:
            plain = ((self.path(), number) for number in range(20, 40))
            return await one.afeed("note", source()) + await one.afeed("note", plain, priority=1)

        assert asyncio.run(asyncio.wait_for(feed(), WAIT)) == 40
        one.run_until_idle(WAIT)
        assert [int(number) for number in self.noted()] == list(range(40))

    def test_feeding_ends_with_what_goes_wrong(self) -> None:
        """What the iterable raises, or the mailbox; the items before are handled."""
        one = self.new_worker(capacity=2, overflow="reject")
        one.on_message("note", _handlers.note_item)

        def source(count: int) -> Any:
            for number in range(count):
                yield self.path(), number
            raise ZeroDivisionError

        raised(ZeroDivisionError, one.feed, "note", source(1))
        raised(MailboxFullError, one.feed, "note", source(5))
        raised(TypeError, one.feed, "note", 5)
        raised(TypeError, one.feed, 5, source(5))
        one.start()
        one.run_until_idle(WAIT)
        assert self.noted() == ["0", "0"]
