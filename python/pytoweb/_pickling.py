"""What crosses between processes: payloads, handlers, exceptions and context variables, as pickles.

Plain pickle first, because it is fast. Objects that it refuses (lambdas, closures, local classes) or would
take from ``__main__`` by name go to ``cloudpickle``, where that is installed.
"""

from __future__ import annotations

import contextlib
import copyreg
import importlib
import io
import pickle
import sys
from pickle import loads

from pytoweb import _main
from pytoweb._by_value import find_cloudpickle, pickler_to_child
from pytoweb._core import Reducers
from pytoweb._imported import imported
from pytoweb.errors import HandlerError, SerializationError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from contextvars import Context, ContextVar
    from typing import Any

    from pytoweb._core import Sink

__all__ = [
    "RemoteTraceback",
    "dump_handler",
    "dump_otherwise",
    "loads",
    "make_pickler",
    "pack_context",
    "rebuild",
    "set_own_worker",
]

#: How a pickle names the module ``__main__``.
MAIN_NAME = b"\x8c\x08__main__"

#: Bytes that the values of context variables may take, all together: they go with every message.
CONTEXT_ROOM = 32 << 10


class RemoteTraceback(Exception):
    """The traceback of an exception in the process where it was raised; the ``__cause__`` of the one here."""

    def __str__(self) -> str:
        return "\n" + self.args[0] if self.args else ""


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    return memoryview, (pickle.PickleBuffer(view),)


#: How payloads reduce objects of classes that do not say it themselves: as ``copyreg`` has it at the moment.
_reducers = Reducers(copyreg.dispatch_table, {memoryview: _reduce_memoryview})


def make_pickler(sink: Sink) -> pickle.Pickler:
    """A pickler for payloads, used again and again."""
    pickler = pickle.Pickler(sink, 5, buffer_callback=sink.buffer)
    pickler.dispatch_table = _reducers  # type: ignore[assignment]  # all that it takes is []
    return pickler


def dump_otherwise(value: object, sink: Sink, to_child: bool) -> bool:
    """Pickles with ``cloudpickle``; False if that is not installed."""
    cloudpickle = find_cloudpickle()
    if cloudpickle is None:
        return False
    pickler_class = pickler_to_child(cloudpickle) if to_child else cloudpickle.Pickler
    pickler_class(sink, 5, buffer_callback=sink.buffer).dump(value)
    return True


#: In a child: the worker that is being configured.
_configured: Any = None


def set_own_worker(worker: object) -> None:
    """In a child: notes whose handlers are unpickled from now on.

    Args:
        worker: the stand-in of the worker; None once it has them.
    """
    global _configured
    _configured = worker


def _own_worker() -> Any:
    """What the pickle of a handler has in the place of its worker."""
    return _configured


class _Owned:
    """The part of a pickler that puts a stand-in in the place of one worker."""

    owner: object = None
    used_owner = False

    def reducer_override(self, value: object) -> Any:
        if value is self.owner and value is not None:
            self.used_owner = True
            return _own_worker, ()
        # Queues, connections and sockets have descriptors, which go as `multiprocessing` sends them.
        reduction = imported("multiprocessing.reduction")
        if reduction is not None:
            reduce = reduction.ForkingPickler._extra_reducers.get(type(value))
            if reduce is not None:
                return reduce(value)
        rest = getattr(super(), "reducer_override", None)
        return NotImplemented if rest is None else rest(value)


class _PlainPickler(_Owned, pickle.Pickler):
    pass


def dump_handler(value: object, owner: object, what: str) -> tuple[bytes, bool]:
    """Pickles a handler, or something that goes with one.

    Args:
        value: the handler.
        owner: the worker that it may be a method of; the child has another one in its place.
        what: names the value in errors.

    Returns:
        The pickle, and whether it refers to the owner.

    Raises:
        SerializationError: it cannot be pickled.
    """
    error: BaseException | None = None
    try:
        try:
            dumped = _dump(_PlainPickler, value, owner)
            if MAIN_NAME not in dumped[0]:
                return dumped
        except Exception as raised:
            error, dumped = raised, None
        cloudpickle = find_cloudpickle()
        if cloudpickle is not None:
            by_value = type("_CloudPickler", (_Owned, pickler_to_child(cloudpickle)), {})
            try:
                return _dump(by_value, value, owner)
            except Exception as raised:
                error = raised if dumped is None else None
        if dumped is not None:
            return dumped
        assert error is not None
        raise SerializationError(
            f"{what} cannot be sent to another process: pickling it raised {type(error).__name__}: {error}"
            f"{hint(error)}"
        ) from error
    finally:
        # It refers to this frame, which refers to the owner: a circle.
        error = None


def hint(error: BaseException) -> str:
    """What to do about a function that pickle cannot find by its name; empty for other reasons."""
    text = str(error)
    if ("<lambda>" not in text and "local object" not in text) or find_cloudpickle() is not None:
        return ""
    return (
        "; put the function into a module, or install cloudpickle (the extra pytoweb[process]), which takes "
        "lambdas and closures"
    )


def _dump(pickler_class: Any, value: object, owner: object) -> tuple[bytes, bool]:
    file = io.BytesIO()
    pickler = pickler_class(file, 5)
    pickler.owner = owner
    pickler.dump(value)
    return file.getvalue(), pickler.used_owner


def rebuild(error: object, kind: str, text: str, traceback: str) -> BaseException:
    """The exception of another process, with its traceback there as the cause."""
    if not isinstance(error, BaseException):
        error = HandlerError(f"{kind}: {text}" if text else kind or "the handler failed")
    if traceback:
        error.__cause__ = RemoteTraceback(traceback)
    return error


#: Where context variables are found: module and name, or the number of modules that were looked through.
_places: dict[ContextVar[Any], tuple[str, str] | int] = {}


def _place(variable: ContextVar[Any]) -> tuple[str, str] | None:
    known = _places.get(variable)
    if isinstance(known, tuple):
        return known
    modules = len(sys.modules)
    if known == modules:
        return None
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                _places[variable] = (name, attribute)
                return name, attribute
    _places[variable] = modules
    return None


def pack_context(context: Context) -> bytes:
    """The variables of a context that are global in a module, with values that pickle; empty for none."""
    found = []
    room = CONTEXT_ROOM
    for variable, value in context.items():
        place = _place(variable)
        if place is None:
            continue
        try:
            packed = pickle.dumps(value, 5)
        except Exception:
            # Documented: it stays behind, and so does what is large.
            continue
        room -= len(packed)
        if room < 0:
            room += len(packed)
            continue
        found.append((*place, packed))
    return pickle.dumps(found, 5) if found else b""


def unpack_context(packed: bytes) -> Context:
    """The context again, in the child; a variable that cannot be had here stays behind."""
    import contextvars

    context = contextvars.Context()
    for module, attribute, value in loads(packed):
        if (module, attribute) in _absent or (
            (module == "__main__" or MAIN_NAME in value) and not _main.is_imported()
        ):
            continue
        try:
            variable = getattr(importlib.import_module(module), attribute)
        except BaseException:
            # Looked for once: an import that fails runs the module each time.
            _absent.add((module, attribute))
            continue
        with contextlib.suppress(BaseException):
            context.run(variable.set, loads(value))
    return context


#: In a child: where variables of the host are that cannot be had here.
_absent: set[tuple[str, str]] = set()
