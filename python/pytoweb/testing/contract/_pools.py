"""The contract of a pool: named workers on few threads or processes, an address, and an Executor."""

from __future__ import annotations

import asyncio
import itertools
import operator
from concurrent.futures import CancelledError, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeout

from pytoweb.testing import _handlers
from pytoweb.workers import (
    DeadlineError,
    MailboxFullError,
    UnknownMessageError,
    WorkerCrashedError,
    WorkerDecorators,
    WorkerFuture,
    WorkerStoppedError,
)

from ._subject import NEVER, WAIT, Subject, check_adds_up, raised

__all__ = ["PoolContract"]


class PoolContract(Subject):
    """Several workers share a few threads or processes, and the pool runs functions on them."""

    def test_a_pool_says_what_it_is(self) -> None:
        """And its workers say which pool they belong to."""
        some = self.pool(3, name="crunchers")
        assert (some.name, some.size, some.backend) == ("crunchers", 3, self.backend)
        assert "crunchers" in repr(some)
        one = some.create_worker("named", capacity=3)
        assert (one.backend, one.pool, one.stats().capacity) == (self.backend, some, 3)
        assert some.get_worker("named") is one
        assert some.get_worker("other") is None
        assert dict(some.workers) == {"named": one}

    def test_a_name_is_taken_until_its_worker_stops(self) -> None:
        """``remove_worker`` drains it."""
        some = self.pool(1)
        one = self.equip(some.create_worker("once")).start()
        assert "once" in str(raised(ValueError, some.create_worker, "once"))
        one.post_messages("write", [(self.path(), number) for number in range(20)])
        some.remove_worker("once")
        assert one.state == "stopped"
        assert len(self.noted()) == 20
        assert some.get_worker("once") is None
        raised(KeyError, some.remove_worker, "once")
        again = self.equip(some.create_worker("once")).start()
        assert again.ask("echo", 1).result(WAIT) == 1

    def test_each_worker_keeps_its_order(self) -> None:
        """However few places the pool has."""
        for size in (1, 2):
            some, path = self.pool(size), f"noted-{size}"
            workers = [self.equip(some.create_worker(f"worker-{number}")).start() for number in range(5)]
            for number in range(100):
                for one in workers:
                    one.post_message("write", (self.path(path), f"{one.name} {number}"))
            some.run_until_idle(WAIT)
            lines = [line.split() for line in self.noted(path)]
            for one in workers:
                assert [int(number) for name, number in lines if name == one.name] == list(range(100))

    def test_a_pool_of_two_runs_two_at_the_same_time(self) -> None:
        """Functions and named workers alike."""
        some, gates = self.pool(2), [self.gate(), self.gate()]
        futures = [some.submit(gate, number) for number, gate in enumerate(gates)]
        for gate in gates:
            gate.wait_entered()
            gate.open()
        assert [future.result(WAIT) for future in futures] == [0, 1]

    def test_one_that_is_busy_does_not_hold_up_the_pool_s_own_messages(self) -> None:
        """They go to the free place."""
        some, gate = self.pool(2), self.gate()
        blocked = some.submit(gate)
        gate.wait_entered()
        results = [some.submit(operator.neg, number).result(WAIT) for number in range(50)]
        assert results == [-number for number in range(50)]
        gate.open()
        blocked.result(WAIT)

    def test_the_pool_s_own_mailbox_has_handlers(self) -> None:
        """In them the pool is the current worker."""
        some = self.pool(2, name="the pool")
        errors: list[BaseException] = []
        some.on_message("add", _handlers.add_one)
        some.on_message("fail", _handlers.fail)
        some.on_error(errors.append)
        assert some.ask("add", 1).result(WAIT) == 2
        futures = [some.ask("add", number) for number in range(20)]
        assert [future.result(WAIT) for future in futures] == list(range(1, 21))
        some.on_message("later", _handlers.describe)
        seen = some.ask("later", 4).result(WAIT)
        assert (seen["type"], seen["data"], seen["current_worker"]) == ("later", 4, "the pool")
        assert isinstance(some.ask("fail", "x").exception(WAIT), ValueError)
        assert isinstance(some.ask("unknown").exception(WAIT), UnknownMessageError)
        some.run_until_idle(WAIT)
        assert [type(error) for error in errors] == [ValueError, UnknownMessageError]

    def test_post_messages_of_the_pool(self) -> None:
        """All are handled, in no order among its places."""
        some = self.pool(2)
        some.on_message("write", _handlers.write)
        assert some.post_messages("write", ((self.path(), number) for number in range(300))) == 300
        some.run_until_idle(WAIT)
        assert sorted(map(int, self.noted())) == list(range(300))

    def test_the_mailbox_of_a_pool_may_be_small_and_refuse(self) -> None:
        """Its capacity and policy are those of a worker's mailbox."""
        one, gate = self.pool(1, capacity=2, overflow="reject"), self.gate()
        one.submit(gate)
        gate.wait_entered()
        accepted = [one.submit(pow, 2, 2) for _ in range(2)]
        raised(MailboxFullError, one.submit, pow, 2, 2)
        raised(MailboxFullError, one.post_message, "type")
        assert (one.stats().own.capacity, one.stats().own.rejected) == (2, 2)
        gate.open()
        assert [future.result(WAIT) for future in accepted] == [4, 4]

    def test_submit_takes_functions_with_arguments(self) -> None:
        """As an Executor of the standard library does, with the context of the caller."""
        some = self.pool(2)
        future = some.submit(pow, 2, exp=10, mod=1000)
        assert isinstance(future, WorkerFuture)
        assert future.result(WAIT) == 24
        assert isinstance(some.submit(int, "x").exception(WAIT), ValueError)
        _handlers.color.set("submitted")
        assert some.submit(_handlers.look, None).result(WAIT) == "submitted"
        assert list(some.map(_handlers.look, range(3))) == ["submitted"] * 3

    def test_map_keeps_the_order(self) -> None:
        """With chunks and without; the first exception is raised in its place."""
        some, squares = self.pool(2), [number**2 for number in range(100)]
        assert list(some.map(pow, range(100), itertools.repeat(2))) == squares
        assert list(some.map(pow, range(100), itertools.repeat(2), chunksize=7, timeout=WAIT)) == squares
        raised(ZeroDivisionError, lambda: list(some.map(operator.truediv, [1, 1], [1, 0])))

    def test_map_has_a_timeout(self) -> None:
        """For the results that are taken."""
        results = self.pool(1).map(self.gate(), [1], timeout=NEVER)
        raised(FutureTimeout, next, results)

    def test_wait_as_completed_and_await(self) -> None:
        """Futures of ``submit`` are for threads and for event loops."""
        some = self.pool(2)
        futures = [some.submit(operator.neg, number) for number in range(20)]
        assert {future.result() for future in as_completed(futures, WAIT)} == {-n for n in range(20)}
        assert not wait(futures, WAIT).not_done

        async def main() -> tuple[int, int]:
            loop = asyncio.get_running_loop()
            return await some.submit(operator.neg, 1), await loop.run_in_executor(some, operator.neg, 2)

        assert asyncio.run(asyncio.wait_for(main(), WAIT)) == (-1, -2)

    def test_options_give_each_call_a_deadline(self) -> None:
        """Also those of ``map``."""
        some = self.pool(2).start(WAIT)
        assert some.options(timeout=WAIT).submit(pow, 2, exp=3).result(WAIT) == 8
        limited = some.options(timeout=0.1)
        assert isinstance(limited.submit(_handlers.listen, self.path()).exception(WAIT), DeadlineError)
        raised(DeadlineError, lambda: list(limited.map(_handlers.listen, [self.path("mapped")])))

    def test_run_in_worker_runs_functions_on_a_worker_of_the_pool(self) -> None:
        """A call waits for the result, ``submit`` gives a future, an exception comes back."""
        some = self.pool(2)
        run = WorkerDecorators.run_in_worker("background", pool=some)
        add, fail, later = run(_handlers.add_one), run(_handlers.fail), run(_handlers.echo_later)
        assert add(41) == 42
        assert add.submit(1).result(WAIT) == 2
        raised(ValueError, fail, "from there")
        assert asyncio.run(later("called")) == "called"
        worker = some.get_worker("background")
        assert worker is not None
        assert worker.backend == self.backend

    def test_an_initializer_runs_before_anything_else(self) -> None:
        """Once in each place that runs messages."""
        some = self.pool(1, initializer=_handlers.initialize, initargs=(self.path(), "ready"))
        assert [some.submit(operator.neg, number).result(WAIT) for number in range(5)] == [0, -1, -2, -3, -4]
        assert self.noted() == ["ready"]

    def test_an_initializer_that_raises_breaks_the_pool_and_says_why(self) -> None:
        """Its text is in the error of each message."""
        some = self.pool(1, initializer=_handlers.fail_to_initialize)
        error = some.submit(operator.neg, 1).exception(WAIT)
        assert isinstance(error, WorkerCrashedError)
        assert "no database today" in str(error)
        raised(WorkerCrashedError, some.start, WAIT)

    def test_stats_add_up_over_the_workers(self) -> None:
        """The counters of a pool are the sums of its mailbox and its workers."""
        some = self.pool(2)
        workers = [self.equip(some.create_worker(f"worker-{number}")).start() for number in range(3)]
        futures = [one.ask("add_one", number) for one in workers for number in range(50)]
        futures += [some.submit(operator.neg, number) for number in range(50)]
        wait(futures, WAIT)
        stats = some.stats()
        assert (stats.size, stats.posted, stats.completed) == (2, 200, 200)
        assert {name: of.completed for name, of in stats.workers.items()} == {one.name: 50 for one in workers}
        check_adds_up(stats)

    def test_stop_all_stops_the_named_workers_only(self) -> None:
        """The pool itself goes on."""
        some = self.pool(2)
        workers = [self.equip(some.create_worker(f"worker-{number}")).start() for number in range(3)]
        for one in workers:
            one.post_messages("write", [(self.path(), number) for number in range(20)])
        some.stop_all(timeout=WAIT)
        assert [one.state for one in workers] == ["stopped"] * 3
        assert len(self.noted()) == 60
        assert some.submit(pow, 2, 2).result(WAIT) == 4

    def test_shutdown_finishes_what_is_queued(self) -> None:
        """And refuses more."""
        some, gate = self.pool(1), self.gate()
        futures = [some.submit(gate, 0), *(some.submit(operator.neg, number) for number in range(20))]
        gate.wait_entered()
        some.shutdown(wait=False)
        raised(WorkerStoppedError, some.submit, operator.neg, 1)
        raised(WorkerStoppedError, some.create_worker, "late")
        gate.open()
        some.shutdown()
        assert [future.result(0) for future in futures] == [0, *(-number for number in range(20))]

    def test_shutdown_may_cancel_what_is_queued(self) -> None:
        """Without waiting for the running call."""
        some, gate = self.pool(1), self.gate()
        running, *queued = (some.submit(gate, 1) for _ in range(20))
        gate.wait_entered()
        some.shutdown(wait=False, cancel_futures=True)
        assert not wait(queued, WAIT).not_done
        assert all(future.cancelled() for future in queued)
        raised(CancelledError, queued[0].result, WAIT)
        gate.open()
        assert running.result(WAIT) == 1

    def test_terminate_abandons_everything_at_once(self) -> None:
        """The running call is told, or ended."""
        some = self.pool(1)
        running, queued = some.submit(_handlers.listen, self.path()), some.submit(pow, 2, 2)
        self.until(self.noted, "the handler")
        some.terminate()
        assert isinstance(running.exception(WAIT), (WorkerStoppedError, WorkerCrashedError))
        assert isinstance(queued.exception(WAIT), WorkerStoppedError)
        raised(WorkerStoppedError, some.submit, pow, 2, 2)
        some.shutdown(timeout=WAIT)

    def test_a_pool_in_a_with_block_is_shut_down(self) -> None:
        """At its end all is done."""
        with self.pool(2) as some:
            future = some.submit(operator.neg, 1)
        assert future.result(0) == -1
        raised(WorkerStoppedError, some.submit, operator.neg, 1)
