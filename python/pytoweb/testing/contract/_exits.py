"""The contract of exit handlers: who is told of the end of workers and pools, and how it came."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

from pytoweb.workers import Exit

from ._subject import WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytoweb.workers import PythonWorker

__all__ = ["ExitContract", "PoolExitContract"]

ENDS: list[tuple[Callable[[Any], object], str]] = [
    (lambda one: one.stop(timeout=WAIT), "drained"),
    (lambda one: one.stop(drain=False, timeout=WAIT), "stopped"),
    (lambda one: one.terminate(), "terminated"),
]


class ExitContract(Subject):
    """What the owner of a worker may rely on."""

    def test_each_end_is_told_once_with_its_reason(self) -> None:
        """To each handler, not on the worker's thread, and the first end counts."""
        for end, reason in ENDS:
            one, came = self.worker(), SimpleQueue[Exit]()
            one.on_exit(came.put)
            one.on_exit(came.put)
            assert one.ask("echo", 1).result(WAIT) == 1
            end(one)
            assert [came.get(timeout=WAIT) for _ in range(2)] == [Exit(reason)] * 2  # type: ignore[arg-type]
            one.terminate()
            one.stop(timeout=WAIT)
            assert came.empty()

    def test_it_comes_after_the_last_message(self) -> None:
        """And not before a handler has returned that runs at the stop."""
        one, gate = self.blocked()
        told = threading.Event()
        one.on_exit(lambda _: told.set())
        stopping = self.spawn(one.stop, drain=False, timeout=WAIT)
        self.until(lambda: one.state == "stopping", "the stop")
        assert not told.is_set()
        gate.open()
        stopping.result(WAIT)
        assert told.is_set(), "stop() waits for it"

    def test_one_that_has_ended_tells_at_once(self) -> None:
        """A handler that is registered later is told too."""
        one, came = self.worker(), SimpleQueue[Exit]()
        one.stop(timeout=WAIT)
        one.on_exit(came.put)
        assert came.get(timeout=WAIT) == Exit("drained")

    def test_one_that_was_never_started_has_stopped(self) -> None:
        """It has handled nothing."""
        one, came = self.new_worker(), SimpleQueue[Exit]()
        one.on_exit(came.put)
        one.stop(timeout=WAIT)
        assert came.get(timeout=WAIT) == Exit("stopped")

    def test_on_an_event_loop_it_is_called_there(self) -> None:
        """A coroutine too."""
        one = self.worker()

        async def main() -> int:
            told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            @one.on_exit
            async def note(exit: Exit) -> None:
                told.set_result(threading.get_ident())

            await one.astop(timeout=WAIT)
            return await asyncio.wait_for(told, WAIT)

        assert asyncio.run(main()) == threading.get_ident()

    def test_an_exit_handler_must_be_callable(self) -> None:
        """Else it is an error of the call."""
        raised(TypeError, self.new_worker().on_exit, 5)


class PoolExitContract(Subject):
    """The same for pools."""

    def test_a_pool_and_its_workers_tell_of_their_ends(self) -> None:
        """Each of its own; a worker that stops is no end of its pool."""
        pool, came = self.pool(2), SimpleQueue[tuple[str, Exit]]()

        def watch(one: Any) -> Any:
            one.on_exit(lambda exit: came.put((one.name, exit)))
            return one

        watch(pool)
        first: PythonWorker = watch(pool.create_worker("first")).start()
        second: PythonWorker = watch(pool.create_worker("second")).start()
        first.terminate()
        assert came.get(timeout=WAIT) == ("first", Exit("terminated"))
        assert pool.submit(len, "abc").result(WAIT) == 3
        assert second.state == "running"
        pool.shutdown()
        ends = sorted(((name, exit.reason) for name, exit in (came.get(timeout=WAIT) for _ in range(2))))
        assert ends == sorted([("second", "drained"), (pool.name, "drained")])
