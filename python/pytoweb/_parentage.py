"""A child's place in ``multiprocessing``: its name, its parent, the key of its family, the resource tracker.

``multiprocessing`` asks for all of it when it is imported. A child that never imports it pays nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["TRACKER", "adopt", "borrow", "of_host"]

#: Asks for the descriptor of the host's resource tracker.
TRACKER = "tracker"

#: In a child: asks the host for a descriptor.
_ask_host: Callable[[str], int] | None = None


def of_host() -> dict[str, Any]:
    """What a child has to know of its host."""
    import multiprocessing.process

    process = multiprocessing.process.current_process()
    return {
        "parent": (process.name, os.getpid()),
        # Bytes of a kind that refuses to be pickled.
        "authkey": bytes(process.authkey),
        "method": multiprocessing.get_start_method(allow_none=True),
    }


def borrow(key: str) -> int:
    """A descriptor of the host, as one of this process.

    Args:
        key: what the host lent it by.

    Raises:
        OSError: the host did not lend it.
    """
    if _ask_host is None:
        raise OSError(f"this process is no child, and cannot borrow {key!r}")
    return _ask_host(key)


def adopt(name: str, number: int, given: dict[str, Any], ask_host: Callable[[str], int]) -> None:
    """Has this child take its place once ``multiprocessing`` is imported.

    Args:
        name: the name of the process.
        number: its ordinal in its pool.
        given: what ``of_host`` says.
        ask_host: asks the host for a descriptor.
    """
    global _ask_host
    _ask_host = ask_host
    actions: dict[str, Callable[[ModuleType], None]] = {
        "multiprocessing": lambda module: _take_place(module, name, number, given),
        "multiprocessing.resource_tracker": _share_tracker,
    }
    for module_name in list(actions):
        module = sys.modules.get(module_name)
        if module is not None:
            actions.pop(module_name)(module)
    if actions:
        sys.meta_path.insert(0, _WhenImported(actions))


def _take_place(multiprocessing: Any, name: str, number: int, given: dict[str, Any]) -> None:
    process = multiprocessing.process
    own = process.BaseProcess(name=name)
    # No code of this process may wait for it.
    process._dangling.discard(own)
    parent_name, parent_pid = given["parent"]
    own._identity = (number,)
    own._parent_pid = parent_pid
    own._parent_name = parent_name
    own.authkey = given["authkey"]
    process._current_process = own
    process._parent_process = process._ParentProcess(parent_name, parent_pid, _sentinel(parent_pid))
    if given["method"] is not None:
        multiprocessing.set_start_method(given["method"], force=True)


def _sentinel(parent: int) -> int:
    """A descriptor that is readable once the parent has ended."""
    try:
        return os.pidfd_open(parent)
    except (AttributeError, OSError):
        # This process ends with its host, so it will never see that one ended.
        reader, _ = os.pipe()
        return reader


def _share_tracker(module: Any) -> None:
    """Has resources tracked by the host's tracker: one of this process would free them at its end."""
    tracker = module._resource_tracker
    own: Any = type(tracker)

    class HostTracker(own):  # type: ignore[misc]
        _fd: int | None

        def ensure_running(self) -> None:
            self._join_host()
            super().ensure_running()

        def _ensure_running_and_write(self, *args: Any) -> Any:
            self._join_host()
            return super()._ensure_running_and_write(*args)

        def _join_host(self) -> None:
            if self._fd is None:
                self._fd = borrow(TRACKER)

    tracker.__class__ = HostTracker
    module.ensure_running = tracker.ensure_running


class _WhenImported:
    """Finds modules as the other finders do, and does something with each that was waited for."""

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]) -> None:
        self._actions = actions

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        action = self._actions.get(name)
        if action is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                del self._actions[name]
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, action)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Loads a module as its own loader does, and leaves that one in its place."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        main = sys.modules.get("__mp_main__")
        self._loader.exec_module(module)
        if main is not None:
            # `multiprocessing` takes this process for the first of its family.
            sys.modules["__mp_main__"] = main
        self._action(module)
