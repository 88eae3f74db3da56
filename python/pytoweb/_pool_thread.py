"""A pool's engine thread, as the ``threading`` module knows it."""

from __future__ import annotations

import threading

from pytoweb._core import running_owner

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class PoolThread(threading.Thread):
    """A thread that the engine started, and that is a ``threading.Thread`` in every other way.

    So ``current_thread()`` in a handler is alive as long as the thread is and can be joined, the hooks of
    ``threading.settrace`` and ``threading.setprofile`` are set before the first handler, and after a fork in
    a handler the thread is the child's main one.
    """

    def __init__(self, name: str, life: Callable[[], None]) -> None:
        # A daemon, because the threading module is not to wait for it: `_exit` does.
        super().__init__(name=name, daemon=True)
        self._life: Callable[[], None] | None = life

    @property
    def name(self) -> str:
        """``<pool>-<number>``; in a handler with its worker behind that: what logs and debuggers show.

        It is put together when a handler asks: the worker changes with each turn, which may be one message.
        """
        name: str = self._name  # type: ignore[attr-defined]
        if self.ident != threading.get_ident():
            return name
        owner = running_owner()
        own = None if owner is None else owner._pytoweb
        # A worker with a thread of its own has given it its name.
        if own is None or own.pool is None or own.threads is not own.pool._pytoweb.threads:
            return name
        return f"{name} ({own.name})"

    @name.setter
    def name(self, name: str) -> None:
        threading.Thread.name.fset(self, name)  # type: ignore[attr-defined]

    def live(self) -> None:
        """Runs the life of the calling thread, as this thread."""
        module: Any = threading
        with module._active_limbo_lock:
            # Where `start` puts a thread that is about to run.
            module._limbo[self] = self
        if not hasattr(module, "_make_thread_handle"):
            self._bootstrap_inner()  # type: ignore[attr-defined]
            return
        # From Python 3.13 on this is set by what starts a thread.
        self._handle = module._make_thread_handle(threading.get_ident())
        try:
            self._bootstrap_inner()  # type: ignore[attr-defined]
        finally:
            self._handle._set_done()

    def run(self) -> None:
        """Runs what the engine gave; called by ``threading``."""
        life, self._life = self._life, None
        if life is not None:
            life()
