"""Components: state that any thread may update, rendered to HTML, with workers that end when it does.

A component needs no server and no browser: `render()` gives text.

Example:
    >>> from pytoweb.components import Component, html
    >>> class Greeting(Component):
    ...     def render(self):
    ...         return html("<p>Hello {name}</p>", name=self.state["name"])
    >>> greeting = Greeting()
    >>> greeting.update_state(name="<you>")
    >>> greeting.render()
    '<p>Hello &lt;you&gt;</p>'
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NoReturn, TypeVar, overload

from pytoweb._component_html import Markup, escape, html
from pytoweb._component_result import AsyncResult
from pytoweb._component_runs import Runs
from pytoweb._component_state import Changes, Listener, StateCell, StateFunction
from pytoweb._component_workers import OwnedWorkers, make_worker
from pytoweb._core import checked_timeout

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pytoweb._options import PoolOptions
    from pytoweb._pool import WorkerPool
    from pytoweb._worker import WorkerOptions
    from pytoweb.futures import WorkerFuture
    from pytoweb.workers import PythonWorker

__all__ = ["AsyncResult", "Component", "Markup", "escape", "html"]

_C = TypeVar("_C", bound="Component")
_T = TypeVar("_T")

_logger = logging.getLogger("pytoweb.component")


class Component:
    """State, a way to render it, and the workers that feed it.

    Subclass it, give it workers in `__init__` or `on_mount`, let their handlers call `update_state`,
    and override `render`. Every method may be called from any thread.

    A component owns a worker, which means that `unmount` stops it, if
    - `create_worker` made it, or
    - it was assigned to an attribute of the component (`self.worker = PythonWorker(...)`), no pool
      made it, and no other component owned it already.
    It stays owned until then, also if the attribute is overwritten. So a worker that several
    components share is made by a `WorkerPool`, or kept in an attribute of the class.
    """

    # Name-mangled, so that a subclass may use any name of its own.
    __state: StateCell
    __workers: OwnedWorkers
    __runs: Runs
    __mounting: threading.Lock
    __mounted: bool

    def __new__(cls: type[_C], *args: object, **kwargs: object) -> _C:
        """Makes the component's inside; here, so that it is there before any line of an `__init__`."""
        self = super().__new__(cls)
        self.__workers = OwnedWorkers()  # first, because __setattr__ asks it
        self.__state = StateCell(cls.__name__)
        self.__runs = Runs(self.__state, cls.__name__)
        self.__mounting = threading.Lock()
        self.__mounted = False
        return self

    def __init__(self) -> None:
        """Makes a component with an empty state; `update_state` gives it a first one."""
        super().__init__()

    def __setattr__(self, name: str, value: object) -> None:
        """Sets the attribute; a worker set so is owned from now on (see the class)."""
        super().__setattr__(name, value)
        self.__workers.claim(value)

    # -- state

    @property
    def state(self) -> Mapping[str, Any]:
        """The state now: an immutable snapshot, which later updates leave as it is.

        Writing to it, or assigning `state`, is a `TypeError`; `dict(component.state)` is a copy of
        your own. The values in it are not frozen: give `update_state` a new list or dict instead of
        changing one in place, which no listener hears of.
        """
        return self.__state.snapshot

    @state.setter
    def state(self, value: NoReturn) -> NoReturn:
        raise TypeError(
            "state cannot be assigned: call update_state({'key': value}), which also tells the listeners"
        )

    def update_state(
        self, mapping_or_function: Changes | StateFunction | None = None, /, **changes: Any
    ) -> None:
        """Merges changes into the state and tells the listeners; from any thread, no update is lost.

        The call is one patch. Each call applies its own, one at a time, in the order in which they get the
        component's lock, and publishes the state whole. Then it tells the listeners, unless another thread
        is telling: that thread, or one that takes over from it, will tell them of this state or a newer one.
        Called inside a function patch, it returns at once, and this thread applies the patch right after
        that one. Else `state` shows the patch when the call returns, also inside a listener. A value that
        depends on the state needs a function patch, which gets the state with every earlier patch in it.

        It waits for the function patches of other threads, never for their listeners. So a function must
        not wait for another thread that updates this component: that call would wait for the function,
        until it raises `TimeoutError` after 30 s. Functions of two components that update each other's
        from two threads wait for each other in the same way. A call that has told the listeners of
        other threads' patches for 0.1 s pauses for 0.1 s at most, in which the next caller takes over.
        A listener that updates the state every time it is called never ends: update only on a difference.

        It works on an unmounted component too: a worker that finishes its queue may still report.

        Args:
            mapping_or_function: New values by key, or a function that gets the current snapshot and
                returns such a mapping. The function runs once, on this thread and under the lock; it
                should be quick. An empty mapping changes nothing and tells no listener.
            **changes: More new values; they win over the first argument.

        Raises:
            TypeError: What was given, or what the function returned, is no mapping with str keys.
            TimeoutError: The functions of other threads took longer than 30 s. Nothing is changed.
            BaseException: What the function raised; its patch changes nothing. Else what the function of
                a call within it raised. Before both, a `KeyboardInterrupt` that a listener raised. Of
                several, the logger `pytoweb.component` logs those that are not raised.
        """
        self.__state.update(mapping_or_function, changes)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls the listener with the newest snapshot after one or more updates.

        Listeners are called in the order of subscription, by one of the threads that updated, one
        thread at a time, holding no lock; none sees an older snapshot after a newer one, and each is
        told of the newest. One that raises is logged by the logger `pytoweb.component`, and the
        others are still called. One that is subscribed twice is called twice.

        Args:
            listener: Called with the snapshot and nothing else.

        Returns:
            A function that ends the subscription. Calling it again does no harm. A call of the
            listener that another thread has begun may still be running when it returns.

        Raises:
            TypeError: The listener is not callable.
        """
        return self.__state.subscribe(listener)

    # -- functions in workers

    if TYPE_CHECKING:

        @overload
        def run(
            self,
            fn: Callable[..., Coroutine[Any, Any, _T]],
            /,
            *args: Any,
            into: str | None = None,
            exclusive: bool = False,
            pool: WorkerPool | PoolOptions | None = None,
            **kwargs: Any,
        ) -> WorkerFuture[_T]: ...
        @overload
        def run(
            self,
            fn: Callable[..., _T],
            /,
            *args: Any,
            into: str | None = None,
            exclusive: bool = False,
            pool: WorkerPool | PoolOptions | None = None,
            **kwargs: Any,
        ) -> WorkerFuture[_T]: ...

    def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        into: str | None = None,
        exclusive: bool = False,
        pool: WorkerPool | PoolOptions | None = None,
        **kwargs: Any,
    ) -> WorkerFuture[Any]:
        """Has `fn(*args, **kwargs)` called in a worker, and shows an `AsyncResult` of it in the state.

        `state[into]` is ``loading`` when this returns, or has ended already; then it is ``ok`` with the
        result, or ``failed`` with the error. What `fn` says by ``current_worker().progress()`` is its
        `progress`, at most 20 times a second. Each change is an update as by `update_state`: the listeners
        are told by the thread that settles the reply, as a rule the worker's, of a report as handlers of
        `on_progress` are called, and no lock is held. It may be a moment after `result()` has returned.

        The last call for a key owns it: the state there ends as that call does, whichever ends last. Without
        `exclusive` the calls before go on, and a result that one of them gives while the last is loading is
        its `previous`, unless a newer one came before; their failures are not shown, and what comes after the
        end of the last is discarded. With `exclusive` they are cancelled as by `WorkerFuture.cancel`, and
        nothing of them is shown: one that is queued never runs, a coroutine is cancelled, and a function that
        runs goes on until it looks at `current_message().cancelled`.

        `unmount` cancels them too, does not wait for them, and nothing of them is written after it. The key
        stays as it is; the next `mount` makes one that is loading ``failed`` with a `CancelledError`.

        Until it ends a call keeps the state and the listeners, and what these refer to: the component too,
        where a listener is a method of it, but not else. A component that the program has dropped meanwhile
        is not unmounted: its calls go on, and the listeners are told of their ends.

        A failure that the caller does not read from the future is logged like any other when that is dropped,
        also if the state shows it; not that of a call which was superseded or unmounted. In a forked child
        what was loading has failed with `ForkedProcessError`.

        It blocks while the pool's mailbox is full, as `submit` does, and for the functions of others as
        `update_state` does. If it raises, the state is as it was, and earlier calls go on.

        Args:
            fn: What to call: a function, or an ``async def`` function, which runs on the pool's event loop.
                For a process pool it is one that can be pickled, so no method of the component.
            *args: Its arguments.
            into: The key of the state; None is the function's name.
            exclusive: Whether earlier calls for the key are cancelled.
            pool: Where it runs, or what `WorkerPool.options` returned, which has a timeout, say; None is
                `default_pool()`.
            **kwargs: Its keyword arguments; `functools.partial` is for those that have a name from above.

        Returns:
            The future of what it returns. Its `cancel` makes the state ``failed`` with a `CancelledError`.

        Raises:
            MailboxFullError: The pool's mailbox is full, and refuses or cannot be waited for.
            WorkerStoppedError: The pool is shut down.
            WorkerCrashedError: The pool's initializer failed.
            ForkedProcessError: The pool belongs to the parent process.
            SerializationError: The call cannot be sent to another process.
            TypeError: `fn` cannot be called or is a generator function, or has no name and `into` is None;
                or `into`, `exclusive` or `pool` is of a wrong type.
            RuntimeError: The component is unmounted; or this was called in a function of `update_state`.
            TimeoutError: As for `update_state`.
        """
        return self.__runs.start(fn, args, kwargs, into, exclusive, pool)

    # -- HTML

    def render(self) -> str:
        """Returns the component as HTML; override it.

        This one is a definition list of the state, every value escaped, a list or tuple as one `dd`
        per item. An `AsyncResult` is its result once it is ok; else the result before with a `progress`
        element, or with the error in an `em`. An override uses `html`, which escapes what it puts into a
        template; an f-string does not.
        """
        rows = []
        for name, value in self.state.items():
            value = value.result if isinstance(value, AsyncResult) and value.ok else value
            items = value if isinstance(value, (list, tuple)) and value else [value]
            rows.append(html("<dt>{name}</dt>{items}", name=name, items=[_dd(item) for item in items]))
        return html("<dl>{rows}</dl>", rows=rows)

    def __html__(self) -> str:
        """Returns `render()`: so a component put into `html`, or another template library, nests."""
        rendered = self.render()
        if not isinstance(rendered, str):
            raise TypeError(
                f"{type(self).__name__}.render() must return a str, not {type(rendered).__name__}"
            )
        return rendered

    # -- life

    @property
    def mounted(self) -> bool:
        """True from `mount` to `unmount`."""
        return self.__mounted

    def create_worker(self, name: str, **options: Unpack[WorkerOptions]) -> PythonWorker:
        """Returns a new worker that this component owns, not started.

        Args:
            name: The worker's name.
            **options: What else `PythonWorker` takes.

        Raises:
            TypeError, ValueError: As `PythonWorker` does.
        """
        worker = make_worker(name, options)
        self.__workers.claim(worker)
        return worker

    def mount(self) -> None:
        """Puts the component into use: calls `on_mount`, once until `unmount`.

        Mounting again after `unmount` is allowed. A stopped worker cannot be started again, so a
        component that is mounted more than once makes its workers in `on_mount`.

        Raises:
            BaseException: What `on_mount` raised; the component is then not mounted.
        """
        if not self.__switch(True):
            return
        self.__runs.open()
        try:
            self.on_mount()
        except BaseException:
            self.__switch(False)
            raise

    def unmount(self, *, timeout: float | None = None) -> None:
        """Takes the component out of use: calls `on_unmount` if mounted, then ends its runs and its workers.

        What `run` has started is cancelled, and not waited for. The workers finish what is queued, the last
        one made first, each before the next is stopped; this call waits for that. Called from a handler of
        one of them, it does not wait for that one. A call while another thread is unmounting returns at once.
        Owned workers are stopped also if the component was never mounted. In a coroutine, run it with
        `asyncio.to_thread`.

        State, listeners and attributes stay. Stopped workers are no longer owned.

        Args:
            timeout: Seconds for all workers together, None for as long as it takes. Past it, what is
                still queued fails, as `PythonWorker.stop` says.

        Raises:
            DeadlineError: The timeout passed.
            TypeError: The timeout is not a number; nothing was done.
            ValueError: The timeout is negative or NaN; nothing was done.
            BaseException: The first error of `on_unmount` and of the stops. Every worker is stopped
                nevertheless; further errors are logged by the logger `pytoweb.component`.
        """
        timeout = checked_timeout(timeout)
        errors: list[BaseException] = []
        if self.__switch(False):
            try:
                self.on_unmount()
            except BaseException as exc:
                errors.append(exc)
        try:
            self.__runs.close()
        except KeyboardInterrupt as exc:
            errors.append(exc)
        errors += self.__workers.stop(timeout)
        for error in errors[1:]:
            name = type(self).__name__
            _logger.error("%s: unmount failed further", name, exc_info=error, extra={"component": name})
        try:
            for error in errors:
                raise error
        finally:
            errors.clear()  # else this frame and the traceback keep each other alive

    def on_mount(self) -> None:
        """Called by `mount`; does nothing. The place to make and start workers."""

    def on_unmount(self) -> None:
        """Called by `unmount` before the workers are stopped; does nothing. They may still be posted to."""

    def __enter__(self: _C) -> _C:
        """Mounts the component."""
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unmounts the component, with no timeout."""
        self.unmount()

    def __switch(self, mounted: bool) -> bool:
        """Returns whether this call changed it, so that of several threads one runs the hook."""
        with self.__mounting:
            changed = self.__mounted is not mounted
            self.__mounted = mounted
            return changed


def _dd(value: object) -> Markup:
    return html("<dd>{value}</dd>", value=value)
