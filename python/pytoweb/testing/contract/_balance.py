"""The contract of balance: a message that is held keeps no other one waiting that could run."""

from __future__ import annotations

from pytoweb.testing import _handlers

from ._subject import WAIT, Subject

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import WorkerPool

__all__ = ["PoolBalanceContract"]

SIZE = 4
"""Threads, or children, of a pool of these tests."""

OTHERS = 500
"""Messages that are not held, far more than are sent ahead of the ones that run."""


class PoolBalanceContract(Subject):
    """What a pool's own mailbox does while some of its threads or children are held."""

    def warm_pool(self, size: int = SIZE) -> WorkerPool:
        """A pool that knows its handlers to be quick, and so sends its children many messages ahead."""
        some = self.pool(size)
        some.on_message("add_one", _handlers.add_one)
        for future in [some.ask("add_one", number) for number in range(OTHERS)]:
            future.result(WAIT)
        return some

    def test_a_held_message_keeps_no_other_one_waiting(self) -> None:
        """Neither those before it nor those behind it, wherever it was sent."""
        some, gate = self.warm_pool(), self.gate()
        some.on_message("gate", gate)
        futures = [some.ask("add_one", number) for number in range(OTHERS // 2)]
        held = some.ask("gate")
        futures += [some.ask("add_one", number) for number in range(OTHERS // 2, OTHERS)]
        assert [future.result(WAIT) for future in futures] == list(range(1, OTHERS + 1))
        gate.wait_entered()
        assert not held.done()
        gate.open()
        held.result(WAIT)

    def test_one_free_place_runs_all_that_is_not_held(self) -> None:
        """While every other place is held."""
        some, gate = self.warm_pool(), self.gate()
        some.on_message("gate", gate)
        futures: list[Any] = []
        held: list[Any] = []
        for number in range(OTHERS):
            if number % 100 == 50 and len(held) < SIZE - 1:
                held.append(some.ask("gate"))
            futures.append(some.ask("add_one", number))
        assert [future.result(WAIT) for future in futures] == list(range(1, OTHERS + 1))
        self.until(lambda: len(gate.pids()) == SIZE - 1, "the held messages")
        assert not any(future.done() for future in held)
        gate.open()
        for future in held:
            future.result(WAIT)

    def test_a_held_key_keeps_its_own_messages_alone(self) -> None:
        """Those behind it, in their order; all other keys go on."""
        some, gate = self.warm_pool(), self.gate()
        some.on_message("gate", gate)
        some.on_message("write", _handlers.write)
        held = some.ask("gate", key="held")
        behind = [some.ask("write", (self.path(), number), key="held") for number in range(10)]
        others: list[Any] = []
        for number in range(OTHERS):
            others.append(some.ask("add_one", number, key=number % 8))
        assert [future.result(WAIT) for future in others] == list(range(1, OTHERS + 1))
        gate.wait_entered()
        assert not any(future.done() for future in (held, *behind))
        gate.open()
        for future in behind:
            future.result(WAIT)
        assert self.noted() == [str(number) for number in range(10)]

    def test_a_worker_that_is_held_keeps_nothing_of_its_pool(self) -> None:
        """A named worker stays with its place; the pool's own messages go on in the others."""
        some, gate = self.warm_pool(2), self.gate()
        worker = some.create_worker("held")
        worker.on_message("gate", gate)
        worker.start()
        standing = worker.ask("gate")
        gate.wait_entered()
        for _ in range(3):
            futures = [some.ask("add_one", number) for number in range(OTHERS)]
            assert [future.result(WAIT) for future in futures] == list(range(1, OTHERS + 1))
        assert not standing.done()
        gate.open()
        standing.result(WAIT)
