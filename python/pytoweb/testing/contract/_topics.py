"""The contract of a message for many: ``broadcast``, and topics that workers of a pool subscribe to."""

from __future__ import annotations

import asyncio
import threading

from pytoweb.testing import _handlers
from pytoweb.workers import (
    PythonWorker,
    SerializationError,
    UnknownMessageError,
    WorkerPool,
    WorkerStoppedError,
)

from ._subject import NEVER, WAIT, Subject, raised

__all__ = ["TopicContract"]


class TopicContract(Subject):
    """One post that reaches many workers of a pool."""

    def members(self, some: WorkerPool, *names: str) -> list[PythonWorker]:
        """Started workers with the handlers of the contract."""
        return [self.equip(some.create_worker(name)).start() for name in names]

    def full(self, some: WorkerPool, name: str, overflow: str) -> PythonWorker:
        """A worker that was not started, with one message and room for no other."""
        one = self.equip(some.create_worker(name, capacity=1, overflow=overflow))  # type: ignore[arg-type]
        one.post_message("echo")
        return one

    def test_a_broadcast_reaches_every_worker_that_handles_the_type(self) -> None:
        """One that was not started keeps it; the pool's own mailbox and other workers have no part in it."""
        some = self.pool(2)
        self.members(some, "a", "b")
        later = self.equip(some.create_worker("later"))
        some.create_worker("other").start()
        some.on_message("write", _handlers.write)
        assert some.broadcast("write", (self.path(), "told")) == 3
        some.run_until_idle(WAIT)
        assert self.noted() == ["told"] * 2
        later.start()
        some.run_until_idle(WAIT)
        assert self.noted() == ["told"] * 3
        assert some.broadcast("nothing handles this") == 0

    def test_a_worker_that_takes_nothing_keeps_no_other_one_from_it(self) -> None:
        """One that refuses or has stopped is not counted; one that drops does so by its own policy."""
        some = self.pool(2)
        full = self.full(some, "full", "reject")
        dropping = self.full(some, "dropping", "drop_newest")
        stopped = self.members(some, "stopped")[0]
        self.members(some, "last")
        stopped.stop(timeout=WAIT)
        assert some.broadcast("write", (self.path(), "told")) == 2
        some.run_until_idle(WAIT)
        assert self.noted() == ["told"]
        assert (full.stats().rejected, full.stats().depth) == (1, 1)
        assert dropping.stats().drops["newest"] == 1

    def test_a_broadcast_waits_for_room_after_all_others_have_it(self) -> None:
        """Under the policy ``"block"``, as long as ``timeout`` says."""
        some = self.pool(2)
        full = self.full(some, "full", "block")
        self.members(some, "last")
        assert some.broadcast("echo", timeout=NEVER) == 1
        assert full.stats().depth == 1
        waiting = self.spawn(some.broadcast, "write", (self.path(), "told"))
        self.until(lambda: "told" in self.noted(), "the message of the worker with room")
        assert not waiting.done()
        full.start()
        assert waiting.result(WAIT) == 2
        some.run_until_idle(WAIT)
        assert self.noted() == ["told", "told"]

    def test_a_broadcast_on_an_event_loop_does_not_block_it(self) -> None:
        """``broadcast`` leaves out what is full; ``abroadcast`` awaits its room."""
        some = self.pool(2)
        full = self.full(some, "full", "block")
        self.members(some, "last")

        async def post() -> list[int]:
            at_once = some.broadcast("write", (self.path(), "at once"))
            in_vain = await some.abroadcast("echo", timeout=NEVER)
            task = asyncio.ensure_future(some.abroadcast("write", (self.path(), "awaited")))
            await asyncio.sleep(0)
            full.start()
            return [at_once, in_vain, await task]

        assert asyncio.run(asyncio.wait_for(post(), WAIT)) == [1, 1, 2]
        some.run_until_idle(WAIT)
        assert sorted(self.noted()) == ["at once", "awaited", "awaited"]

    def test_a_message_of_a_topic_reaches_its_subscribers(self) -> None:
        """In whatever state, once each, until they unsubscribe."""
        some = self.pool(2)
        first, second, _ = self.members(some, "first", "second", "third")
        assert some.publish("write", (self.path(), 0)) == 0
        first.subscribe("write")
        first.subscribe("write")
        second.subscribe("write")
        second.subscribe("echo")
        assert some.publish("write", (self.path(), 1)) == 2
        first.unsubscribe("write")
        first.unsubscribe("write")
        first.unsubscribe("echo")
        assert some.publish("write", (self.path(), 2), priority=9, key="k", timeout=WAIT) == 1
        assert asyncio.run(some.apublish("write", (self.path(), 3))) == 1
        some.run_until_idle(WAIT)
        assert sorted(self.noted()) == ["1", "1", "2", "3"]

    def test_a_handler_may_come_after_the_subscription(self) -> None:
        """A message that is handled without one fails as any of an unknown type."""
        some = self.pool(1)
        one = self.members(some, "one")[0]
        failures: list[BaseException] = []
        one.on_error(failures.append)
        one.subscribe("news")
        assert some.publish("news", (self.path(), "early")) == 1
        one.run_until_idle(WAIT)
        assert [type(failure) for failure in failures] == [UnknownMessageError]
        one.on_message("news", _handlers.write)
        assert some.publish("news", (self.path(), "late")) == 1
        one.run_until_idle(WAIT)
        assert self.noted() == ["late"]

    def test_the_subscriptions_of_a_worker_end_with_it(self) -> None:
        """However it ends; another one of its name subscribes anew."""
        some = self.pool(2)
        for name, end in (
            ("removed", lambda one: some.remove_worker(one.name)),
            ("stopped", lambda one: one.stop(timeout=WAIT)),
            ("terminated", lambda one: one.terminate()),
        ):
            one = self.members(some, name)[0]
            one.subscribe("write")
            assert some.publish("write", (self.path(), name)) == 1
            end(one)
            self.until(lambda one=one: one.state == "stopped", "the end of the worker")  # type: ignore[misc]
            again = self.members(some, name)[0]
            assert some.publish("write", (self.path(), "never")) == 0
            raised(WorkerStoppedError, one.subscribe, "write")
            one.unsubscribe("write")
            again.stop(timeout=WAIT)
        assert "never" not in self.noted()

    def test_workers_come_and_go_while_others_publish(self) -> None:
        """Each message reaches those that are subscribed all along."""
        some = self.pool(2)
        steady = self.members(some, "steady")[0]
        steady.subscribe("echo")
        done = threading.Event()

        def come_and_go() -> None:
            while not done.is_set():
                one = self.members(some, "visitor")[0]
                one.subscribe("echo")
                some.remove_worker("visitor")

        visiting = self.spawn(come_and_go)
        counts = [some.publish("echo", number) for number in range(200)]
        done.set()
        visiting.result(WAIT)
        assert set(counts) <= {1, 2}
        some.run_until_idle(WAIT)
        assert steady.stats().completed == 200

    def test_nonsense_for_many_is_refused_by_name(self) -> None:
        """At the call, with or without workers that would get it."""
        some = self.pool(1)
        for post in (some.broadcast, some.publish):
            assert "must be a str" in str(raised(TypeError, post, 5))
            assert "'response'" in str(raised(ValueError, post, "response"))
            assert "timeout" in str(raised(ValueError, post, "echo", timeout=-1))
            assert "priority" in str(raised(ValueError, post, "echo", priority=10))
            assert "key" in str(raised(TypeError, post, "echo", key=1.5))
        one = self.members(some, "one")[0]
        alone = self.new_worker("alone")
        for change in ("subscribe", "unsubscribe"):
            assert "topic" in str(raised(TypeError, getattr(one, change), 5))
            assert "'error'" in str(raised(ValueError, getattr(one, change), "error"))
            assert "'alone' belongs to no pool" in str(raised(RuntimeError, getattr(alone, change), "echo"))
        if self.backend == "process":
            raised(SerializationError, some.broadcast, "echo", threading.Lock())
        some.shutdown()
        assert "shut down" in str(raised(WorkerStoppedError, some.broadcast, "echo"))
        assert "shut down" in str(raised(WorkerStoppedError, some.publish, "echo"))
