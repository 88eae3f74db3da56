"""Calls after the threads of a pool have ended: the last words of its child processes."""

from __future__ import annotations

import threading
from collections import deque

from pytoweb._contained import contained

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class LateCalls:
    """Calls functions in order, on a thread that ends when it has called all there are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Has ``function(*args)`` called.

        Raises:
            RuntimeError: no thread can be started any more.
        """
        with self._lock:
            self._calls.append((function, args))
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except BaseException:
                self._calls.clear()
                raise
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._thread = None
                    return
                function, args = self._calls.popleft()
            contained(function, *args)

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all there are were called; false when ``timeout`` has passed."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()
