"""The owner's side of a worker: ``response`` and ``error`` handlers, and where failures are reported."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections import deque
from contextvars import ContextVar
from types import CoroutineType

from pytoweb import _aio, _exit
from pytoweb._contained import contained
from pytoweb._core import WorkerMessage
from pytoweb._retry import DeadLetter

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Coroutine
    from typing import Any, Union

    from pytoweb._addressable import Addressable
    from pytoweb._lines import Line
    from pytoweb._runtime import PoolRuntime

    Way = Union[Line, PoolRuntime, _aio.Bridge]

#: The exception comes as `exc_info`, so its text is not in here.
FAILED = "worker %r failed to handle a message of type %r"

RESPONSE = "response"
ERROR = "error"

#: One lock for all workers: it is held for a few operations on a deque, and a lock each would cost every idle
#: worker. Reentrant, because the collector may run a worker's `__del__` anywhere.
_lock = threading.RLock()


def _unlock() -> None:
    global _lock
    _lock = threading.RLock()


_exit.unlock_after_fork(_unlock)


class ReplyRoute:
    """Where the replies of one kind go: a handler, and the line or the event loop that calls it."""

    __slots__ = ("handler", "waiting", "way")

    def __init__(self, handler: Callable[[WorkerMessage], object], way: Way) -> None:
        self.handler = handler
        self.way: Way = way
        #: Replies on the way that the handler has not begun.
        self.waiting = 0


class ReplyPlace:
    """What a reply takes of the mailbox's room, until its handler is through or needs it for a post."""

    __slots__ = ("_is_held", "replies")

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self._is_held = True

    def give_back(self) -> None:
        """Gives it back, the first time."""
        if self._is_held:
            self._is_held = False
            self.replies._taken(1)


#: The place of the reply whose handler runs in this context.
_place: ContextVar[ReplyPlace | None] = ContextVar("pytoweb_place", default=None)


class Replies:
    """Replies on their way to one owner, in order, never on the worker's thread.

    A reply goes to the event loop that ran where its handler was registered, else to the pool's line of them.
    One that comes before there is a handler is kept, up to the mailbox's capacity. Each takes a place of the
    mailbox's room until its handler is through; those that are kept take none.
    """

    __slots__ = (
        "_capacity",
        "_is_losing",
        "_is_warned",
        "_kept",
        "_name",
        "_owner",
        "_replaced",
        "_routes",
        "_runtime",
        "lost_replies",
    )

    def __init__(
        self, name: str, capacity: int, runtime: PoolRuntime, owner: weakref.ref[Addressable]
    ) -> None:
        self._name = name
        self._capacity = capacity
        self._runtime = runtime
        self._owner = owner
        #: By "response" and "error".
        self._routes: dict[str, ReplyRoute] = {}
        #: Routes of handlers that were replaced, with replies on the way.
        self._replaced: list[ReplyRoute] = []
        self._kept: dict[str, deque[WorkerMessage]] | None = None
        self._is_losing = False
        self._is_warned = False
        #: Replies that went to no handler.
        self.lost_replies = 0

    def set_handler(self, kind: str, handler: Callable[[WorkerMessage], object]) -> None:
        """Sends replies of ``kind`` to ``handler`` from now on, those kept so far first."""
        loop = _aio.running_loop()
        way = self._runtime.reply_line() if loop is None else _aio.bridge_to(loop)
        with _lock:
            before = self._routes.get(kind)
            self._replaced = [route for route in self._replaced if route.waiting]
            if before is not None and before.waiting:
                self._replaced.append(before)
            self._routes[kind] = ReplyRoute(handler, way)
            self._is_warned = False
            kept = None if self._kept is None else self._kept.pop(kind, None)
            for message in kept or ():
                way.call(self._call, handler, message, None)

    def start_afresh(self) -> None:
        """In a forked child: the line is another one there, and replies of the parent stay there."""
        self._kept = None
        self._replaced = []
        self.lost_replies = 0
        for route in self._routes.values():
            route.waiting = 0
            if hasattr(route.way, "join"):
                route.way = self._runtime

    def deliver(self, message_id: str, value: object, failed: bool) -> None:
        """Brings one reply to the owner; called on the worker's thread."""
        if failed:
            kind, data = ERROR, {"id": message_id, "error": value}
        else:
            kind, data = RESPONSE, {"id": message_id, "result": value}
        message = WorkerMessage(kind, data, message_id, self._name)
        with _lock:
            self._is_losing = False
            route = self._routes.get(kind)
            if route is None:
                sent, taken = self._keep(kind, message), 1
            else:
                route.waiting += 1
                sent, taken = route.way.call(self._begin, route, message), 0
                if not sent:
                    # Its event loop is closed, and with it the way of those before.
                    taken, route.waiting = route.waiting, 0
            warns = False
            if not sent:
                self.lost_replies += 1
                warns, self._is_warned = not self._is_warned, True
        if taken:
            self._taken(taken)
        if warns:
            self._warn_of_loss(kind, message_id, route is None)

    def _warn_of_loss(self, kind: str, message_id: str, unhandled: bool) -> None:
        """Says once what its owner has forgotten: more than one line of it would bury the log."""
        if unhandled:
            why = (
                f"it has no {kind!r} handler, and only the last {self._capacity} are kept for one; register "
                f"it with on_message({kind!r}, ...), or post with reply=False where only the id is wanted"
            )
        else:
            why = f"the event loop that its {kind!r} handler was registered on is closed"
        self._log().warning(
            "replies of worker %r are lost, since that to message %r came: %s. This is said once; "
            "stats().lost_replies counts them",
            self._name,
            message_id,
            why,
        )

    def _taken(self, replies: int) -> None:
        owner = self._owner()
        if owner is not None:
            owner._pytoweb_replies_taken(replies)

    def make_room(self) -> None:
        """Gives back what is held in vain: by a handler that posts, and by event loops that are closed."""
        place = _place.get()
        if place is not None and place.replies is self:
            place.give_back()
        taken = 0
        with _lock:
            for route in (*self._routes.values(), *self._replaced):
                if route.waiting and route.way.is_closed():
                    taken += route.waiting
                    route.waiting = 0
        if taken:
            self._taken(taken)

    def is_reply_thread(self) -> bool:
        """Whether the calling thread is one that calls reply handlers."""
        return threading.get_ident() in self._runtime.reply_idents

    def lost(self, message_id: str) -> None:
        """A message was dropped, because as many replies wait as there may be; its own has no room either."""
        with _lock:
            if self._is_losing:
                return
            self._is_losing = True
        self._log().warning(
            "messages of worker %r are dropped without a reply, from %r on: their mailbox's room is taken by "
            "replies that wait for the 'response' and 'error' handlers",
            self._name,
            message_id,
        )

    def tell_of_untold(self, count: int, was_new: bool, is_pool: bool) -> None:
        """Logs messages that the worker has not begun as it stops; neither future nor reply tells of them."""
        which = "pool" if is_pool else "worker"
        messages = "1 message" if count == 1 else f"{count} messages"
        if was_new:
            why = f"was never started: {messages} posted to it"
            instead = "start() it first"
        else:
            why = f"stops before the time of delayed messages: {messages}"
            instead = "stop it later"
        end = "shutdown(cancel_futures=True)" if is_pool else "stop(drain=False)"
        self._log().warning(
            "%s %r %s will not be handled, and no future or reply says so; %s, or end it with %s if they are "
            "not wanted",
            which,
            self._name,
            why,
            instead,
            end,
        )

    def _keep(self, kind: str, message: WorkerMessage) -> bool:
        if self._kept is None:
            self._kept = {}
        kept = self._kept.setdefault(kind, deque(maxlen=self._capacity))
        room = len(kept) < self._capacity
        kept.append(message)
        return room

    def _log(self) -> logging.Logger:
        return logging.getLogger(f"pytoweb.worker.{self._name}")

    def _begin(self, route: ReplyRoute, message: WorkerMessage) -> None:
        with _lock:
            if route.waiting:
                route.waiting -= 1
                place = ReplyPlace(self)
            else:
                # Its place was given back, because its event loop seemed closed.
                place = None
        self._call(route.handler, message, place)

    def _call(
        self, handler: Callable[[WorkerMessage], object], message: WorkerMessage, place: ReplyPlace | None
    ) -> None:
        token = _place.set(place)
        try:
            result = handler(message)
            if hasattr(result, "__await__"):
                import asyncio

                if _aio.running_loop() is None:
                    asyncio.run(_awaited(result))
                else:
                    task = asyncio.ensure_future(result)
                    _tasks.add(task)
                    task.add_done_callback(functools.partial(self._task_done, message.type, place))
                    place = None
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                # Ctrl-C, which came while an event loop of the main thread was here.
                raise
            contained(self._log_raised, message.type, error)
        finally:
            _place.reset(token)
            if place is not None:
                place.give_back()

    def _task_done(self, kind: str, place: ReplyPlace | None, task: Any) -> None:
        _tasks.discard(task)
        if place is not None:
            place.give_back()
        if not task.cancelled() and task.exception() is not None:
            contained(self._log_raised, kind, task.exception())

    def _log_raised(self, kind: str, error: BaseException) -> None:
        self._log().error("the %r handler of worker %r raised", kind, self._name, exc_info=error)

    def report(
        self,
        error: BaseException,
        kind: str,
        message_id: str | None,
        attempt: int,
        handlers: dict[str | None, Callable[..., object]],
    ) -> Coroutine[Any, Any, None] | None:
        """Tells the error handler of a failed message, or the log; called on the worker's thread.

        Returns:
            What is to be awaited on the pool's event loop, if the error handler is a coroutine.
        """
        if _exit.broken_off:
            return None
        on_error = handlers.get(None)
        extra = {
            "worker_name": self._name,
            "message_id": message_id,
            "message_type": kind,
            "attempt": attempt,
        }
        if on_error is None:
            self._log().error(
                FAILED,
                self._name,
                kind,
                exc_info=error,
                extra=extra,
            )
            return None
        try:
            returned = on_error(error)
        except BaseException:
            self._log_error_handler(extra)
            return None
        return self._report_later(returned, extra) if isinstance(returned, CoroutineType) else None

    def tell_of_retry(self, kind: str, attempt: int, wait: float, error: BaseException) -> None:
        """Logs that a message is tried again; called on the worker's thread."""
        self._log().info(
            "worker %r: attempt %d of a message of type %r failed, and is repeated in %.3f s: %r",
            self._name,
            attempt,
            kind,
            wait,
            error,
        )

    def bury(
        self, kind: str, data: object, message_id: str | None, errors: list[BaseException], reply: bool
    ) -> None:
        """Keeps a message that has failed for good as a dead letter; called on the worker's thread."""
        owner = self._owner()
        if owner is None:
            return
        letters = owner._pytoweb.dead_letters
        try:
            letters.add(DeadLetter(owner, kind, data, message_id, errors, reply))
        except BaseException:
            self._log().exception("the dead letter handler of worker %r raised", self._name)

    def report_end_hook(
        self, error: BaseException, handlers: dict[str | None, Callable[..., object]]
    ) -> Coroutine[Any, Any, None] | None:
        """The same for an end hook."""
        if handlers.get(None) is not None or _exit.broken_off:
            return self.report(error, "stop", None, 1, handlers)
        self._log().error("worker %r: its end hook failed", self._name, exc_info=error)
        return None

    async def _report_later(self, coroutine: Coroutine[Any, Any, object], extra: dict[str, Any]) -> None:
        try:
            await coroutine
        except BaseException:
            contained(self._log_error_handler, extra)

    def _log_error_handler(self, extra: dict[str, Any]) -> None:
        self._log().exception("the error handler of worker %r raised", self._name, extra=extra)


#: Reply handlers that are coroutines: asyncio itself keeps only weak references.
_tasks: set[Any] = set()


async def _awaited(awaitable: Any) -> object:
    return await awaitable


def is_whole(error: BaseException) -> bool:
    """Whether the collector has emptied neither the exception, nor what is printed with it."""
    seen: dict[int, BaseException] = {}
    others: list[BaseException | None] = [error]
    while others:
        one = others.pop()
        if one is None or id(one) in seen:
            continue
        seen[id(one)] = one
        # Of the class itself: an exception may define `args` anew.
        if BaseException.args.__get__(one) is None:  # type: ignore[attr-defined]
            return False
        step = one.__traceback__
        while step is not None:
            frame: object = step.tb_frame
            if frame is None:
                return False
            step = step.tb_next
        others += (one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ()))
    return True


def log_unread(
    name: str,
    error: BaseException,
    kind: str,
    attempt: int,
    _finalizing: Callable[[], bool] = sys.is_finalizing,
) -> None:
    """Logs the failure of a message whose future was dropped before any code had looked at it.

    At the end of the interpreter it does nothing: the future of a global variable is dropped there.
    """
    if _finalizing() or _exit.broken_off:
        return
    text, whole = FAILED + ", and its future was dropped unread", is_whole(error)
    if not whole:
        # The collector drops the future, and emptied the exception before: it would crash when it is printed.
        text += f": {type(error).__qualname__}"
    logging.getLogger(f"pytoweb.worker.{name}").error(
        text,
        name,
        kind,
        exc_info=error if whole else None,
        extra={"worker_name": name, "message_id": None, "message_type": kind, "attempt": attempt},
    )
