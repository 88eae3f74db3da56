"""Events on their way from handlers to the owner of their worker: bounded, and never in the way of work."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque

from pytoweb import _aio, _exit
from pytoweb._contained import contained
from pytoweb._core import MOST_EVENTS, RemoteData, WorkerMessage

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Union

    from pytoweb._lines import Line
    from pytoweb._runtime import PoolRuntime
    from pytoweb._telling import Telling

    Way = Union[Line, PoolRuntime, _aio.Bridge]

#: One lock for all workers, as that of `_replies.py`.
_lock = threading.RLock()


def _unlock() -> None:
    global _lock
    _lock = threading.RLock()


_exit.unlock_after_fork(_unlock)


def way_from_here(runtime: PoolRuntime) -> Way:
    """Where what is registered here and now is called: on the event loop that runs, else on the line."""
    loop = _aio.running_loop()
    return runtime.reply_line() if loop is None else _aio.bridge_to(loop)


def call_on_way(
    handler: Callable[[Any], object],
    argument: object,
    log: Callable[[BaseException], None],
    then: Callable[[], object] | None = None,
) -> None:
    """Calls a handler of the owner, on its line or event loop; it may be ``async def``.

    Args:
        handler: what to call.
        argument: with what.
        log: told of what it raises.
        then: called when it is through.
    """
    try:
        result = handler(argument)
        if hasattr(result, "__await__"):
            import asyncio

            if _aio.running_loop() is None:
                asyncio.run(_awaited(result))
            else:
                task = asyncio.ensure_future(result)
                _tasks.add(task)
                task.add_done_callback(functools.partial(_task_done, log, then))
                then = None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            # Ctrl-C, which came while an event loop of the main thread was here.
            raise
        contained(log, error)
    finally:
        if then is not None:
            then()


def _task_done(log: Callable[[BaseException], None], then: Callable[[], object] | None, task: Any) -> None:
    _tasks.discard(task)
    if then is not None:
        then()
    if not task.cancelled() and task.exception() is not None:
        contained(log, task.exception())


async def _awaited(awaitable: Any) -> object:
    return await awaitable


#: Handlers that are coroutines: asyncio itself keeps only weak references.
_tasks: set[Any] = set()


class EventRoute:
    """The handler of one event, and the line or event loop that calls it."""

    __slots__ = ("handler", "way")

    def __init__(self, handler: Callable[[WorkerMessage], object], way: Way) -> None:
        self.handler = handler
        self.way: Way = way


class Outlet:
    """The events of one worker that wait for the handlers of one line or event loop."""

    __slots__ = ("_events", "_is_losing", "_owed", "_running", "_waiting", "_way")

    def __init__(self, events: Events, way: Way) -> None:
        self._events = events
        self._way = way
        self._waiting: deque[tuple[Callable[[WorkerMessage], object], str, object, str | None]] = deque()
        #: Handlers that are coroutines and run.
        self._running = 0
        #: Calls that wait for one of them to end.
        self._owed = 0
        self._is_losing = False

    def put(
        self, handler: Callable[[WorkerMessage], object], name: str, data: object, message_id: str | None
    ) -> bool:
        """Puts one in line; the oldest makes room. Called under the lock.

        Returns:
            Whether it is to be logged that events are dropped.
        """
        waiting = self._waiting
        if len(waiting) >= MOST_EVENTS:
            # Its call is for the new one.
            waiting.popleft()
            waiting.append((handler, name, data, message_id))
            return self.lose(1)
        waiting.append((handler, name, data, message_id))
        if self._way.call(self._next):
            return False
        # Its event loop is closed.
        lost = len(waiting)
        waiting.clear()
        return self.lose(lost)

    def lose(self, events: int) -> bool:
        """Counts events that were dropped; whether they are the first of a burst."""
        self._events.dropped += events
        is_first = not self._is_losing
        self._is_losing = True
        return is_first

    def _next(self) -> None:
        with _lock:
            if self._running >= MOST_EVENTS:
                self._owed += 1
                return
            if not self._waiting:
                return
            handler, name, data, message_id = self._waiting.popleft()
            if not self._waiting:
                self._is_losing = False
            self._running += 1
        log = functools.partial(self._events.log_raised, name)
        try:
            if type(data) is RemoteData:
                data = data.unpack()
        except BaseException as error:
            self._ended()
            contained(log, error)
            return
        message = WorkerMessage(name, data, message_id, self._events.name)
        call_on_way(handler, message, log, self._ended)

    def _ended(self) -> None:
        with _lock:
            self._running -= 1
            if not self._owed:
                return
            self._owed -= 1
            self._way.call(self._next)


class Events:
    """What a worker or pool keeps for its events, once there is a handler for one."""

    __slots__ = ("_outlets", "dropped", "name", "routes")

    def __init__(self, name: str) -> None:
        self.name = name
        #: By the names of events.
        self.routes: dict[str, EventRoute] = {}
        self._outlets: dict[Way, Outlet] = {}
        #: Events that were dropped, because their handlers are behind.
        self.dropped = 0

    def put(self, route: EventRoute, name: str, data: object, message_id: str | None) -> None:
        """Has the handler called, after those before it."""
        with _lock:
            is_losing = self.outlet(route.way).put(route.handler, name, data, message_id)
        # Never under the lock: handlers of logs are the user's.
        if is_losing:
            contained(self.log_losing)

    def outlet(self, way: Way) -> Outlet:
        """That of a line or event loop. Called under the lock."""
        outlet = self._outlets.get(way)
        if outlet is None:
            for other in [other for other in self._outlets if other.is_closed()]:
                del self._outlets[other]
            outlet = self._outlets[way] = Outlet(self, way)
        return outlet

    def start_afresh(self, runtime: PoolRuntime) -> None:
        """In a forked child: the line is another one there, and events of the parent stay there."""
        self._outlets = {}
        for route in self.routes.values():
            if hasattr(route.way, "join"):
                route.way = runtime

    def log_losing(self) -> None:
        """Logs that events are dropped."""
        self._log().warning(
            "events of worker %r are dropped, the oldest first: %d wait for their handlers",
            self.name,
            MOST_EVENTS,
        )

    def log_raised(self, name: str, error: BaseException) -> None:
        """Logs what the handler of an event raised."""
        self._log().error("the handler of event %r of worker %r raised", name, self.name, exc_info=error)

    def _log(self) -> logging.Logger:
        return logging.getLogger(f"pytoweb.worker.{self.name}")


def hear(owner: Telling) -> None:
    """Puts in line what the child of ``owner`` has emitted."""
    is_losing = False
    # Taken out under it too: another thread may do so at the same time, and the order is to stay.
    with _lock:
        came, dropped = owner._pytoweb_take_events()
        for name, data, message_id in came:
            route = owner._pytoweb_event_route(name)
            if route is None:
                continue
            outlet = owner._pytoweb_events().outlet(route.way)
            if dropped:
                is_losing |= outlet.lose(dropped)
                dropped = 0
            is_losing |= outlet.put(route.handler, name, data, message_id)
    if is_losing:
        contained(owner._pytoweb_events().log_losing)
