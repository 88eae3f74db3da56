"""The contract of ``health``: how a worker and a pool fare, why, and since when."""

from __future__ import annotations

import json
import operator
import os
import signal
import time

from pytoweb.testing import _handlers, frozen_clock
from pytoweb.workers import Limits, MailboxFullError, OverloadedError, Shed

from ._subject import NEVER, WAIT, Subject, raised

__all__ = ["HealthContract", "PoolHealthContract"]

SOON = 2.0
"""What clocks and busy machines may make of a moment just gone, in seconds."""


class HealthContract(Subject):
    """How one worker fares."""

    def test_health_from_the_start_to_the_end(self) -> None:
        """Not started, nothing to do, at work, over: each with its reason."""
        one, gate = self.new_worker(), self.gate()
        one.on_message("gate", gate)
        assert (one.health().state, one.health().reason) == ("stopped", "not started")
        one.post_message("gate")
        assert one.health().reason == "not started, 1 queued"
        one.start()
        gate.wait_entered()
        one.post_message("echo")
        assert (one.health().state, one.health().reason) == ("busy", "1 running, 1 queued")
        gate.open()
        one.run_until_idle(WAIT)
        assert (one.health().state, one.health().reason) == ("ok", "nothing to do")
        one.stop(timeout=WAIT)
        assert (one.health().state, one.health().reason) == ("stopped", "stopped")

    def test_a_worker_that_stops_says_how_much_is_left(self) -> None:
        """While it finishes its queue."""
        one, gate = self.blocked()
        one.post_message("echo")
        stopping = self.spawn(one.stop, timeout=WAIT)
        self.until(lambda: one.state == "stopping", "the stop")
        assert (one.health().state, one.health().reason) == ("stopped", "stopping, 2 left")
        gate.open()
        stopping.result(WAIT)

    def test_a_terminated_worker_says_so(self) -> None:
        """In its reason."""
        one = self.worker()
        one.terminate()
        self.until(lambda: one.state == "stopped", "the end")
        assert (one.health().state, one.health().reason) == ("stopped", "terminated")

    def test_since_is_the_time_of_day_at_which_it_began(self) -> None:
        """As ``time.time()`` has it."""
        with frozen_clock() as clock:
            one, gate = self.blocked()
            clock.advance(3600)
            assert abs(time.time() - 3600 - one.health().since) < SOON
            gate.open()
            one.run_until_idle(WAIT)
            clock.advance(60)
            assert abs(time.time() - 60 - one.health().since) < SOON

    def test_a_full_mailbox_is_overload_after_a_second(self) -> None:
        """Not before, and until it is half empty; with the policy that it has."""
        with frozen_clock() as clock:
            one, gate = self.blocked(capacity=4, overflow="reject")
            # A process has taken one or none of them ahead; they take their places all the same.
            one.post_messages("echo", range(4))
            clock.advance(5)
            assert one.health().state == "busy", "no post found it full"
            raised(MailboxFullError, one.post_message, "echo")
            clock.advance(0.9)
            assert one.health().state == "busy"
            clock.advance(0.2)
            health = one.health()
            assert health.state == "overloaded"
            assert health.reason.endswith("4 of 4 messages are queued")
            assert abs(time.time() - 1.1 - health.since) < SOON
            gate.open()
            one.run_until_idle(WAIT)
            assert one.health().state == "ok"

    def test_shedding_is_overload(self) -> None:
        """As long as posts are refused for the wait of those before."""
        with frozen_clock() as clock:
            one, gate = self.blocked(limits=Limits(shed=Shed(target=1, window=1)))
            one.post_message("echo")
            clock.advance(2)
            one.post_message("echo")
            assert one.health().state == "busy"
            clock.advance(2)
            raised(OverloadedError, one.post_message, "echo")
            health = one.health()
            assert health.state == "overloaded"
            assert health.reason == "new messages are refused: the oldest of 2 has waited for 4.0 s"
            gate.open()
            one.run_until_idle(WAIT)
            assert one.health().state == "ok"

    def test_a_handler_past_its_deadline_is_stuck(self) -> None:
        """Until it ends."""
        one, gate = self.new_worker(), self.gate()
        one.on_message("gate", gate)
        one.start()
        before = time.time()
        future = one.ask("gate", timeout=SOON)
        gate.wait_entered()
        assert future.exception(WAIT) is not None
        if self.backend == "thread":
            health = one.health()
            assert health.state == one.state == "stuck"
            assert before + SOON - NEVER <= health.since <= time.time()
        gate.open()
        one.run_until_idle(WAIT)
        self.until(lambda: one.health().state in ("ok", "restarting"), "the end of the handler")

    def test_a_handler_that_runs_longer_than_stuck_after_is_stuck(self) -> None:
        """Until it ends; whether its message has a deadline or not."""
        with frozen_clock() as clock:
            one, gate = self.blocked(limits=Limits(stuck_after=30))
            # A process is seen to have begun it.
            self.until(lambda: one.health().state == "busy", "the run")
            clock.advance(29)
            assert one.health().state == "busy"
            clock.advance(2)
            health = one.health()
            assert health.state == "stuck"
            assert health.reason == "a handler has run for 31.0 s: stuck_after is 30 s"
            assert abs(time.time() - 1 - health.since) < SOON
            assert one.state == "running", "it is its deadline that makes that 'stuck'"
            gate.open()
            one.run_until_idle(WAIT)
            assert one.health().state == "ok"
            clock.advance(60)
            assert one.health().state == "ok", "nothing runs"

    def test_a_message_that_waits_is_not_stuck(self) -> None:
        """Only the time in which its handler runs counts."""
        with frozen_clock() as clock:
            one, gate = self.blocked(limits=Limits(stuck_after=30))
            future = one.ask("echo", 1)
            clock.advance(20)
            gate.open()
            future.result(WAIT)
            one.run_until_idle(WAIT)
            again = self.gate()
            one.on_message("again", again)
            one.post_message("again")
            again.wait_entered()
            clock.advance(20)
            assert one.health().state == "busy"
            again.open()

    def test_health_goes_into_json(self) -> None:
        """With all three parts."""
        told = json.loads(json.dumps(self.worker().health().as_dict()))
        assert list(told) == ["state", "reason", "since"]

    def test_health_does_not_change(self) -> None:
        """It is that of one moment."""
        health = self.worker().health()
        raised(AttributeError, setattr, health, "state", "busy")


class PoolHealthContract(Subject):
    """How a pool fares."""

    def test_a_pool_fares_as_the_worst_of_its_workers(self) -> None:
        """All of them are listed; one that was stopped, or is not started, makes it no worse."""
        some = self.pool(2)
        idle = self.equip(some.create_worker("idle")).start()
        busy, gate = self.equip(some.create_worker("at work")).start(), self.gate()
        stopped = self.equip(some.create_worker("gone")).start()
        some.create_worker("to come")
        idle.ask("echo").result(WAIT)
        stopped.stop(timeout=WAIT)
        assert some.health().state == "ok"
        busy.on_message("gate", gate)
        busy.post_message("gate")
        gate.wait_entered()
        idle.run_until_idle(WAIT)
        health = some.health()
        assert (health.state, health.own.state) == ("busy", "ok")
        assert health.reason == "worker 'at work': 1 running, 0 queued"
        assert {name: each.state for name, each in health.workers.items()} == {
            "idle": "ok", "at work": "busy", "gone": "stopped", "to come": "stopped",
        }  # fmt: skip
        told = json.loads(json.dumps(health.as_dict()))
        assert told["workers"]["at work"]["state"] == told["state"] == "busy"
        gate.open()

    def test_a_pool_that_was_shut_down_is_stopped(self) -> None:
        """Whatever its workers are."""
        some = self.pool(1)
        assert some.submit(operator.neg, 1).result(WAIT) == -1
        some.shutdown()
        assert (some.health().state, some.health().reason) == ("stopped", "stopped")

    def test_an_initializer_that_raises_makes_the_pool_fail(self) -> None:
        """Its workers, too."""
        some = self.pool(1, initializer=_handlers.fail_to_initialize)
        assert some.submit(operator.neg, 1).exception(WAIT) is not None
        health = some.health()
        assert health.state == health.own.state == "failed"
        assert "initializer" in health.own.reason
        assert time.time() - WAIT - SOON < health.since <= time.time()

    def test_a_killed_child_is_restarting_and_then_well(self) -> None:
        """Of a pool of processes; threads do not end so."""
        if self.backend != "process":
            return
        some = self.pool(1)
        pid = some.submit(os.getpid).result(WAIT)
        assert some.health().state in ("ok", "busy")
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: some.stats().restarts == 1 or some.health().state == "restarting", "the end")
        assert some.submit(os.getpid).result(WAIT) != pid
        self.until(lambda: some.health().state == "ok", "the new one")
