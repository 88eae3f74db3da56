"""The contract of ``Limits(concurrency=n)``: a worker that handles several messages at the same time."""

from __future__ import annotations

from concurrent.futures import CancelledError

from pytoweb.testing import _handlers
from pytoweb.workers import DeadlineError, Limits, Retry, WorkerCrashedError, WorkerStoppedError

from ._subject import WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import PythonWorker

__all__ = ["ConcurrencyContract"]

AT_ONCE = 3
"""Messages that the workers of these tests handle at the same time."""


class ConcurrencyContract(Subject):
    """Messages that run beside each other."""

    def several(self, **options: Any) -> PythonWorker:
        """A worker of three at a time, not started."""
        return self.new_worker(limits=Limits(concurrency=AT_ONCE), **options)

    def full(self, more: int = 0) -> tuple[PythonWorker, _handlers.Gate, list[Any]]:
        """One that runs as many as it may, with so many more behind them."""
        one, gate = self.several(), self.gate()
        one.on_message("gate", gate)
        futures = [one.ask("gate", number) for number in range(AT_ONCE + more)]
        one.start()
        self.until(lambda: len(gate.pids()) == AT_ONCE, "the messages that run beside each other")
        return one, gate, futures

    def test_so_many_run_at_once_and_no_more(self) -> None:
        """The others wait in the mailbox."""
        one, gate, futures = self.full(4)
        assert (one.stats().running, one.stats().depth) == (AT_ONCE, 4)
        assert len(gate.pids()) == AT_ONCE
        gate.open()
        assert [future.result(WAIT) for future in futures] == list(range(AT_ONCE + 4))
        one.run_until_idle(WAIT)
        assert one.stats().completed == AT_ONCE + 4

    def test_coroutines_run_beside_each_other(self) -> None:
        """As many."""
        one = self.several()
        one.on_message("meet", _handlers.meet)
        futures = [one.ask("meet", (self.path(), AT_ONCE)) for _ in range(AT_ONCE)]
        one.start()
        assert [future.result(WAIT) for future in futures] == [AT_ONCE] * AT_ONCE

    def test_those_of_a_key_keep_their_order(self) -> None:
        """And never run at the same time."""
        one = self.several().start()
        one.on_message("come_and_go", _handlers.come_and_go_with)
        futures = [
            one.ask("come_and_go", (self.path(str(number % 4)), number), key=number % 4)
            for number in range(80)
        ]
        for future in futures:
            future.result(WAIT)
        for key in range(4):
            steps = [line for number in range(key, 80, 4) for line in (f"in {number}", f"out {number}")]
            assert self.noted(str(key)) == steps

    def test_one_that_fails_is_tried_again(self) -> None:
        """Beside the others."""
        one = self.several().start()
        one.on_message("fail_until", _handlers.fail_until, retry=Retry(3, 0.001))
        futures = [one.ask("fail_until", (self.path(str(number)), 3)) for number in range(9)]
        assert [future.result(WAIT) for future in futures] == [3] * 9
        one.run_until_idle(WAIT)
        assert (one.stats().completed, one.stats().retried) == (9, 18)

    def test_the_end_of_one_is_none_of_the_others(self) -> None:
        """Whether it is cancelled or its deadline passes."""
        one, gate = self.several(), self.gate()
        one.on_message("gate", gate)
        one.on_message("listen", _handlers.listen)
        one.start()
        stays = one.ask("gate", "stays")
        late = one.ask("listen", self.path("late"), timeout=0.5)
        cancelled = one.ask("listen", self.path("cancelled"))
        gate.wait_entered()
        _handlers.wait_for(self.path("cancelled"))
        cancelled.cancel()
        raised(CancelledError, cancelled.result, WAIT) if self.backend == "process" else None
        raised(DeadlineError, late.result, WAIT)
        gate.open()
        assert stays.result(WAIT) == "stays"

    def test_a_stop_handles_the_queue(self) -> None:
        """Beside each other to the end."""
        one = self.several().start()
        futures = [one.ask("add_one", number) for number in range(50)]
        one.stop(timeout=WAIT)
        assert [future.result(0) for future in futures] == list(range(1, 51))

    def test_terminate_gives_up_all_that_run(self) -> None:
        """And what waits."""
        one, _, futures = self.full(2)
        one.terminate()
        for future in futures:
            raised(WorkerStoppedError, future.result, WAIT)

    def test_one_of_a_pool_runs_as_many(self) -> None:
        """On the threads, or in the children, of the pool."""
        some, gate = self.pool(AT_ONCE), self.gate()
        one = self._kept(some.create_worker("several", limits=Limits(concurrency=AT_ONCE)))
        one.on_message("gate", gate)
        futures = [one.ask("gate", number) for number in range(AT_ONCE + 1)]
        one.start()
        self.until(lambda: len(gate.pids()) == AT_ONCE, "the messages that run beside each other")
        gate.open()
        assert [future.result(WAIT) for future in futures] == list(range(AT_ONCE + 1))

    def test_each_child_has_a_state_of_its_own(self) -> None:
        """With the backend "process": as many children as are needed, each with its hooks."""
        if self.backend != "process":
            return
        one, gate = self.several(), self.gate()
        one.on_message("gate", gate)
        one.on_start(_handlers.NotingHook(self.path("starts")))
        one.on_stop(_handlers.NotingHook(self.path("stops")))
        one.start()
        for number in range(5):
            one.ask("add_one", number).result(WAIT)
        assert len(self.noted("starts")) == 1
        futures = [one.ask("gate", number) for number in range(AT_ONCE)]
        self.until(lambda: len(gate.pids()) == AT_ONCE, "the messages that run beside each other")
        assert len(set(gate.pids())) == AT_ONCE
        gate.open()
        for future in futures:
            future.result(WAIT)
        one.stop(timeout=WAIT)
        assert len(self.noted("starts")) == len(self.noted("stops")) == AT_ONCE

    def test_a_crash_costs_the_message_of_its_child(self) -> None:
        """With the backend "process": the others are not touched, and another child comes."""
        if self.backend != "process":
            return
        one, gate, _ = self.full()[0], self._gates[-1], None
        one.on_message("crash", _handlers.crash_together)
        gate.open()
        one.run_until_idle(WAIT)
        standing = self.gate()
        one.on_message("stand", standing)
        futures = [one.ask("stand", number) for number in range(AT_ONCE - 1)]
        self.until(lambda: len(standing.pids()) == AT_ONCE - 1, "the messages that stay")
        raised(WorkerCrashedError, one.ask("crash").result, WAIT)
        assert one.ask("add_one", 1).result(WAIT) == 2
        standing.open()
        assert [future.result(WAIT) for future in futures] == list(range(AT_ONCE - 1))
        self.until(lambda: one.stats().restarts == 1, "the child in its place")

    def test_children_are_replaced_for_their_messages(self) -> None:
        """With the backend "process": each after its own number."""
        if self.backend != "process":
            return
        one = self.several(max_messages=5).start()
        futures = [one.ask("add_one", number) for number in range(60)]
        assert [future.result(WAIT) for future in futures] == list(range(1, 61))
        one.run_until_idle(WAIT)
        assert one.stats().restarts >= 60 // 5 - AT_ONCE
