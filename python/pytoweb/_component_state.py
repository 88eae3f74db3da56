"""The state of a component: immutable snapshots, and patches applied in order by one thread at a time.

How an update travels:

1. The caller appends its patch to the queue, then tries to become the owner of the state.
2. If the place was free, the caller takes the patches that wait (a batch), applies them in order,
   publishes one snapshot, tells the listeners once and lets go.
3. If the state has another owner, the caller leaves.
4. The owner that lets go looks at the queue again. A caller that found the place taken had appended
   its patch before, so this look sees it: no patch is left behind.

Two things would go wrong under a steady stream of updates: the owner would never be let go, and the
queue would grow. So a caller that finds an owner who has already done its own patch, or a long
queue, does not leave at once but waits to take over, and an owner lets go as soon as it sees such a
caller. That wait is bounded, because the owner may be running a listener that waits for this very
caller. The waiting caller takes itself off the list before its last try: either the owner sees the
list empty and looks at the queue again (4), or that last try finds the place free.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Callable, NoReturn

__all__ = ["Changes", "Listener", "Snapshot", "StateCell", "StateFunction"]

Changes = Mapping[str, Any]
"""What a patch changes: new values by key."""

StateFunction = Callable[[Mapping[str, Any]], Changes]
"""A patch that depends on the state: gets the current snapshot, returns the changes."""

Listener = Callable[[Mapping[str, Any]], object]
"""Called with the new snapshot after a batch of patches; what it returns is ignored."""

BACKLOG_PATCHES = 1024
"""Patches that may wait before callers do: far above any burst of a page, some 100 kB of memory."""

TAKE_OVER_SECONDS = 0.1
"""How long a caller waits to take over; longer than a batch of cheap listeners, short for a person."""

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


class _Patch:
    """One call of `update_state`, checked as far as it can be before it runs."""

    __slots__ = ("_changes", "_function")

    def __init__(self, mapping_or_function: Changes | StateFunction | None, changes: dict[str, Any]) -> None:
        self._function: StateFunction | None = None
        if mapping_or_function is None:
            self._changes = changes
        elif isinstance(mapping_or_function, Mapping):
            self._changes = _checked(mapping_or_function, "update_state()")
            self._changes.update(changes)
        elif callable(mapping_or_function):
            self._function = mapping_or_function
            self._changes = changes
        else:
            raise TypeError(
                "update_state() takes a mapping of changes, a function of the current state, or keyword "
                f"arguments, not {type(mapping_or_function).__name__}: call update_state({{'key': value}})"
            )

    @property
    def reads_state(self) -> bool:
        return self._function is not None

    def changes(self, state: Snapshot) -> dict[str, Any]:
        """Returns the changes; runs the function patch, if it is one, so it raises what that raises."""
        if self._function is None:
            return self._changes
        returned = self._function(state)
        if not isinstance(returned, Mapping):
            raise TypeError(
                "a function given to update_state() must return a mapping of changes "
                f"({{}} for none), not {type(returned).__name__}"
            )
        return {**_checked(returned, "a function given to update_state()"), **self._changes}


def _checked(changes: Changes, where: str) -> dict[str, Any]:
    """Returns a copy, so that the caller may go on using its own mapping."""
    copied = dict(changes)
    for key in copied:
        if not isinstance(key, str):
            raise TypeError(f"{where} needs names as keys: {key!r} is {type(key).__name__}, use a str")
    return copied


class StateCell:
    """Holds the current snapshot, the patches that wait, and the listeners."""

    def __init__(self, name: str) -> None:
        """Starts with an empty state.

        Args:
            name: What log records call the component.
        """
        self._name = name
        self._snapshot = Snapshot()
        self._pending: deque[_Patch] = deque()
        self._listeners: dict[object, Listener] = {}
        self._ownership = threading.Lock()
        self._owner: int | None = None  # the owner's thread; written by the owner alone
        self._overdue = False  # the owner has done its own patch and works for others
        self._waiting: deque[None] = deque()  # one entry per caller that waits to take over
        self._pid = os.getpid()

    @property
    def snapshot(self) -> Snapshot:
        """The state after the last whole batch."""
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
        """Queues one patch and applies what waits, unless another thread is doing so."""
        mine = _Patch(mapping_or_function, changes)
        self._pending.append(mine)
        to_raise: list[BaseException] = []
        own_patch_done = False
        while self._pending and self._become_owner():
            try:
                self._overdue = own_patch_done
                self._apply_batch(mine, to_raise)
            finally:
                self._owner = None
                self._ownership.release()
            own_patch_done = True  # it was in this batch at the latest
            if self._waiting:
                break
        if to_raise:
            try:
                raise to_raise[-1]
            finally:
                to_raise.clear()  # else this frame and the traceback keep each other alive

    def _become_owner(self) -> bool:
        me = threading.get_ident()
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if self._owner != me:  # the owner is a thread of the parent, which this child lacks
                self._ownership, self._owner = threading.Lock(), None
                self._waiting.clear()
        owned = self._ownership.acquire(blocking=False)
        if not owned and self._owner != me and (self._overdue or len(self._pending) > BACKLOG_PATCHES):
            self._waiting.append(None)
            try:
                owned = self._ownership.acquire(timeout=TAKE_OVER_SECONDS)
            finally:
                self._waiting.pop()
            owned = owned or self._ownership.acquire(blocking=False)
        if owned:
            self._owner = me
        return owned

    def _apply_batch(self, mine: _Patch, to_raise: list[BaseException]) -> None:
        """Applies the patches that wait now; later ones are the next batch, so listeners hear in time.

        Args:
            mine: The patch of the calling thread.
            to_raise: Gets what the caller has to raise: the failure of its patch, or an interrupt.
        """
        before = latest = self._snapshot
        draft: dict[str, Any] | None = None  # what `latest` lacks
        try:
            for _ in range(len(self._pending)):
                patch = self._pending.popleft()
                if draft is not None and patch.reads_state:
                    latest, draft = Snapshot(draft), None
                try:
                    changes = patch.changes(latest)
                except BaseException as exc:
                    if patch is mine or isinstance(exc, KeyboardInterrupt):
                        to_raise.append(exc)
                    if patch is not mine:
                        self._log(exc, "a state patch queued by another call failed")
                    continue
                if changes:
                    if draft is None:
                        draft = dict(latest)
                    draft.update(changes)
        finally:
            # Also on an interrupt between two patches: those taken from the queue are not lost.
            self._snapshot = latest if draft is None else Snapshot(draft)
        if self._snapshot is not before:
            self._notify(self._snapshot, to_raise)

    def _notify(self, snapshot: Snapshot, to_raise: list[BaseException]) -> None:
        for token, listener in self._listeners.copy().items():
            if token not in self._listeners:  # removed by a listener before it
                continue
            try:
                listener(snapshot)
            except BaseException as exc:
                self._log(exc, "the listener %r failed", listener)
                if isinstance(exc, KeyboardInterrupt):
                    to_raise.append(exc)

    def _log(self, exc: BaseException, what: str, *args: object) -> None:
        _logger.error("%s: " + what, self._name, *args, exc_info=exc, extra={"component": self._name})
