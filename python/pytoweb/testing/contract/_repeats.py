"""The contract of ``every``: messages that are posted again and again, on a clock that the test moves."""

from __future__ import annotations

import contextlib
import threading

from pytoweb.testing import FrozenClock, _handlers, frozen_clock
from pytoweb.workers import PythonWorker, SerializationError, WorkerStoppedError

from ._subject import WAIT, Subject, raised

__all__ = ["PoolRepeatContract", "RepeatContract"]


class RepeatContract(Subject):
    """A message every so many seconds, for as long as the worker runs."""

    clock: FrozenClock
    """The clock of the workers that a test makes, once it has stopped it."""

    def setup_method(self) -> None:
        """Begins a test."""
        super().setup_method()
        self._clocks = contextlib.ExitStack()

    def teardown_method(self) -> None:
        """Ends it, and then the clock's standstill."""
        with self._clocks:
            super().teardown_method()

    def freeze(self) -> None:
        """Has the workers that are made from now on go by a clock that the test moves."""
        self.clock = self._clocks.enter_context(frozen_clock())

    def pass_seconds(self, one: PythonWorker, *steps: float) -> None:
        """Moves the clock step by step; each time the worker handles all that it has."""
        for step in steps:
            self.clock.advance(step)
            one.run_until_idle(WAIT)

    def test_a_message_comes_each_time(self) -> None:
        """The first after the time, not at once; between two times the worker is idle."""
        self.freeze()
        one = self.worker()
        timer = one.every(10, "write", (self.path(), "tick"))
        one.run_until_idle(WAIT)
        assert (timer.seconds, timer.posted, one.stats().depth) == (10, 0, 0)
        self.pass_seconds(one, 9)
        assert self.noted() == []
        self.pass_seconds(one, 1, 10, 10)
        assert self.noted() == ["tick"] * 3
        assert (timer.posted, timer.skipped, timer.active) == (3, 0, True)

    def test_it_begins_with_the_start_of_the_worker(self) -> None:
        """However long that was after the call."""
        self.freeze()
        one = self.new_worker()
        timer = one.every(10, "write", (self.path(), "tick"))
        self.clock.advance(95)
        assert (one.stats().posted, timer.active) == (0, True)
        one.start()
        self.pass_seconds(one, 9)
        assert self.noted() == []
        self.pass_seconds(one, 1)
        assert self.noted() == ["tick"]
        assert timer.skipped == 0

    def test_messages_never_pile_up(self) -> None:
        """While one is queued or runs, the others are skipped and counted."""
        self.freeze()
        one, gate = self.blocked()
        timer = one.every(10, "write", (self.path(), "tick"))
        for _ in range(4):
            self.clock.advance(10)
        assert (one.stats().depth, timer.posted, timer.skipped) == (1, 1, 3)
        gate.open()
        one.run_until_idle(WAIT)
        self.pass_seconds(one, 10)
        assert self.noted() == ["tick"] * 2
        assert (timer.posted, timer.skipped) == (2, 3)

    def test_a_time_does_not_come_while_its_handler_runs(self) -> None:
        """However many pass meanwhile."""
        self.freeze()
        one, gate = self.new_worker(), self.gate()
        one.on_message("gate", gate)
        timer = one.start().every(10, "gate")
        self.clock.advance(10)
        gate.wait_entered()
        self.clock.advance(10)
        self.clock.advance(10)
        assert (timer.posted, timer.skipped, one.stats().depth) == (1, 2, 0)
        gate.open()
        one.run_until_idle(WAIT)
        self.pass_seconds(one, 10)
        assert (timer.posted, timer.skipped) == (2, 2)

    def test_the_schedule_does_not_drift(self) -> None:
        """A time that is late makes no other one late; those that it missed are counted."""
        self.freeze()
        one = self.worker()
        timer = one.every(10, "write", (self.path(), "tick"))
        self.pass_seconds(one, 37)
        assert (timer.posted, timer.skipped) == (1, 2)
        self.pass_seconds(one, 2)
        assert timer.posted == 1
        self.pass_seconds(one, 1)
        assert (timer.posted, timer.skipped) == (2, 2)

    def test_a_short_time_is_counted_exactly(self) -> None:
        """Over many of them."""
        self.freeze()
        one = self.worker()
        timer = one.every(0.1, "echo")
        self.pass_seconds(one, *[0.05] * 200)
        assert timer.posted + timer.skipped in (99, 100)
        assert timer.posted >= 99

    def test_a_cancelled_timer_posts_no_more(self) -> None:
        """A message that is queued is handled all the same; other timers go on."""
        self.freeze()
        one, gate = self.blocked()
        timer, other = (one.every(10, "write", (self.path(), word)) for word in ("tick", "tock"))
        self.clock.advance(10)
        timer.cancel()
        timer.cancel()
        assert (timer.active, other.active) == (False, True)
        gate.open()
        one.run_until_idle(WAIT)
        self.pass_seconds(one, 10, 10)
        assert sorted(self.noted()) == ["tick", "tock", "tock", "tock"]
        late = self.new_worker("late")
        late.every(10, "write", (self.path(), "never")).cancel()
        late.start()
        self.pass_seconds(late, 10)
        assert "never" not in self.noted()

    def test_timers_end_with_the_worker_and_do_not_hold_it_up(self) -> None:
        """However it ends."""
        self.freeze()
        for name in ("stopped", "terminated"):
            one = self.worker(name)
            timer = one.every(10, "write", (self.path(), name))
            self.pass_seconds(one, 10)
            if name == "stopped":
                one.stop(timeout=WAIT)
            else:
                one.terminate()
            self.until(lambda one=one: one.state == "stopped", "the end of the worker")  # type: ignore[misc]
            assert not timer.active
            self.clock.advance(100)
            assert timer.posted == 1
            assert "stopped" in str(raised(WorkerStoppedError, one.every, 10, "write"))
        assert self.noted() == ["stopped", "terminated"]

    def test_a_message_that_fails_is_not_the_last(self) -> None:
        """Each failure goes to the error handler, as that of a post."""
        self.freeze()
        one = self.worker()
        failures: list[str] = []
        one.on_error(lambda error: failures.append(str(error)))
        one.every(10, "fail", "on purpose")
        self.pass_seconds(one, 10, 10, 10)
        assert failures == ["on purpose"] * 3

    def test_a_full_mailbox_that_refuses_skips_a_time(self) -> None:
        """And is asked again at the next."""
        self.freeze()
        one, gate = self.blocked(capacity=1, overflow="reject")
        one.post_message("echo")
        timer = one.every(10, "write", (self.path(), "tick"))
        self.clock.advance(10)
        self.clock.advance(10)
        assert (timer.posted, timer.skipped, timer.active) == (0, 2, True)
        gate.open()
        one.run_until_idle(WAIT)
        self.pass_seconds(one, 10)
        assert self.noted() == ["tick"]

    def test_a_full_mailbox_that_blocks_lets_one_message_wait(self) -> None:
        """Its place in the line is kept, and the others are skipped."""
        self.freeze()
        one, gate = self.blocked(capacity=1, overflow="block")
        one.post_message("echo")
        timer = one.every(10, "write", (self.path(), "tick"))
        for _ in range(3):
            self.clock.advance(10)
        assert (timer.posted, timer.skipped, one.stats().depth) == (1, 2, 1)
        gate.open()
        self.until(lambda: self.noted() == ["tick"], "the message that waited")
        one.run_until_idle(WAIT)
        self.pass_seconds(one, 10)
        assert self.noted() == ["tick"] * 2

    def test_a_stop_gives_up_a_message_that_waits_for_room(self) -> None:
        """And the timer with it."""
        self.freeze()
        one, gate = self.blocked(capacity=1, overflow="block")
        one.post_message("echo")
        timer = one.every(10, "write", (self.path(), "never"))
        self.clock.advance(10)
        stopping = self.spawn(one.stop, drain=False, timeout=WAIT)
        self.until(lambda: one.state != "running", "the stop")
        gate.open()
        stopping.result(WAIT)
        self.clock.advance(10)
        assert (self.noted(), timer.active) == ([], False)

    def test_the_context_of_a_repeated_message_is_that_of_the_call(self) -> None:
        """Each time."""
        self.freeze()
        one = self.worker()
        one.on_message("note_color", _handlers.note_color)
        token = _handlers.color.set("green")
        one.every(10, "note_color", self.path())
        _handlers.color.reset(token)
        self.pass_seconds(one, 10, 10)
        assert self.noted() == ["green"] * 2

    def test_nonsense_for_a_timer_is_refused_by_name(self) -> None:
        """At the call."""
        self.freeze()
        one = self.worker()
        for seconds in (0, -1, 0.0001, float("inf"), float("nan")):
            assert "seconds" in str(raised(ValueError, one.every, seconds, "echo"))
        for wrong in ("1", None, [1]):
            assert "seconds" in str(raised(TypeError, one.every, wrong, "echo"))
        raised(TypeError, one.every, 1, 5)
        assert "response" in str(raised(ValueError, one.every, 1, "response"))
        if self.backend == "process":
            raised(SerializationError, one.every, 1, "echo", threading.Lock())
        self.clock.advance(10)
        assert one.stats().posted == 0


class PoolRepeatContract(Subject):
    """The same of a pool's own mailbox, and of its workers."""

    def test_a_pool_and_its_workers_repeat_messages(self) -> None:
        """The pool at once, a worker from its start on."""
        with frozen_clock() as clock:
            some = self.pool(2)
            some.on_message("write", _handlers.write)
            one = self.equip(some.create_worker("one"))
            of_pool = some.every(10, "write", (self.path(), "pool"))
            of_worker = one.every(10, "write", (self.path(), "worker"))
            clock.advance(10)
            some.run_until_idle(WAIT)
            one.start()
            clock.advance(10)
            some.run_until_idle(WAIT)
            assert sorted(self.noted()) == ["pool", "pool", "worker"]
            some.remove_worker("one")
            clock.advance(10)
            some.run_until_idle(WAIT)
            assert (of_worker.posted, of_worker.active, of_pool.active) == (1, False, True)
            some.shutdown()
            assert not of_pool.active
            raised(WorkerStoppedError, some.every, 10, "write")

    def test_a_timer_goes_by_the_machine_s_clock(self) -> None:
        """Where no test moves it."""
        one = self.equip(self.pool(1).create_worker("one")).start()
        timer = one.every(0.005, "write", (self.path(), "tick"))
        self.until(lambda: len(self.noted()) >= 5, "five messages")
        timer.cancel()
        one.run_until_idle(WAIT)
        assert len(self.noted()) == timer.posted
