"""The contract of events: what handlers emit, and the handlers of their owner."""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import SimpleQueue

from pytoweb._core import MOST_EVENTS
from pytoweb.testing import _handlers
from pytoweb.workers import WorkerMessage

from ._subject import WAIT, LogRecords, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import PythonWorker

__all__ = ["EventContract", "PoolEventContract"]

KINDS = ("emit_each", "emit_each_later")
"""Handlers that emit what they get."""


def equip(one: Any) -> Any:
    """Registers the handlers of these tests."""
    for handler in (
        _handlers.emit_each,
        _handlers.emit_each_later,
        _handlers.emit_many,
        _handlers.emit_wrongly,
    ):
        one.on_message(handler.__name__, handler)
    return one


class EventContract(Subject):
    """What the owner of a worker may rely on."""

    def emitting(self, **options: Any) -> PythonWorker:
        """A worker with the handlers of these tests, not started."""
        worker: PythonWorker = equip(self.new_worker(**options))
        return worker

    def test_events_come_in_the_order_in_which_they_were_emitted(self) -> None:
        """Also those of different names, each with the worker and the message that it comes from."""
        one, came = self.emitting(), SimpleQueue[WorkerMessage]()
        one.on_event("left", came.put)
        one.on_event("right")(came.put)
        one.start()
        for kind in KINDS:
            events = [("left" if number % 3 else "right", number) for number in range(500)]
            assert one.ask(kind, events).result(WAIT) == 500
            found = [came.get(timeout=WAIT) for _ in events]
            assert [(event.type, event.data) for event in found] == events
            assert {(event.worker, event.id) for event in found} == {(one.name, None)}
        one.post_message("emit_each", [("left", None)], message_id="7")
        assert came.get(timeout=WAIT).id == "7"

    def test_an_event_without_a_handler_goes_nowhere(self) -> None:
        """It costs nothing, and is no error; one that is registered later gets what comes from then on."""
        one, came = self.emitting().start(), SimpleQueue[WorkerMessage]()
        assert one.ask("emit_each", [("any", 1), ("other", print)]).result(WAIT) == 2
        one.on_event("any", came.put)
        assert one.ask("emit_each", [("other", 2), ("any", 3)]).result(WAIT) == 2
        assert came.get(timeout=WAIT).data == 3
        assert came.empty()

    def test_they_are_never_handled_on_the_worker_s_thread(self) -> None:
        """A handler of them that blocks holds up no message."""
        one, gate, idents = self.emitting(), threading.Event(), SimpleQueue[int]()

        def stand(event: WorkerMessage) -> None:
            idents.put(threading.get_ident())
            gate.wait(WAIT)

        one.on_event("any", stand)
        one.start()
        try:
            assert one.ask("emit_each", [("any", 1)]).result(WAIT) == 1
            ident = idents.get(timeout=WAIT)
            assert one.ask("echo", 2).result(WAIT) == 2
            assert ident != threading.get_ident()
        finally:
            gate.set()

    def test_stop_waits_for_their_handlers(self) -> None:
        """As for those of replies."""
        one, came = self.emitting(), list[object]()
        one.on_event("number", lambda event: came.append(event.data))
        one.start().post_message("emit_many", 1000)
        one.stop(timeout=WAIT)
        assert came == list(range(1000))

    def test_on_an_event_loop_they_are_called_there(self) -> None:
        """Where the loop runs in which they were registered, coroutines too."""
        one = self.emitting()

        async def main() -> list[tuple[object, int]]:
            came: list[tuple[object, int]] = []
            done = asyncio.Event()

            async def later(event: WorkerMessage) -> None:
                await asyncio.sleep(0)
                came.append((event.data, threading.get_ident()))
                if event.data == "last":
                    done.set()

            one.on_event("later", later)
            one.on_event("now", lambda event: came.append((event.data, threading.get_ident())))
            one.start()
            await one.ask("emit_each", [("now", 1), ("now", 2), ("later", "last")])
            await asyncio.wait_for(done.wait(), WAIT)
            await one.astop(timeout=WAIT)
            return came

        assert asyncio.run(main()) == [(data, threading.get_ident()) for data in (1, 2, "last")]

    def test_an_async_handler_runs_without_an_event_loop_of_the_owner(self) -> None:
        """It is run to its end before the next one begins."""
        one, came = self.emitting(), list[object]()

        async def later(event: WorkerMessage) -> None:
            await asyncio.sleep(0)
            came.append(event.data)

        one.on_event("number", later)
        one.start().ask("emit_many", 3).result(WAIT)
        one.stop(timeout=WAIT)
        assert came == [0, 1, 2]

    def test_the_oldest_are_dropped_and_logged_once(self) -> None:
        """What handlers emit is bounded, and they never wait."""
        one, gate, came = self.emitting(), threading.Event(), list[object]()

        def stand(event: WorkerMessage) -> None:
            gate.wait(WAIT)
            came.append(event.data)

        one.on_event("number", stand)
        log, logged = logging.getLogger(f"pytoweb.worker.{one.name}"), LogRecords()
        log.addHandler(logged)
        log.propagate, before = False, log.propagate
        try:
            one.start()
            many = MOST_EVENTS * 5
            assert one.ask("emit_many", many).result(WAIT) == many
            assert one.ask("echo", 1).result(WAIT) == 1
            # One is with the handler, and as many wait as may: else those that come later are another burst.
            all_came = many - MOST_EVENTS - 1
            self.until(lambda: one._pytoweb_events_dropped() >= all_came, "the last event")
        finally:
            gate.set()
            one.stop(timeout=WAIT)
            log.removeHandler(logged)
            log.propagate = before
        assert came[-1] == many - 1
        assert came == sorted(came)  # type: ignore[type-var]
        assert len(came) + one._pytoweb_events_dropped() == many
        assert [record.levelname for record in logged.records] == ["WARNING"]

    def test_what_cannot_be_emitted_is_an_error_of_the_call(self) -> None:
        """Outside of handlers, a name that is no str, and data that cannot reach the owner."""
        one = self.emitting()
        one.on_event("number", print)
        raised(RuntimeError, one.emit, "any")
        raised(TypeError, one.emit, 5)
        raised(TypeError, one.on_event, 5)
        raised(TypeError, one.on_event, "any", 5)
        one.start()
        assert one.ask("emit_wrongly", "name").result(WAIT) == "TypeError"
        if self.backend == "process":
            assert one.ask("emit_wrongly", "data").result(WAIT) == "SerializationError"

    def test_an_error_of_their_handler_is_logged(self) -> None:
        """And the next one is handled."""
        one, came = self.emitting(), list[object]()

        def fail(event: WorkerMessage) -> None:
            came.append(event.data)
            if event.data == 0:
                raise ValueError("no")

        one.on_event("number", fail)
        log, logged = logging.getLogger(f"pytoweb.worker.{one.name}"), LogRecords()
        log.addHandler(logged)
        log.propagate, before = False, log.propagate
        try:
            one.start().ask("emit_many", 2).result(WAIT)
            one.stop(timeout=WAIT)
        finally:
            log.removeHandler(logged)
            log.propagate = before
        assert came == [0, 1]
        assert [record.levelname for record in logged.records] == ["ERROR"]


class PoolEventContract(Subject):
    """The same for pools."""

    def test_a_pool_gets_what_its_workers_do_not_handle(self) -> None:
        """And the events of its own mailbox."""
        pool, came, own = self.pool(2), SimpleQueue[WorkerMessage](), SimpleQueue[WorkerMessage]()
        equip(pool)
        with_handler = equip(pool.create_worker("with")).start()
        without = equip(pool.create_worker("without")).start()
        pool.on_event("any", came.put)
        with_handler.on_event("any", own.put)
        assert with_handler.ask("emit_each", [("any", 1)]).result(WAIT) == 1
        assert without.ask("emit_each", [("any", 2)]).result(WAIT) == 1
        assert pool.ask("emit_each", [("any", 3)]).result(WAIT) == 1
        assert pool.submit(_handlers.emit_each, [("any", 4)]).result(WAIT) == 1
        assert own.get(timeout=WAIT).data == 1
        found = sorted((event.data, event.worker) for event in (came.get(timeout=WAIT) for _ in range(3)))
        assert found == [(2, "without"), (3, pool.name), (4, pool.name)]
        assert own.empty()
