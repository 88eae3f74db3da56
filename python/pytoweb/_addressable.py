"""``Addressable``: what a worker and a pool have in common: handlers, posts and replies.

Past 600 lines, half of which are what ``help()`` shows of its methods.
"""

from __future__ import annotations

import functools
import types
import weakref

from pytoweb import _aio
from pytoweb._around import Around, check_hook
from pytoweb._batch import Batch, batch_handler, checked_batch
from pytoweb._callables import (
    checked_callable,
    checked_handler,
    has_yield,
    may_be_async_generator,
    may_yield,
)
from pytoweb._checks import checked_text, named_by_themselves
from pytoweb._core import Parked, checked_timeout
from pytoweb._exposing import Exposing
from pytoweb._functions import is_coroutine_function
from pytoweb._internals import Internals
from pytoweb._leaving import wait_for_end
from pytoweb._limits import Limits, Rate, checked_rate, wished
from pytoweb._replies import ERROR, RESPONSE, Replies
from pytoweb._retry import DeadLetter, Retry
from pytoweb._room import PostWaiter, enter, line_of
from pytoweb._runtime import PoolRuntime, cast_processes
from pytoweb._streaming import Streaming
from pytoweb._telling import Telling
from pytoweb.errors import DeadlineError, WorkerStoppedError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any, TypeVar, Union, overload

    from pytoweb._core import Threads
    from pytoweb._every import WorkerTimer
    from pytoweb._named import Named

    #: A handler takes the data; a marked method that is not bound yet takes the worker before that.
    H = TypeVar("H", bound=Union[Callable[[Any], object], Callable[[Any, Any], object]])
    A = TypeVar("A", bound=Callable[[], object])
    E = TypeVar("E", bound=Callable[[Any], object])
    R = TypeVar("R")
    S = TypeVar("S", bound=Callable[[], object])

__all__ = ["Addressable"]

#: As the native half says it of `post_message`.
_WOULD_DEADLOCK = (
    "waiting would deadlock, because the caller is this worker's own handler or one that it awaits; post "
    "fewer, or choose another overflow policy"
)

#: Set on functions by ``WorkerDecorators.worker_method``: the message types that the function handles.
MESSAGE_TYPES = "__pytoweb_message_types__"


@named_by_themselves
class Addressable(Streaming, Telling, Exposing):
    """What a worker and a pool have in common: handlers, posts and replies.

    Not made by hand; ``PythonWorker`` and ``WorkerPool`` are its kinds.
    """

    #: Everything of ours; other names are the subclass's.
    _pytoweb: Internals
    #: Else it is a pool.
    _pytoweb_is_worker = True

    def _pytoweb_prepare(
        self,
        own: Internals,
        *,
        limits: Limits,
        overflow: str,
        shared: bool,
        lane: int | None = None,
        max_attempts: int = 1,
        concurrency: int = 1,
    ) -> None:
        """Keeps ``own``, which has its runtime and its threads, and makes the mailbox."""
        capacity, rate = limits.messages, limits.rate
        own.replies = Replies(own.name, capacity, own.runtime, weakref.ref(self))
        own.keep_in(self)
        self._pytoweb_set_up(
            name=own.name,
            capacity=capacity,
            overflow=overflow,
            threads=own.threads,
            handlers=own.handlers,
            replies=own.replies,
            owner=weakref.ref(self),
            shared=shared,
            pool_handlers=None if own.pool is None else own.pool._pytoweb.handlers,
            processes=getattr(own.runtime, "processes", None),
            lane=lane,
            max_attempts=max_attempts,
            rate=None if rate is None else rate.numbers(),
            concurrency=concurrency,
            bytes=limits.bytes,
            size_of=limits.size_of,
            shed=None if limits.shed is None else (limits.shed.target, limits.shed.window),
            stuck_after=limits.stuck_after,
        )

    def _pytoweb_start_afresh_on(self, threads: Threads, runtime: PoolRuntime) -> None:
        """In a forked child: begins as one that has started nothing, on threads of this process."""
        own = self._pytoweb
        own.threads, own.runtime, own.line = threads, runtime, None
        own.replies.start_afresh()
        if own.events is not None:
            own.events.start_afresh(runtime)
        if own.exits is not None:
            own.exits.start_afresh(runtime)
        self._pytoweb_renew(threads, getattr(runtime, "processes", None))
        if own.exits is not None:
            self._pytoweb_tell_of_exit(own.exits)
        if own.timers:
            from pytoweb._every import renew_all

            renew_all(self)

    if TYPE_CHECKING:

        @overload
        def on_message(
            self,
            message_type: str,
            handler: None = None,
            *,
            soft_timeout: float | None = None,
            rate: Rate | str | float | None = None,
            retry: Retry | None = None,
            batch: Batch | None = None,
        ) -> Callable[[H], H]: ...
        @overload
        def on_message(
            self,
            message_type: str,
            handler: H,
            *,
            soft_timeout: float | None = None,
            rate: Rate | str | float | None = None,
            retry: Retry | None = None,
            batch: Batch | None = None,
        ) -> H: ...

    def on_message(
        self,
        message_type: str,
        handler: Any = None,
        *,
        soft_timeout: float | None = None,
        rate: Rate | str | float | None = None,
        retry: Retry | None = None,
        batch: Batch | None = None,
    ) -> Any:
        """Registers ``handler`` for messages of one type; at any time, replacing an earlier one.

        Two types are the owner's side of a reply: handlers for ``"response"`` and ``"error"`` get a
        ``WorkerMessage`` for every message that was posted with a ``message_id``, but not with
        ``reply=False``. Its ``data`` is ``{"id": ..., "result": ...}`` or
        ``{"id": ..., "error": exception}``. They are called in the order of
        the replies, on the event loop that runs where they are registered, else one at a time on reply
        threads that all workers and pools share; never on the worker's thread. Replies that came earlier are
        kept, up to the capacity, and delivered first.

        Args:
            message_type: the type to handle.
            handler: called with the message's ``data``; what it returns is the reply. An ``async def``
                handler runs on the pool's event loop thread. A generator function answers with a stream, read
                with ``stream``. A function marked by
                ``WorkerDecorators.worker_method`` is called with the worker and the data. Without it, this is
                a decorator.
            soft_timeout: seconds that the handler may run before ``DeadlineError`` is raised in it, so that
                it can clean up before the ``timeout`` of the message gives it up: in a coroutine where it
                awaits, else as soon as it runs Python code. None is no limit.
            rate: how many messages of this type, posted from now on, may begin in a time, as ``Rate`` takes
                it: ``"20/s"``. Those that wait for it are queued; other types go past them. None is no limit.
            retry: how often a message of this type, posted from now on, is tried when it fails; None is once.
                With ``batch``, too: each message of a batch that fails is tried again for itself.
            batch: has the handler called with a list of data, of up to so many messages of this type, posted
                from now on, as they follow each other. It returns a list with a result for each, in which a
                ``BatchItemError`` fails that message alone, or one result for all that is no list. Another
                exception, or a list of another length, fails all. None is one message at a time.

        Returns:
            The handler, or a decorator.

        Raises:
            ValueError: ``soft_timeout`` is negative or NaN, there is no such ``rate``, one of them is for a
                handler of replies or a generator function, or ``message_type`` has lone surrogates.
            TypeError: ``soft_timeout`` is not a number, ``retry`` no ``Retry``, ``batch`` no ``Batch``,
                ``message_type`` is not a str, or the handler is not callable, or a generator function for
                replies.
            WorkerStoppedError: it is stopped; not for a handler of replies.
        """
        checked_text(message_type, "a message type")
        soft_timeout = checked_timeout(soft_timeout, "soft_timeout")
        rate = checked_rate(rate)
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
        batch = checked_batch(batch)
        if handler is None:
            return lambda function: self.on_message(
                message_type, function, soft_timeout=soft_timeout, rate=rate, retry=retry, batch=batch
            )
        checked_callable(handler, "a message handler")
        streams = has_yield(handler)
        # Such a message may be asked for as well. Another attempt would send the items of a stream again.
        may_stream = may_yield(handler) and not is_coroutine_function(handler)
        has_stream = streams or (may_stream and retry is None and batch is None)
        if message_type in (RESPONSE, ERROR):
            checked_handler(handler, f"the handler of {message_type!r}")
            options = {"soft_timeout": soft_timeout, "rate": rate, "retry": retry, "batch": batch}
            for name, given in options.items():
                if given is not None:
                    raise ValueError(f"{name} is for handlers of messages, not for {message_type!r}")
            self._pytoweb.replies.set_handler(message_type, handler)
            return handler
        option = "batch" if retry is None else "retry"
        if streams and (retry is not None or batch is not None):
            raise ValueError(
                f"{option} is not for a generator function, whose items go to the reader as they come"
            )
        own = self._pytoweb
        self._pytoweb_check_registering("on_message()")
        bound: Any = handler
        takes_worker = isinstance(handler, types.FunctionType) and hasattr(handler, MESSAGE_TYPES)
        if takes_worker:
            bound = types.MethodType(handler, self)
        if streams or may_stream:
            from pytoweb._stream_handler import StreamHandler

            bound = StreamHandler(bound, message_type, None if has_stream else option)
        if own.backend == "process":
            # First, because it may be refused.
            what = f"the handler of {message_type!r} of worker {own.name!r}"
            own.packed[message_type] = self._pytoweb_pack(handler, what, takes_worker)
        if soft_timeout is None:
            own.soft_limits.pop(message_type, None)
        else:
            from pytoweb._soft import LimitedHandler

            own.soft_limits = {**own.soft_limits, message_type: soft_timeout}
            bound = LimitedHandler(bound, soft_timeout, message_type)
        self._pytoweb_set_retry(message_type, retry)
        if rate is not None or message_type in own.rates:
            own.rates = {**own.rates, message_type: rate}
            per_key = rate is not None and rate.per_key
            self._pytoweb_set_rate(message_type, None if rate is None else rate.numbers(), per_key)
        if batch is not None:
            bound = batch_handler(bound, handler, message_type)
        if batch is not None or message_type in own.batches:
            own.batches = {**own.batches, message_type: batch}
            self._pytoweb_set_batch(message_type, None if batch is None else batch.numbers())
        if has_stream or message_type in own.streams:
            others = own.streams - {message_type}
            own.streams = others | {message_type} if has_stream else others
            self._pytoweb_set_stream(message_type, streams)
        if (may_stream and not has_stream) or message_type in own.unstreamed:
            unstreamed = {kind: name for kind, name in own.unstreamed.items() if kind != message_type}
            own.unstreamed = (
                unstreamed if has_stream or not may_stream else {**unstreamed, message_type: option}
            )
        own.handlers[message_type] = bound
        if is_coroutine_function(handler) or may_be_async_generator(handler):
            own.has_coroutines = True
        self._pytoweb_tell_child()
        self._pytoweb_start_loop()
        return handler

    def _pytoweb_pack(
        self, handler: Any, what: str, takes_worker: bool = False
    ) -> tuple[bytes, bool] | Named:
        """A handler for the child: pickled, or to be pickled when the child is told of it."""
        from pytoweb import _named, _pickling

        if _named.is_named(handler):
            named = _named.Named(handler, what, takes_worker)
            if self._pytoweb_is_running() and named.is_bound():
                # Its child is told at once: what cannot be is the error of this call, and leaves no trace.
                named.dump(self)
            return named
        # A method that the class does not have would be looked for there.
        sent = functools.partial(handler, self) if takes_worker else handler
        with cast_processes(self._pytoweb.runtime).lending.spawning():
            return _pickling.dump_handler(sent, self, what)

    def _pytoweb_check_registering(self, call: str) -> None:
        """Refuses to register what would never run.

        The child of a process worker is told of nothing more once the worker stops.
        """
        state = self._pytoweb_state()
        if state == "stopped" or (state == "stopping" and self._pytoweb.backend == "process"):
            raise self._pytoweb_too_late(call)

    def _pytoweb_too_late(self, call: str) -> WorkerStoppedError:
        kind = "worker" if self._pytoweb_is_worker else "pool"
        what = f"{kind} {self._pytoweb.name!r}"
        return WorkerStoppedError(f"{call} comes too late: {what} has stopped; register before that")

    def _pytoweb_is_running(self) -> bool:
        return self._pytoweb_state() in ("running", "stuck")

    def _pytoweb_tell_child(self) -> None:
        """Has the child process told of the handlers; before the start there is nothing to tell them for."""
        if self._pytoweb.backend != "process" or not self._pytoweb_is_running():
            return
        own = self._pytoweb
        packed = [*own.packed.values(), *own.packed_around, *own.packed_on_stop]
        later = [handler for handler in packed if not isinstance(handler, tuple)]
        if all(handler.is_bound() for handler in later):
            self._pytoweb_configure_child()
        else:
            # By the next post the names lead to the handlers.
            self._pytoweb_mark_stale()

    def _pytoweb_refresh(self) -> None:
        """Has the child told of handlers that were not known by name before; called by a post."""
        from pytoweb import _process

        _process.refuse_missing_guard()
        self._pytoweb_configure_child()

    def _pytoweb_configure_child(self) -> None:
        raise NotImplementedError

    if TYPE_CHECKING:

        @overload
        def on_start(self, hook: None = None) -> Callable[[S], S]: ...
        @overload
        def on_start(self, hook: S) -> S: ...

    def on_start(self, hook: Any = None) -> Any:
        """Registers what is to run before the first message, where the handlers run: for their state.

        With the backend ``"process"`` it runs in the child process, and again in each that replaces it. If it
        raises, the message that it ran for fails with that, or has failed an attempt if it has a ``Retry``,
        and it runs again before the next. One that is registered while another runs, or by it, runs before
        the next message.

        Args:
            hook: called without arguments. An ``async def`` hook runs on the event loop, and the worker waits
                for it. Without it, this is a decorator.

        Returns:
            The hook, or a decorator.

        Raises:
            TypeError: the hook is not callable, or a generator function.
            SerializationError: it cannot be sent to another process.
            WorkerStoppedError: it comes too late, and would never run.
        """
        if hook is None:
            return self.on_start
        checked_handler(hook, "a start hook")
        own = self._pytoweb
        self._pytoweb_check_registering("on_start()")
        if own.backend == "process":
            own.packed[None] = self._pytoweb_pack(hook, f"the start hook of worker {own.name!r}")
            own.start_number += 1
            self._pytoweb_tell_child()
        else:
            own.has_coroutine_hooks = own.has_coroutine_hooks or is_coroutine_function(hook)
            self._pytoweb_start_loop()
            self._pytoweb_set_start_hook(hook)
        return hook

    if TYPE_CHECKING:

        @overload
        def on_stop(self, hook: None = None) -> Callable[[S], S]: ...
        @overload
        def on_stop(self, hook: S) -> S: ...

    def on_stop(self, hook: Any = None) -> Any:
        """Registers what is to run when the worker has ended: to close what ``on_start`` opened.

        It runs where the handlers ran, after the last message, however the worker was stopped, and ``stop()``
        waits for it; of several, the one that was registered last runs first. None runs for a worker that had
        no message, or whose start hook has failed. With the backend ``"process"`` it runs in each child that
        had messages of the worker, when that ends in order: with the worker or its pool, or when it is
        replaced for its number of messages or its memory. A child that is told to end has 5 s for its hooks;
        then it is killed, which is logged. What a hook raises is given to ``on_error``, with a current
        message of the type ``"stop"``, or logged; in a child it is logged.

        ``terminate()`` cancels an ``async def`` hook that runs, and kills a child that is at its end. Hooks
        that have not begun run after it all the same, unless it kills the child for a handler that runs.

        A worker that has ended lets go of its handlers, on that thread as well.

        Args:
            hook: called without arguments. An ``async def`` hook runs on the event loop, and the worker waits
                for it. Without it, this is a decorator.

        Returns:
            The hook, or a decorator.

        Raises:
            TypeError: the hook is not callable, or a generator function.
            SerializationError: it cannot be sent to another process.
            WorkerStoppedError: it comes too late, and would never run.
        """
        if hook is None:
            return self.on_stop
        checked_handler(hook, "an end hook")
        own = self._pytoweb
        self._pytoweb_check_registering("on_stop()")
        if own.backend == "process":
            packed = self._pytoweb_pack(hook, f"the end hook of worker {own.name!r}")
            own.packed_on_stop.append(packed)
            self._pytoweb_tell_child()
        else:
            own.has_coroutine_hooks = own.has_coroutine_hooks or is_coroutine_function(hook)
            if not self._pytoweb_add_end_hook(hook):
                raise self._pytoweb_too_late("on_stop()")
            self._pytoweb_start_loop()
        return hook

    if TYPE_CHECKING:

        @overload
        def around(self, hook: None = None) -> Callable[[A], A]: ...
        @overload
        def around(self, hook: A) -> A: ...

    def around(self, hook: Any = None) -> Any:
        """Registers what is to surround each handler: middleware for connections, transactions, tracing.

        It is entered before the handler and left after it, where that runs: on its thread, on the event loop,
        in the child process. In there ``current_message()`` is the message. Those of a pool surround what its
        own mailbox runs (``submit`` and ``map`` too) and, outermost, the handlers of its workers; several
        are entered in the order of registration. An error that it raises, before or after, fails the message;
        a context manager that swallows the exception of a handler makes the reply None.

        Args:
            hook: a generator function that yields once, or what returns a context manager; called without
                arguments for each message. An asynchronous one can surround ``async def`` handlers only;
                others fail with ``TypeError``. Without it, this is a decorator.

        Returns:
            The hook, or a decorator.

        Raises:
            TypeError: the hook is not callable, or an ``async def`` function that does not yield.
            SerializationError: it cannot be sent to another process.
            WorkerStoppedError: it comes too late, and would never run.
        """
        if hook is None:
            return self.around
        check_hook(hook)
        own = self._pytoweb
        self._pytoweb_check_registering("around()")
        if own.backend == "process":
            packed = self._pytoweb_pack(hook, f"what surrounds the handlers of {own.name!r}")
            own.packed_around.append(packed)
        self._pytoweb_surround().add(hook)
        self._pytoweb_tell_surrounded()
        return hook

    def _pytoweb_tell_surrounded(self) -> None:
        """Has the child processes told of what surrounds the handlers."""
        self._pytoweb_tell_child()

    def _pytoweb_surround(self) -> Around:
        """Has its handlers surrounded."""
        own = self._pytoweb
        if own.around is None:
            own.around = Around(None if own.pool is None else own.pool._pytoweb.around)
            self._pytoweb_set_around(own.around)
        return own.around

    def _pytoweb_start_loop(self) -> None:
        """Starts the pool's event loop for handlers and hooks that are coroutines, once they may run.

        Not by the first of their messages: that may come when the main thread is over, and no thread can be
        started any more.
        """
        own = self._pytoweb
        wanted = own.has_coroutine_hooks or (own.has_coroutines and own.backend == "thread")
        if wanted and self._pytoweb_state() in ("running", "stuck"):
            own.runtime.start_loop()

    if TYPE_CHECKING:

        @overload
        def on_error(self, handler: None = None) -> Callable[[E], E]: ...
        @overload
        def on_error(self, handler: E) -> E: ...

    def on_error(self, handler: Any = None) -> Any:
        """Registers ``handler`` for the exceptions of failed messages; at any time, replacing an earlier one.

        It is called on the worker's thread, before the reply stands, with the exception that the message's
        handler raised; ``current_message()`` in there is the message. An error that it raises is logged. A
        pool's is told of failures of its own mailbox, and of its workers that have no handler of their own;
        ``current_worker()`` says which. Without one, failures of posts are logged at ERROR by
        ``pytoweb.worker.<name>``, and those of asks once their future is dropped before any code has looked
        at the failure.

        Args:
            handler: called with the exception. An ``async def`` handler runs on the pool's event loop, with
                ``backend="process"`` too, and the message ends after it. Without it, this is a decorator.

        Returns:
            The handler, or a decorator.

        Raises:
            TypeError: the handler is not callable, or a generator function.
        """
        if handler is None:
            return self.on_error
        checked_handler(handler, "an error handler")
        own = self._pytoweb
        own.has_coroutine_hooks = own.has_coroutine_hooks or is_coroutine_function(handler)
        self._pytoweb_start_loop()
        self._pytoweb.handlers[None] = handler
        return handler

    if TYPE_CHECKING:

        @overload
        def on_dead_letter(self, handler: None = None) -> Callable[[E], E]: ...
        @overload
        def on_dead_letter(self, handler: E) -> E: ...

    def on_dead_letter(self, handler: Any = None) -> Any:
        """Registers ``handler`` for messages that failed for good although they were tried again.

        It is called on the worker's thread with each ``DeadLetter``, after ``on_error`` and before the reply
        stands. An error that it raises is logged. With or without one, ``dead_letters()`` keeps the last
        1 000. Messages without ``Retry`` are none, nor those that were cancelled or whose deadline passed.

        Args:
            handler: called with the dead letter. Without it, this is a decorator.

        Returns:
            The handler, or a decorator.

        Raises:
            TypeError: the handler is not callable, an ``async def`` function or a generator function.
        """
        if handler is None:
            return self.on_dead_letter
        checked_handler(handler, "a dead letter handler")
        if is_coroutine_function(handler):
            raise TypeError(
                "a dead letter handler must be a plain function: have it post to a worker whose handler is a "
                "coroutine"
            )
        self._pytoweb.dead_letters.handler = handler
        return handler

    def dead_letters(self) -> list[DeadLetter]:
        """The last 1 000 messages that failed for good although they were tried again, the oldest first.

        ``letter.post_again()`` posts one once more.
        """
        return list(self._pytoweb.dead_letters.letters)

    async def apost_message(
        self,
        message_type: str,
        data: object = None,
        message_id: str | None = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        keep_latest: bool = False,
        retry: Retry | None = None,
        reply: bool | None = None,
    ) -> None:
        """``post_message`` for coroutines: waits for room without blocking the event loop.

        A coroutine that is cancelled while it waits takes the message back, unless that got its place at that
        moment: then it is handled all the same. ``timeout`` has no such moment.

        Args:
            message_type: the type of the message.
            data: what the handler gets.
            message_id: as for ``post_message``: it asks for a reply, unless ``reply`` is False.
            timeout: seconds until the message expires, the wait for room included.
            priority: as for ``post_message``.
            key: as for ``post_message``.
            delay: as for ``post_message``, from the moment at which there is room.
            at: as for ``post_message``.
            keep_latest: as for ``post_message``.
            retry: as for ``post_message``.
            reply: as for ``post_message``.

        Raises:
            MailboxFullError: no room came within ``timeout``, or the policy refuses instead of waiting.
            WorkerStoppedError: the worker is stopped.
            ValueError: as for ``post_message``.
        """
        wishes = wished(priority, key, delay, at, keep_latest, retry)
        await self._pytoweb_when_room(
            lambda left, told: self._pytoweb_park_post(
                message_type, data, message_id, left, told, wishes, reply
            ),
            timeout,
            is_answered=message_id is not None and reply is not False,
        )

    async def aask(
        self,
        message_type: str,
        data: object = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        keep_latest: bool = False,
        retry: Retry | None = None,
    ) -> Any:
        """``ask`` for coroutines: waits for room without blocking the event loop, then for the reply.

        Args:
            message_type: the type of the message.
            data: what the handler gets.
            timeout: seconds until the message expires, the wait for room included.
            priority: as for ``ask``.
            key: as for ``ask``.
            delay: as for ``ask``, from the moment at which there is room.
            at: as for ``ask``.
            keep_latest: as for ``ask``.
            retry: as for ``ask``.

        Returns:
            What the handler returned.

        Raises:
            BaseException: what the handler raised.
            MailboxFullError: no room came within ``timeout``, or the policy refuses instead of waiting.
            DeadlineError: ``timeout`` passed with the message queued or running.
            WorkerStoppedError: the worker is stopped.
        """
        wishes = wished(priority, key, delay, at, keep_latest, retry)
        return await (
            await self._pytoweb_when_room(
                lambda left, told: self._pytoweb_park_ask(message_type, data, left, told, wishes), timeout
            )
        )

    def every(self, seconds: float, message_type: str, data: object = None) -> WorkerTimer:
        """Posts a message every so many seconds, until it is cancelled or this has ended.

        The first one comes after that time, from the start of a worker on. The times keep to the schedule and
        do not drift. Messages never pile up: while the last one is queued, waits for room or runs, further
        times pass without one, and are counted. So do times that the whole program was late for.

        A message is one as of ``post_message``, with the context variables of this call; its failure goes to
        ``on_error``, or the log. On a thread each gets the same object. A timer has no thread of its own and
        takes no place in the mailbox, and does not keep ``run_until_idle`` or ``stop`` waiting.

        Args:
            seconds: from one message to the next, at least 0.001.
            message_type: the type, any but ``"response"`` and ``"error"``.
            data: what the handler gets.

        Returns:
            The timer, with ``cancel()``; it goes on without a reference to it.

        Raises:
            TypeError: ``seconds`` is not a number, or ``message_type`` not a str.
            ValueError: ``seconds`` is below 0.001 or not finite, or ``message_type`` is reserved.
            SerializationError: the data cannot be sent to another process.
            WorkerStoppedError: it is stopped or stopping.
        """
        from pytoweb._every import WorkerTimer

        return WorkerTimer(self, seconds, message_type, data)

    async def _pytoweb_acall(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        timeout: float | None,
    ) -> Any:
        """The same for a call of an ``async def`` function."""
        return await (
            await self._pytoweb_when_room(
                lambda left, told: self._pytoweb_park_call(function, args, kwargs, True, left, told),
                timeout,
            )
        )

    async def _pytoweb_when_room(
        self,
        park: Callable[[float | None, PostWaiter], Any],
        timeout: float | None,
        *,
        is_answered: bool = False,
    ) -> Any:
        """What ``park(seconds left, waiter)`` returns once the message is in."""
        timeout = checked_timeout(timeout)
        line = self._pytoweb.line if is_answered else None
        if line is None or not line:
            waiter = PostWaiter()
            result = park(timeout, waiter)
            if type(result) is Parked:
                if _aio.running_owner() is self:
                    # Its own handler does not wait for the room that it makes itself.
                    return result.outcome(_WOULD_DEADLOCK)
                return await waiter.wait(result, timeout)
            if result is not False:
                return result
        if _aio.running_owner() is self:
            self._pytoweb_gave_up(_WOULD_DEADLOCK)
        return await line_of(self).wait(self, lambda left: enter(park, left), timeout)

    def run_until_idle(self, timeout: float | None = None) -> None:
        """Blocks until nothing is queued and nothing runs; for tests and orderly ends.

        Args:
            timeout: seconds to wait at most.

        Raises:
            DeadlineError: ``timeout`` passed first.
            AskCycleError: called by the handler that it would wait for.
        """
        _aio.warn_of_blocking("run_until_idle()", "use `await asyncio.to_thread(worker.run_until_idle)`")
        timeout = checked_timeout(timeout)
        if not self._pytoweb_wait_idle(timeout):
            busy = self._pytoweb_busy_text()
            raise DeadlineError(f"{self._pytoweb.name!r} is not idle after {timeout:g} s: {busy}")

    def _pytoweb_busy_text(self) -> str:
        if self._pytoweb_runs_end_hooks():
            return "an on_stop hook runs"
        stats = self._pytoweb_stats()
        return f"queued messages: {stats['depth']}, running: {stats['running']}"

    def _pytoweb_left_text(self) -> str:
        """What still runs of one that has ended."""
        if self._pytoweb.runtime.has_processes():
            return "an on_stop hook, or another part of the end of its process, still runs"
        return "the event loop, or the thread of the replies, still runs"

    def _pytoweb_close_and_wait(self, mode: str, timeout: float | None) -> bool:
        """Closes the mailbox and waits for the end; False where waiting could never end.

        Raises:
            DeadlineError: ``timeout`` passed first; the rest has failed.
        """
        self._pytoweb_close(mode)
        ended = wait_for_end(self) if timeout is None else self._pytoweb_wait_ended(timeout)
        if ended is False:
            running = self._pytoweb_stats()["running"]
            in_hook = self._pytoweb_runs_end_hooks()
            failed = self._pytoweb_close("finish")
            runs = "an on_stop hook still runs" if in_hook else f"messages that still run: {running}"
            raise DeadlineError(
                f"{self._pytoweb.name!r} did not stop within {timeout:g} s; {runs}, queued ones that failed: "
                f"{failed}"
            )
        self._pytoweb_note_exit()
        return ended is True
