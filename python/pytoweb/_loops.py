"""The event loops that run the coroutines of ``async def`` handlers and hooks."""

from __future__ import annotations

import contextvars
import threading
import weakref
from queue import Empty, SimpleQueue

from pytoweb import _aio
from pytoweb._contained import contained

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from typing import Any

    from pytoweb._core import Endpoint, Pending, WorkerMessage

#: Seconds after which the thread that waits for the coroutine of a hook looks whether it is to be cancelled:
#: less than the grace of a process worker, after which its child is killed.
HOOK_LOOK = 0.02


class LoopThread:
    """Runs the coroutines of ``async def`` handlers on one event loop.

    The loop goes on whatever runs on it: a task that raises ``SystemExit`` ends a run of the loop, and so
    does ``loop.stop()``.
    """

    def __init__(self, name: str) -> None:
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._bridge = _aio.Bridge(self._loop)
        #: The hooks that run.
        self._hooks: set[asyncio.Task[None]] = set()
        #: The handlers that run of messages without a future, an id and a deadline, and their workers.
        self._posted: dict[Pending, tuple[asyncio.Task[None], weakref.ref[Endpoint]]] = {}
        closing = self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, closing, self._hooks), name=name, daemon=True
        )
        self._thread.start()

    @staticmethod
    def _run(
        loop: asyncio.AbstractEventLoop, closing: threading.Event, hooks: set[asyncio.Task[None]]
    ) -> None:
        import asyncio

        asyncio.set_event_loop(loop)
        while not closing.is_set() and not loop.is_closed():
            contained(loop.run_forever)
        # No message waits for some of them: what is left of an error handler is finished all the same.
        while hooks:
            contained(_run_until_complete, loop, list(hooks))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        # Each run that ends early has ended a task.
        while tasks := [task for task in asyncio.all_tasks(loop) if not task.done()]:
            contained(_run_until_complete, loop, tasks)
        contained(loop.run_until_complete, loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()

    def run(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        owner: weakref.ref[Endpoint],
    ) -> None:
        if not self._bridge.call(self._begin, coroutine, context, pending, owner):
            coroutine.close()
            raise RuntimeError("the event loop of the pool is closed")

    def _begin(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        owner: weakref.ref[Endpoint],
    ) -> None:
        # The task takes a copy of the context that is current when it is made.
        if context is None:
            context = contextvars.Context()
        task = context.copy().run(self._loop.create_task, self._drive(coroutine, pending, owner))
        if task.done() or pending.on_interrupt(lambda: self._bridge.call(task.cancel)):
            return
        self._posted[pending] = task, owner
        # `terminate` may have come before it was there to be found.
        if pending.is_terminated():
            self._stop(owner)

    def stop_posted(self, owner: Endpoint) -> None:
        """Cancels the handlers of a terminated worker whose messages have no future, id or deadline."""
        self._bridge.call(self._stop, weakref.ref(owner))

    def _stop(self, owner: weakref.ref[Endpoint]) -> None:
        # One object has one weak reference, which stays when it is gone.
        for pending in [pending for pending, (_, of) in self._posted.items() if of is owner]:
            # A second time would break off what the handler does about the first.
            task, _ = self._posted.pop(pending)
            task.cancel()

    async def _drive(
        self, coroutine: Coroutine[Any, Any, object], pending: Pending, owner: weakref.ref[Endpoint]
    ) -> None:
        running = _aio.Running(None, owner)
        _aio.running.set(running)
        try:
            running.message = pending.message()
            result = await coroutine
        except BaseException as error:
            # SystemExit and KeyboardInterrupt fail the message, and go no further.
            pending.failed(error)
        else:
            pending.completed(result)
        finally:
            running.end()
            self._posted.pop(pending, None)

    def run_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
        begun: SimpleQueue[asyncio.Task[None]] | None = None,
    ) -> None:
        """Runs the coroutine of a hook, and calls ``then`` on the loop with what it raised; does not wait.

        Its task is put into ``begun``.
        """
        if not self._bridge.call(self._begin_hook, coroutine, context, message, owner, then, begun):
            coroutine.close()
            raise RuntimeError("the event loop of the pool is closed")

    def _begin_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
        begun: SimpleQueue[asyncio.Task[None]] | None,
    ) -> None:
        context = contextvars.Context() if context is None else context.copy()
        task = context.run(self._loop.create_task, self._drive_hook(coroutine, message, owner, then))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)
        if begun is not None:
            begun.put(task)

    @staticmethod
    async def _drive_hook(
        coroutine: Coroutine[Any, Any, object],
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
    ) -> None:
        running = _aio.Running(message, owner)
        _aio.running.set(running)
        try:
            await coroutine
        except BaseException as error:
            running.end()
            then(error)
        else:
            running.end()
            then(None)

    def finish_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
    ) -> None:
        """Runs the coroutine of a hook, waits for its end, and raises what it raised.

        It is cancelled once its message is: that has expired, or its worker was terminated.
        """
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        begun: SimpleQueue[asyncio.Task[None]] = SimpleQueue()
        # An end hook that begins after `terminate` runs all the same.
        watches = message is not None and not message.cancelled
        self.run_hook(coroutine, context, message, owner, ended.put, begun)
        while True:
            try:
                error = ended.get(timeout=HOOK_LOOK if watches else None)
                break
            except Empty:
                if message is not None and message.cancelled:
                    watches = False
                    self._bridge.call(begun.get().cancel)
        if error is not None:
            raise error

    def close(self) -> None:
        self._closing.set()
        self._bridge.call(self._loop.stop)

    def join(self, timeout: float | None = None) -> bool:
        if self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _run_until_complete(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> None:
    import asyncio

    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
