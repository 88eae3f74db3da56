"""The event loops that run the coroutines of ``async def`` handlers and hooks, a few for the whole program.

A `Tenant` is the part that one pool, or one worker with threads of its own, has in a loop. Each takes a
loop of its own while there are fewer than `MOST_LOOPS`, then the one with the fewest tenants, and keeps it.
A tenant that ends cancels what its own coroutines left, and nothing of the others; the loop and its thread
end with the last.

Past 600 lines, because a loop, its tenants and its turns, as the watchdog looks at them, change together.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import sys
import threading
import time
import weakref
from queue import Empty, SimpleQueue

from pytoweb import _aio, _exit
from pytoweb._contained import contained
from pytoweb._core import LoopLabel, Select, note_wait_of, turn_of_loop

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable
    from contextvars import Context
    from typing import Any

    from pytoweb._core import Endpoint, HeldWaits, Pending, WorkerMessage

#: Event loops that pools share. One would do for coroutines that never block. Four: a coroutine that
#: blocks, or computes for long, holds up those of few others, and programs with few pools have a loop for
#: each of them.
MOST_LOOPS = 4

#: Seconds after which the thread that waits for the coroutine of a hook looks whether it is to be cancelled:
#: less than the grace of a process worker, after which its child is killed.
HOOK_LOOK = 0.02

#: Of the list of loops and of their tenants. Reentrant, because the collector may run a worker's `__del__`
#: anywhere.
_lock = threading.RLock()
#: The loops that take tenants.
_shared: list[LoopThread] = []
#: Those whose threads have not ended, these among them.
_living: list[LoopThread] = []
_numbers = itertools.count(1)


class LoopThread(threading.Thread):
    """The thread of one event loop, until its last tenant has ended.

    The loop goes on whatever runs on it: a task that raises ``SystemExit`` ends a run of the loop, and so
    does ``loop.stop()``.
    """

    def __init__(self, name: str) -> None:
        import asyncio

        super().__init__(name=name, daemon=True)
        #: By it the watchdog knows the loop.
        self.label = LoopLabel(name)
        self.policy = _policy()
        self.loop = asyncio.new_event_loop()
        if not _KNOWS_CONTEXTS:
            self.loop.set_task_factory(_note_task)  # type: ignore[arg-type]
        self.make_task = asyncio.Task
        _note_waits(self.loop)
        self.bridge = _aio.Bridge(self.loop)
        self.tenants: set[Tenant] = set()
        #: The hooks that run, of all tenants.
        self.hooks: set[asyncio.Task[None]] = set()
        #: The coroutine that blocks it, while one does and waits for a worker.
        self.blocked: Blocked | None = None
        self._closing = threading.Event()
        with _lock:
            _living.append(self)
        try:
            self.start()
        except BaseException:
            with _lock:
                _living.remove(self)
            self.loop.close()
            raise

    @property
    def name(self) -> str:
        """Its name; in a coroutine of a handler with its worker or pool behind that, as a pool's threads."""
        name: str = self._name  # type: ignore[attr-defined]
        if self.ident != threading.get_ident():
            return name
        owner = _aio.running_owner()
        own = None if owner is None else getattr(owner, "_pytoweb", None)
        return name if own is None else f"{name} ({own.name})"

    @name.setter
    def name(self, name: str) -> None:
        threading.Thread.name.fset(self, name)  # type: ignore[attr-defined]

    def run(self) -> None:
        """Runs the loop."""
        import asyncio

        loop, hooks = self.loop, self.hooks
        self.label.begin()
        asyncio.set_event_loop(loop)
        while not self._closing.is_set() and not loop.is_closed():
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
        with _lock:
            # Not in a process that one of its coroutines forked.
            if self in _living:
                _living.remove(self)
        loop.close()

    def leave(self, tenant: Tenant) -> None:
        """A tenant has ended; the last one ends the loop."""
        with _lock:
            self.tenants.discard(tenant)
            if self.tenants:
                return
            if self in _shared:
                _shared.remove(self)
        self._closing.set()
        self.bridge.call(self.loop.stop)

    def is_closing(self) -> bool:
        """Whether it ends: all tenants have."""
        return self._closing.is_set()

    def wait(self, timeout: float | None) -> bool:
        """Waits for the end of the thread, if it is to end; false when ``timeout`` has passed."""
        if self._closing.is_set() or self.loop.is_closed():
            self.join(timeout)
            return not self.is_alive()
        return True


class Blocked:
    """A coroutine blocks its loop until something of a worker has ended; the others there wait for it."""

    def __init__(self, home: LoopThread, running: _aio.RunningCoroutine) -> None:
        self._home = home
        self._running = running
        self._before = home.blocked
        self._waits: list[HeldWaits] = []

    def begin(self) -> None:
        """Notes it, and all that it holds up.

        Raises:
            AskCycleError: it waits for one of them.
        """
        # First: one that comes to the loop now is noted, and then looks whether the loop is blocked.
        self._home.blocked = self
        try:
            for tenant in list(self._home.tenants):
                for running in list(tenant.runs):
                    self.hold_up(running)
        except BaseException:
            self.end()
            raise

    def hold_up(self, running: _aio.RunningCoroutine) -> None:
        """Notes that another coroutine cannot go on.

        Raises:
            AskCycleError: this one waits for it.
        """
        waiter = None if running.owner is None else running.owner()
        target = None if self._running.owner is None else self._running.owner()
        if running is self._running or waiter is None or target is None:
            return
        self._waits.append(note_wait_of(waiter, running.message, target, self._running.message))

    def end(self) -> None:
        """It goes on."""
        self._home.blocked = self._before
        self._waits.clear()


def block() -> Blocked | None:
    """Notes that the coroutine that runs here is about to block its thread, for something of a worker to end.

    Returns:
        What is told of its end; None where this thread runs no loop of handlers.

    Raises:
        AskCycleError: the loop runs a coroutine that this one waits for: it would wait for ever.
    """
    home = threading.current_thread()
    running = _aio.running.get()
    if not isinstance(home, LoopThread) or running is None:
        return None
    blocked = Blocked(home, running)
    blocked.begin()
    return blocked


class Tenant:
    """The coroutines of one pool, or of one worker with threads of its own."""

    def __init__(self, home: LoopThread) -> None:
        self._home = home
        self._loop = home.loop
        self._bridge = home.bridge
        #: The hooks that run.
        self._hooks: set[asyncio.Task[None]] = set()
        #: The handlers and hooks that run, or will, and their tasks once they have begun.
        self.runs: dict[_aio.RunningCoroutine, asyncio.Task[None] | None] = {}
        #: Those handlers of messages without a future, an id and a deadline, and their workers.
        self._posted: dict[Pending, tuple[asyncio.Task[None], weakref.ref[Endpoint]]] = {}
        #: What they have begun, where tasks cannot be asked for their contexts.
        self.tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], _aio.RunningCoroutine] = (
            weakref.WeakKeyDictionary()
        )
        self._ended = threading.Event()

    def run(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        owner: weakref.ref[Endpoint],
    ) -> None:
        """Runs the coroutine of a handler, and tells ``pending`` of its end; does not wait."""
        running = _aio.RunningCoroutine(None, owner, self)
        try:
            running.message = pending.comes_to(self._home.label)
            running.pending = pending
            self._enter(running)
            if self._ended.is_set() or not self._bridge.call(
                self._begin, coroutine, context, pending, running
            ):
                raise RuntimeError("the event loop of the pool is closed")
        except BaseException:
            self.runs.pop(running, None)
            coroutine.close()
            raise

    def _enter(self, running: _aio.RunningCoroutine) -> None:
        """Notes a coroutine that is to run, before it is on the loop.

        Raises:
            AskCycleError: a coroutine there blocks the loop until this one has ended.
        """
        self.runs[running] = None
        # After that: one that is about to block looks at what is noted once it has noted itself.
        blocked = self._home.blocked
        if blocked is not None:
            blocked.hold_up(running)

    def _begin(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        pending: Pending,
        running: _aio.RunningCoroutine,
    ) -> None:
        task = self._task(context, running, self._drive(coroutine, pending, running))
        if task.done():
            return
        self.runs[running] = task
        if pending.on_interrupt(lambda: self._bridge.call(self._cancel, task)):
            return
        owner = running.owner
        if owner is None:
            return
        self._posted[pending] = task, owner
        # `terminate` may have come before it was there to be found.
        if pending.is_terminated():
            self._stop(owner)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        """Cancels a task after its first step: before that, nothing of it would run, and tell of its end.

        That step is in the loop's line already. A call of the bridge may come before it, with others.
        """
        self._loop.call_soon(task.cancel)

    def _task(
        self, context: Context | None, running: _aio.RunningCoroutine, coroutine: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        """A task with a copy of ``context``, in which ``running`` runs."""
        context = contextvars.Context() if context is None else context.copy()
        # Before the task is made: it is this tenant's from then on, and not its sender's.
        context.run(_aio.running.set, running)
        if self._loop.get_task_factory() is _note_task:
            # It need not be noted beside `runs`, and is made sooner.
            return context.run(self._home.make_task, coroutine, loop=self._loop)
        return context.run(self._loop.create_task, coroutine)

    def stop_posted(self, owner: Endpoint) -> None:
        """Cancels the handlers of a terminated worker whose messages have no future, id or deadline."""
        self._bridge.call(self._stop, weakref.ref(owner))

    def _stop(self, owner: weakref.ref[Endpoint]) -> None:
        # One object has one weak reference, which stays when it is gone.
        for pending in [pending for pending, (_, of) in self._posted.items() if of is owner]:
            # A second time would break off what the handler does about the first.
            task, _ = self._posted.pop(pending)
            self._cancel(task)

    async def _drive(
        self, coroutine: Coroutine[Any, Any, object], pending: Pending, running: _aio.RunningCoroutine
    ) -> None:
        try:
            result = await coroutine
        except BaseException as error:
            # SystemExit and KeyboardInterrupt fail the message, and go no further.
            pending.failed(error)
        else:
            pending.completed(result)
        finally:
            self._leave(running)
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
        running = _aio.RunningCoroutine(message, owner, self)
        try:
            self._enter(running)
            hook = coroutine, context, running, then, begun
            if self._ended.is_set() or not self._bridge.call(self._begin_hook, *hook):
                raise RuntimeError("the event loop of the pool is closed")
        except BaseException:
            self.runs.pop(running, None)
            coroutine.close()
            raise

    def _begin_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        context: Context | None,
        running: _aio.RunningCoroutine,
        then: Callable[[BaseException | None], object],
        begun: SimpleQueue[asyncio.Task[None]] | None,
    ) -> None:
        task = self._task(context, running, self._drive_hook(coroutine, running, then))
        if not task.done():
            self.runs[running] = task
        for hooks in (self._hooks, self._home.hooks):
            hooks.add(task)
            task.add_done_callback(hooks.discard)
        if begun is not None:
            begun.put(task)

    async def _drive_hook(
        self,
        coroutine: Coroutine[Any, Any, object],
        running: _aio.RunningCoroutine,
        then: Callable[[BaseException | None], object],
    ) -> None:
        try:
            await coroutine
        except BaseException as error:
            self._leave(running)
            then(error)
        else:
            self._leave(running)
            then(None)

    def _leave(self, running: _aio.RunningCoroutine) -> None:
        running.end()
        self.runs.pop(running, None)

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
                    self._bridge.call(self._cancel, begun.get())
        if error is not None:
            raise error

    def close(self) -> None:
        """Finishes the hooks that run, and cancels what else its coroutines left; does not wait."""
        with _lock:
            is_last = self._home.tenants <= {self}
            if is_last:
                # The thread does all of it, and what runs for no tenant is cancelled as well.
                self._home.leave(self)
        if not is_last and not self._bridge.call(self._begin_end):
            self._home.leave(self)
            self._ended.set()

    def _begin_end(self) -> None:
        # In a context of its own, in which it is no task of the tenant.
        task = contextvars.Context().run(self._loop.create_task, self._end())
        _ends.add(task)
        task.add_done_callback(_ends.discard)

    async def _end(self) -> None:
        """Ends the tenant on a loop that others go on using."""
        try:
            while self._hooks:
                await _settled(self._hooks)
            for task in self._left():
                task.cancel()
            while tasks := self._left():
                await _settled(tasks)
        finally:
            self._home.leave(self)
            self._ended.set()

    def _left(self) -> list[asyncio.Task[Any]]:
        """The tasks that its coroutines began, and that have not ended."""
        if not _KNOWS_CONTEXTS:
            begun = [*self.runs.values(), *self.tasks]
            return [task for task in begun if task is not None and not task.done()]
        import asyncio

        return [task for task in asyncio.all_tasks(self._loop) if _tenant_of(task) is self]

    def join(self, timeout: float | None = None) -> bool:
        """Waits for the end, and, where it was the last tenant, for that of the thread.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it has ended. True at once on the loop's own thread.
        """
        if self._home is threading.current_thread():
            return True
        end = None if timeout is None else time.monotonic() + timeout
        if not self._home.is_closing() and not self._ended.wait(timeout):
            return False
        return self._home.wait(None if end is None else max(0.0, end - time.monotonic()))


#: Tasks that end tenants: asyncio itself keeps only weak references.
_ends: set[asyncio.Task[None]] = set()

#: Whether a task says which context it has; if not, a task factory notes whose task each is.
_KNOWS_CONTEXTS = sys.version_info >= (3, 12)


def _tenant_of(task: asyncio.Task[Any]) -> object:
    """Whose coroutine began a task."""
    running = _running_of(task)
    return None if running is None else running.tenant


def _running_of(task: asyncio.Task[Any]) -> _aio.RunningCoroutine | None:
    """The handler or hook that is a task, or began it."""
    if _KNOWS_CONTEXTS:
        found: _aio.RunningCoroutine | None = task.get_context().get(_aio.running)  # type: ignore[attr-defined]
        return found
    begun = (tenant.tasks.get(task) for home in _homes() for tenant in list(home.tenants))
    own = (running for _, running, of_run in running_now() if of_run is task)
    return next((running for running in (*own, *begun) if running is not None), None)


def _note_waits(loop: asyncio.AbstractEventLoop) -> None:
    """Has the watchdog know when the loop waits, and when it is at work.

    Of a loop that is not asyncio's own it does not know it.
    """
    selector = getattr(loop, "_selector", None)
    with contextlib.suppress(AttributeError, TypeError):
        selector.select = Select(selector.select).wait  # type: ignore[union-attr]


def _note_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Makes a task, as a loop without a task factory does, and notes whose it is."""
    import asyncio

    task = asyncio.Task(coroutine, loop=loop, **options)
    running = _aio.running.get()
    if running is not None and running.tenant is not None:
        running.tenant.tasks[task] = running
    return task


def _policy() -> object:
    """What makes event loops: a loop that another one has made may be of another kind."""
    import asyncio

    # From Python 3.14 on the public function warns.
    get = getattr(asyncio.events, "_get_event_loop_policy", None) or asyncio.get_event_loop_policy
    return get()


def take_part() -> Tenant:
    """A part in a loop: a new one while there are few, else that with the fewest tenants.

    Raises:
        RuntimeError: the system refuses a new thread, and there is no loop yet.
    """
    with _lock:
        # One that a coroutine makes may be waited for by that coroutine, which then blocks its loop.
        here, policy = threading.current_thread(), _policy()
        fitting = [home for home in _shared if home.policy is policy and home is not here]
        if len(_shared) >= MOST_LOOPS and fitting:
            return _tenant(min(fitting, key=lambda home: len(home.tenants)))
        try:
            home = LoopThread(f"pytoweb-loop-{next(_numbers)}")
        except RuntimeError:
            if not fitting:
                raise
            return _tenant(min(fitting, key=lambda home: len(home.tenants)))
        _shared.append(home)
        return _tenant(home)


def of_its_own(name: str) -> Tenant:
    """All of a loop that is shared with none, on a thread of this name.

    Raises:
        RuntimeError: the system refuses a new thread.
    """
    return _tenant(LoopThread(name))


def _tenant(home: LoopThread) -> Tenant:
    tenant = Tenant(home)
    home.tenants.add(tenant)
    return tenant


def running_now() -> list[tuple[LoopThread, _aio.RunningCoroutine, asyncio.Task[None]]]:
    """The coroutines of handlers that have begun, on all loops."""
    return [(home, running, task) for home, running, task in runs_now() if task is not None]


def runs_now() -> list[tuple[LoopThread, _aio.RunningCoroutine, asyncio.Task[None] | None]]:
    """The same with those that are still to begin."""
    return [
        (home, running, task)
        for home in _homes()
        for tenant in list(home.tenants)
        for running, task in list(tenant.runs.items())
    ]


def _homes() -> list[LoopThread]:
    with _lock:
        return list(_living)


class LoopTurn:
    """The turn of a loop from one wait to the next: it runs, or has just run.

    Attributes:
        home: the thread of the loop.
        number: that of the turn; None where the loop waits, or tells of no turns.
        task: the task that is at a step; None where none is.
        running: the handler or hook that this task is of; None where that is not known.
    """

    __slots__ = ("home", "number", "running", "task")

    def __init__(self, home: LoopThread) -> None:
        import asyncio

        self.home = home
        self.number = turn_of_loop(home.ident or 0)
        self.task: asyncio.Task[Any] | None = asyncio.current_task(home.loop)
        self.running = None if self.task is None else _running_of(self.task)

    def goes_on(self, seconds: float) -> bool:
        """Waits for that time, and says whether the loop is at the same step then."""
        if self.number is None or self.task is None:
            return False
        time.sleep(seconds)
        now = LoopTurn(self.home)
        return (now.number, now.task) == (self.number, self.task)


def turn_on(ident: int) -> LoopTurn | None:
    """The turn of the loop of that thread, if it has one."""
    return next((LoopTurn(home) for home in _homes() if home.ident == ident), None)


def _start_afresh() -> None:
    """In a forked child, where none of the threads is."""
    global _lock
    _lock = threading.RLock()
    _shared.clear()
    _living.clear()
    _ends.clear()


_exit.unlock_after_fork(_start_afresh)


async def _settled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    import asyncio

    await asyncio.gather(*tasks, return_exceptions=True)


def _run_until_complete(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> None:
    loop.run_until_complete(_settled(tasks))
