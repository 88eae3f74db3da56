"""The state of a component: immutable snapshots, patches applied under a lock, listeners told outside of it.

1. A caller takes the lock, applies its patch, publishes the new snapshot whole, and lets go. Readers need no
   lock.
2. The queue of what the listeners are to be told holds one: the newest snapshot, until it is told. The caller
   takes the teller's place and tells it. If the place is taken, the caller leaves.
3. The teller lets go of the place, then looks at the queue again. A caller that found the place taken had
   published before, so this look sees its snapshot or a newer one: none is left behind.

A steady stream of updates would hold the teller for ever. So after a while it steps back: it leaves the place
free for longer than a round of the listeners took, and in that time the stream brings a caller that takes it
(2). Then it looks at the queue once more (3), and tells on if none came.

A patch of our own may be posted instead, by a thread that is not to wait for the functions of others: it goes
into a line. The thread that posts takes the lock if it is free and applies the line; else the thread that has
the lock does, which looks at the line after it has let go.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any, Callable, NoReturn, Optional

__all__ = ["Changes", "Listener", "Snapshot", "StateCell", "StateFunction"]

Changes = Mapping[str, Any]
"""What a patch changes: new values by key."""

StateFunction = Callable[[Mapping[str, Any]], Changes]
"""A patch that depends on the state: gets the current snapshot, returns the changes."""

Listener = Callable[[Mapping[str, Any]], object]
"""Called with the newest snapshot after one or more patches; what it returns is ignored."""

LOCK_SECONDS = 30.0
"""How long a call waits for the functions of others: far above what quick ones take on a busy machine."""

TELLING_SECONDS = 0.1
"""How long a teller works for others before it steps back, and for how long at most: short for a person."""

_Patch = tuple[Optional[StateFunction], dict[str, Any]]
"""The function of a call of `update_state`, if it has one, and the changes that win over what it returns."""

_logger = logging.getLogger("pytoweb.component")


def _read_only(*_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError(
        "the state of a component is read-only: call update_state({'key': value}), "
        "or update_state(lambda state: {...}) if the new value depends on the old one"
    )


class Snapshot(dict[str, Any]):
    """One version of a component's state: a dict that cannot be written to.

    The freeze is shallow: a list or dict inside it can still be changed in place, which no listener
    would hear of. Replace such a value by a new one through `update_state`.
    `copy()` gives an ordinary dict. It is a real dict so that `json`, `==` and `**` take it as it is.
    """

    __slots__ = ()

    __setitem__ = _read_only
    __delitem__ = _read_only
    __setattr__ = _read_only
    __delattr__ = _read_only
    __ior__ = _read_only
    clear = _read_only
    pop = _read_only
    popitem = _read_only
    setdefault = _read_only
    update = _read_only

    def __reduce__(self) -> tuple[type[Snapshot], tuple[dict[str, Any]]]:
        # The inherited way fills a new object item by item, which is what a snapshot refuses.
        return Snapshot, (dict(self),)


def _checked_patch(patch: Changes | StateFunction | None, changes: dict[str, Any]) -> _Patch:
    """Checks what `update_state` was given, as far as it can be before a function runs."""
    if patch is None:
        return None, changes
    if isinstance(patch, Mapping):
        return None, {**_checked(patch, "update_state()"), **changes}
    if callable(patch):
        return patch, changes
    raise TypeError(
        "update_state() takes a mapping of changes, a function of the current state, or keyword "
        f"arguments, not {type(patch).__name__}: call update_state({{'key': value}})"
    )


def _changes_by(function: StateFunction, state: Snapshot) -> dict[str, Any]:
    returned = function(state)
    if not isinstance(returned, Mapping):
        raise TypeError(
            "a function given to update_state() must return a mapping of changes "
            f"({{}} for none), not {type(returned).__name__}"
        )
    return _checked(returned, "a function given to update_state()")


def _checked(changes: Changes, where: str) -> dict[str, Any]:
    """Returns a copy, so that the caller may go on using its own mapping."""
    copied = dict(changes)
    for key in copied:
        if not isinstance(key, str):
            raise TypeError(f"{where} needs names as keys: {key!r} is {type(key).__name__}, use a str")
    return copied


class StateCell:
    """Holds the current snapshot and the listeners."""

    def __init__(self, name: str) -> None:
        """Starts with an empty state; errors and log records call the component by the name."""
        self._name = name
        self._snapshot = self._told = Snapshot()
        self._listeners: dict[object, Listener] = {}
        self._lock = threading.RLock()
        self._patches: list[_Patch] | None = None  # those that the thread with the lock is applying
        self._patcher: int | None = None  # that thread
        self._posted: deque[StateFunction] = deque()
        self._telling = threading.Lock()
        self._teller: int | None = None  # the thread that has the teller's place
        _cells.add(self)

    @property
    def snapshot(self) -> Snapshot:
        """The newest state; reading it takes no lock."""
        return self._snapshot

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener; returns the function that removes it."""
        if not callable(listener):
            raise TypeError(
                f"subscribe() takes a callable that gets the new state, not {type(listener).__name__}"
            )
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def update(self, mapping_or_function: Changes | StateFunction | None, changes: dict[str, Any]) -> None:
        """Applies one patch, then tells the listeners unless another thread is doing so.

        Waits for the functions of other threads, and for no listener. A function must not wait for another
        thread that updates the component, because that one waits for it: a `TimeoutError` ends it.
        """
        patch = _checked_patch(mapping_or_function, changes)
        if not (self._lock.acquire(False) or self._lock.acquire(True, LOCK_SECONDS)):
            raise TimeoutError(
                f"{self._name}: update_state() changed nothing, for others' functions took {LOCK_SECONDS} s: "
                "one must be quick, and must not wait for another thread that updates the component"
            )
        try:
            if self._patches is not None:  # the call comes from a function of this very thread
                self._patches.append(patch)
                return
            failures = self._apply(patch)
        finally:
            self._lock.release()
        self._apply_posted()
        self._tell(failures)
        failures.sort(key=lambda exc: isinstance(exc, KeyboardInterrupt), reverse=True)
        while len(failures) > 1:
            self._log(failures.pop(), "an update failed further")
        if failures:
            raise failures.pop()  # popped: else its traceback and a frame's list keep each other alive

    def is_patching(self) -> bool:
        """Whether the call comes from a function patch of this very thread."""
        return self._patches is not None and self._patcher == threading.get_ident()

    def post(self, function: StateFunction) -> None:
        """Has a function patch applied and told of, here or by the thread that has the lock; never waits.

        Args:
            function: As for `update`; what it raises is logged.
        """
        self._posted.append(function)
        self._apply_posted()
        self._tell([])

    def replace_after_fork(self, function: StateFunction) -> None:
        """Applies a patch of ours in a forked child, and leaves the telling to the next update."""
        if self._patches is not None:  # the fork was in a function of this thread
            self._patches.append((function, {}))
        else:
            self._apply((function, {}))

    def _apply_posted(self) -> None:
        """Applies the line until it is empty, or another thread has the lock: that one looks at it."""
        while self._posted and self._lock.acquire(False):
            failures: list[BaseException] = []
            try:
                while self._posted:
                    patch: _Patch = self._posted.popleft(), {}
                    if self._patches is not None:  # a function of this very thread is being applied
                        self._patches.append(patch)
                    else:
                        failures += self._apply(patch)
            finally:
                self._lock.release()
            for failure in failures:
                self._log(failure, "an update failed")

    def _apply(self, patch: _Patch) -> list[BaseException]:
        """Applies the patch, then those that functions add meanwhile; returns what they raised, in order."""
        failures: list[BaseException] = []
        self._patcher = threading.get_ident()
        self._patches = patches = [patch]
        try:
            for function, changes in patches:
                try:
                    if function is not None:
                        changes = {**_changes_by(function, self._snapshot), **changes}
                    if changes:
                        self._snapshot = Snapshot(self._snapshot | changes)
                except BaseException as exc:
                    failures.append(exc)
        finally:
            self._patches = None
        return failures

    def _tell(self, failures: list[BaseException]) -> None:
        """Tells until the listeners know the newest snapshot, or another thread tells; adds interrupts."""
        since = now = 0.0
        while self._told is not self._snapshot:
            telling = self._telling
            if not telling.acquire(False):
                return
            self._teller = threading.get_ident()
            try:
                self._told = self._snapshot
                self._notify(self._told, failures)
            finally:
                self._teller = None
                telling.release()
            if self._told is self._snapshot:
                return
            before, now = now, time.monotonic()
            since = since or now  # from here on it works for others
            if now - since > TELLING_SECONDS:
                since = 0.0
                try:
                    time.sleep(min(2 * (now - before), TELLING_SECONDS))
                except KeyboardInterrupt as exc:
                    failures.append(exc)  # raised later: it has to look at the queue first

    def _notify(self, snapshot: Snapshot, failures: list[BaseException]) -> None:
        for token, listener in self._listeners.copy().items():
            if token not in self._listeners:  # removed by a listener before it
                continue
            try:
                listener(snapshot)
            except BaseException as exc:
                self._log(exc, "the listener %r failed", listener)
                if isinstance(exc, KeyboardInterrupt):
                    failures.append(exc)

    def _log(self, exc: BaseException, what: str, *args: object) -> None:
        _logger.error("%s: " + what, self._name, *args, exc_info=exc, extra={"component": self._name})


_cells: weakref.WeakSet[StateCell] = weakref.WeakSet()


def _after_fork() -> None:
    """Frees in the child what other threads of the parent held: it has only the thread that forked."""
    for cell in list(_cells):
        cell._posted.clear()  # of messages that are the parent's
        if cell._lock.acquire(False):  # free, or this thread's
            cell._lock.release()
        else:
            cell._lock, cell._patches = threading.RLock(), None
        if cell._teller != threading.get_ident():
            cell._telling, cell._teller = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
