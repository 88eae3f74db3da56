"""The contract of ``explain``: why a message waits, where it runs, and what became of it."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import TYPE_CHECKING, Any

from pytoweb.testing import _handlers, frozen_clock
from pytoweb.workers import Limits, Retry

from ._subject import WAIT, Subject, raised

if TYPE_CHECKING:
    from pytoweb.workers import WorkerFuture

__all__ = ["ExplainContract", "PoolExplainContract"]

SOON = 2.0
"""What clocks and busy machines may make of a moment just gone, in seconds."""


class ExplainContract(Subject):
    """The messages of one worker."""

    def test_a_message_that_runs_is_explained(self) -> None:
        """By its id and by its future; where it runs."""
        one, gate = self.new_worker(), self.gate()
        one.on_message("gate", gate)
        one.start()
        before = time.time()
        future = one.ask("gate")
        gate.wait_entered()
        told = one.explain(future)
        assert (told.state, told.worker, told.outcome) == ("running", one.name, None)
        (pid,) = gate.pids()
        assert told.since is not None
        assert before - SOON <= told.since <= time.time() + SOON
        assert "handler of 'gate' runs" in told.reason
        assert (f"in process {pid}" in told.reason) == (pid != os.getpid())
        gate.open()
        future.result(WAIT)
        assert (one.explain(future).state, one.explain(future).outcome) == ("done", "completed")

    def test_a_message_that_waits_says_how_many_are_before_it(self) -> None:
        """Those that are gone do not count."""
        one, gate = self.blocked()
        first, _, last = (one.ask("echo", number) for number in range(3))
        one.post_message("echo", 4, "with an id")
        told = one.explain("with an id")
        assert (told.state, told.worker) == ("waiting", one.name)
        assert told.ahead == 3 or "its process has it" in told.reason
        before = one.explain(last).ahead
        assert first.cancel()
        assert one.explain(last).ahead == (before or 0) - 1
        gate.open()
        one.run_until_idle(WAIT)
        assert one.explain("with an id").outcome == "completed"

    def test_a_worker_that_is_not_started_is_why(self) -> None:
        """Its messages wait for that."""
        one = self.new_worker()
        one.post_message("echo", 1, "early")
        told = one.explain("early")
        assert (told.state, told.ahead) == ("waiting", 0)
        assert told.reason.startswith("the worker is not started")

    def test_a_delay_is_why(self) -> None:
        """With the time at which it is over."""
        with frozen_clock() as clock:
            one = self.worker()
            one.post_message("echo", 1, "later", delay=3600)
            clock.advance(600)
            told = one.explain("later")
            assert (told.state, told.reason) == ("waiting", "it is delayed: it takes its place in 3000.0 s")
            assert told.due is not None
            assert abs(time.time() + 3000 - told.due) < SOON

    def test_a_key_that_is_busy_is_why(self) -> None:
        """Whatever threads or processes are free; with the message that has it."""
        one, gate = self.new_worker(limits=Limits(concurrency=2)), self.gate()
        one.on_message("gate", gate)
        one.on_message("echo", _handlers.echo)
        one.start()
        one.post_message("gate", 1, "the first", key="customer")
        gate.wait_entered()
        one.post_message("echo", 2, "the second", key="customer")
        told = one.explain("the second")
        assert (told.state, told.ahead) == ("waiting", 0)
        assert "with the same key runs" in told.reason
        assert "'the first'" in told.reason
        gate.open()
        one.run_until_idle(WAIT)
        assert one.explain("the second").outcome == "completed"

    def test_a_rate_is_why(self) -> None:
        """With the time of its turn."""
        with frozen_clock():
            one = self.worker(limits=Limits(rate="1/min"))
            one.ask("echo", 1).result(WAIT)
            one.post_message("echo", 2, "next")
            one.post_message("echo", 3, "after that")
            told, after = one.explain("next"), one.explain("after that")
            assert told.reason.startswith("its rate lets it begin in 60.0 s")
            assert after.reason.startswith("its rate lets it begin in 120.0 s; 1 message is before it")
            assert told.due is not None
            assert abs(time.time() + 60 - told.due) < SOON
            one.stop(drain=False, timeout=WAIT)

    def test_the_next_attempt_is_why(self) -> None:
        """With which one it is, of how many."""
        with frozen_clock():
            one = self.worker()
            retry = Retry(3, backoff=60, jitter=0)
            one.on_message("fail", _handlers.fail)
            one.on_error(lambda error: None)
            one.post_message("fail", "no", "again", retry=retry)
            self.until(lambda: one.stats().retried == 1, "the first attempt")
            told = one.explain("again")
            assert (told.state, told.attempt) == ("waiting", 2)
            assert told.reason == "attempt 2 of 3 comes in 60.0 s"
            one.stop(drain=False, timeout=WAIT)

    def test_the_next_attempt_of_one_with_the_same_key_is_why(self) -> None:
        """It is no attempt of the message itself."""
        with frozen_clock():
            one = self.worker()
            one.on_message("fail", _handlers.fail)
            one.on_error(lambda error: None)
            retry = Retry(3, backoff=60, jitter=0)
            one.post_message("fail", "no", "first", key="same", retry=retry)
            one.post_message("echo", 1, "behind", key="same")
            self.until(lambda: one.stats().retried == 1, "the first attempt")
            told = one.explain("behind")
            assert (told.state, told.attempt) == ("waiting", None)
            same_key = "a message with the same key goes before it, and is tried again in 60.0 s"
            assert told.reason == same_key
            one.stop(drain=False, timeout=WAIT)

    def test_a_full_mailbox_is_why(self) -> None:
        """Of a message whose sender waits for a place."""
        one, gate = self.blocked(capacity=1)
        while one.stats().depth < 1:
            one.post_message("echo")
        posting = self.spawn(one.post_message, "echo", 2, "parked")
        self.until(lambda: one.explain("parked").state == "waiting", "the sender")
        assert one.explain("parked").reason.startswith("the mailbox is full, and the sender waits for")
        gate.open()
        posting.result(WAIT)

    def test_what_became_of_a_message_is_kept(self) -> None:
        """Of those with an id."""
        one, gate = self.blocked(capacity=1, overflow="drop_oldest")
        one.on_message("fail", _handlers.fail)
        one.on_error(lambda error: None)
        before = time.time()
        one.post_message("echo", 1, "oldest")
        one.post_message("echo", 2, "newer")
        self.until(lambda: one.explain("oldest").state == "done", "the drop")
        told = one.explain("oldest")
        assert (told.outcome, told.ahead) == ("dropped", None)
        assert "as the oldest" in told.reason
        assert told.since is not None
        assert before - SOON <= told.since <= time.time() + SOON
        gate.open()
        one.run_until_idle(WAIT)
        one.post_message("fail", "no such order", "failed", timeout=WAIT)
        one.run_until_idle(WAIT)
        one.post_message("fail", "no", "buried", retry=Retry(1))
        one.run_until_idle(WAIT)
        told = one.explain("failed")
        assert (told.state, told.outcome, told.error) == ("done", "failed", "ValueError: no such order")
        assert told.reason == "it failed: ValueError: no such order"
        told = one.explain("buried")
        assert told.reason == "it failed: ValueError: no; it is a dead letter"

    def test_a_message_is_never_unknown_on_its_way_out(self) -> None:
        """As soon as the call returns that dropped or stopped it, and any moment until it is handled."""
        one, gate = self.blocked(capacity=2, overflow="drop_oldest")
        for number in range(40):
            one.post_message("echo", number, f"number {number}", reply=False)
        told = [one.explain(f"number {number}") for number in range(40)]
        assert {each.outcome for each in told[:38]} == {"dropped"}
        assert {each.outcome for each in told[38:]} == {None}
        gate.open()
        states = set()
        while one.explain("number 39").state != "done":
            states.add(one.explain("number 39").state)
        assert states <= {"waiting", "running", "done"}
        assert one.explain("number 39").outcome == "completed"
        other, _ = self.blocked("other")
        other.on_error(lambda error: None)
        for number in range(40):
            other.post_message("echo", number, f"number {number}", reply=number % 2 == 0)
        other.terminate()
        assert {other.explain(f"number {number}").outcome for number in range(40)} == {"stopped"}

    def test_a_message_that_is_dropped_for_its_reply_says_so(self) -> None:
        """There are as many replies as messages, and no handler takes them."""
        one, _ = self.blocked(capacity=1, overflow="drop_newest")
        for number in range(3):
            one.post_message("echo", number, f"number {number}")
        told = [one.explain(f"number {number}") for number in range(3)]
        assert "dropped" in {each.outcome for each in told}
        assert "unknown" not in {each.state for each in told}

    def test_a_message_that_expired_says_whether_it_was_begun(self) -> None:
        """By its id and by its future."""
        one, gate = self.worker(), self.gate()
        one.on_message("gate", gate)
        # Its process is there from now on.
        one.ask("echo").result(WAIT)
        running = one.ask("gate", timeout=0.5)
        gate.wait_entered()
        one.post_message("echo", 1, "not begun", timeout=0.01)
        self.until(lambda: one.explain("not begun").state == "done", "the deadline")
        self.until(running.done, "the deadline of the first")
        assert running.exception(WAIT) is not None
        gate.open()
        self.until(lambda: one.explain(running).state == "done", "the end")
        told = one.explain(running)
        assert (told.outcome, told.begun) == ("expired", True)
        assert told.reason == "its deadline passed while its handler ran, which was asked to stop"
        told = one.explain("not begun")
        assert (told.outcome, told.begun) == ("expired", False)
        assert told.reason == "its deadline passed before its handler had begun"

    def test_a_coroutine_says_since_when_it_runs(self) -> None:
        """As a function does."""
        one = self.new_worker()
        one.on_message("wait", _handlers.pass_gate)
        before = time.time()
        one.start().post_message("wait", (self._directory.name, "waits"), "waits")
        self.until(lambda: one.explain("waits").state == "running", "the coroutine")
        self.until(lambda: one.explain("waits").since, "its time")
        since = one.explain("waits").since
        assert since is not None
        assert before - SOON <= since <= time.time() + SOON
        one.terminate()

    def test_a_message_that_expired_or_never_ran_says_so(self) -> None:
        """Its deadline passed, or the worker stopped."""
        one, gate = self.blocked()
        one.on_error(lambda error: None)
        one.post_message("echo", 1, "expired", timeout=0.01)
        one.post_message("echo", 1, "stopped")
        self.until(lambda: one.explain("expired").state == "done", "the deadline")
        assert one.explain("expired").outcome == "expired"
        stopping = self.spawn(one.stop, drain=False, timeout=WAIT)
        self.until(lambda: one.explain("stopped").state == "done", "the stop")
        assert one.explain("stopped").outcome == "stopped"
        gate.open()
        stopping.result(WAIT)

    def test_futures_say_what_became_of_them(self) -> None:
        """Without an id."""
        one, gate = self.blocked()
        one.on_message("fail", _handlers.fail)
        cancelled, failed = one.ask("echo"), one.ask("fail", "no")
        assert one.explain(cancelled).state == "waiting"
        cancelled.cancel()
        gate.open()
        assert failed.exception(WAIT) is not None
        assert one.explain(cancelled).outcome == "cancelled"
        told = one.explain(failed)
        assert (told.state, told.outcome, told.error) == ("done", "failed", "ValueError: no")

    def test_a_future_and_an_id_say_the_same_of_an_end(self) -> None:
        """However it came: reason, outcome, error and worker."""
        one = self.new_worker(capacity=1, overflow="drop_oldest")
        for kind in ("response", "error"):
            one.on_message(kind, lambda message: None)

        def agree(future: WorkerFuture[Any], message_id: str, outcome: str) -> None:
            self.until(lambda: future.done() and one.explain(message_id).state == "done", message_id)
            told, of_id = one.explain(future), one.explain(message_id)
            assert told.since is None
            assert dataclasses.replace(of_id, since=None) == told
            assert (told.outcome, told.worker) == (outcome, one.name)

        dropped = one.ask("echo", 1)
        one.post_message("echo", 2, "dropped")
        one.post_message("echo", 3)
        agree(dropped, "dropped", "dropped")
        expired = one.ask("echo", 4, timeout=0.01)
        self.until(expired.done, "the deadline")
        one.post_message("echo", 5, "expired", timeout=0.01)
        agree(expired, "expired", "expired")
        one.start()
        for number, retry in enumerate((None, Retry(1))):
            failed, own = one.ask("fail", "what\n  is  it", retry=retry), f"failed {number}"
            assert failed.exception(WAIT) is not None
            one.post_message("fail", "what\n  is  it", own, retry=retry)
            agree(failed, own, "failed")
        completed = one.ask("echo", 6)
        completed.result(WAIT)
        one.post_message("echo", 7, "completed")
        agree(completed, "completed", "completed")

    def test_a_future_and_an_id_say_the_same_of_a_stop(self) -> None:
        """Of messages that were not begun."""
        one = self.new_worker()
        asked = one.ask("echo", 1)
        one.post_message("echo", 2, "stopped")
        one.terminate()
        self.until(lambda: asked.done() and one.explain("stopped").state == "done", "the end")
        told, of_id = one.explain(asked), one.explain("stopped")
        assert dataclasses.replace(of_id, since=None) == told
        assert told.outcome == "stopped"

    def test_a_stream_is_explained(self) -> None:
        """As the future of its message."""
        one = self.worker()
        one.on_message("count", _handlers.count)
        stream = one.stream("count", 100, window=1)
        assert next(stream) == 0
        told = one.explain(stream)
        assert (told.state, told.worker) == ("running", one.name)
        assert (told.pid is not None) == (self.backend == "process")
        assert len(list(stream)) == 99
        self.until(lambda: one.explain(stream).state == "done", "the end")
        assert one.explain(stream).outcome == "completed"

    def test_the_process_of_a_message_is_told(self) -> None:
        """Of each of several that run side by side, by id and by future."""
        one, gate = self.new_worker(limits=Limits(concurrency=2)), self.gate()
        one.on_message("gate", gate)
        one.start()
        future = one.ask("gate")
        one.post_message("gate", None, "with an id")
        self.until(lambda: len(gate.pids()) == 2, "the handlers")
        told = one.explain(future).pid, one.explain("with an id").pid
        if self.backend == "process":
            assert set(told) == set(gate.pids())
        else:
            assert told == (None, None)
        gate.open()
        future.result(WAIT)

    def test_an_id_that_is_not_known_is_unknown(self) -> None:
        """It says how many ends are kept."""
        told = self.worker().explain("never sent")
        assert (told.state, told.worker, told.outcome) == ("unknown", None, None)
        assert "1000" in told.reason
        raised(TypeError, self.worker("another").explain, 7)

    def test_an_explanation_goes_into_json_and_does_not_change(self) -> None:
        """It is that of one moment."""
        one = self.new_worker()
        one.post_message("echo", 1, "early")
        told = one.explain("early")
        assert json.loads(json.dumps(told.as_dict()))["state"] == "waiting"
        raised(AttributeError, setattr, told, "state", "done")


class PoolExplainContract(Subject):
    """The messages of a pool and its workers."""

    def test_a_pool_explains_the_messages_of_all_its_workers(self) -> None:
        """With the worker that has each."""
        some = self.pool(1)
        worker, gate = self.equip(some.create_worker("w")).start(), self.gate()
        worker.on_message("gate", gate)
        worker.post_message("gate")
        gate.wait_entered()
        worker.post_message("echo", 1, "mine")
        some.on_message("echo", _handlers.echo)
        some.post_message("echo", 1, "the pool's")
        assert (some.explain("mine").state, some.explain("mine").worker) == ("waiting", "w")
        told = some.explain("the pool's")
        assert (told.state, told.worker) == ("waiting", some.name)
        if self.backend == "thread":
            assert told.reason == "no thread is free: 'gate' of 'w'"
        assert worker.explain("the pool's").state == "unknown"
        gate.open()
        self.until(lambda: some.explain("the pool's").state == "done", "its end")
