"""The contract of control under load: priorities, keys, delays, the latest of a key, and rates."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime, timedelta, timezone

from pytoweb.testing import _handlers
from pytoweb.workers import (
    DeadLetter,
    DeadlineError,
    Limits,
    MailboxFullError,
    MessageTooLargeError,
    OverloadedError,
    Rate,
    Retry,
    Shed,
    WorkerStoppedError,
)

from ._subject import NEVER, WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any, Callable

    from pytoweb.workers import PythonWorker, WorkerPool

__all__ = ["ControlContract", "PoolControlContract"]

STEP = 1024
"""Later messages that one waits behind, at most, for each level that they are more urgent."""


class ControlContract(Subject):
    """What the sender asks of the mailbox for one message."""

    def write_all(self, posts: list[dict[str, Any]], **options: Any) -> list[int]:
        """Posts numbers with options to a worker that is not started; the order in which they are handled."""
        one = self.new_worker(**options)
        for number, post in enumerate(posts):
            one.post_message("write", (self.path(), number), **post)
        one.start()
        one.run_until_idle(WAIT)
        return [int(number) for number in self.noted()]

    def test_the_more_urgent_go_first_and_equals_in_their_order(self) -> None:
        """A message without a priority has 4."""
        priorities: list[int | None] = [4, 0, 9, None, 9, 0, 5, 4]
        order = self.write_all([{"priority": priority} for priority in priorities])
        assert order == [2, 4, 6, 0, 3, 7, 1, 5]

    def test_a_message_waits_behind_a_bounded_number_of_more_urgent_ones(self) -> None:
        """1 024 later ones for each level, however many there are."""
        for low, high in ((3, 4), (6, 8)):
            bound = (high - low) * STEP
            posts = [{"priority": low}] + [{"priority": high}] * (bound + 50)
            order = self.write_all(posts)
            assert order[-bound - 51 :].index(0) == bound

    def test_an_urgent_message_passes_all_of_a_long_queue(self) -> None:
        """Up to 1 024 for each level."""
        order = self.write_all([{}] * 2000 + [{"priority": 6}])
        assert order[0] == 2000

    def test_an_urgent_message_passes_queued_ones(self) -> None:
        """Those that were posted before it, to a worker that is busy."""
        one, gate = self.blocked()
        for number in range(5):
            one.post_message("write", (self.path(), number))
        one.post_message("write", (self.path(), 100), priority=9)
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted()[0] == "100"

    def test_keys_take_turns_and_keep_their_order(self) -> None:
        """However much of one there is."""
        modest: list[dict[str, Any]] = [{"key": 7}, {"key": 7}, {"key": b"7"}]
        order = self.write_all([{"key": "greedy"}] * 50 + modest)
        assert order[:6] == [0, 50, 52, 1, 51, 2]
        assert sorted(order) == list(range(53))

    def test_a_delayed_message_takes_its_turn_when_its_time_has_come(self) -> None:
        """In order of the times, and behind messages without a delay."""
        now = datetime.now(timezone.utc)
        posts: list[dict[str, Any]] = [
            {"delay": 0.06},
            {"at": now + timedelta(seconds=0.03)},
            {},
            {"at": now - timedelta(hours=1), "priority": 9},
        ]
        assert self.write_all(posts) == [3, 2, 1, 0]

    def test_a_delayed_message_is_queued_until_then(self) -> None:
        """It takes a place, and a stop fails it."""
        one = self.worker(capacity=2, overflow="reject")
        future = one.ask("echo", 1, delay=3600)
        one.post_message("echo", 2, delay=3600)
        raised(MailboxFullError, one.post_message, "echo", 3, delay=3600)
        assert one.stats().depth == 2
        one.stop(timeout=WAIT)
        assert isinstance(future.exception(WAIT), WorkerStoppedError)

    def test_a_delayed_message_can_be_cancelled(self) -> None:
        """It gives its place back."""
        one = self.worker()
        future = one.ask("echo", 1, delay=3600)
        assert future.cancel()
        one.run_until_idle(WAIT)
        assert (one.stats().cancelled, one.stats().depth) == (1, 0)

    def test_the_latest_of_a_key_takes_the_place_of_the_one_before(self) -> None:
        """Also in a full mailbox; its future is cancelled, and it is counted with its reason."""
        one = self.new_worker(capacity=3, overflow="reject")
        replaced = one.ask("add_one", 1, key="a", keep_latest=True)
        one.post_message("write", (self.path(), "other"), key="a", keep_latest=True)
        one.post_message("echo", 1, key="a")
        raised(MailboxFullError, one.post_message, "echo", 2)
        latest = one.ask("add_one", 2, key="a", keep_latest=True)
        raised(CancelledError, replaced.result, WAIT)
        assert replaced.cancelled()
        one.start()
        assert latest.result(WAIT) == 3
        one.run_until_idle(WAIT)
        assert self.noted() == ["other"]
        stats = one.stats()
        assert (stats.drops["replaced"], stats.dropped, stats.completed) == (1, 1, 3)

    def test_a_delay_begins_anew_with_the_latest(self) -> None:
        """So that a burst of them is handled once, when it is over."""
        one = self.worker()
        futures = [one.ask("add_one", number, key=1, keep_latest=True, delay=0.2) for number in range(20)]
        assert futures[-1].result(WAIT) == 20
        for future in futures[:-1]:
            raised(CancelledError, future.result, WAIT)
        assert one.stats().drops["replaced"] == 19

    def test_a_worker_begins_no_more_than_its_rate_allows(self) -> None:
        """What waits for it is handled at that rate, also when the worker stops."""
        one = self.worker(limits=Limits(rate=Rate("100/s", burst=2)))
        begun = time.monotonic()
        futures = [one.ask("echo", number) for number in range(12)]
        one.stop(timeout=WAIT)
        # The first two at once, and then one every 10 ms, of which the first may be early for the one before.
        assert time.monotonic() - begun >= 0.09
        assert [future.result(WAIT) for future in futures] == list(range(12))

    def test_a_rate_of_a_type_is_for_that_type(self) -> None:
        """Others go past those that wait for it, and it can be taken back."""
        one = self.new_worker()
        one.on_message("slow", _handlers.echo, rate="2/min")
        one.start()
        first, second = one.ask("slow", 1), one.ask("slow", 2)
        assert first.result(WAIT) == 1
        assert [one.ask("echo", number).result(WAIT) for number in range(5)] == list(range(5))
        assert not second.done()
        assert second.cancel()
        one.on_message("slow", _handlers.echo)
        assert [one.ask("slow", number).result(WAIT) for number in range(5)] == list(range(5))

    def test_no_end_waits_for_the_rate_of_a_message_that_is_gone(self) -> None:
        """Neither of one that was cancelled, nor of one that has expired."""
        one = self.new_worker()
        one.on_message("rare", _handlers.echo, rate="1/h")
        one.start()
        assert one.ask("rare", 1).result(WAIT) == 1
        cancelled, expired = one.ask("rare", 2), one.ask("rare", 3, timeout=0.05)
        raised(DeadlineError, expired.result, WAIT)
        assert cancelled.cancel()
        lasts = one.ask("rare", 4, timeout=0.2)
        one.stop(timeout=WAIT)
        assert isinstance(lasts.exception(0), DeadlineError), "it expired while the worker stopped"
        assert (one.stats().cancelled, one.stats().expired) == (1, 2)

    def test_a_rate_per_key_is_for_each_key(self) -> None:
        """One that waits for it holds up its own key alone; messages without a key do not count."""
        one = self.new_worker()
        one.on_message("echo", _handlers.echo, rate=Rate("2/min", burst=2, per_key=True))
        one.start()
        waiting = [[one.ask("echo", number, key=key) for number in range(4)] for key in ("a", "b")]
        for first, second, third, fourth in waiting:
            assert [first.result(WAIT), second.result(WAIT)] == [0, 1]
            assert not third.done() and not fourth.done()
        others = [one.ask("echo", number, key=f"c{number}") for number in range(2000)]
        assert [future.result(WAIT) for future in others] == list(range(2000))
        assert [one.ask("echo", number).result(WAIT) for number in range(5)] == list(range(5))
        assert not any(future.done() for futures in waiting for future in futures[2:])
        assert all(future.cancel() for futures in waiting for future in futures[2:])
        assert raised(ValueError, Limits, rate=Rate("2/s", per_key=True)).args[0].startswith("rate: ")

    def test_a_message_that_fails_is_tried_again(self) -> None:
        """It says which attempt it is, and the reply is that of the one that succeeds."""
        one = self.new_worker()
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(5, 0.001))
        one.start()
        assert one.ask("fail_until", (self.path(), 3)).result(WAIT) == 3
        one.post_message("fail_until", (self.path("post"), 2))
        one.run_until_idle(WAIT)
        assert (self.noted(), self.noted("post")) == (["1", "2", "3"], ["1", "2"])
        stats = one.stats()
        assert (stats.completed, stats.failed, stats.retried) == (2, 0, 3)
        assert one.dead_letters() == []

    def test_a_message_that_fails_for_good_is_a_dead_letter(self) -> None:
        """With what each attempt raised; the future has the last of it, and it can be posted again."""
        one = self.new_worker()
        letters: list[DeadLetter] = []
        told: list[BaseException] = []
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(3, 0.001))
        one.on_dead_letter(letters.append)
        one.on_error(told.append)
        one.start()
        future = one.ask("fail_until", (self.path(), 5))
        assert str(future.exception(WAIT)) == "attempt 3"
        one.run_until_idle(WAIT)
        (letter,) = one.dead_letters()
        assert letters == [letter]
        assert (letter.worker, letter.message_type) == (one.name, "fail_until")
        assert tuple(letter.data) == (self.path(), 5)
        assert [str(error) for error in letter.errors] == ["attempt 1", "attempt 2", "attempt 3"]
        assert [str(error) for error in told] == ["attempt 3"]
        letter.post_again()
        assert one.dead_letters() == []
        one.run_until_idle(WAIT)
        assert len(one.dead_letters()) == 1
        assert len(self.noted()) == 6

    def test_a_start_hook_that_fails_has_failed_an_attempt(self) -> None:
        """Of the message that it ran for; it runs again before the next one."""
        one = self.new_worker()
        one.on_start(_handlers.NotingHook(self.path("hook"), failures=1))
        one.on_message("write", _handlers.write, retry=Retry(3, 0.001))
        one.start().ask("write", (self.path(), 1)).result(WAIT)
        assert (self.noted("hook"), self.noted()) == (["start"] * 2, ["1"])
        one.run_until_idle(WAIT)
        assert (one.stats().retried, one.stats().failed) == (1, 0)

    def test_a_retry_is_for_its_exceptions(self) -> None:
        """Others fail the message at once; that of a message goes before that of its type."""
        one = self.new_worker()
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(5, 0.001, on=OSError))
        one.start()
        assert str(one.ask("fail_until", (self.path(), 3)).exception(WAIT)) == "attempt 1"
        again = one.ask("fail_until", (self.path(), 3), retry=Retry(5, 0.001, on=(ValueError, OSError)))
        assert again.result(WAIT) == 3
        one.on_message("fail_until", _handlers.fail_until)
        assert str(one.ask("fail_until", (self.path(), 3)).exception(WAIT)) == "attempt 1"
        assert len(one.dead_letters()) == 1

    def test_a_message_with_a_key_keeps_its_place_while_it_is_tried_again(self) -> None:
        """Those of its key wait, and no others."""
        one = self.new_worker()
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(3, 0.02))
        one.post_message("fail_until", (self.path(), 3), key="a")
        one.post_message("write", (self.path(), "behind"), key="a")
        one.post_message("write", (self.path(), "other"))
        one.start()
        one.run_until_idle(WAIT)
        lines = self.noted()
        assert [line for line in lines if line != "other"] == ["1", "2", "3", "behind"]
        assert lines.index("other") < lines.index("3")

    def test_a_stop_makes_no_more_attempts(self) -> None:
        """What was to be tried again fails with what the last attempt raised."""
        one = self.new_worker()
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(3, 3600))
        one.start()
        futures = [one.ask("fail_until", (self.path(), 2), key=key) for key in (None, "a")]
        self.until(lambda: len(self.noted()) == 2 and one.stats().running == 0, "the first attempts")
        one.stop(timeout=WAIT)
        assert [str(future.exception(WAIT)) for future in futures] == ["attempt 1"] * 2
        self.until(lambda: len(one.dead_letters()) == 2, "the dead letters")

    def test_a_stop_runs_those_behind_one_that_waits_for_its_next_attempt(self) -> None:
        """On a worker and on a pool, and without a wait for the time of that attempt."""

        def check(subject: PythonWorker | WorkerPool, stop: Callable[..., None]) -> None:
            subject.on_error(lambda error: None)
            subject.on_message("fail_until", _handlers.fail_until, retry=Retry(3, 3600))
            subject.on_message("echo", _handlers.echo)
            first = subject.ask("fail_until", (self.path(subject.name), 2), key="a")
            self.until(lambda: subject.stats().retried == 1, "the first attempt")
            behind = [subject.ask("echo", number, key="a") for number in range(3)]
            stop(timeout=WAIT)
            assert str(first.exception(WAIT)) == "attempt 1"
            assert [future.result(WAIT) for future in behind] == [0, 1, 2]

        one, some = self.worker(), self.pool(2)
        check(one, one.stop)
        check(some, some.shutdown)

    def test_a_deadline_and_a_cancel_are_for_all_attempts(self) -> None:
        """They end it while it waits for the next one."""
        one = self.new_worker()
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(3, 3600))
        one.start()
        late = one.ask("fail_until", (self.path(), 2), timeout=0.2)
        cancelled = one.ask("fail_until", (self.path("cancelled"), 2))
        assert isinstance(late.exception(WAIT), DeadlineError)
        self.until(lambda: self.noted("cancelled") and one.stats().running == 0, "the first attempt")
        assert cancelled.cancel()
        one.run_until_idle(WAIT)
        assert (one.stats().expired, one.stats().cancelled) == (1, 1)
        assert one.dead_letters() == []

    def test_bytes_are_bounded_beside_messages(self) -> None:
        """Until a message is over: one that runs counts, too."""
        one, gate = self.blocked(limits=Limits(bytes=10_000), overflow="reject")
        begun = one.stats().bytes
        assert begun < 1_000
        for kind in (bytes, bytearray):
            one.post_message("echo", kind(3_000))
        one.post_message("echo", "x" * 3_000)
        stats = one.stats()
        assert 9_000 + begun <= stats.bytes <= 9_600 + begun
        for post in (one.post_message, one.ask):
            assert "10000 bytes" in str(raised(MailboxFullError, post, "echo", bytes(2_000)))
        assert one.post_messages("echo", [bytes(1_500)] * 5) == 0
        gate.open()
        one.run_until_idle(WAIT)
        assert one.stats().bytes == 0
        assert one.ask("echo", bytes(9_000)).result(WAIT) == bytes(9_000)

    def test_a_message_that_never_fits_is_refused_with_both_numbers(self) -> None:
        """By each policy, and the worker goes on."""
        for overflow in ("block", "reject", "drop_newest", "drop_oldest"):
            one = self.worker(f"w-{overflow}", limits=Limits(bytes=1_000), overflow=overflow)
            for post in (one.post_message, one.ask):
                text = str(raised(MessageTooLargeError, post, "echo", bytes(5_000)))
                # A pickle has some more.
                assert any(str(number) in text for number in range(5_000, 5_100))
                assert "1000" in text
            raised(MessageTooLargeError, asyncio.run, one.aask("echo", bytes(5_000)))
            assert one.ask("echo", b"small").result(WAIT) == b"small"

    def test_the_policy_applies_to_bytes_as_to_messages(self) -> None:
        """It waits, or drops as many as make room."""
        one, gate = self.blocked("waits", limits=Limits(bytes=10_000))
        one.post_message("echo", bytes(6_000))
        posting = self.spawn(one.ask, "echo", bytes(6_000))
        raised(FutureTimeout, posting.result, NEVER)
        gate.open()
        assert posting.result(WAIT).result(WAIT) == bytes(6_000)
        one, gate = self.blocked("drops", limits=Limits(bytes=10_000), overflow="drop_oldest")
        futures = [one.ask("echo", bytes(3_000)) for _ in range(3)]
        latest = one.ask("echo", bytes(5_000))
        for future in futures[:2]:
            assert isinstance(future.exception(WAIT), MailboxFullError)
        gate.open()
        assert len(futures[2].result(WAIT)) == 3_000
        assert len(latest.result(WAIT)) == 5_000
        assert one.stats().drops["oldest"] == 2

    def test_a_worker_that_stays_late_refuses_messages(self) -> None:
        """Until it keeps up, whatever its policy; they are counted with that reason."""
        one, gate = self.blocked(limits=Limits(shed=Shed(target=0.02, window=0.1)))
        one.post_message("echo")
        deadline = time.monotonic() + WAIT
        while one.stats().shed == 0:
            assert time.monotonic() < deadline, "it was never late"
            try:
                one.post_message("echo")
            except OverloadedError as error:
                assert "0.02 s for 0.1 s" in str(error)
            time.sleep(0.01)
        raised(OverloadedError, one.ask, "echo")
        raised(OverloadedError, asyncio.run, one.aask("echo"))
        assert (one.stats().shed, one.stats().rejected) == (3, 0)
        gate.open()
        one.run_until_idle(WAIT)
        assert one.ask("echo", 1).result(WAIT) == 1

    def test_nonsense_is_refused_by_name(self) -> None:
        """At the call, and the message is not posted."""
        one = self.new_worker()
        for error, limits in (
            (ValueError, {"bytes": 0}),
            (TypeError, {"bytes": "1 MB"}),
            (ValueError, {"messages": 0}),
            (ValueError, {"rate": "often"}),
            (TypeError, {"size_of": 5, "bytes": 5}),
            (ValueError, {"size_of": len}),
            (TypeError, {"shed": 0.05}),
        ):
            assert next(iter(limits)) in str(raised(error, Limits, **limits))
        for error, retry in (
            (ValueError, {"attempts": 0}),
            (TypeError, {"attempts": "3"}),
            (ValueError, {"backoff": -1}),
            (ValueError, {"backoff": float("inf")}),
            (ValueError, {"jitter": 2}),
            (TypeError, {"jitter": "much"}),
            (TypeError, {"on": 5}),
            (TypeError, {"on": (ValueError, int)}),
        ):
            assert next(iter(retry)) in str(raised(error, Retry, **{"attempts": 3, **retry}))
        assert "retry" in str(raised(TypeError, one.on_message, "echo", _handlers.echo, retry=3))
        naive = datetime(2030, 1, 1)
        for error, options in (
            (ValueError, {"priority": 10}),
            (ValueError, {"priority": -1}),
            (TypeError, {"priority": "high"}),
            (TypeError, {"key": 1.5}),
            (ValueError, {"delay": -1}),
            (ValueError, {"delay": float("inf")}),
            (TypeError, {"delay": "soon"}),
            (ValueError, {"at": naive}),
            (TypeError, {"at": 5}),
            (ValueError, {"keep_latest": True}),
            (TypeError, {"keep_latest": 1, "key": 1}),
            (TypeError, {"retry": 3}),
        ):
            (name,) = list(options)[:1]
            for post in (one.post_message, one.ask):
                assert name in str(raised(error, post, "echo", 1, **options))
            assert name in str(raised(error, asyncio.run, one.apost_message("echo", 1, **options)))
        assert "delay" in str(raised(ValueError, one.ask, "echo", 1, delay=2, timeout=1))
        assert "message_id" in str(raised(ValueError, one.post_message, "echo", 1, reply=True))
        posting = one.apost_message("echo", 1, reply=True)
        assert "message_id" in str(raised(ValueError, asyncio.run, posting))
        both = {"delay": 2, "at": datetime.now(timezone.utc)}
        assert "both" in str(raised(ValueError, one.ask, "echo", 1, **both))
        for rate in ("fast", "0/s", "1/fortnight", -1, 0, float("nan")):
            assert "rate" in str(raised(ValueError, one.on_message, "echo", _handlers.echo, rate=rate))
        assert "rate" in str(raised(TypeError, one.on_message, "echo", _handlers.echo, rate=[1]))
        assert one.stats().posted == 0

    def test_coroutines_may_ask_for_the_same(self) -> None:
        """By ``apost_message`` and ``aask``."""
        one, gate = self.blocked()

        async def post() -> list[int]:
            await one.apost_message("write", (self.path(), "low"), priority=0)
            asked = [one.aask("add_one", 1, key="a"), one.aask("add_one", 2, priority=9)]
            tasks = [asyncio.ensure_future(ask) for ask in asked]
            await asyncio.sleep(0)
            await one.apost_message("write", (self.path(), "high"), priority=9)
            gate.open()
            return list(await asyncio.gather(*tasks))

        assert asyncio.run(asyncio.wait_for(post(), WAIT)) == [2, 3]
        one.run_until_idle(WAIT)
        assert self.noted() == ["high", "low"]

    def test_any_mix_of_them_is_handled_once_each(self) -> None:
        """And the counters add up."""
        chance = random.Random(7)
        one, gate = self.blocked()
        kept = []
        for number in range(300):
            options: dict[str, Any] = {}
            if chance.random() < 0.5:
                options["priority"] = chance.randrange(10)
            if chance.random() < 0.5:
                options["key"] = chance.choice(["a", "b", 3])
                options["keep_latest"] = chance.random() < 0.3
            if chance.random() < 0.2:
                options["delay"] = chance.random() / 20
            kept.append(one.ask("write", (self.path(), number), **options))
        gate.open()
        one.run_until_idle(WAIT)
        wait(kept, WAIT)
        handled = [number for number, future in enumerate(kept) if not future.cancelled()]
        assert sorted(int(number) for number in self.noted()) == handled
        stats = one.stats()
        assert stats.completed == len(handled) + 1
        assert stats.drops["replaced"] == 300 - len(handled)


class PoolControlContract(Subject):
    """The same for a pool, which runs several messages at once."""

    def test_messages_of_one_key_run_one_at_a_time(self) -> None:
        """In order, and beside those of other keys."""
        some = self.pool(2)
        futures = []
        for number in range(60):
            options = some.options(key=f"key-{number % 3}")
            futures.append(options.submit(_handlers.come_and_go, self.path(f"{number % 3}"), number))
        for future in futures:
            future.result(WAIT)
        for key in range(3):
            lines = self.noted(f"{key}")
            expected = [word for number in range(key, 60, 3) for word in (f"in {number}", f"out {number}")]
            assert lines == expected

    def test_a_busy_key_keeps_no_place(self) -> None:
        """Messages of other keys, and without one, run meanwhile."""
        some, gate = self.pool(2), self.gate()
        busy = some.options(key="busy")
        first = busy.submit(gate, 1)
        gate.wait_entered()
        rest = [busy.submit(_handlers.add_one, number) for number in range(10)]
        assert some.options(key="other").submit(_handlers.add_one, 1).result(WAIT) == 2
        assert some.submit(_handlers.add_one, 2).result(WAIT) == 3
        assert not any(future.done() for future in rest)
        gate.open()
        assert first.result(WAIT) == 1
        assert [future.result(WAIT) for future in rest] == list(range(1, 11))

    def test_a_busy_key_stays_with_its_child(self) -> None:
        """With the backend "process": as a rule, while messages of it wait."""
        if self.backend != "process":
            return
        some, gate = self.pool(2), self.gate()
        # Five keys for two children: served in turns alone, every second message would change over.
        held = [some.submit(gate) for _ in range(2)]
        self.until(lambda: len(gate.pids()) == 2, "the messages that hold both children")
        runs: list[list[Any]] = [[] for _ in range(5)]
        for _ in range(80):
            for key, run in enumerate(runs):
                run.append(some.options(key=key).submit(_handlers.stay))
        gate.open()
        for future in held:
            future.result(WAIT)
        moves = 0
        for run in runs:
            pids = [future.result(WAIT) for future in run]
            moves += sum(one != other for one, other in zip(pids, pids[1:]))
        assert moves <= 5 * 80 // 4

    def test_a_child_that_is_held_keeps_no_keys(self) -> None:
        """Those that ran there go to others, but for the one that holds it."""
        some, gate = self.pool(2), self.gate()
        futures = [some.options(key=number % 8).submit(_handlers.add_one, number) for number in range(80)]
        held = some.options(key=3).submit(gate)
        behind = some.options(key=3).submit(_handlers.add_one, 1)
        futures += [
            some.options(key=number % 8).submit(_handlers.add_one, number)
            for number in range(80, 160)
            if number % 8 != 3
        ]
        for future in futures:
            future.result(WAIT)
        gate.wait_entered()
        assert not behind.done()
        gate.open()
        held.result(WAIT)
        assert behind.result(WAIT) == 2

    def test_the_key_of_a_call_that_fails_is_free(self) -> None:
        """Its next message runs."""
        some = self.pool(2).options(key=1)
        failing = some.submit(_handlers.fail, "on purpose")
        assert some.submit(_handlers.add_one, 1).result(WAIT) == 2
        assert isinstance(failing.exception(WAIT), ValueError)

    def test_calls_have_priorities(self) -> None:
        """Those that wait for a place are run in that order."""
        some, gate = self.pool(1), self.gate()
        standing = some.submit(gate)
        gate.wait_entered()
        futures = [
            some.options(priority=priority).submit(_handlers.write, (self.path(), priority))
            for priority in (0, 9, 4)
        ]
        gate.open()
        for future in (standing, *futures):
            future.result(WAIT)
        assert self.noted() == ["9", "4", "0"]

    def test_nonsense_is_refused_by_name(self) -> None:
        """At the call of ``options``."""
        some = self.pool(1)
        assert "priority" in str(raised(ValueError, some.options, priority=10))
        assert "key" in str(raised(TypeError, some.options, key=1.5))
        assert "bool" in str(raised(TypeError, some.options, key=True))
        raised(TypeError, self.make_pool, 1, limits=5)
        raised(ValueError, self.make_pool, 1, limits=Limits(), capacity=5)

    def test_map_keeps_to_a_key(self) -> None:
        """One call after the other."""
        some = self.pool(2)
        calls = some.options(key="one").map(_handlers.come_and_go, [self.path()] * 20, range(20))
        assert list(calls) == list(range(20))
        assert self.noted() == [word for number in range(20) for word in (f"in {number}", f"out {number}")]
