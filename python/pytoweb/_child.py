"""The program of a child process, started by ``python -c``: see ``_interpreter.py``."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import sys
import traceback
import types
import weakref

from pytoweb import _loops, _parentage, _pickling, _signals
from pytoweb._aio import RunningCoroutine, running
from pytoweb._around import Around
from pytoweb._batch import batch_handler
from pytoweb._callables import has_yield, may_yield
from pytoweb._core import child_arrive, load
from pytoweb._functions import is_coroutine_function
from pytoweb._internals import Internals, PoolInternals, set_state
from pytoweb._main import HostMain
from pytoweb._runtime import cast_owner, initialize
from pytoweb._soft import LimitedHandler
from pytoweb.errors import SerializationError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

    from pytoweb._core import ChildEnd, ChildPending

#: Bytes of a pickled exception that are sent to the host before this process ends.
LONGEST_ERROR = 16 << 10

#: This process is a child of a pool.
is_child = False


class HostLogHandler(logging.Handler):
    """Sends log records to the host, which handles them as its own."""

    def __init__(self, end: ChildEnd, process_name: str) -> None:
        super().__init__()
        self._end = end
        self._process_name = process_name

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.processName == "MainProcess":
                # `multiprocessing` is not imported, and the record does not know better.
                record.processName = self._process_name
            fields = dict(record.__dict__)
            fields["msg"] = record.getMessage()
            fields["args"] = None
            if record.exc_info:
                fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
                fields["exc_info"] = None
            if not self._send(fields):
                fields["msg"] = f"{fields['msg'][:1000]}... (cut: {len(fields['msg'])} characters)"
                fields["exc_text"] = None
                self._send({key: fields[key] for key in logging.makeLogRecord({}).__dict__ if key in fields})
        except Exception:
            self.handleError(record)

    def _send(self, fields: dict[str, Any]) -> bool:
        try:
            packed = pickle.dumps(fields, 5)
        except Exception:
            packed = pickle.dumps({key: value for key, value in fields.items() if _pickles(value)}, 5)
        return self._end.log(packed)


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value, 5)
    except Exception:
        return False
    return True


def _packed(error: BaseException) -> bytes:
    """The pickle of an exception, if it has one that fits beside its texts; else nothing."""
    try:
        packed = pickle.dumps(error, 5)
    except Exception:
        return b""
    return packed if len(packed) <= LONGEST_ERROR else b""


class Child:
    """What the native loop of a child calls: everything that is not on the path of every message."""

    def __init__(self, end: ChildEnd) -> None:
        self._end = end
        self._name = "pytoweb"
        self._loop: _loops.Tenant | None = None
        self._stand_ins: dict[int, Any] = {}
        self._start_numbers: dict[int, int] = {}
        #: By worker: its stand-in, and what runs when this process ends.
        self._end_hooks: dict[int, tuple[Any, list[Callable[[], object]]]] = {}
        self._to_host: HostLogHandler | None = None

    def set_up(self, setup: dict[str, Any]) -> None:
        """Makes this process like the host's, and runs the pool's initializer."""
        self._name = setup["pool"]
        sys.path[:] = setup["path"]
        sys.argv[:] = setup["argv"]
        # A frozen child is the program itself, come as far as `freeze_support`.
        is_frozen = getattr(sys, "frozen", False)
        main = sys.modules["__main__"] if is_frozen else HostMain(setup["main"])
        sys.modules["__main__"] = sys.modules["__mp_main__"] = main
        _parentage.adopt(setup["name"], setup["number"], setup["family"], self._end.borrow)
        self._to_host = HostLogHandler(self._end, setup["name"])
        logging.getLogger().addHandler(self._to_host)
        for name, level in setup["levels"].items():
            logging.getLogger(name or None).setLevel(level)
        if setup["initializer"] is not None:
            self._initialize(setup["initializer"])
        self._end.ready()

    def _initialize(self, packed: bytes) -> None:
        raised: BaseException | None = None
        own = os.getpid()
        try:
            function, args = load(packed)
            initialize(function, args, self._start_loop)
        except BaseException as error:
            raised = error
        if os.getpid() != own:
            self.end_copy(raised)
        if raised is not None:
            self._end.unfit(*self.describe(raised), _packed(raised))
            os._exit(1)

    def configure(self, number: int, config: dict[str, Any]) -> tuple[Any, ...]:
        """A worker of this process, or new handlers for one.

        Returns:
            Its name, whether it is a pool, its stand-in, its handlers, its start hook, whether some handler
            is a coroutine, what surrounds them, and why it cannot run anything.
        """
        worker = self._stand_ins.get(number)
        unfit: BaseException | None = None
        handlers: dict[str, Any] = {}
        on_start = around = None
        try:
            is_new = worker is None
            if is_new:
                worker = self._stand_in(config)
            _pickling.set_own_worker(worker)
            if is_new:
                if config["state"] is not None:
                    set_state(worker, load(config["state"]))
                self._stand_ins[number] = worker
            self._stand_ins[number]._pytoweb.wanted_events = config["events"]
            if config["start_number"] != self._start_numbers.get(number, 0):
                self._start_numbers[number] = config["start_number"]
                on_start = load(config["on_start"])
            for kind, handler in config["handlers"].items():
                handlers[kind] = load(handler)
                may_stream = may_yield(handlers[kind]) and not is_coroutine_function(handlers[kind])
                if may_stream or has_yield(handlers[kind]):
                    from pytoweb._stream_handler import StreamHandler

                    handlers[kind] = StreamHandler(handlers[kind], kind, config["unstreamed"].get(kind))
            own = dict(handlers)
            for kind, seconds in config["soft_limits"].items():
                handlers[kind] = LimitedHandler(handlers[kind], seconds, kind)
            for kind in config["batches"]:
                handlers[kind] = batch_handler(handlers[kind], own[kind], kind)
            if config["on_stop"]:
                self._end_hooks[number] = worker, [load(hook) for hook in config["on_stop"]]
            if config["around"]:
                around = Around(None)
                for hook in config["around"]:
                    around.add(load(hook))
        except BaseException as error:
            kind = "worker" if config["size"] is None else "pool"
            unfit = SerializationError(
                f"the process of {kind} {config['name']!r} cannot unpickle its handlers: it raised "
                f"{type(error).__name__}: {error}"
            )
            unfit.__cause__ = error
        _pickling.set_own_worker(None)
        is_pool = config["size"] is not None
        return config["name"], is_pool, worker, handlers, on_start, config["one_by_one"], around, unfit

    @staticmethod
    def _stand_in(config: dict[str, Any]) -> Any:
        made = load(config["class"])
        worker = made.__new__(made)
        if config["size"] is None:
            Internals(config["name"], "process").keep_in(worker)
        else:
            PoolInternals(config["name"], "process", config["size"]).keep_in(worker)
        return worker

    def context(self, packed: bytes) -> Context:
        """The sender's context variables."""
        return _pickling.unpack_context(packed)

    def run_coroutine(
        self, coroutine: Any, context: Context | None, pending: ChildPending, owner: Any, kind: str
    ) -> None:
        """Runs an ``async def`` handler on the event loop of this process."""
        self._start_loop().run(coroutine, context, pending, cast_owner(owner))  # type: ignore[arg-type]

    def finish_hook(self, coroutine: Any, context: Context | None, message: Any, owner: Any) -> None:
        """Runs a start hook that is a coroutine on the event loop of this process, and waits for it."""
        self._start_loop().finish_hook(coroutine, context, message, cast_owner(owner))

    def _start_loop(self) -> _loops.Tenant:
        if self._loop is None:
            self._loop = _loops.of_its_own(f"{self._name}-loop")
        return self._loop

    def describe(self, error: BaseException) -> tuple[str, str, str]:
        """Type, text and traceback of an exception, whatever its own methods do."""
        kind = type(error)
        # Through the built-in types, because a class may answer for itself.
        name = type.__dict__["__name__"].__get__(kind)
        try:
            if kind.__module__ != "builtins":
                name = f"{kind.__module__}.{kind.__qualname__}"
        except BaseException:
            name = str(name)
        try:
            text = str(error)
        except BaseException:
            text = ""
        where = BaseException.__dict__["__traceback__"].__get__(error)
        try:
            lines = "".join(traceback.format_exception(kind, error, where))
        except BaseException:
            lines = "".join(traceback.format_tb(where)) + name
        return name, text, lines

    def let_go(self) -> None:
        """Called in a process that a handler forked: the host is its parent's."""
        if self._to_host is not None:
            logging.getLogger().removeHandler(self._to_host)
        # The host would read its report as the last words of the parent.
        faulthandler.disable()

    def end_copy(self, error: BaseException | None) -> None:
        """Ends a process that a handler forked and that came back from the handler: its work is done.

        Args:
            error: what the handler raised there.
        """
        code: object = 0
        if isinstance(error, SystemExit):
            code = error.code
        elif error is not None:
            code = 1
            with contextlib.suppress(Exception):
                traceback.print_exception(type(error), error, error.__traceback__)
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code or 0)

    def close(self) -> None:
        """Runs the end hooks, ends the event loop and lets go of the workers.

        The interpreter ends as that of any program.
        """
        for number in reversed(list(self._end_hooks)):
            owner, hooks = self._end_hooks.pop(number)
            for hook in reversed(hooks):
                self._run_end_hook(owner, hook)
        if self._loop is not None:
            self._loop.close()
            self._loop.join()
        self._stand_ins.clear()
        self._main_globals = None
        self._end.release()

    def _run_end_hook(self, owner: Any, hook: Callable[[], object]) -> None:
        """Runs one end hook; what it raises is logged by the host."""
        name = owner._pytoweb.name
        running.set(RunningCoroutine(None, weakref.ref(owner)))
        try:
            returned = hook()
            if isinstance(returned, types.CoroutineType):
                self.finish_hook(returned, None, None, weakref.ref(owner))
        except Exception:
            logging.getLogger(f"pytoweb.worker.{name}").exception("worker %r: its end hook failed", name)
        finally:
            running.set(None)


def _close_inherited() -> None:
    """Closes what the host left open for the programs it starts, which is not for this one.

    What this interpreter has opened itself is not inheritable, and stays.
    """
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for number in map(int, names):
            with contextlib.suppress(OSError):
                if number > 2 and os.get_inheritable(number):
                    os.close(number)
        return


def main() -> None:
    """Serves the host that started this process, until it says that it is over."""
    global is_child
    _signals.leave_to_host()
    is_child = True
    _close_inherited()
    by_hand = os.isatty(0)
    try:
        end = child_arrive()
    except OSError:
        if by_hand:
            raise
        # The host is gone already, and no process is left to tell.
        os._exit(1)
    faulthandler.enable(file=end.report_descriptor(), all_threads=False)
    child = Child(end)
    os.register_at_fork(after_in_child=child.let_go)
    try:
        end.run(child)
    finally:
        child.close()
