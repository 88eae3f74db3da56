"""What handlers tell the owner of their worker while they run: events and progress."""

from __future__ import annotations

from pytoweb import _aio
from pytoweb._callables import checked_handler
from pytoweb._checks import checked_text, named_by_themselves
from pytoweb._core import Endpoint, report_progress, running_message, running_owner

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    from pytoweb._core import WorkerMessage
    from pytoweb._events import EventRoute, Events
    from pytoweb._exits import Exit
    from pytoweb._internals import Internals

    V = TypeVar("V", bound=Callable[[WorkerMessage], object])
    X = TypeVar("X", bound=Callable[[Exit], object])


@named_by_themselves
class Telling(Endpoint):
    """Events of handlers, and their handlers on the owner's side."""

    if TYPE_CHECKING:
        _pytoweb: Internals

        def _pytoweb_tell_surrounded(self) -> None: ...

    def emit(self, name: str, data: object = None) -> None:
        """Tells the owner of something, from a handler: ``current_worker().emit("found", path)``.

        Never waits. The handler that the owner has registered with ``on_event`` is called with it, in the
        owner's process; without one nothing is sent. From a process worker the data is pickled here.

        At most 1 024 events of a worker wait for the handlers of the owner that are called in one line: off
        the worker's threads, or on one event loop. Beyond that the oldest are dropped, counted, and logged
        once for each burst. So are those for which there is no room on the way from a child.

        Args:
            name: which event.
            data: what its handler gets; on a thread the same object.

        Raises:
            RuntimeError: not called in a handler of this worker or pool, its ``on_start`` or what surrounds
                it; an ``on_stop`` hook has no message to speak for.
            TypeError: ``name`` is not a str.
            ValueError: ``name`` has lone surrogates.
            SerializationError: the data cannot be sent to the owner's process.
        """
        checked_text(name, "the name of an event")
        if running_owner() is not self and _aio.running_owner() is not self:
            raise self._pytoweb_not_here("emit()")
        wanted = self._pytoweb.wanted_events
        if wanted is None:
            route = self._pytoweb_event_route(name)
            if route is not None:
                message = self._pytoweb_message_here("emit()")
                self._pytoweb_events().put(route, name, data, message.id)
        elif name in wanted:
            self._pytoweb_message_here("emit()")._emit(name, data)

    def progress(self, done: float, total: float | None = None, text: str | None = None) -> None:
        """Says how far the handler is: ``current_worker().progress(done, total)``, from a handler.

        Never waits, and may be called for each step of a loop. The future of the message shows it
        (``future.progress``, ``future.on_progress``) at most 20 times a second, and the last one in any case.
        A message without a future does nothing with it: a post, a call of ``map``. In a handler of batches it
        is that of the first message.

        Args:
            done: how much is done: a finite number from 0 on.
            total: of how much, in the same unit, likewise; None where that is not known.
            text: at what it is.

        Raises:
            RuntimeError: not called in a handler of this worker or pool, its ``on_start`` or what surrounds
                it.
            TypeError: ``done`` or ``total`` is not a number, or ``text`` is not a str.
            ValueError: ``done`` or ``total`` is negative, infinite or NaN.
        """
        if running_owner() is self:
            report_progress(None, done, total, text)
        else:
            report_progress(self._pytoweb_message_here("progress()"), done, total, text)

    def _pytoweb_message_here(self, call: str) -> WorkerMessage:
        """The message of this worker whose handler runs here, for a method that is for handlers."""
        message = None
        if running_owner() is self:
            message = running_message()
        elif _aio.running_owner() is self:
            message = _aio.running_message()
        # A child runs its end hooks without a message.
        if message is None or (self._pytoweb.wanted_events is None and self._pytoweb_runs_end_hooks()):
            raise self._pytoweb_not_here(call)
        return message

    @staticmethod
    def _pytoweb_not_here(call: str) -> RuntimeError:
        return RuntimeError(f"{call} is for handlers: call current_worker().{call} in one of this worker")

    if TYPE_CHECKING:

        @overload
        def on_event(self, name: str, handler: None = None) -> Callable[[V], V]: ...
        @overload
        def on_event(self, name: str, handler: V) -> V: ...

    def on_event(self, name: str, handler: Any = None) -> Any:
        """Registers ``handler`` for events of one name that handlers ``emit``, replacing an earlier one.

        It is called as handlers of replies are: in the order in which a worker emitted its events, never on
        the worker's thread; on the event loop that runs where it is registered, else one at a time on reply
        threads that all workers and pools share. ``stop()`` waits for it there. An error that it raises is
        logged. A pool's gets the events of its own mailbox, and those of its workers that have no handler for
        the name.

        It may be registered at any time, and gets what is emitted from then on; from a child process, what is
        emitted by messages that begin then.

        Args:
            name: which event.
            handler: called with a ``WorkerMessage``: ``type`` is the name, ``data`` the data, ``worker`` the
                name of the worker that emitted it, and ``id`` that of the message whose handler did. It may
                be ``async def``. Without it, this is a decorator.

        Returns:
            The handler, or a decorator.

        Raises:
            TypeError: ``name`` is not a str, or the handler is not callable, or a generator function.
            ValueError: ``name`` has lone surrogates.
        """
        checked_text(name, "the name of an event")
        if handler is None:
            return lambda function: self.on_event(name, function)
        checked_handler(handler, "the handler of an event")
        self._pytoweb_state()
        from pytoweb._events import EventRoute, way_from_here

        own = self._pytoweb
        events = self._pytoweb_events()
        is_new = name not in events.routes
        events.routes[name] = EventRoute(handler, way_from_here(own.runtime))
        if is_new and own.backend == "process":
            # The child sends those that there is a handler for.
            self._pytoweb_tell_surrounded()
        return handler

    if TYPE_CHECKING:

        @overload
        def on_exit(self, handler: None = None) -> Callable[[X], X]: ...
        @overload
        def on_exit(self, handler: X) -> X: ...

    def on_exit(self, handler: Any = None) -> Any:
        """Registers a handler that is told when this has ended, in the owner's process; several are all told.

        It is called once with an ``Exit``: after the last message and the ``on_stop`` hooks, however it was
        stopped; at once where it has ended already. It is called on the event loop that runs where it is
        registered, else on a reply thread; ``stop()`` waits for it there. A worker or pool that is dropped
        ends after its queue, and one that is never stopped when the program ends. A handler does not keep the
        program from ending, but for the time that it runs. An error that it raises is logged.

        A process that crashes is replaced, and is no end of its worker.

        Args:
            handler: called with the ``Exit``, whose ``reason`` is ``"drained"`` (stopped, after its queue),
                ``"stopped"`` (stopped, its queue has failed; or never started), ``"terminated"``,
                ``"program ends"`` (one of these, by the end of the program), ``"crashed"`` (stopped, and the
                process crashed with the last message that it ran) or ``"failed"`` (its initializer had
                failed, or its processes were given up). ``error`` is the exception of the last two. It may be
                ``async def``. Without it, this is a decorator.

        Returns:
            The handler, or a decorator.

        Raises:
            TypeError: the handler is not callable, or a generator function.
        """
        if handler is None:
            return self.on_exit
        checked_handler(handler, "an exit handler")
        self._pytoweb_state()
        from pytoweb._events import way_from_here
        from pytoweb._exits import Exits

        own = self._pytoweb
        if own.exits is None:
            own.exits = Exits(own.name)
            self._pytoweb_tell_of_exit(own.exits)
        own.exits.add(handler, way_from_here(own.runtime))
        return handler

    def _pytoweb_note_exit(self) -> None:
        """Tells of its end, where it has come: before the line of its replies ends."""
        exits = self._pytoweb.exits
        ended = None if exits is None else self._pytoweb_exit()
        if exits is not None and ended is not None:
            exits.tell(*ended)

    def _pytoweb_events(self) -> Events:
        own = self._pytoweb
        if own.events is None:
            from pytoweb._events import Events

            own.events = Events(own.name)
        return own.events

    def _pytoweb_event_route(self, name: str) -> EventRoute | None:
        """The way of an event: the worker's own, else that of its pool."""
        own = self._pytoweb
        events = own.events
        route = None if events is None else events.routes.get(name)
        if route is None and own.pool is not None:
            events = own.pool._pytoweb.events
            route = None if events is None else events.routes.get(name)
        return route

    def _pytoweb_wanted_events(self) -> frozenset[str]:
        """The names that there are handlers for."""
        own = self._pytoweb
        of_pool = None if own.pool is None else own.pool._pytoweb.events
        return frozenset(
            name for events in (own.events, of_pool) if events is not None for name in events.routes
        )

    def _pytoweb_hear(self) -> None:
        """Puts in line what its child has emitted."""
        from pytoweb._events import hear

        hear(self)

    def _pytoweb_events_dropped(self) -> int:
        """Events that were dropped because their handlers were behind."""
        events = self._pytoweb.events
        return 0 if events is None else events.dropped
