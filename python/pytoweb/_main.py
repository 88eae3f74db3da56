"""The host's main module, as a child has it.

A child does not run the host's script. Functions that come from there by value (`_by_value.py`) find one
namespace here, as those of a module do: that of ``__main__``. A name makes the child import the script.
"""

from __future__ import annotations

import runpy
import sys
import types

from pytoweb._core import is_packing, is_unpacking
from pytoweb.errors import SerializationError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HostMain", "is_imported", "namespace", "origin_of", "set_function"]

#: The host's main module is being imported here: nothing may start processes.
importing = False


class HostMain(types.ModuleType):
    """Stands in for the host's main module, and imports it where something that came needs it.

    As ``multiprocessing`` does, it is run under the name ``__mp_main__``, so that what stands under
    ``if __name__ == "__main__"`` is not run again.
    """

    # Not in its namespace, which is the script's.
    __slots__ = ("__origin",)

    def __init__(self, origin: tuple[str, str] | None) -> None:
        super().__init__("__main__")
        self.__origin = origin

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or is_packing():
            raise AttributeError(name)
        if importing:
            # It looks for a part of itself: `runpy` shows what there is of it under this name.
            found = sys.modules.get("__mp_main__")
            if found is None or found is self:
                raise AttributeError(name)
            return getattr(found, name)
        by_value = _class_by_value(name)
        if by_value is not None:
            return by_value
        if _shared is not None and not is_unpacking():
            raise AttributeError(
                f"module '__main__' has no attribute {name!r} in this process: functions of the script came "
                "here by value, with those names that they use"
            )
        return getattr(_import(self.__origin), name)


def origin_of(main: types.ModuleType) -> tuple[str, str] | None:
    """How the host's main module is imported that ``main`` stands in for, if it does."""
    found: tuple[str, str] | None = main._HostMain__origin if isinstance(main, HostMain) else None
    return found


def _import(origin: tuple[str, str] | None) -> types.ModuleType:
    global importing
    if origin is None:
        raise SerializationError(
            "the program has no file that could be imported here (it came from standard input, by -c, or was "
            "typed in): put the function into a module, or install cloudpickle (the extra pytoweb[process])"
        )
    kind, where = origin
    module = types.ModuleType("__mp_main__")
    importing = True
    try:
        if kind == "name":
            module.__dict__.update(runpy.run_module(where, run_name="__mp_main__", alter_sys=True))
        else:
            module.__dict__.update(runpy.run_path(where, run_name="__mp_main__"))
    finally:
        importing = False
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return module


def is_imported() -> bool:
    """Whether the main module is one, and not what would run the host's script to become it."""
    return not isinstance(sys.modules["__main__"], HostMain)


def _class_by_value(name: str) -> type | None:
    """The latest class of that name of the host's main module that came by value, perhaps with data."""
    by_value = sys.modules.get("cloudpickle.cloudpickle")
    found = None
    for known in list(getattr(by_value, "_DYNAMIC_CLASS_TRACKER_BY_ID", {}).values()):
        if known.__module__ == "__main__" and known.__qualname__ == name:
            found = known
    return found


#: The namespace of functions of the host's main module, once some have come by value.
_shared: dict[str, Any] | None = None
#: By global name: the mark of the value that came last; None for one that cannot be compared.
_came: dict[str, int | None] = {}


def namespace(known: dict[str, Any]) -> dict[str, Any]:
    """The namespace for functions of the host's main module that come by value.

    Args:
        known: what their module says of itself: its name, its file.
    """
    global _shared
    if _shared is None:
        _shared = sys.modules["__main__"].__dict__
    for name, value in known.items():
        if name == "__name__" or _shared.get(name) is None:
            _shared[name] = value
    return _shared


def set_function(function: types.FunctionType, state: tuple[Any, Any, dict[str, Any]]) -> None:
    """Completes a function that came by value; its globals go into the namespace of all.

    A global that has another value in the host than when it came last is set. The others stay as this process
    has made them.
    """
    setter, (attributes, slots), names = state
    for name, value in names.items():
        if isinstance(value, (types.FunctionType, type, types.ModuleType)):
            function.__globals__[name] = value
            continue
        mark = _mark(value)
        if name not in function.__globals__ or _came.get(name) != mark:
            function.__globals__[name] = value
        _came[name] = mark
    setter(function, (attributes, {**slots, "__globals__": {}}))


def _mark(value: object) -> int | None:
    try:
        # By value too: plain pickle would look names up here that have yet to come.
        return hash(sys.modules["cloudpickle"].dumps(value))
    except Exception:
        return None
