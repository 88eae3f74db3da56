"""Pickling by value, with ``cloudpickle``: lambdas, closures, local classes, and all that the script defines.

Functions of the script share one namespace in the child, as they do here. ``cloudpickle`` alone would give
those of each pickle a copy of their own, and a handler would keep its state where no other one looks.
"""

from __future__ import annotations

import sys
import types

from pytoweb import _main

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["find_cloudpickle", "pickler_to_child"]

_cloudpickle: Any = None
_looked_for = False
_to_child: Any = None


def find_cloudpickle() -> Any:
    """The module, or None where it is not installed, or does not work.

    It is looked for once. One that is installed later counts when the program has imported it.
    """
    global _cloudpickle, _looked_for
    imported = sys.modules.get("cloudpickle", _cloudpickle)
    if imported is None and "cloudpickle" in sys.modules:
        # Kept from being imported.
        return None
    if _cloudpickle is None and (imported is not None or not _looked_for):
        _looked_for = True
        try:
            import cloudpickle  # type: ignore[import-untyped]
        except Exception:
            return None
        _cloudpickle = cloudpickle
    return _cloudpickle


def pickler_to_child(cloudpickle: Any) -> Any:
    """The class of picklers for what goes from the host to a child."""
    global _to_child
    if _to_child is None:
        _to_child = type("PicklerToChild", (_SharedNamespace, cloudpickle.Pickler), {})
    return _to_child


class _SharedNamespace:
    """The part of a pickler that gives functions of the main module one namespace in the child."""

    namespace: _Namespace | None = None

    def reducer_override(self, value: object) -> Any:
        reduced = super().reducer_override(value)  # type: ignore[misc]
        if type(value) is not types.FunctionType or value.__globals__ is not _main_globals():
            return reduced
        if not _is_by_value(reduced):
            # By name, or in a way that this does not know.
            return reduced
        maker, (code, known, *rest), (attributes, slots), *_, setter = reduced
        if self.namespace is None:
            self.namespace = _Namespace(known)
        state = setter, (attributes, {**slots, "__globals__": {}}), slots["__globals__"]
        return maker, (code, self.namespace, *rest), state, None, None, _main.set_function


def _main_globals() -> dict[str, Any] | None:
    main = sys.modules.get("__main__")
    return None if main is None else main.__dict__


def _is_by_value(reduced: Any) -> bool:
    if not isinstance(reduced, tuple) or len(reduced) != 6:
        return False
    _, args, state, *_ = reduced
    return (
        isinstance(args, tuple)
        and len(args) > 1
        and isinstance(args[0], types.CodeType)
        and isinstance(args[1], dict)
        and isinstance(state, tuple)
        and len(state) == 2
        and isinstance(state[1], dict)
        and "__globals__" in state[1]
    )


class _Namespace:
    """The child's namespace for the functions of the main module, in a pickle."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known

    def __reduce__(self) -> Any:
        return _main.namespace, (self.known,)
