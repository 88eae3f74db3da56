"""What workers and pools keep for themselves, out of the reach of their subclasses.

All of it lies in one object, the attribute ``_pytoweb``, and their methods that are not for users begin with
``_pytoweb_``. Every other name belongs to the user's class, and what it sets goes to the child process.
"""

from __future__ import annotations

import threading
from types import MemberDescriptorType

from pytoweb._retry import DeadLetters

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytoweb._around import Around
    from pytoweb._batch import Batch
    from pytoweb._core import Threads
    from pytoweb._events import Events
    from pytoweb._every import WorkerTimer
    from pytoweb._exits import Exits
    from pytoweb._limits import Rate
    from pytoweb._map import MapFeed
    from pytoweb._named import Named
    from pytoweb._pool import WorkerPool
    from pytoweb._replies import Replies
    from pytoweb._room import PlaceLine
    from pytoweb._runtime import PoolRuntime
    from pytoweb._worker import Backend, PythonWorker

__all__ = ["NAMESPACE", "Internals", "PoolInternals", "set_state", "state_of"]

#: The one attribute of an instance that is not its class's own.
NAMESPACE = "_pytoweb"


#: Most workers have no soft limit, and share this.
_NONE: dict[str, float] = {}
#: Most have no rate either.
_NO_RATES: dict[str, Rate | None] = {}
#: Most subscribe to nothing.
_NO_TOPICS: frozenset[str] = frozenset()
#: Nor batches.
_NO_STREAMS: frozenset[str] = frozenset()
_NO_BATCHES: dict[str, Batch | None] = {}
_NONE_UNSTREAMED: dict[str, str] = {}


class Internals:
    """What a worker keeps."""

    __slots__ = (
        "around",
        "backend",
        "batches",
        "dead_letters",
        "events",
        "exits",
        "given_up",
        "handlers",
        "has_coroutine_hooks",
        "has_coroutines",
        "line",
        "name",
        "packed",
        "packed_around",
        "packed_on_stop",
        "pool",
        "rates",
        "replies",
        "runtime",
        "soft_limits",
        "start_number",
        "streams",
        "threads",
        "timers",
        "topics",
        "unstreamed",
        "wanted_events",
    )

    replies: Replies
    runtime: PoolRuntime
    threads: Threads
    #: For process workers: the handlers by message type, under None the start hook. Those that are pickled
    #: already say whether they refer to the worker itself.
    packed: dict[str | None, tuple[bytes, bool] | Named]

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.handlers: dict[str | None, Callable[..., object]] = {}
        self.packed = {}
        self.has_coroutines = False
        #: By message type, where there are any: seconds that its handler may run.
        self.soft_limits: dict[str, float] = _NONE
        self.dead_letters = DeadLetters()
        #: Its events, once there was a handler for one.
        self.events: Events | None = None
        #: Who is told of its end, once there was an exit handler.
        self.exits: Exits | None = None
        #: In a child: the names of the events that the host has handlers for.
        self.wanted_events: frozenset[str] | None = None
        #: By message type, once there was one: how many may begin in a time.
        self.rates: dict[str, Rate | None] = _NO_RATES
        #: By message type, once there was one: the batches that its handler gets.
        self.batches: dict[str, Batch | None] = _NO_BATCHES
        #: The types whose handlers are generator functions.
        self.streams: frozenset[str] = _NO_STREAMS
        #: Of the other types whose handlers may return a generator: the option of theirs that no stream has.
        self.unstreamed: dict[str, str] = _NONE_UNSTREAMED
        #: What surrounds its handlers, once there was something; and the same pickled for its process.
        self.around: Around | None = None
        self.packed_around: list[tuple[bytes, bool] | Named] = []
        #: What runs when a process that had its messages ends.
        self.packed_on_stop: list[tuple[bytes, bool] | Named] = []
        #: The end of the program does not wait for it: its owner has waited long enough, or abandoned it.
        self.given_up = False
        #: The coroutines that wait for a place for a reply, once there were some.
        self.line: PlaceLine | None = None
        #: Error handlers and start hooks that run on the pool's event loop.
        self.has_coroutine_hooks = False
        #: Start hooks that were registered.
        self.start_number = 0
        #: The pool that made it.
        self.pool: WorkerPool | None = None
        #: The topics that it subscribes to; changed under the lock of its pool.
        self.topics = _NO_TOPICS
        #: What `every` made and was not cancelled; changed under the lock of `_every.py`.
        self.timers: tuple[WorkerTimer, ...] = ()

    def keep_in(self, owner: object) -> None:
        """Makes this the ``_pytoweb`` of a worker or pool, past a ``__setattr__`` of its class."""
        object.__setattr__(owner, NAMESPACE, self)


class PoolInternals(Internals):
    """What a pool keeps."""

    __slots__ = ("feeds", "lock", "max_spare_threads", "shut_down", "size", "subscribers", "workers")

    def __init__(self, name: str, backend: Backend, size: int) -> None:
        super().__init__(name, backend)
        self.size = size
        self.max_spare_threads: int | None = None
        self.workers: dict[str, PythonWorker] = {}
        self.shut_down = False
        #: By topic the names of workers, in the order of their subscriptions.
        self.subscribers: dict[str, dict[str, None]] = {}
        #: Each `map` whose calls wait for room.
        self.feeds: set[MapFeed] = set()
        self.lock = threading.RLock()


def state_of(owner: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the user's class has set in a worker or pool: in its ``__dict__``, and in its ``__slots__``."""
    own = {name: value for name, value in vars(owner).items() if name != NAMESPACE}
    slots: dict[str, Any] = {}
    for kind in type(owner).__mro__:
        if "__slots__" in vars(kind):
            for name, slot in vars(kind).items():
                if isinstance(slot, MemberDescriptorType) and name not in slots:
                    try:
                        slots[name] = slot.__get__(owner)
                    except AttributeError:
                        # Not set.
                        continue
    return own, slots


def set_state(owner: object, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Sets what ``state_of`` has found, past a ``__setattr__`` of the class."""
    own, slots = state
    vars(owner).update(own)
    for name, value in slots.items():
        object.__setattr__(owner, name, value)
