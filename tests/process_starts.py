"""What the tests of children that do not start well, hang, or take their time, send to child processes."""

from __future__ import annotations

import collections
import itertools
import os
import threading
import time
from typing import Any

import process_handlers as handlers

from pytoweb.workers import current_message


def crash_until(path: str, healed: str) -> None:
    """An initializer that ends its process, until a file is there."""
    handlers.note(path, os.getpid())
    if not os.path.exists(healed):
        os._exit(77)


def raise_until(path: str, healed: str) -> None:
    """An initializer that raises, until a file is there."""
    handlers.note(path, os.getpid())
    if not os.path.exists(healed):
        raise ValueError("no database today")


def raise_in_first(path: str) -> None:
    """An initializer that raises in the first process that comes here."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    raise ValueError("no database for the first one")


def hang_until(path: str, healed: str) -> None:
    """An initializer that hangs, until a file is there."""
    handlers.note(path, os.getpid())
    if not os.path.exists(healed):
        time.sleep(600)


class Delicate:
    """A handler that is unpickled as an initializer runs: badly, until a file is there."""

    def __init__(self, rebuilding: Any, path: Any, healed: Any) -> None:
        self.made = rebuilding, str(path), str(healed)

    def __call__(self, data: Any) -> Any:
        return data

    def __reduce__(self) -> Any:
        return rebuild, self.made


def rebuild(rebuilding: Any, path: str, healed: str) -> Delicate:
    """A `Delicate` of this process."""
    rebuilding(path, healed)
    return Delicate(rebuilding, path, healed)


def leave_a_loop(data: Any) -> int:
    """Leaves a thread behind that never lets go of the interpreter lock, once the reply is on its way."""
    timer = threading.Timer(0.05, lambda: collections.deque(itertools.repeat(None), maxlen=0))
    timer.daemon = True
    timer.start()
    return os.getpid()


def linger(path: str) -> int:
    """Ends half a second after it is asked to."""
    message = current_message()
    assert message is not None
    handlers.note(path, os.getpid())
    deadline = time.monotonic() + handlers.WAIT
    while not message.cancelled:
        if time.monotonic() > deadline:
            raise TimeoutError("nothing asked to stop")
        time.sleep(handlers.POLL)
    time.sleep(0.5)
    return os.getpid()
