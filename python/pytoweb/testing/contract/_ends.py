"""The contract of ends: deadlines, cancelled messages, and the ways to stop a worker."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout

from pytoweb.testing import _handlers
from pytoweb.workers import DeadlineError, WorkerStoppedError

from ._subject import NEVER, WAIT, LogRecords, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from pytoweb.workers import PythonWorker, WorkerStream

__all__ = ["CancelContract", "DeadlineContract", "StopContract"]

SHORT = 0.05
"""Seconds of a deadline that is meant to pass."""


class DeadlineContract(Subject):
    """A message whose deadline passes fails with ``DeadlineError``, wherever it is."""

    def test_a_message_that_expires_in_the_queue_never_runs(self) -> None:
        """Its future fails while the message before it still runs; a bare post expires too."""
        one, gate = self.blocked()
        one.post_message("write", (self.path(), "expires too"), timeout=SHORT)
        one.post_message("write", (self.path(), "stays"), timeout=WAIT)
        error = one.ask("write", (self.path(), "expires"), timeout=SHORT).exception(WAIT)
        assert isinstance(error, DeadlineError)
        assert isinstance(error, TimeoutError)
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == ["stays"]
        stats = one.stats()
        assert (stats.expired, stats.completed, stats.failed) == (2, 2, 0)

    def test_a_deadline_before_the_start_counts_too(self) -> None:
        """A worker that was not started has deadlines."""
        one = self.new_worker()
        assert isinstance(one.ask("write", (self.path(), 1), timeout=SHORT).exception(WAIT), DeadlineError)
        one.start().run_until_idle(WAIT)
        assert self.noted() == []
        assert one.stats().expired == 1

    def test_a_deadline_of_zero_is_over_at_once(self) -> None:
        """The message is accepted, and never runs."""
        one, gate = self.blocked()
        assert isinstance(one.ask("write", (self.path(), 1), timeout=0).exception(WAIT), DeadlineError)
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == []

    def test_a_handler_that_runs_past_its_deadline_is_told(self) -> None:
        """Its future fails at the deadline, and ``current_message().cancelled`` becomes true."""
        one = self.worker()
        future = one.ask("listen", self.path(), timeout=2 * SHORT)
        assert isinstance(future.exception(WAIT), DeadlineError)
        one.run_until_idle(WAIT)
        stats = one.stats()
        assert (stats.expired, stats.completed, stats.failed, stats.running) == (1, 0, 0, 0)
        assert one.ask("echo", "alive").result(WAIT) == "alive"

    def test_a_deadline_that_is_met_does_nothing(self) -> None:
        """The result is the same as without it."""
        one = self.worker()
        futures = [one.ask("echo", number, timeout=WAIT) for number in range(100)]
        assert [future.result(WAIT) for future in futures] == list(range(100))
        assert (one.stats().completed, one.stats().expired) == (100, 0)

    def test_many_deadlines_in_any_order(self) -> None:
        """Each is seen, and a sooner one is not held up by a later one."""
        one, _ = self.blocked()
        late = one.ask("echo", timeout=10 * WAIT)
        futures = [one.ask("echo", timeout=0.01 * (1 + number * 37 % 11)) for number in range(100)]
        assert all(isinstance(future.exception(WAIT), DeadlineError) for future in futures)
        assert not late.done()
        assert (one.stats().expired, one.stats().depth) == (100, 1)

    def test_an_expired_message_makes_room(self) -> None:
        """It counts for the capacity no longer than it waits."""
        one, gate = self.blocked(capacity=1, overflow="reject")
        assert isinstance(one.ask("echo", timeout=SHORT).exception(WAIT), DeadlineError)
        fits = one.ask("echo", "fits")
        gate.open()
        assert fits.result(WAIT) == "fits"


class CancelContract(Subject):
    """A future may be cancelled: a queued message never runs, the handler of a running one is told."""

    def test_cancelling_a_queued_message_removes_it(self) -> None:
        """Its place is free at once."""
        one, gate = self.blocked(capacity=1, overflow="reject")
        future = one.ask("write", (self.path(), "removed"))
        assert future.cancel() is True
        assert future.cancel() is True
        assert (future.cancelled(), future.done()) == (True, True)
        raised(CancelledError, future.result, WAIT)
        assert one.stats().depth == 0
        one.post_message("write", (self.path(), "has room"))
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == ["has room"]
        assert one.stats().cancelled == 1

    def test_cancelling_a_running_message_tells_its_handler(self) -> None:
        """The future resolves, whether the backend lets the handler finish or gives its message up."""
        one = self.worker()
        future = one.ask("listen", self.path())
        self.until(self.noted, "the handler")
        if future.cancel():
            raised(CancelledError, future.result, WAIT)
        else:
            assert future.result(WAIT) == "left early"
        one.run_until_idle(WAIT)
        assert self.noted() == ["entered", "asked"]
        assert one.stats().failed == 0
        assert one.ask("echo", "alive").result(WAIT) == "alive"

    def test_cancelling_races_with_the_start_of_the_handler(self) -> None:
        """``cancel()`` answers as the future ends."""
        one, finished = self.worker(), 0
        for number in range(100):
            future = one.ask("echo", number)
            if future.cancel():
                raised(CancelledError, future.result, WAIT)
            else:
                assert future.result(WAIT) == number
                finished += 1
        one.run_until_idle(WAIT)
        stats = one.stats()
        assert (stats.completed, stats.cancelled, stats.failed) == (finished, 100 - finished, 0)

    def test_cancelling_a_finished_message_does_nothing(self) -> None:
        """The result stays."""
        one = self.worker()
        future = one.ask("echo", 1)
        assert future.result(WAIT) == 1
        assert future.cancel() is False
        assert future.result(0) == 1

    def test_a_task_that_is_cancelled_cancels_the_message_it_awaits(self) -> None:
        """Awaiting hands the cancellation on."""
        one, gate = self.blocked()

        async def main() -> None:
            async def ask() -> None:
                await one.ask("write", (self.path(), "never"))

            task = asyncio.ensure_future(ask())
            await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=WAIT)
            assert done == {task}
            assert task.cancelled()

        asyncio.run(main())
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == []
        assert one.stats().cancelled == 1


class StopContract(Subject):
    """A worker stops with its queue or without it, once, and refuses posts from then on."""

    def refuses(self, one: PythonWorker) -> None:
        """Checks that every way to post says that the worker is stopped."""
        for call in (one.post_message, one.ask):
            raised(WorkerStoppedError, call, "echo")
        raised(WorkerStoppedError, one.post_messages, "echo", [1])

    def test_stop_finishes_the_queue_and_refuses_more(self) -> None:
        """Also while it stops."""
        one, gate = self.blocked()
        one.post_messages("write", [(self.path(), number) for number in range(200)])
        stopping = self.spawn(one.stop, timeout=WAIT)
        self.until(lambda: one.state == "stopping", "the stop")
        assert one.is_alive()
        self.refuses(one)
        gate.open()
        stopping.result(WAIT)
        assert self.noted() == [str(number) for number in range(200)]
        assert (one.state, one.is_alive()) == ("stopped", False)
        self.refuses(one)
        raised(WorkerStoppedError, one.start)

    def test_stop_without_drain_finishes_what_runs_only(self) -> None:
        """The queue fails at once, before the running message has ended."""
        one, gate = self.new_worker(), self.gate()
        one.on_message("gate", gate)
        running = one.start().ask("gate", "finished")
        queued = [one.ask("write", (self.path(), number)) for number in range(20)]
        gate.wait_entered()
        stopping = self.spawn(one.stop, drain=False, timeout=WAIT)
        for future in queued:
            assert isinstance(future.exception(WAIT), WorkerStoppedError)
        assert not stopping.done()
        gate.open()
        stopping.result(WAIT)
        assert running.result(WAIT) == "finished"
        assert self.noted() == []
        stats = one.stats()
        assert (stats.completed, stats.failed, stats.depth) == (1, 20, 0)

    def test_stop_of_a_worker_that_was_never_started_fails_its_queue(self) -> None:
        """Nothing runs."""
        for end in ("stop", "terminate"):
            one = self.new_worker()
            future = one.ask("write", (self.path(), 1))
            getattr(one, end)()
            assert isinstance(future.exception(WAIT), WorkerStoppedError)
            assert one.state == "stopped"
        assert self.noted() == []

    def test_messages_that_no_end_tells_of_are_logged_once(self) -> None:
        """Those of a worker that was never started, and delayed ones, posted without a future or a reply."""
        kept, text = LogRecords(), "will not be handled"
        log = logging.getLogger("pytoweb.worker")
        log.addHandler(kept)
        try:
            new, delayed, unwanted = (self.new_worker(name) for name in ("new", "delayed", "unwanted"))
            futures = [new.ask("echo", 1), delayed.ask("echo", 1, delay=3600)]
            new.post_messages("echo", range(100))
            delayed.post_message("echo", 1, delay=3600)
            delayed.post_message("echo", 2, "with a reply", delay=3600)
            unwanted.post_messages("echo", range(10))
            delayed.start()
            for one in (new, delayed):
                one.stop(timeout=WAIT)
                one.stop(timeout=WAIT)
            unwanted.stop(drain=False, timeout=WAIT)
            busy, gate = self.blocked("busy")
            busy.post_messages("echo", range(10))
            busy.terminate()
            gate.open()
            busy.stop(timeout=WAIT)
        finally:
            log.removeHandler(kept)
        for future in futures:
            assert isinstance(future.exception(WAIT), WorkerStoppedError)
        first, second = (record.getMessage() for record in kept.records if text in record.getMessage())
        assert first.startswith("worker 'new' was never started: 100 messages posted to it will not be")
        assert second.startswith("worker 'delayed' stops before the time of delayed messages: 1 message will")
        assert {record.levelname for record in kept.records} == {"WARNING"}

    def test_stop_right_after_the_start_finishes_the_queue(self) -> None:
        """However long the backend takes to come up."""
        one = self.new_worker()
        one.post_messages("write", [(self.path(), number) for number in range(10)])
        one.start().stop(timeout=WAIT)
        assert len(self.noted()) == 10

    def test_stop_is_idempotent(self) -> None:
        """In every form, from many threads."""
        one, gate = self.blocked()
        stops = [self.spawn(one.stop, timeout=WAIT) for _ in range(20)]
        gate.open()
        assert [outcome.result(WAIT) for outcome in stops] == [None] * 20
        one.stop(drain=False, timeout=WAIT)
        one.terminate()
        assert one.state == "stopped"

    def test_stop_past_its_timeout_says_so_and_fails_the_rest(self) -> None:
        """The running message goes on, and another stop waits for it."""
        one, gate = self.blocked("slow")
        queued = [one.ask("echo", number) for number in range(10)]
        assert "slow" in str(raised(DeadlineError, one.stop, timeout=NEVER))
        for future in queued:
            assert isinstance(future.exception(WAIT), WorkerStoppedError)
        assert one.state == "stopping"
        gate.open()
        one.stop(timeout=WAIT)
        assert (one.stats().completed, one.stats().failed) == (1, 10)

    def test_terminate_abandons_what_runs_and_what_is_queued(self) -> None:
        """It waits for neither; a handler that looks is told."""
        one = self.worker()
        running = one.ask("listen", self.path())
        self.until(self.noted, "the handler")
        queued = [one.ask("echo", number) for number in range(10)]
        one.terminate()
        for future in [running, *queued]:
            assert isinstance(future.exception(WAIT), WorkerStoppedError)
        self.refuses(one)
        self.until(lambda: not one.is_alive(), "the end")
        stats = one.stats()
        assert (stats.failed, stats.completed, stats.depth, stats.running) == (11, 0, 0, 0)

    def test_a_with_block_starts_and_drains(self) -> None:
        """It stops after an exception too, and lets it through."""
        one, other = self.new_worker("one"), self.new_worker("other")

        def leave() -> None:
            with other:
                other.post_message("write", (self.path("left"), 1))
                raise ZeroDivisionError

        with one as entered:
            assert entered is one
            one.post_messages("write", [(self.path(), number) for number in range(100)])
        assert one.state == "stopped"
        assert len(self.noted()) == 100
        raised(ZeroDivisionError, leave)
        assert other.state == "stopped"
        assert self.noted("left") == ["1"]

    def test_a_block_that_ctrl_c_has_left_says_what_it_waits_for(self) -> None:
        """Once, after a second."""
        one, gate = self.blocked("leaving")
        one.post_messages("echo", range(5))

        def leave() -> None:
            with one:
                raise KeyboardInterrupt

        with LogRecords.of(one, gate.open) as kept:
            raised(KeyboardInterrupt, leave)
        (text,) = (record.getMessage() for record in kept.records)
        assert text.startswith("the block is left once worker 'leaving' (queued messages: 5, running: 1) has")
        assert one.stats().completed == 6

    def test_a_block_that_is_left_with_an_open_stream_says_so(self) -> None:
        """Its handler waits for the reader, and would do so for ever."""
        one = self.new_worker("streaming")
        streams: list[WorkerStream[int]] = []
        one.on_message("count", _handlers.count)
        with LogRecords.of(one, lambda: streams[0].close()) as kept, one:
            streams.append(one.stream("count", 1000, window=1))
            assert next(streams[0]) == 0
        (text,) = (record.getMessage() for record in kept.records)
        assert "open streams: 1, each to be read to its end or closed with close()" in text

    def test_an_async_with_block_does_the_same_on_an_event_loop(self) -> None:
        """Without blocking it."""
        one = self.new_worker()

        async def main() -> object:
            async with one:
                return await one.ask("echo", 1)

        assert asyncio.run(asyncio.wait_for(main(), WAIT)) == 1
        assert one.state == "stopped"

    def test_run_until_idle_waits_for_the_queue_and_the_running_message(self) -> None:
        """Up to its timeout."""
        one, gate = self.blocked()
        one.post_messages("write", [(self.path(), number) for number in range(100)])
        waiting = self.spawn(one.run_until_idle)
        raised(FutureTimeout, waiting.result, NEVER)
        raised(DeadlineError, one.run_until_idle, NEVER)
        gate.open()
        assert waiting.result(WAIT) is None
        assert len(self.noted()) == 100
        one.run_until_idle(0)
