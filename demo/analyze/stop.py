"""SIGINT and SIGTERM: the first asks the command to stop, the second ends the process at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Turns the stop signals into a request, for the length of a `with` block.

    Does nothing outside the main thread, where Python allows no signal handlers.
    """

    def __init__(self) -> None:
        """No signal came yet."""
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """True after the first signal."""
        return self.signal is not None

    def finish(self) -> None:
        """From now on a signal ends the process at once: the work is over, nothing is left to save."""
        for number in self._previous:
            signal.signal(number, signal.SIG_DFL)

    def __enter__(self) -> StopSignals:
        """Installs the handlers."""
        # Also where SIGINT is ignored, as a shell script does for what it starts with `&`: a signal
        # sent to this process on purpose means it.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts back the handlers that were there before."""
        for number, handler in self._previous.items():
            # None: a handler that was not installed by Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        # The default handler of the system, not Python's: it works even if the main thread is inside
        # native code.
        self.finish()
