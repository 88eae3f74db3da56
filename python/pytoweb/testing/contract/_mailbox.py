"""The contract of the mailbox: exactly its capacity, four overflow policies, and counters that add up."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, wait
from concurrent.futures import TimeoutError as FutureTimeout

from pytoweb.workers import MailboxFullError, WorkerStoppedError

from ._subject import NEVER, WAIT, Subject, check_adds_up, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MailboxContract"]

CAPACITY = 10
OFFERED = 25


class MailboxContract(Subject):
    """The mailbox holds ``capacity`` messages beside the one that runs; the policy decides about more."""

    def test_exactly_capacity_messages_wait_beside_the_running_one(self) -> None:
        """However many the backend has taken ahead."""
        for capacity in (1, 2, 64):
            one, _ = self.blocked(capacity=capacity, overflow="reject")
            for number in range(capacity):
                one.post_message("echo", number)
            for post in (one.post_message, one.ask):
                raised(MailboxFullError, post, "echo", capacity)
            stats = one.stats()
            assert (stats.depth, stats.running, stats.posted) == (capacity, 1, capacity + 1)
            assert stats.rejected == 2

    def test_exactly_capacity_messages_wait_for_the_start(self) -> None:
        """A worker that was not started is full as well."""
        one = self.new_worker(capacity=5, overflow="reject")
        assert one.post_messages("echo", range(5)) == 5
        raised(MailboxFullError, one.post_message, "echo")
        assert one.stats().depth == 5

    def test_reject_refuses_and_counts(self) -> None:
        """The sender is told, and the queue stays as it is."""
        one, gate = self.blocked(capacity=CAPACITY, overflow="reject")
        data = [(self.path(), number) for number in range(OFFERED)]
        assert one.post_messages("write", data) == CAPACITY
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == [str(number) for number in range(CAPACITY)]
        stats = one.stats()
        assert (stats.completed, stats.rejected, stats.dropped) == (CAPACITY + 1, OFFERED - CAPACITY, 0)

    def test_drop_newest_drops_the_post_and_counts(self) -> None:
        """The sender is not told; the future is."""
        one, gate = self.blocked(capacity=CAPACITY, overflow="drop_newest")
        futures = [one.ask("write", (self.path(), number)) for number in range(OFFERED)]
        for future in futures[CAPACITY:]:
            assert isinstance(future.exception(WAIT), MailboxFullError)
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == [str(number) for number in range(CAPACITY)]
        stats = one.stats()
        assert (stats.posted, stats.completed) == (OFFERED + 1, CAPACITY + 1)
        assert stats.dropped == stats.drops["newest"] == OFFERED - CAPACITY

    def test_drop_oldest_drops_the_head_of_the_queue_and_counts(self) -> None:
        """The running message is kept."""
        one, gate = self.blocked(capacity=CAPACITY, overflow="drop_oldest")
        futures = [one.ask("write", (self.path(), number)) for number in range(OFFERED)]
        for future in futures[: OFFERED - CAPACITY]:
            assert isinstance(future.exception(WAIT), MailboxFullError)
        gate.open()
        one.run_until_idle(WAIT)
        assert self.noted() == [str(number) for number in range(OFFERED - CAPACITY, OFFERED)]
        stats = one.stats()
        assert (stats.posted, stats.completed) == (OFFERED + 1, CAPACITY + 1)
        assert stats.dropped == stats.drops["oldest"] == OFFERED - CAPACITY

    def test_block_waits_for_room_and_loses_nothing(self) -> None:
        """The sender goes on when there is room, and its messages keep their order."""
        one, gate = self.blocked(capacity=CAPACITY)
        one.post_messages("write", [(self.path(), number) for number in range(CAPACITY)])
        more = [(self.path(), number) for number in range(CAPACITY, 100)]
        posting = self.spawn(one.post_messages, "write", more)
        raised(FutureTimeout, posting.result, NEVER)
        gate.open()
        assert posting.result(WAIT) == 100 - CAPACITY
        one.run_until_idle(WAIT)
        assert self.noted() == [str(number) for number in range(100)]
        assert one.stats().rejected == 0

    def test_block_gives_up_at_its_timeout(self) -> None:
        """A timeout of zero refuses at once."""
        one, _ = self.blocked(capacity=1)
        one.post_message("echo")
        for timeout in (NEVER, 0):
            for post in (one.post_message, one.ask):
                raised(MailboxFullError, post, "echo", timeout=timeout)
        assert (one.stats().posted, one.stats().rejected) == (2, 4)

    def test_a_sender_that_waits_for_room_ends_with_the_worker(self) -> None:
        """By ``stop()`` and by ``terminate()``."""
        for end in ("stop", "terminate"):
            one, gate = self.blocked(end, capacity=1)
            one.post_message("echo")
            waiting = [self.spawn(one.post_message, "echo", number) for number in range(4)]
            raised(FutureTimeout, waiting[0].result, NEVER)
            ending = self.spawn(getattr(one, end))
            for outcome in waiting:
                assert isinstance(outcome.exception(WAIT), WorkerStoppedError)
            gate.open()
            ending.result(WAIT)

    def test_a_post_does_not_block_an_event_loop(self) -> None:
        """On a loop a full mailbox refuses; the coroutines wait."""
        one, gate = self.blocked(capacity=1)
        one.post_message("write", (self.path(), "fills"))

        async def main() -> None:
            raised(MailboxFullError, one.post_message, "write", timeout=WAIT)
            waiting = asyncio.ensure_future(one.apost_message("write", (self.path(), "waited")))
            done, _ = await asyncio.wait([waiting], timeout=NEVER)
            assert not done
            gate.open()
            await asyncio.wait_for(waiting, WAIT)

        asyncio.run(main())
        one.run_until_idle(WAIT)
        assert self.noted() == ["fills", "waited"]

    def test_the_depth_is_what_waits(self) -> None:
        """At each post, and none when all is done."""
        one, gate = self.blocked()
        for number in range(100):
            one.post_message("echo", number)
            assert (one.stats().depth, one.stats().running) == (number + 1, 1)
        gate.open()
        one.run_until_idle(WAIT)
        assert (one.stats().depth, one.stats().running) == (0, 0)

    def test_the_counters_add_up_at_every_moment(self) -> None:
        """While messages are handled, fail, are dropped and are cancelled."""
        one, over = self.worker(capacity=64, overflow="drop_oldest"), threading.Event()

        def watch() -> int:
            looks = 0
            while not over.is_set():
                check_adds_up(one.stats())
                looks += 1
            return looks

        watching, futures = self.spawn(watch), []
        for number in range(1500):
            futures.append(one.ask("fail" if number % 7 == 3 else "echo", number, timeout=WAIT))
            if number % 11 == 5:
                futures[-1].cancel()
        done = wait(futures, WAIT)
        over.set()
        assert watching.result(WAIT) > 0
        assert not done.not_done
        one.run_until_idle(WAIT)
        stats = one.stats()
        counts = {"completed": 0, "failed": 0, "dropped": 0, "cancelled": 0}
        for future in futures:
            counts[how_it_ended(future)] += 1
        assert stats.posted == 1500
        assert {name: getattr(stats, name) for name in counts} == counts


def how_it_ended(future: Any) -> str:
    """The counter that a future is in."""
    try:
        error = future.exception(0)
    except CancelledError:
        return "cancelled"
    if error is None:
        return "completed"
    if isinstance(error, MailboxFullError):
        return "dropped"
    assert isinstance(error, ValueError), error
    return "failed"
