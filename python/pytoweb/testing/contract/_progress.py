"""The contract of progress: what handlers say of it, and what futures show."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

from pytoweb.testing import _handlers
from pytoweb.workers import Progress

from ._subject import WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import PythonWorker

__all__ = ["ProgressContract"]

KINDS = ("report_each", "report_each_later")
"""Handlers that report what they get."""

REPORTS = [(number, 50, f"at {number}") for number in range(1, 51)]


class ProgressContract(Subject):
    """What the owner of a future may rely on."""

    def reporting(self, **options: Any) -> PythonWorker:
        """A started worker with the handlers of these tests."""
        one = self.new_worker(**options)
        for handler in (
            _handlers.report_each,
            _handlers.report_each_later,
            _handlers.report_and_pass,
            _handlers.report_much,
            _handlers.report_wrongly,
            _handlers.report_and_yield,
        ):
            one.on_message(handler.__name__, handler)
        return one.start()

    def test_the_last_report_is_known_when_the_future_is_done(self) -> None:
        """With a handler and without one, from coroutines too; none was reported before."""
        one = self.reporting()
        for kind in KINDS:
            future = one.ask(kind, REPORTS)
            assert future.result(WAIT) == 50
            assert future.progress == Progress(50, 50, "at 50")
        assert one.ask("echo", 1).progress is None

    def test_a_progress_handler_is_called_in_order_and_with_the_last(self) -> None:
        """It may miss some, and never gets one twice."""
        one = self.reporting()
        for kind in KINDS:
            came, last = list[Progress](), threading.Event()
            future = one.ask(kind, REPORTS)

            @future.on_progress
            def note(progress: Progress, came: Any = came, last: Any = last) -> None:
                came.append(progress)
                if progress.done == 50:
                    last.set()

            assert last.wait(WAIT)
            assert future.result(WAIT) == 50
            done = [progress.done for progress in came]
            assert done == sorted(set(done))
            assert came[-1] == Progress(50, 50, "at 50")

    def test_a_report_is_shown_while_the_handler_goes_on(self) -> None:
        """The first at once, and what follows on its heels soon, although the handler says nothing more."""
        one, gate, came = self.reporting(), self.gate(), SimpleQueue[Progress]()
        future = one.ask("report_and_pass", gate)
        future.on_progress(came.put)
        gate.wait_entered()
        seen = [came.get(timeout=WAIT)]
        while seen[-1].done != 3:
            seen.append(came.get(timeout=WAIT))
        assert seen[-1] == Progress(3, None, "before the gate")
        assert future.progress == seen[-1]
        assert not future.done()
        late = SimpleQueue[Progress]()
        future.on_progress(late.put)
        assert late.get(timeout=WAIT) == seen[-1]
        gate.open()
        assert future.result(WAIT) == "passed"
        assert came.get(timeout=WAIT) == late.get(timeout=WAIT) == Progress(4, 4, None)

    def test_one_that_is_registered_after_the_end_gets_the_last(self) -> None:
        """Once."""
        one, came = self.reporting(), SimpleQueue[Progress]()
        future = one.ask("report_each", REPORTS)
        future.result(WAIT)
        future.on_progress(came.put)
        assert came.get(timeout=WAIT).done == 50
        one.stop(timeout=WAIT)
        assert came.empty()

    def test_it_is_in_line_before_callbacks_that_came_later(self) -> None:
        """A callback that is registered after it finds the last call made, or on its way."""
        one, gate = self.reporting(), self.gate()
        future, order = one.ask("report_and_pass", gate), SimpleQueue[str]()

        def note(progress: Progress) -> None:
            if progress.done == 4:
                order.put("progress")

        future.on_progress(note)
        line = one._pytoweb.runtime.reply_line()
        future.add_done_callback(lambda _: line.call(order.put, "done"))
        gate.open()
        assert [order.get(timeout=WAIT), order.get(timeout=WAIT)] == ["progress", "done"]

    def test_many_reports_make_few_calls(self) -> None:
        """And no handler of messages waits for a progress handler."""
        one, gate, came = self.reporting(), threading.Event(), list[Progress]()

        def stand(progress: Progress) -> None:
            came.append(progress)
            gate.wait(WAIT)

        future = one.ask("report_much", 20_000)
        future.on_progress(stand)
        try:
            assert future.result(WAIT) == 20_000
        finally:
            gate.set()
        one.stop(timeout=WAIT)
        assert len(came) <= 2
        assert came[-1].done == 20_000

    def test_on_an_event_loop_it_is_called_there(self) -> None:
        """Where the loop runs in which it was registered, and a coroutine too."""
        one = self.reporting()

        async def main() -> list[tuple[float, int]]:
            came: list[tuple[float, int]] = []
            last = asyncio.Event()

            async def note(progress: Progress) -> None:
                await asyncio.sleep(0)
                came.append((progress.done, threading.get_ident()))
                if progress.done == 50:
                    last.set()

            future = one.ask("report_each", REPORTS)
            future.on_progress(note)
            await future
            await asyncio.wait_for(last.wait(), WAIT)
            return came

        assert asyncio.run(main())[-1] == (50, threading.get_ident())

    def test_streams_have_progress(self) -> None:
        """Beside their items."""
        one, came = self.reporting(), SimpleQueue[Progress]()
        stream = one.stream("report_and_yield", 3)
        stream.on_progress(came.put)
        assert list(stream) == [0, 1, 2]
        assert stream.progress == Progress(3, 3)
        while came.get(timeout=WAIT) != Progress(3, 3):
            pass

    def test_a_post_may_report_as_well(self) -> None:
        """To no effect."""
        one = self.reporting()
        one.post_message("report_each", REPORTS)
        one.post_message("report_each", REPORTS, message_id="1")
        one.run_until_idle(WAIT)
        assert one.stats().completed == 2

    def test_what_cannot_be_reported_is_an_error_of_the_call(self) -> None:
        """Outside of handlers; what is no text, no number, or one that no bar can show."""
        one = self.reporting()
        raised(RuntimeError, one.progress, 1)
        for how in ("done", "total", "text", "bool"):
            assert one.ask("report_wrongly", how).result(WAIT) == "TypeError"
        numbers = ("nan", "infinite", "negative", "long", "converted")
        for how in (*numbers, "nan total", "infinite total", "negative total"):
            assert one.ask("report_wrongly", how).result(WAIT) == "ValueError"
        future = one.ask("echo", 1)
        raised(TypeError, future.on_progress, 5)
