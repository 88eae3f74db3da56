"""The host's side of process workers: what children are started with, and what handlers become."""

from __future__ import annotations

import functools
import logging
import os
import sys
import weakref

# Native code calls `_definitions`. A tool that freezes a program takes along only what Python code imports.
from pytoweb import (
    _definitions,  # noqa: F401
    _interpreter,
    _main,
    _pickling,
    _setup,
)
from pytoweb._checks import MAX_ATTEMPTS, PROCESS_OPTIONS, checked_count
from pytoweb._contained import contained
from pytoweb._core import Processes
from pytoweb._internals import PoolInternals, state_of
from pytoweb._late import LateCalls
from pytoweb._lending import Lending
from pytoweb._named import Named
from pytoweb._runtime import PoolRuntime, cast_processes, left_until

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytoweb._addressable import Addressable
    from pytoweb._core import Endpoint
    from pytoweb.errors import WorkerCrashedError

_pool_log = logging.getLogger("pytoweb.pool")

#: The environment variable that chooses the transport where no argument does.
TRANSPORT_VARIABLE = "PYTOWEB_TRANSPORT"
TRANSPORTS = ("shared-memory", "socket")


class ProcessOptions:
    """How the child processes of a pool are kept; checked where they are given."""

    def __init__(
        self,
        *,
        max_attempts: int,
        max_messages: int | None,
        max_memory: int | None,
        max_restarts: int | None,
        restart_window: float,
        grace: float,
        start_timeout: float | None,
        transport: str | None,
    ) -> None:
        self.max_messages = _count_or_none(max_messages, "max_messages")
        self.max_memory = _count_or_none(max_memory, "max_memory")
        self.max_restarts = _count_or_none(max_restarts, "max_restarts", 0)
        self.restart_window = _checked_seconds(restart_window, "restart_window")
        self.grace = _checked_seconds(grace, "grace", or_zero=True)
        self.start_timeout = (
            None if start_timeout is None else _checked_seconds(start_timeout, "start_timeout")
        )
        self.transport = checked_transport(transport)
        checked_count(max_attempts, "max_attempts", most=MAX_ATTEMPTS)

    def check_worker(self, given: dict[str, Any]) -> None:
        """Refuses what a worker of a pool cannot have for itself, because its process is the pool's."""
        for name, value in given.items():
            if name != "max_attempts" and value != PROCESS_OPTIONS[name]:
                raise ValueError(f"{name} belongs to the processes of a pool: give it to WorkerPool")
        checked_count(given["max_attempts"], "max_attempts", most=MAX_ATTEMPTS)


def _count_or_none(value: object, what: str, least: int = 1) -> int | None:
    return None if value is None else checked_count(value, what, least)


def _checked_seconds(value: Any, what: str, or_zero: bool = False) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number of seconds, not {type(value).__name__}")
    if not (value > 0 or (or_zero and value == 0)):
        least = "0 or more" if or_zero else "more than 0"
        raise ValueError(f"{what} must be {least} seconds, not {value}")
    return float(value)


def checked_transport(transport: str | None) -> str:
    if transport is None:
        transport = os.environ.get(TRANSPORT_VARIABLE) or (
            "shared-memory" if sys.platform == "linux" else "socket"
        )
    if transport not in TRANSPORTS:
        raise ValueError(f"unknown transport {transport!r}: use one of {', '.join(map(repr, TRANSPORTS))}")
    return transport


def refuse_missing_guard() -> None:
    """Refuses to start a child while one imports the script that does it."""
    if _main.importing:
        raise RuntimeError(
            "this script starts process workers when it is imported, and its handlers make the children "
            'import it: put what it runs under  if __name__ == "__main__":  (or install cloudpickle, '
            "the extra pytoweb[process], so that they need not import it)"
        )


class ProcessRuntime(PoolRuntime):
    """The Python side of a pool whose handlers run in child processes."""

    def __init__(
        self,
        name: str,
        size: int,
        options: ProcessOptions,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(name)
        # Replies name classes of a main module that a child has imported under this name.
        if "__main__" in sys.modules:
            sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
        self.lending = Lending()
        self._packed_initializer: bytes | None = None
        if initializer is not None:
            what = f"the initializer of {name!r}"
            with self.lending.spawning():
                self._packed_initializer, _ = _pickling.dump_handler((initializer, initargs), None, what)
        self._directories = _setup.directories()
        #: By place: the endpoints whose handlers run there. None stands for all of them.
        self._endpoints: dict[int | None, weakref.WeakSet[Endpoint]] = {}
        self.options = options
        #: Children at the same time.
        self.size = size
        self.processes = self._make_processes()
        self._late = LateCalls(f"{name}-replies")

    def load_modules(self) -> None:
        super().load_modules()
        # How a child is started depends on what the program has set there.
        import multiprocessing  # noqa: F401

    def _make_processes(self) -> Processes:
        name, options = self.name, self.options
        return Processes(
            name=name,
            size=self.size,
            transport=options.transport,
            runtime=weakref.ref(self),
            max_messages=options.max_messages,
            max_memory=options.max_memory,
            max_restarts=options.max_restarts,
            restart_window=options.restart_window,
            grace=options.grace,
            start_timeout=options.start_timeout,
        )

    def renew_processes(self) -> None:
        """In a forked child: the places are for children of this process."""
        self.processes = self._make_processes()
        self._late = LateCalls(f"{self.name}-replies")

    def has_started(self) -> bool:
        """Also where there was a child."""
        return super().has_started() or self.processes.has_started()

    @staticmethod
    def check_start() -> None:
        """Refuses to start children where that cannot end well; called where one would be started.

        Raises:
            RuntimeError: the script is being imported by a child, or there is no interpreter to start.
        """
        refuse_missing_guard()
        _interpreter.command()

    def child_setup(self, place: int) -> tuple[list[str], dict[str, Any]]:
        """What a child is started with, as things are now; called on the thread of its lane."""
        setup = _setup.setup(f"{self.name}-{place + 1}", place + 1, self._directories)
        setup["pool"] = self.name
        setup["initializer"] = self._packed_initializer
        return _interpreter.command(), setup

    def child_asked(self, place: int, key: bytes) -> None:
        """A child waits for a descriptor; called on a thread that reads replies."""
        door = self.processes.door(place)
        if door is not None:
            self.lending.answer(door, key)

    def place(self, endpoint: Endpoint, place: int | None) -> None:
        """Notes where the handlers of an endpoint run."""
        self._endpoints.setdefault(place, weakref.WeakSet()).add(endpoint)

    def quietest(self) -> int:
        """The place with the fewest named workers; of equals one whose child is there."""
        pids = self.processes.pids()
        return min(
            range(self.size), key=lambda place: (len(self._endpoints.get(place, ())), pids[place] is None)
        )

    def child_logged(self, packed: bytes) -> None:
        """A log record of a child; called on a thread that reads replies."""
        self._call(functools.partial(_handle_record, packed))

    def lane_failed(self, place: int, error: WorkerCrashedError, rest: float) -> None:
        """No child can be started at a place for ``rest`` seconds; called on the supervisor's thread."""
        text = "process %d of %r is given up, and tried again in %g s: %s"
        # The exception of an initializer goes along, with its traceback.
        self._log(logging.CRITICAL, text, place + 1, self.name, rest, error, exc_info=error.__cause__)

    def lane_recovered(self, place: int) -> None:
        """There is a child again at a place; called on the supervisor's thread."""
        self._log(logging.WARNING, "process %d of %r is up again", place + 1, self.name)

    def child_killed_late(self, place: int, pid: int, seconds: float) -> None:
        """A child was told to end, did not, and was killed; called on the supervisor's thread."""
        text = (
            "process %d of %r (%d) was told to end, did not within %g s, and was killed: an on_stop hook, an "
            "atexit function or a thread of it still ran"
        )
        self._log(logging.WARNING, text, place + 1, self.given_name, pid, seconds)

    def _log(self, level: int, *args: object, exc_info: BaseException | None = None) -> None:
        self._call(functools.partial(_pool_log.log, level, *args, exc_info=exc_info))

    def _call(self, log: Callable[[], None]) -> None:
        """Calls ``log`` on a thread that Python knows: a log record names it."""
        try:
            with self._lock:
                # Children have something to say until they have ended, which is after the threads here.
                if self._is_over:
                    self._late.call(log)
                else:
                    self.reply_line().call(log)
        except RuntimeError:
            # No thread can be started any more.
            contained(log)

    def has_processes(self) -> bool:
        """Whether there are child processes."""
        return bool(self.pids())

    def pids(self) -> list[int]:
        """The process numbers of its child processes."""
        return [pid for pid in self.processes.pids() if pid is not None]

    def _ends(self) -> None:
        self.processes.close()

    def kill_ending(self) -> None:
        """As for threads."""
        self.processes.kill_ending()

    def join(self, end: float | None = None) -> bool:
        """Waits for the threads here and for the child processes; as for threads."""
        if not (super().join(end) and self.processes.join(left_until(end))):
            return False
        self.lending.close()
        return self._late.join(left_until(end))


def _handle_record(packed: bytes) -> None:
    try:
        record = logging.makeLogRecord(_pickling.loads(packed))
    except Exception:
        _pool_log.exception("a log record of a child process cannot be read")
        return
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def configuration(endpoint: Addressable, kept: type) -> dict[str, Any]:
    """What a child needs to run the handlers of an endpoint.

    Args:
        endpoint: the worker or pool.
        kept: its class where no handler uses it: not a user's subclass, which the child would import.

    Raises:
        SerializationError: an attribute that the handlers may use cannot be pickled.
    """
    internals = endpoint._pytoweb
    name = internals.name
    packed = {kind: _dumped(handler, endpoint) for kind, handler in internals.packed.items()}
    uses_self = any(used for _, used in packed.values())
    # By its name, so that the child has all of `pytoweb.workers` as well, whatever its handlers import.
    made, _ = _pickling.dump_handler(
        type(endpoint) if uses_self else kept, None, f"the class of worker {name!r}"
    )
    state = None
    if uses_self:
        own = state_of(endpoint)
        with cast_processes(internals.runtime).lending.spawning():
            for key, value in (item for part in own for item in part.items()):
                _pickling.dump_handler(value, endpoint, f"the attribute {key!r} of worker {name!r}")
            state, _ = _pickling.dump_handler(own, endpoint, f"the state of worker {name!r}")
    outer = [] if internals.pool is None else internals.pool._pytoweb.packed_around
    return {
        "name": name,
        "size": internals.size if isinstance(internals, PoolInternals) else None,
        "class": made,
        "state": state,
        "soft_limits": internals.soft_limits,
        "batches": [kind for kind, batch in internals.batches.items() if batch is not None],
        "unstreamed": internals.unstreamed,
        "handlers": {kind: pickle for kind, (pickle, _) in packed.items() if kind is not None},
        "on_start": packed[None][0] if None in packed else None,
        "on_stop": [_dumped(hook, endpoint)[0] for hook in internals.packed_on_stop],
        "start_number": internals.start_number,
        "one_by_one": internals.has_coroutines,
        "events": endpoint._pytoweb_wanted_events(),
        "around": [_dumped(hook, endpoint)[0] for hook in (*outer, *internals.packed_around)],
    }


def _dumped(handler: tuple[bytes, bool] | Named, endpoint: Addressable) -> tuple[bytes, bool]:
    return handler.dump(endpoint) if isinstance(handler, Named) else handler
