"""The native module: what is on the path of every message, or talks to the engine.

Users meet it through ``pytoweb.workers``. Names with an underscore are between this module and the Python
beside it. Times are float seconds everywhere.
"""

import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextvars import Context
from datetime import datetime
from typing import Any, Final, Protocol, SupportsFloat, SupportsIndex, TypeVar, final

from typing_extensions import ParamSpec, Self, disjoint_base

from pytoweb._exits import Exits, Reason
from pytoweb._limits import Wishes as _Wishes
from pytoweb._pool import WorkerPool
from pytoweb._retry import Retry
from pytoweb._worker import PythonWorker, WorkerState
from pytoweb.errors import WorkerCrashedError
from pytoweb.futures import WorkerFuture

__all__ = [
    "DEFAULT_CAPACITY",
    "KEPT_ENDS",
    "METRICS",
    "MOST_AHEAD",
    "MOST_EVENTS",
    "TIME_BOUNDS",
    "VERSION",
    "CallTimer",
    "ChildEnd",
    "ChildPending",
    "ChildStreamWriter",
    "Endpoint",
    "FutureBase",
    "HandClock",
    "HeldWaits",
    "LoopLabel",
    "Parked",
    "Pending",
    "Processes",
    "ProgressMeter",
    "Reducers",
    "RemoteData",
    "Repeated",
    "Select",
    "Sink",
    "StreamReader",
    "StreamWriter",
    "Threads",
    "WorkerMessage",
    "blocking",
    "check_wishes",
    "checked_timeout",
    "child_arrive",
    "gathered",
    "interrupt_thread",
    "is_packing",
    "is_unpacking",
    "load",
    "load_errors",
    "merged_numbers",
    "note_wait_of",
    "note_waits",
    "program_health",
    "program_numbers",
    "report_progress",
    "running_in_child",
    "running_message",
    "running_on_threads",
    "running_owner",
    "running_stream",
    "turn_of_loop",
    "wait_for_threads",
    "watch_failures",
    "write_unraisable",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

VERSION: Final[str]
"""The version of the package."""

DEFAULT_CAPACITY: Final = 16384
"""Messages that a mailbox holds at most, unless it is made with another capacity."""

MOST_AHEAD: Final = 4095
"""Items that the handler of a stream may be ahead of its reader at most."""

KEPT_ENDS: Final = 1000
MOST_EVENTS: Final = 1024
"""Events of a worker that wait at most for the handlers of one line or event loop."""

METRICS: Final[tuple[tuple[str, str, str, list[str]], ...]]
"""The metrics of workers, which Rust programs have, too: of each its name, kind, help and labels."""

TIME_BOUNDS: Final[tuple[float, ...]]
"""The longest time in seconds of each bucket of ``_pytoweb_times`` but the last one, which has no bound."""

class _Runtime(Protocol):
    """What the engine threads of a pool call in Python; ``PoolRuntime`` is one."""

    def run_thread(self, name: str, life: Callable[[], None]) -> None: ...
    def thread_started(self) -> bool:
        """Called on each new thread, before its first message; False breaks the pool."""

    def thread_ended(self) -> None:
        """Called on a thread that ends, after its last message."""

    def broken_error(self) -> WorkerCrashedError:
        """What the work of a broken pool fails with."""

    def run_coroutine(
        self, coroutine: Any, context: Context | None, pending: Pending, owner: weakref.ref[Endpoint]
    ) -> None:
        """Has the coroutine of an ``async def`` handler run, and ``pending`` told of its end."""

    def run_hook(
        self,
        coroutine: Any,
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
        then: Callable[[BaseException | None], object],
    ) -> None:
        """Has the coroutine of a hook run, and ``then`` called with what it raised; does not wait."""

    def finish_hook(
        self,
        coroutine: Any,
        context: Context | None,
        message: WorkerMessage | None,
        owner: weakref.ref[Endpoint],
    ) -> None:
        """Runs the coroutine of a hook, waits for its end, and raises what it raised."""

class _Replies(Protocol):
    """Where the engine threads bring replies and failures; ``Replies`` is one."""

    def deliver(self, message_id: str, value: object, failed: bool) -> None:
        """Brings a result, or the exception if ``failed``, to the owner's handler; does not wait for it."""

    def report(
        self,
        error: BaseException,
        kind: str,
        message_id: str | None,
        attempt: int,
        handlers: dict[str | None, Callable[..., object]],
    ) -> Coroutine[Any, Any, None] | None:
        """Tells the error handler of a failed message, or the log."""

    def report_end_hook(
        self, error: BaseException, handlers: dict[str | None, Callable[..., object]]
    ) -> Coroutine[Any, Any, None] | None:
        """The same of an end hook."""

    def make_room(self) -> None:
        """Gives room back that replies hold in vain."""

    def is_reply_thread(self) -> bool:
        """Whether the calling thread calls reply handlers."""

    def lost(self, message_id: str) -> None:
        """A message was dropped without a reply, for want of room for it."""

@final
class Threads:
    """The engine threads of a pool, or the one of a worker by itself; they start when there is work."""

    def __new__(
        cls,
        size: int,
        name: str,
        runtime: _Runtime,
        max_spare_threads: int | None = None,
        clock: HandClock | None = None,
    ) -> Self:
        """Makes the pool; no thread yet.

        Args:
            size: Threads that run handlers at the same time.
            name: The threads are called this and a number.
            runtime: Called at the start and the end of each thread.
            max_spare_threads: Handlers that may wait at the same time; None is the engine's default.
            clock: What deadlines, delays and rates go by; None is the machine's.
        """

    def count(self) -> int:
        """Returns how many threads exist now, those that lend their place while they wait included.

        Raises:
            ForkedProcessError: This is a forked child, and they are the parent's.
        """

    def lock_wait(self) -> float:
        """Returns how many seconds they have waited for the interpreter lock when they had work to begin."""

    def now(self) -> float:
        """Returns the seconds on their clock, since some start of its own.

        Raises:
            ForkedProcessError: This is a forked child, and they are the parent's.
        """

    def clock_moved(self) -> None:
        """Does all that is due, on the calling thread: their clock was moved by hand.

        Raises:
            ForkedProcessError: This is a forked child, and they are the parent's.
        """

    def start_recording(self, most_bars: int) -> None:
        """Keeps from now on which messages of their workers run where and when.

        Args:
            most_bars: Messages that are kept at most, 1 024 at least.

        Raises:
            RuntimeError: That is done already.
            ForkedProcessError: This is a forked child, and they are the parent's.
        """

    def stop_recording(self) -> dict[str, Any] | None:
        """Ends it and returns what was kept; None where nothing was. Times are in nanoseconds.

        Returns:
            ``seconds`` that it took; the names of ``workers``, ``types`` and ``lanes`` (kind, name), which
            everything else has by their numbers; ``bars`` as native arrays of begin, run, wait (64 bits),
            lane, worker, type, messages together (32 bits) and fate (8 bits, of ``fates``), of ``recorded``
            that there were; ``busy`` (lane, worker or None, begin, end, busy time of that), without breaks up
            to ``busy_gap_nanos``; ``failures`` (time, (worker, type, lane), text, fate, (lane, begin, run) of
            its bar or None) and ``failures_left_out``; ``numbers`` of each type: counts by fate, run time,
            and buckets of waits and of runs (the least time, count).
        """

    def shutdown(self) -> None:
        """Lets the threads end once the queued work is done; does not wait.

        Raises:
            ForkedProcessError: This is a forked child, and they are the parent's.
        """

    def join(self) -> None:
        """Blocks until all of them have ended, without the interpreter lock.

        Raises:
            ForkedProcessError: This is a forked child, and they are the parent's.
        """

@final
class HandClock:
    """A clock that stands still until it is moved."""

    def __new__(cls) -> Self:
        """Makes one that tells 0."""

    def now(self) -> float:
        """Returns the seconds since it was made."""

    def advance(self, seconds: float) -> None:
        """Moves it forward, and tells no pool: see ``Threads.clock_moved``.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is negative or NaN.
        """

    def thaw(self) -> None:
        """Has it go by itself from now on."""

@final
class CallTimer:
    """Calls a function at times of a pool's clock, for as long as this object exists."""

    def __new__(cls, callback: Callable[[], object]) -> Self:
        """Makes one that is not set.

        Args:
            callback: Called without arguments on the thread that watches deadlines, which it keeps from
                others of the pool. It refers to this object weakly, or neither is ever freed.
        """

    def set(self, threads: Threads, at: float) -> None:
        """Has the function called once ``threads.now()`` is ``at``, if they are not over by then.

        Raises:
            OSError: No thread can be started for it.
            ForkedProcessError: The threads are those of the parent process.
        """

@disjoint_base
class Endpoint:
    """The native half of ``PythonWorker`` and ``WorkerPool``: something that messages are posted to.

    Until ``_pytoweb_set_up`` was called every method raises ``RuntimeError``; in a forked child each raises
    ``ForkedProcessError``. Every method may be called from any thread.
    """

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        """Makes an empty one; takes anything, so that subclasses may have an ``__init__`` of their own."""

    def _pytoweb_set_up(
        self,
        *,
        name: str,
        capacity: int,
        overflow: str,
        threads: Threads,
        handlers: dict[str | None, Callable[..., object]],
        replies: _Replies,
        owner: weakref.ref[Endpoint],
        shared: bool,
        pool_handlers: dict[str | None, Callable[..., object]] | None = None,
        processes: Processes | None = None,
        lane: int | None = None,
        max_attempts: int = 1,
        rate: tuple[int, float, int] | None = None,
        concurrency: int = 1,
        bytes: int | None = None,
        size_of: Callable[[Any], int] | None = None,
        shed: tuple[float, float] | None = None,
        stuck_after: float | None = None,
    ) -> None:
        """Fills in what ``__new__`` left empty; once.

        Args:
            name: Names it in errors and statistics.
            capacity: Messages that the mailbox holds at most.
            overflow: What a post to a full mailbox does: "block", "reject", "drop_newest" or "drop_oldest".
            threads: What runs the handlers.
            handlers: By message type, read at each message; under None the error handler.
            replies: The owner's side.
            owner: What ``current_worker()`` gives in the handlers.
            shared: True for a pool's own mailbox: open from the start, several messages at the same time.
            pool_handlers: Those of the pool that made it, whose error handler is told where it has none.
            processes: The child processes that run the handlers, if not threads of this one.
            lane: Which of them; None is whichever has the least to do.
            max_attempts: How often a message may be begun whose process crashes.
            rate: How many messages may begin in how many seconds, and the burst.
            concurrency: How many messages run at the same time; of a pool it is the size of that.
            bytes: How many bytes its messages may have together.
            size_of: Called with data that is no buffer and no str, for its bytes.
            shed: Seconds that the oldest message may wait, and for which it may have waited longer.
            stuck_after: Seconds after which a run of a handler counts as stuck; None is no limit.

        Raises:
            ValueError: No such overflow policy.
            RuntimeError: It is set up already.
        """

    def _pytoweb_renew(self, threads: Threads, processes: Processes | None = None) -> None:
        """In a forked child: makes it anew, empty and not started, with threads of this process."""

    def post_message(
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
        keep_latest: bool | None = None,
        retry: Retry | None = None,
        reply: bool | None = None,
    ) -> None:
        """Queues a message, and returns without waiting for its handler.

        A worker handles messages one at a time, in the order of posting; a pool's own mailbox starts them in
        that order. A worker that is not started keeps them until it is. The caller's context variables are
        set around the handler. With a full mailbox the overflow policy decides: ``"block"`` waits for room,
        without the interpreter lock; ``"reject"`` raises; ``"drop_newest"`` and ``"drop_oldest"`` drop a
        message, count it, and return.

        Args:
            message_type: The type, which chooses the handler; any but ``"response"`` and ``"error"``.
            data: What the handler gets: as it is on a thread, pickled here for a process.
            message_id: Names the message in logs and for ``explain``, and asks for a reply: the ``response``
                or ``error`` handler registered on this worker gets it, with this id. It takes a place of the
                mailbox's room until that handler is through with the reply. Without such a handler replies
                are kept for one to come, up to the capacity; further ones are lost, counted in ``stats()``
                and warned of once. For an id without a reply pass ``reply=False``.
            timeout: Seconds from now until the message expires, the wait for room included. One that expires
                in the queue never runs; one that is running gets ``current_message().cancelled``. None is no
                limit.
            priority: How urgent it is, from 0 to 9; 4 is that of a message without one. It goes before queued
                messages of a lower one, which age: each waits behind at most 1024 later ones for each level
                that those are higher.
            key: A str, an int or bytes. Messages with the same key run one after the other, in order, also
                where several run at once; keys take turns. In an order by priority that of the first one
                counts.
            delay: Seconds that the message stays in the mailbox, where it takes a place, before it takes its
                turn. ``stop()`` fails one whose time has not come.
            at: An aware datetime, instead of ``delay``; one that is over is now.
            keep_latest: With a key: takes the place of the queued message of this type with the same key that
                was posted so, if there is one, whose future is cancelled. With a delay that begins anew.
            retry: How often it is tried when it fails, instead of what ``on_message`` says of its type.
            reply: False: the ``message_id`` asks for no reply. Without an id there is none, and
                True is refused.

        Raises:
            MailboxFullError: The mailbox is full, and the policy is ``"reject"``, or ``"block"`` and no room
                came within ``timeout``, or waiting would block an event loop (use ``apost_message``) or the
                very handler that makes the room.
            WorkerStoppedError: It is stopped or stopping.
            SerializationError: The data cannot be sent to another process.
            WorkerCrashedError: It has failed: its process could not be kept alive.
            ForkedProcessError: It belongs to the parent process.
            TypeError: ``message_type`` or ``message_id`` is not a str, ``timeout`` or ``delay`` not a number,
                or another argument of a wrong type.
            ValueError: ``message_type`` is reserved, ``timeout`` or ``delay`` negative or NaN, ``timeout``
                not longer than ``delay``, ``priority`` not from 0 to 9, ``at`` without a time zone, ``delay``
                and ``at`` are both given, ``keep_latest`` without a key, ``reply=True`` without a
                ``message_id``, or ``message_type`` or ``message_id`` with lone surrogates.
        """

    def ask(
        self,
        message_type: str,
        data: object = None,
        *,
        timeout: float | None = None,
        priority: int | None = None,
        key: str | int | bytes | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        keep_latest: bool | None = None,
        retry: Retry | None = None,
    ) -> WorkerFuture[Any]:
        """Queues a message as ``post_message`` does, and returns the future of its reply.

        The future gets what the handler returns, or raises what it raises. A message that the policy drops
        fails its future with ``MailboxFullError``, one that a stop gives up with ``WorkerStoppedError``, and
        one of a type without a handler with ``UnknownMessageError``.

        Args:
            message_type: The type, which chooses the handler; any but ``"response"`` and ``"error"``.
            data: What the handler gets: as it is on a thread, pickled here for a process.
            timeout: Seconds from now until the future fails with ``DeadlineError``, queued or running. A
                message that expires in the queue never runs; one that is running gets
                ``current_message().cancelled``. None is no limit.
            priority: How urgent it is, from 0 to 9; 4 is that of a message without one. It goes before queued
                messages of a lower one, which age: each waits behind at most 1024 later ones for each level
                that those are higher.
            key: A str, an int or bytes. Messages with the same key run one after the other, in order, also
                where several run at once; keys take turns. In an order by priority that of the first one
                counts.
            delay: Seconds that the message stays in the mailbox, where it takes a place, before it takes its
                turn. ``stop()`` fails one whose time has not come.
            at: An aware datetime, instead of ``delay``; one that is over is now.
            keep_latest: With a key: takes the place of the queued message of this type with the same key that
                was posted so, if there is one, whose future is cancelled. With a delay that begins anew.
            retry: How often it is tried when it fails, instead of what ``on_message`` says of its type.

        Returns:
            The future; it can be waited for or awaited.

        Raises:
            MailboxFullError: As for ``post_message``, but never for a message that is dropped.
            WorkerStoppedError: It is stopped or stopping.
            SerializationError: The data cannot be sent to another process.
            WorkerCrashedError: It has failed: its process could not be kept alive.
            ForkedProcessError: It belongs to the parent process.
            TypeError: As for ``post_message``.
            ValueError: As for ``post_message``.
        """

    def post_messages(
        self,
        message_type: str,
        items: Iterable[object],
        *,
        priority: int | None = None,
        key: str | int | bytes | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> int:
        """Queues one message per item, in order, much cheaper than one ``post_message`` each.

        Args:
            message_type: The type of all of them; any but ``"response"`` and ``"error"``.
            items: The data of each. Read in chunks of 1024, so an endless iterable meets a full mailbox.
            priority: As for ``post_message``, of each of them.
            key: As for ``post_message``, of all of them.
            delay: As for ``post_message``, of each of them.
            at: As for ``post_message``.

        Returns:
            How many were accepted. ``"block"`` waits until all are; ``"reject"`` and ``"drop_newest"`` take
            as many as fit and count the others; ``"drop_oldest"`` takes all.

        Raises:
            MailboxFullError: The policy is ``"block"``, and waiting would block an event loop or the handler
                that makes the room. Items accepted before stay queued.
            WorkerStoppedError: It is stopped or stopping, perhaps since the first item.
            ForkedProcessError: It belongs to the parent process.
            TypeError: ``message_type`` is not a str, or ``items`` cannot be iterated over.
            ValueError: ``message_type`` is reserved.
        """

    def _pytoweb_submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> WorkerFuture[_T]:
        """Has ``fn(*args, **kwargs)`` called by whichever thread is free: ``submit`` of an ``Executor``.

        Blocks only while the pool's own mailbox is full. Only the caller hears of an exception, through the
        future.

        Args:
            fn: What to call. A coroutine that it returns is the result as it is, not run.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of what it returns.

        Raises:
            MailboxFullError: The mailbox is full, and waiting would block an event loop or the handler that
                makes the room.
            WorkerStoppedError: The pool is shut down.
            WorkerCrashedError: The pool's initializer failed.
            ForkedProcessError: It belongs to the parent process.
        """

    def _pytoweb_call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        awaits: bool,
        timeout: float | None = None,
        wishes: _Wishes | None = None,
    ) -> WorkerFuture[Any]:
        """Has ``function(*args, **kwargs)`` called as one message.

        Args:
            function: What to call.
            args: Its arguments.
            kwargs: Its keyword arguments, or None.
            awaits: Whether a coroutine that it returns is run too, instead of being the result.
            timeout: As for ``ask``.
            wishes: Priority, key, delay, at and keep_latest, as for ``ask``.

        Returns:
            The future of what it returns.

        Raises:
            WorkerError: As for ``ask``.
            TypeError: ``timeout`` is not a number.
            ValueError: ``timeout`` is negative or NaN.
        """

    def _pytoweb_park_post(
        self,
        message_type: str,
        data: object,
        message_id: str | None,
        timeout: float | None,
        told: Callable[[], object],
        wishes: _Wishes | None = None,
        reply: bool | None = None,
    ) -> Parked | bool | None:
        """Posts; with a full "block" mailbox the message waits in line.

        Returns:
            None once it is in; else the ``Parked``, which calls ``told()`` once it is in or refused.
            False: a message with an id has no place for its reply yet.
        """

    def _pytoweb_park_repeated(self, message_type: str, data: object) -> Repeated:
        """As ``_pytoweb_park_post``, for a message of ``every``."""

    def _pytoweb_check_message(self, message_type: str, data: object) -> None:
        """Raises what a post of this would raise for its arguments, whatever room there is."""

    def _pytoweb_park_ask(
        self,
        message_type: str,
        data: object,
        timeout: float | None,
        told: Callable[[], object],
        wishes: _Wishes | None = None,
    ) -> Parked | WorkerFuture[Any]:
        """Asks; with a full "block" mailbox the message waits in line, as of ``_pytoweb_park_post``."""

    def _pytoweb_stream(
        self,
        message_type: str,
        data: object,
        timeout: float | None,
        window: tuple[int, int],
        wishes: _Wishes | None = None,
        told: Callable[[], object] | None = None,
    ) -> Parked | WorkerFuture[Any]:
        """Asks for a stream, with a window of so many items at first and at most.

        With ``told`` as ``_pytoweb_park_ask``, else as ``ask``.
        """

    def _pytoweb_park_call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        awaits: bool,
        timeout: float | None,
        told: Callable[[], object],
        wishes: _Wishes | None = None,
    ) -> Parked | WorkerFuture[Any]:
        """As ``_pytoweb_call``; with a full "block" mailbox the call waits in line."""

    def _pytoweb_try_call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        awaits: bool,
        timeout: float | None = None,
        wishes: _Wishes | None = None,
    ) -> WorkerFuture[Any] | None:
        """As ``_pytoweb_call``, without waiting; None where a "block" mailbox has no room."""

    def _pytoweb_replies_taken(self, replies: int) -> None:
        """Gives the room of so many replies back: their handlers are through."""

    def _pytoweb_on_reply_room(self, callback: Callable[[], object]) -> None:
        """Has ``callback()`` called once the reply of a message may have a place; now if it may."""

    def _pytoweb_refuse(self) -> None:
        """Refuses posts as if it were stopped, but for those that do not wait for room."""

    def _pytoweb_set_retry(self, message_type: str, retry: Retry | None) -> None:
        """Has messages of one type, posted from now on, tried again when they fail, or not."""

    def _pytoweb_set_rate(
        self, message_type: str, rate: tuple[int, float, int] | None, per_key: bool
    ) -> None:
        """Has messages of one type, posted from now on, begin no faster: messages, seconds, burst."""

    def _pytoweb_set_batch(self, message_type: str, batch: tuple[int, float] | None) -> None:
        """Has messages of one type, posted from now on, handled in batches: size, seconds of wait."""

    def _pytoweb_set_stream(self, message_type: str, is_stream: bool) -> None:
        """Whether messages of one type, posted from now on, are answered with streams."""

    def _pytoweb_tell_of_exit(self, exits: Exits) -> None:
        """Has ``exits.tell(reason, error)`` called when it has ended, on any thread; at once where it has."""

    def _pytoweb_exit(self) -> tuple[Reason, BaseException | None] | None:
        """Why it has ended; None: it has not."""

    def _pytoweb_take_events(self) -> tuple[list[tuple[str, RemoteData, str | None]], int]:
        """Takes the events out that came from its child: name, data and the id of the message of each.

        Returns:
            The events, and how many were dropped.
        """

    def _pytoweb_fail_queued(self) -> int:
        """Fails what is queued, and stays open; returns how many messages failed."""

    def _pytoweb_gave_up(self, why: str) -> None:
        """Counts a post that waited for room in vain as rejected, and raises its ``MailboxFullError``."""

    def _pytoweb_start(self) -> bool:
        """Lets the pool run it; False if it was stopped."""

    def _pytoweb_close(self, mode: str) -> int:
        """Refuses posts from now on; does not wait.

        Args:
            mode: What is queued is handled ("drain"), fails ("finish") or is cancelled ("cancel").

        Returns:
            How many messages failed.
        """

    def _pytoweb_wait_ended(self, timeout: float | None = None) -> bool | None:
        """Blocks until it has ended: True; False: ``timeout`` has passed; None: waiting could never end."""

    def _pytoweb_wait_idle(self, timeout: float | None = None) -> bool:
        """Blocks until nothing is queued and nothing runs; False when ``timeout`` has passed.

        Raises:
            AskCycleError: Called by a handler that it would wait for.
        """

    def _pytoweb_is_idle(self) -> bool:
        """Whether nothing is queued and nothing runs."""

    def _pytoweb_is_current(self) -> bool:
        """Whether the calling thread runs one of its handlers."""

    def _pytoweb_configure(self, config: dict[str, Any], one_by_one: bool) -> None:
        """Has the child process told of the handlers, before its next message.

        Args:
            config: What `_process.configuration` made.
            one_by_one: Some handlers are coroutines: the next message is sent when the last one is over.

        Raises:
            SerializationError: It cannot be pickled.
        """

    def _pytoweb_mark_stale(self) -> None:
        """Has ``_pytoweb_refresh`` called by the next post."""

    def _pytoweb_set_start_hook(self, hook: Callable[[], object]) -> None:
        """Has ``hook()`` called before the first message, on the thread that handles it."""

    def _pytoweb_add_end_hook(self, hook: Callable[[], object]) -> bool:
        """Has ``hook()`` called at the end, on the thread that handled its messages; False after that."""

    def _pytoweb_runs_end_hooks(self) -> bool:
        """Whether its end hooks run."""

    def _pytoweb_set_around(
        self, around: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None, bool], Any]
    ) -> None:
        """Has ``around(function, args, kwargs, awaits)`` call its handlers and functions."""

    def _pytoweb_want_process(self) -> None:
        """Has its child process started ahead of its first message."""

    def _pytoweb_terminate(self) -> None:
        """Fails everything queued and the reply of what runs; does not wait."""

    def _pytoweb_state(self) -> WorkerState:
        """As ``PythonWorker.state``."""

    def _pytoweb_explain(self, message: str | FutureBase) -> dict[str, Any] | None:
        """Where a message with that id, or of that future, is, or what became of it: see ``_explain.py``.

        Goes through all messages that wait. None: it is not known here.
        """

    def _pytoweb_health(self) -> tuple[str, str, float]:
        """Returns how it fares: the state, why, and for how many seconds."""

    def _pytoweb_stats(self) -> dict[str, Any]:
        """Its numbers, by name; times in seconds."""

    def _pytoweb_times(self) -> dict[str, tuple[tuple[list[int], float], tuple[list[int], float]]]:
        """How long messages of each type waited, and how long they ran.

        Returns:
            For each how many times lie in each bucket of ``TIME_BOUNDS`` and above, and their sum in seconds.
        """

@final
class Parked:
    """A post in the line before a full mailbox; withdrawn when it is dropped."""

    def outcome(self, why: str) -> WorkerFuture[Any] | None:
        """Ends the wait: the future of an ask that is in, or None for a post.

        Raises:
            MailboxFullError: It was still in line, and is withdrawn; ``why`` says why it did not wait longer.
            WorkerStoppedError: The worker was stopped.
        """

    def withdraw(self) -> bool:
        """Takes it out of the line, uncounted. False: it is in, or was refused."""

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until it is in or refused: True; False when ``timeout`` seconds have passed.

        Raises:
            MailboxFullError: Waiting would deadlock.
        """

@final
class Repeated:
    """A message of ``every``: posted, or in the line before a full mailbox, until it is dropped."""

    def is_over(self) -> bool:
        """Whether it is neither in line nor queued nor run any more."""

@disjoint_base
class FutureBase:
    """The native half of ``WorkerFuture``.

    Made by ``ask`` and ``submit``: every method of one that is made by hand raises ``RuntimeError``.
    """

    def __new__(cls) -> Self:
        """Makes one that belongs to no message."""

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the reply, without the interpreter lock, and returns it.

        On the main thread Ctrl-C ends the wait.

        Args:
            timeout: Seconds to wait at most, None for as long as it takes. The message itself goes on; its
                own deadline is that of ``ask(timeout=...)``.

        Returns:
            What the handler returned.

        Raises:
            BaseException: What the handler raised: the very same exception.
            concurrent.futures.TimeoutError: ``timeout`` passed first; nothing else has changed.
            concurrent.futures.CancelledError: The message was cancelled.
            DeadlineError: The message's own deadline passed.
            MailboxFullError: The overflow policy dropped the message.
            WorkerStoppedError: The worker stopped before it finished the message.
            UnknownMessageError: No handler is registered for its type.
            AskCycleError: Called in a handler, and the reply could never come while that waits.
            ForkedProcessError: The reply is not in yet, and its worker belongs to the parent process.
        """

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits as ``result`` does, and returns the exception instead of raising it.

        Args:
            timeout: Seconds to wait at most, None for as long as it takes.

        Returns:
            What ``result`` would raise for the message, or None if its handler returned.

        Raises:
            concurrent.futures.TimeoutError: ``timeout`` passed first; nothing else has changed.
            concurrent.futures.CancelledError: The message was cancelled.
            AskCycleError: Called in a handler, and the reply could never come while that waits.
            ForkedProcessError: The reply is not in yet, and its worker belongs to the parent process.
        """

    def done(self) -> bool:
        """Returns whether the reply stands: a result, an exception, or cancelled. Never blocks.

        Raises:
            ForkedProcessError: It does not, and never will: its worker belongs to the parent process.
        """

    def cancelled(self) -> bool:
        """Returns whether the message was cancelled while it was queued, so that its handler never runs.

        Raises:
            ForkedProcessError: As for ``done``.
        """

    def running(self) -> bool:
        """Returns whether the handler runs now. Never blocks.

        Raises:
            ForkedProcessError: As for ``done``.
        """

    def cancel(self) -> bool:
        """Gives the message up; does not wait.

        A queued message is removed and never runs. A running one goes on, but its
        ``current_message().cancelled`` is True from here on, for the handler to look at; an ``async def``
        handler is cancelled at its next ``await``, and its reply is the ``asyncio.CancelledError``, unless it
        handles that.

        Returns:
            True if the message is cancelled, False if it was running or done.

        Raises:
            ForkedProcessError: The reply is not in yet, and its worker belongs to the parent process.
        """

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Has ``fn(future)`` called when the reply stands, callbacks in the order in which they were added.

        It runs on the thread that settles the reply, mostly the worker's, so it should be quick; here and now
        if the reply stands already. An error that it raises is logged by ``pytoweb.worker``.

        Args:
            fn: Called with this future.

        Raises:
            ForkedProcessError: As for ``done``.
        """

    def __await__(self) -> Generator[Any, None, Any]:
        """Waits without blocking the event loop, and returns or raises as ``result`` does.

        Cancelling the task that waits cancels the message, as ``cancel`` does.

        Raises:
            asyncio.CancelledError: The message was cancelled.
            RuntimeError: No event loop runs on this thread.
        """

    def set_running_or_notify_cancel(self) -> bool:
        """Returns whether the message was not cancelled; for code that takes any ``Future``."""

    def set_result(self, result: object) -> None:
        """Refuses: only the worker settles the reply.

        Raises:
            concurrent.futures.InvalidStateError: Always.
        """

    def set_exception(self, exception: BaseException | None) -> None:
        """Refuses: only the worker settles the reply.

        Raises:
            concurrent.futures.InvalidStateError: Always.
        """

    def _end(self) -> tuple[str, str | None, bool] | None:
        """How its message ended: the outcome, the error, whether it is a dead letter; None if it has not.

        To look at a failure here is not to read it.
        """

    def _wait_edge(self) -> object | None:
        """While the returned object lives, the handler that runs here waits for its message.

        None: no handler does. Raises AskCycleError where that could never end.
        """

    def _process(self, processes: Processes) -> int | None:
        """The process number of the child that has begun its message; None if none of these has."""

    def _note_read(self) -> None:
        """Counts a failure as read from now on: the code that has the future tells of it in another way."""

    def _worker_name(self) -> str:
        """The name of the worker that owes the reply."""

    def _runtime(self) -> Any:
        """The ``PoolRuntime`` of the worker or pool that owes it."""

    def _progress_meter(self) -> ProgressMeter:
        """What is reported of the progress of its message."""

    def _watch_progress(self, watcher: Callable[[], object]) -> None:
        """Has ``watcher()`` called on any thread, for each report and once the reply stands."""

    # What `concurrent.futures.wait` and `as_completed` look at; made when they first do.
    _condition: threading.Condition
    _waiters: list[Any]
    _state: str
    _result: Any
    _exception: BaseException | None

class _ProcessRuntime(Protocol):
    """What the children of a pool are heard by; ``ProcessRuntime`` is one."""

    def child_setup(self, place: int) -> tuple[list[str], dict[str, Any]]:
        """What a child is started with, and what it gets first: see `_child.Child.set_up`."""

    def child_asked(self, place: int, key: bytes) -> None:
        """A child waits for a descriptor at its door."""

    def child_logged(self, packed: bytes) -> None:
        """A log record of a child, pickled."""

    def lane_failed(self, place: int, error: WorkerCrashedError, rest: float) -> None:
        """A child is given up, and tried again after ``rest`` seconds."""

    def lane_recovered(self, place: int) -> None:
        """A place that was given up has a child again."""

    def child_killed_late(self, place: int, pid: int, seconds: float) -> None:
        """A child was told to end, did not within these seconds, and was killed."""

@final
class Processes:
    """The child processes of a pool, which start when there is work for them."""

    def __new__(
        cls,
        *,
        name: str,
        size: int,
        transport: str,
        runtime: Callable[[], _ProcessRuntime | None],
        max_messages: int | None,
        max_memory: int | None,
        max_restarts: int | None,
        restart_window: float,
        grace: float,
        start_timeout: float | None,
    ) -> Self:
        """None of them, yet.

        Args:
            name: Names the threads that watch over them.
            size: How many there are at the same time.
            transport: "shared-memory" or "socket".
            runtime: What hears of them, and says what each is started with.
            max_messages: Messages after which one is replaced.
            max_memory: Bytes of resident memory above which one is replaced.
            max_restarts: Those in a row that are replaced although they ended before they had begun a
                message; after them the place is given up for a while. None is no limit.
            restart_window: One that was ready for longer than these seconds is none of those.
            grace: Seconds from asking a handler to stop to the kill.
            start_timeout: Seconds that one may take to be ready; None is no limit.
        """

    def door(self, place: int) -> int | None:
        """A new descriptor of the host's end of a child's door; None where the child has ended."""

    def pids(self) -> list[int | None]:
        """The process numbers of the children that exist, by place."""

    def begun(self) -> list[tuple[int, int, Any, str, str, str | None, int]]:
        """The messages that children have begun.

        Returns:
            For each the process number of the child, the number of the message there, the worker or pool or
            None where that is gone, its name, the message's type, its id, and the attempt.
        """

    def has_started(self) -> bool:
        """Whether a child was ever wanted."""

    def close(self) -> None:
        """Tells the children to end; those that do not are killed. Does not wait."""

    def kill_ending(self) -> None:
        """Has those killed that were told to end and have not yet. Does not wait."""

    def join(self, timeout: float | None = None) -> bool:
        """Blocks until they have ended, after ``close``; False when ``timeout`` seconds have passed."""

@final
class Reducers:
    """The dispatch table of a pickler, over one that others may change at any time."""

    def __new__(cls, shared: dict[type, Any], own: dict[type, Any]) -> Reducers: ...
    def __getitem__(self, class_: Any, /) -> Any: ...

@final
class Sink:
    """What a pickler of payloads writes to."""

    def write(self, piece: Any) -> None:
        """Takes what the pickler has."""

    def buffer(self, buffer: Any) -> bool:
        """Takes a buffer out of band; True if it has enough of them, and this one goes into the stream."""

@final
class ChildEnd:
    """The child's end of the connection to the host."""

    def report_descriptor(self) -> int:
        """The descriptor for last words."""

    def ready(self) -> None:
        """Tells the host that this process is ready."""

    def unfit(self, kind: str, text: str, traceback: str, pickle: bytes) -> None:
        """Tells the host that the initializer failed, in three texts and, if there is one, a pickle."""

    def log(self, bytes: bytes) -> bool:
        """Sends a log record, pickled; False if it is too long."""

    def borrow(self, key: str) -> int:
        """Asks the host for a descriptor, and waits for it.

        Raises:
            OSError: The host did not lend it.
        """

    def release(self) -> None:
        """Lets go of the workers and their handlers."""

    def run(self, child: Any) -> None:
        """Handles requests until the host says that it is over.

        Raises:
            RuntimeError: The connection to the host is broken.
        """

@final
class ChildPending:
    """A message of a child whose coroutine runs on its event loop."""

    def completed(self, result: object) -> None:
        """Ends the message with a result."""

    def failed(self, error: BaseException) -> None:
        """Ends the message with an exception."""

    def message(self) -> WorkerMessage:
        """The message as ``current_message()`` shows it."""

    def comes_to(self, home: LoopLabel) -> WorkerMessage:
        """The same, and notes for the watchdog that the coroutine is on that loop until it ends."""

    def is_of(self, ticket: int) -> bool:
        """Whether it is the message of that ticket; False."""

    def on_interrupt(self, interrupter: Callable[[], object]) -> bool:
        """Has ``interrupter()`` called if the message is cancelled or expires; True."""

def is_packing() -> bool:
    """Whether the calling thread pickles a payload: names are looked up then only to compare."""

def is_unpacking() -> bool:
    """Whether the calling thread unpickles what the other process sent."""

def load(pickle: bytes) -> Any:
    """The object of a pickle that the other process sent."""

def child_arrive() -> ChildEnd:
    """Takes over the standard input that the host gave this process.

    Raises:
        OSError: This process was not started by a pool.
    """

@final
class Pending:
    """A message whose coroutine runs on the pool's event loop; its worker goes on once this has its end."""

    def completed(self, result: object) -> None:
        """Ends the message with a result.

        Raises:
            RuntimeError: It has ended already.
        """

    def failed(self, error: BaseException) -> None:
        """Ends the message with an exception.

        Raises:
            RuntimeError: It has ended already.
        """

    def message(self) -> WorkerMessage | None:
        """The message as ``current_message()`` shows it; None once it has ended."""

    def comes_to(self, home: LoopLabel) -> WorkerMessage | None:
        """The same, and notes for the watchdog that the coroutine is on that loop until it ends."""

    def is_of(self, ticket: int) -> bool:
        """Whether it is the message of that ticket, which the watchdog was told of."""

    def on_interrupt(self, interrupter: Callable[[], object]) -> bool:
        """Has ``interrupter()`` called if the message is cancelled, expires, or its worker is terminated.

        Returns:
            False if it has no future, id or deadline, by which it could be told.
        """

    def is_terminated(self) -> bool:
        """Whether its worker was terminated."""

@final
class LoopLabel:
    """An event loop, as the watchdog knows it."""

    def __new__(cls, name: str) -> LoopLabel: ...
    def begin(self) -> None:
        """Tells the watchdog that the calling thread runs the loop until it ends."""

@final
class Select:
    """Its ``wait`` is in the place of a selector's ``select``: by it the watchdog knows when a loop waits."""

    def __new__(cls, select: Callable[..., Any]) -> Select: ...
    def wait(self, timeout: float | None = None) -> Any: ...

def turn_of_loop(ident: int) -> int | None:
    """The number of the turn that the event loop of a thread is at.

    None where it waits in its selector, or where that does not tell of its waits.
    """

@final
class StreamWriter:
    """Where a handler on a thread of the host puts the items of its stream."""

    def put_all(self, items: Iterator[object], limit: float) -> bool | None:
        """Puts the items as they come: True at their end, False where no more are wanted.

        None where no room came within ``limit`` seconds; the next call goes on.
        """

    def put_soon(self, item: object, wake: Callable[[], object]) -> bool | None:
        """Puts an item; None where there is no room, and ``wake()`` is called to try again."""

    def is_closed(self) -> bool:
        """Whether no more items are wanted."""

@final
class ChildStreamWriter:
    """Where a handler in a child process puts the items of its stream."""

    def put_all(self, items: Iterator[object], limit: float) -> bool | None:
        """As ``StreamWriter.put_all``; for the main thread."""

    def put_soon(self, item: object, wake: Callable[[], object]) -> bool | None:
        """As ``StreamWriter.put_soon``."""

    def is_closed(self) -> bool:
        """Whether no more items are wanted."""

@disjoint_base
class StreamReader:
    """The native half of ``WorkerStream``: the items of the stream that ``future`` is the end of."""

    def __new__(cls, future: WorkerFuture[Any], *_args: object) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any:
        """The next item; where there is none yet, what ``_wait_for_item()`` returns or raises."""

    def _take(self, limit: float | None) -> tuple[Any, ...] | None:
        """The next item in a tuple, an empty one at the end; None when ``limit`` seconds have passed."""

    def _take_soon(self, wake: Callable[[], object]) -> tuple[Any, ...] | None:
        """The same without waiting: None where there is none yet, and ``wake()`` is called when there is."""

    def _close(self) -> bool:
        """Reads no more, and has the handler told; True the first time."""

    def _is_closed(self) -> bool:
        """Whether it was closed by its reader."""

@final
class ProgressMeter:
    """The progress of a message, for the ticker and those who watch it."""

    def flush(self) -> None:
        """Tells those who watch it."""

    def latest(self) -> tuple[int, tuple[float, float | None, str | None]] | None:
        """The how-manieth report it is, and the report."""

def report_progress(
    message: WorkerMessage | None, done: float, total: float | None, text: str | None
) -> None:
    """Reports the progress of the message whose handler runs on this thread, or of ``message``."""

@final
class RemoteData:
    """The data of an event, as another process sent it."""

    def unpack(self) -> Any:
        """Unpickles it."""

@final
class WorkerMessage:
    """One message; what ``current_message()`` gives, and what ``response`` and ``error`` handlers get.

    It cannot be changed, but for ``cancelled``, which is live.
    """

    def __new__(
        cls, type: str, data: object = None, id: str | None = None, worker: str | None = None
    ) -> Self:
        """Makes a message that was never posted, for tests of handlers.

        Args:
            type: The type.
            data: The payload.
            id: The id, or None.
            worker: The name of a worker; None is ``""``.
        """

    @property
    def type(self) -> str:
        """The type that it was posted with; ``"response"`` or ``"error"`` for a reply.

        For a function of ``submit`` or ``run_in_worker`` its qualified name.
        """

    @property
    def data(self) -> Any:
        """The payload, as it was posted.

        For a reply a dict with ``"id"`` and either ``"result"`` or ``"error"``; for a function its positional
        arguments.
        """

    @property
    def id(self) -> str | None:
        """The ``message_id`` that it was posted with, or None."""

    @property
    def worker(self) -> str:
        """The name of the worker or pool that handles it."""

    @property
    def attempt(self) -> int:
        """The ordinal of this delivery, from 1.

        Higher after a failure that ``Retry`` has tried again, and after a crash that ``max_attempts`` allows.
        """

    @property
    def cancelled(self) -> bool:
        """Whether no caller waits for it any more; live, for long-running handlers to look at now and then.

        True once its future was cancelled while it ran, its deadline has passed, or its worker was
        terminated. In a handler of batches it is the first message, and true once that holds for all of them.
        """

    def _emit(self, name: str, data: object) -> None:
        """Sends an event to the host; for a message of a child."""

def interrupt_thread(ident: int, exception: type[BaseException]) -> None:
    """Raises ``exception`` in the thread of that identifier, the next time that it runs Python code."""

def write_unraisable(error: BaseException, object: object) -> None:
    """Tells ``sys.unraisablehook`` of an exception that ends where it was raised; never raises."""

def wait_for_threads(seconds: float) -> bool:
    """Waits until no native thread of ours is left, for ``seconds`` at most. Returns whether that is so."""

def load_errors() -> None:
    """Imports the exception classes, so that none has to be imported when it is needed."""

def check_wishes(wishes: _Wishes) -> None:
    """Refuses what a post would refuse: priority, key, delay, at and keep_latest.

    Raises:
        TypeError: One of them is of a wrong type.
        ValueError: There is no such priority, or two of them do not go together.
    """

def checked_timeout(timeout: SupportsFloat | SupportsIndex | None, name: str = "timeout") -> float | None:
    """What callers may give as seconds: any number that converts to a float, but for a bool.

    Args:
        timeout: Seconds from 0 on, or None.
        name: What errors call the argument.

    Returns:
        The seconds; None for no limit, which infinity and more than a clock can tell are, too.

    Raises:
        TypeError: It is not a number.
        ValueError: It is negative or NaN.
    """

def gathered(futures: Sequence[FutureBase], return_exceptions: bool) -> Awaitable[list[Any]]:
    """Awaits many replies as one; not for handlers, whose waits are to be known one by one.

    Args:
        futures: The futures of the replies.
        return_exceptions: Whether an exception is a result like any other.

    Returns:
        An awaitable of the list of results, in the order of ``futures``.
    """

@final
class HeldWaits:
    """Notes that a handler waits, for as long as this lives."""

def note_wait_of(
    waiter: Endpoint,
    waiting: WorkerMessage | None,
    target: Endpoint,
    message: WorkerMessage | None,
) -> HeldWaits:
    """Notes that the handler of one message cannot go on before that of another one has.

    Args:
        waiter: The worker or pool whose handler waits.
        waiting: Its message.
        target: The worker or pool whose handler is waited for.
        message: Its message.

    Returns:
        An object that holds this note while it lives.

    Raises:
        AskCycleError: It could wait for ever.
    """

def note_waits(futures: Sequence[FutureBase]) -> HeldWaits:
    """Notes that the handler of this thread, if one runs here, waits until all of ``futures`` are done.

    Returns:
        An object that holds this note while it lives.

    Raises:
        AskCycleError: It could wait for ever.
    """

@final
class blocking:
    """Lets another thread of the pool run while this one waits in a ``with`` block.

    For what blocks a handler and is no reply: a lock, a queue, a socket, a subprocess.

        with blocking():
            lock.acquire()

    A pool runs ``size`` handlers at a time; one in such a block does not count. Waits for replies
    (``future.result()``) and for room do the same by themselves. The worker takes no other message meanwhile;
    of a pool's own mailbox another one may run. Blocks within blocks, and blocks outside of handlers, in
    child processes and in coroutines do nothing: what blocks an event loop blocks it, so await there.

    Raises:
        ThreadLimitError: As many handlers wait as the pool may have threads beyond its size.
        RuntimeError: All threads of the pool wait, and the system refused another one. Both at the start of
            the block.
    """

    def __new__(cls) -> Self: ...
    def __enter__(self) -> None:
        """From here on another thread may run."""

    def __exit__(self, *_error: object) -> None:
        """The handler goes on."""

def merged_numbers(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The timings of several endpoints, as if they were one, and under ``types`` the numbers by type.

    Args:
        endpoints: Workers and pools.

    Returns:
        Times in seconds; None where nothing was measured yet.
    """

def program_health(most: int) -> tuple[dict[str, int], list[tuple[str, str, bool, tuple[str, str, float]]]]:
    """How all workers of this process fare, and the pools' own mailboxes; read without the interpreter lock.

    Args:
        most: How many are told of, at most.

    Returns:
        How many are in each state; and of those that are restarting or worse the pool's name (with a worker
        by itself: of its own threads), the worker's, whether it is a pool's own mailbox, and what
        ``Endpoint._pytoweb_health`` returns.
    """

def program_numbers() -> dict[str, Any]:
    """Sums over all pools and workers of this process; read without the interpreter lock.

    Returns:
        ``pools`` (those of workers by themselves included), ``workers``, and of all of them the counters of
        ``WorkerStats`` and ``oldest_age`` in seconds.
    """

def running_on_threads() -> list[tuple[int, int, Any, str, str, str | None, int]]:
    """What the threads of pools run now; takes as long as there are threads, and stops none of them.

    Returns:
        For each thread on which a handler or hook runs: its identifier, the number of its message there, the
        worker or pool or None where that is gone, its name, the message's type, its id, and the attempt.
    """

def running_in_child() -> list[tuple[int, int, str, str, str | None, int]]:
    """What the threads of this process, which is a child, run now.

    Returns:
        For each thread on which a handler runs: its identifier, the number of its message there, the worker's
        name, the message's type, its id, and the attempt.
    """

def watch_failures(callback: Callable[[str, str, BaseException], object] | None) -> None:
    """Has ``callback`` called with each failure of a message, on the thread that it is told on.

    Args:
        callback: Called with the name of the worker or pool, the message's type and the exception. What it
            raises goes to ``sys.unraisablehook``. None calls none any more.
    """

def running_message() -> WorkerMessage | None:
    """The message whose handler runs on this thread, if one does; coroutines are not on it."""

def running_stream() -> StreamWriter | ChildStreamWriter | None:
    """Where the handler that runs on this thread puts the items of its stream, if it answers with one."""

def running_owner() -> PythonWorker | WorkerPool | None:
    """The worker or pool whose handler runs on this thread, if one does and it still exists."""
