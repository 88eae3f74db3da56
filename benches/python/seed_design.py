"""The peer of the throughput rows: the seed's worker as one thread and one ``queue.Queue``.

It offers what the seed's document shows and nothing more: handlers by type, an error handler,
replies for messages that carry an id. Its known faults (unbounded queue, replies on the worker's
own thread, a silently abandoned queue on stop) are kept, since they are what makes it cheap.
"""

from __future__ import annotations

import queue
import threading
from typing import Any, Callable

POLL_SECONDS = 1.0
"""How long the thread waits before it looks at its stop flag again."""


class SeedMessage:
    """One message: its type, its data and, when a reply is wanted, its id."""

    __slots__ = ("data", "id", "type")

    def __init__(self, message_type: str, data: Any = None, message_id: str | None = None) -> None:
        self.type = message_type
        self.data = data
        self.id = message_id


class SeedWorker:
    """A named thread that takes messages from a queue and calls the handler of their type."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._queue: queue.Queue[SeedMessage] = queue.Queue()
        self._handlers: dict[str, Callable[[Any], Any]] = {}
        self._error_handler: Callable[[BaseException], Any] | None = None
        self._running = False
        self._thread: threading.Thread | None = None

    def on_message(self, message_type: str, handler: Callable[[Any], Any]) -> None:
        """Registers the handler of one message type."""
        self._handlers[message_type] = handler

    def on_error(self, handler: Callable[[BaseException], Any]) -> None:
        """Registers what is called with the exception of a failed message."""
        self._error_handler = handler

    def start(self) -> None:
        """Starts the thread, once."""
        if self._running:
            return
        self._running = True
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the message at hand; what is queued is left behind."""
        self._running = False
        if self._thread is not None:
            self._thread.join()

    def post_message(self, message_type: str, data: Any = None, message_id: str | None = None) -> None:
        """Queues one message; never blocks, the queue has no limit."""
        self._queue.put(SeedMessage(message_type, data, message_id))

    def _run(self) -> None:
        while self._running:
            try:
                message = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            handler = self._handlers.get(message.type)
            if handler is None:
                continue
            try:
                result = handler(message.data)
                if message.id is not None:
                    self.post_message("response", {"id": message.id, "result": result})
            except Exception as error:
                if self._error_handler is not None:
                    self._error_handler(error)
