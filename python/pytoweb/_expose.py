"""The Unix socket through which the view from outside asks this program, and the thread that answers there.

Requests and answers are lines of JSON, with the number of this protocol in each:

    {"version": 1, "ask": "snapshot"}    {"version": 1, "snapshot": {...}}
    {"version": 1, "ask": "stacks"}      {"version": 1, "stacks": [...]}
    anything else                        {"version": 1, "error": "..."}

A view gets its next answer when it has read the last one, and so holds up no other.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import selectors
import socket
import stat
import tempfile
import threading
import time

from pytoweb import _exit
from pytoweb._core import watch_failures
from pytoweb._snapshot import Failures, Stacks, snapshot

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["VERSION", "close_socket", "directories", "is_listened_to", "open_or_warn", "open_socket"]

#: The number of the protocol; another one is refused.
VERSION = 1
#: Bytes of one request.
MOST_REQUEST = 4096
#: Views at the same time.
MOST_VIEWS = 16
#: Seconds until the thread looks again for a view where the system had no descriptor for it.
REST = 0.2
#: Seconds that the end of the program waits for an answer that is being put together.
LAST_ANSWER = 1.0
SUFFIX = ".sock"

_log = logging.getLogger("pytoweb.expose")


def directories() -> list[str]:
    """Where sockets may be, the place for new ones first."""
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime) and os.access(runtime, os.W_OK):
        found.append(os.path.join(runtime, "pytoweb"))
    found.append(os.path.join(tempfile.gettempdir(), f"pytoweb-{os.geteuid()}"))
    return found


def is_listened_to(path: str) -> bool:
    """Whether a program answers at a socket, or may; a dead one's file is left behind."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            caller.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its line of callers is full, or it is not ours to call.
            return True
    return True


def _make_directory(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is not a directory, and the socket is not made there: remove it")
    if found.st_uid != os.geteuid():
        raise PermissionError(
            f"{path} belongs to user {found.st_uid}, and the socket is not made there: have it removed, or "
            "set XDG_RUNTIME_DIR to a directory of your own"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def _remove_stale(directory: str) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.endswith(SUFFIX) and not is_listened_to(path):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _listen(directory: str) -> tuple[socket.socket, str]:
    # Under another name until it listens: before that it looks like one of a dead process.
    hidden = os.path.join(directory, f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
        listener.bind(hidden)
        os.chmod(hidden, 0o600)
        listener.listen(MOST_VIEWS)
        listener.setblocking(False)
        path, number = os.path.join(directory, f"{os.getpid()}{SUFFIX}"), 1
        # A process with this number in another container may have the same directory.
        while os.path.lexists(path):
            number += 1
            path = os.path.join(directory, f"{os.getpid()}-{number}{SUFFIX}")
        os.rename(hidden, path)
    except BaseException:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise
    return listener, path


class _View:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = bytearray()
        #: The rest of the answer that it has not read; nothing more of it is read until then.
        self.unsent = memoryview(b"")
        #: Closed once it has read that.
        self.is_last = False
        self.stacks = Stacks()


class _Server(threading.Thread):
    """The thread that answers; it sleeps while no view asks."""

    def __init__(self) -> None:
        super().__init__(name="pytoweb-expose", daemon=True)
        directory = directories()[0]
        _make_directory(directory)
        _remove_stale(directory)
        self.failures = Failures()
        # One without a descriptor: a forked child would share that with its parent.
        self._selector = getattr(selectors, "PollSelector", selectors.SelectSelector)()
        self._views: set[_View] = set()
        #: Seconds of processor time of the last answer, by which a view of many workers asks less often.
        self._cost = 0.0
        self._closing = threading.Event()
        self._listener, self.path = _listen(directory)
        self._bell, self._rung = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._rung, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Answers until it is closed."""
        while not self._closing.is_set():
            for key, _ in self._selector.select():
                if self._closing.is_set():
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data is not None:
                    self._serve(key.data)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptor is free: the caller stays in line.
            self._closing.wait(REST)
            return
        connection.setblocking(False)
        view = _View(connection)
        self._views.add(view)
        self._selector.register(connection, selectors.EVENT_READ, view)
        if len(self._views) > MOST_VIEWS:
            view.is_last = True
            self._answer(view, {"error": f"{MOST_VIEWS} views look at this program already"})

    def _serve(self, view: _View) -> None:
        try:
            if view.unsent:
                self._send(view)
            else:
                received = view.connection.recv(MOST_REQUEST)
                view.received += received
                if not received:
                    self._drop(view)
            self._answer_next(view)
        except BlockingIOError:
            return
        except OSError:
            # It has gone away.
            self._drop(view)

    def _answer_next(self, view: _View) -> None:
        """Answers the requests that have come, one after the other, as far as the view reads the answers."""
        while view in self._views and not view.unsent:
            line, end, rest = view.received.partition(b"\n")
            if not end and len(line) <= MOST_REQUEST:
                return
            view.received = rest
            begun = time.thread_time()
            if len(line) > MOST_REQUEST:
                view.is_last = True
                self._answer(view, {"error": f"a request of more than {MOST_REQUEST} bytes"})
                return
            self._answer(view, self._answer_to(bytes(line), view))
            self._cost = time.thread_time() - begun

    def _answer_to(self, line: bytes, view: _View) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            return {"error": f"a request is a line of JSON: {error}"}
        if not isinstance(request, dict) or request.get("version") != VERSION:
            return {"error": f'a request is an object with "version": {VERSION}'}
        try:
            if request.get("ask") == "snapshot":
                return {"snapshot": {**snapshot(self.failures), "cost_seconds": self._cost}}
            if request.get("ask") == "stacks":
                return {"stacks": view.stacks.look()}
        except Exception as error:
            _log.exception("a view from outside cannot be answered")
            return {"error": f"{type(error).__name__} in the program; its log says more"}
        return {"error": 'there is "ask": "snapshot" and "ask": "stacks"'}

    def _answer(self, view: _View, answer: dict[str, Any]) -> None:
        text = json.dumps({"version": VERSION, **answer}, default=str)
        view.unsent = memoryview(text.encode() + b"\n")
        self._send(view)

    def _send(self, view: _View) -> None:
        try:
            sent = view.connection.send(view.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(view)
            return
        view.unsent = view.unsent[sent:]
        if not view.unsent and view.is_last:
            self._drop(view)
            return
        events = selectors.EVENT_WRITE if view.unsent else selectors.EVENT_READ
        self._selector.modify(view.connection, events, view)

    def _drop(self, view: _View) -> None:
        if view in self._views:
            self._views.remove(view)
            self._selector.unregister(view.connection)
            view.connection.close()

    def close(self) -> None:
        """Removes the file and ends the thread."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self._closing.set()
        with contextlib.suppress(OSError):
            self._bell.send(b".")
        self.join(LAST_ANSWER)
        if not self.is_alive():
            self.let_go()

    def let_go(self) -> None:
        """Closes the descriptors; in a forked child, too, where the file is the parent's."""
        for end in (self._listener, self._bell, self._rung, *(view.connection for view in list(self._views))):
            end.close()


_lock = threading.RLock()
_server: _Server | None = None


def open_socket() -> str:
    """As ``PythonWorker.expose``."""
    global _server
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "geteuid"):
        raise NotImplementedError("expose() needs Unix sockets, which this platform does not have")
    with _lock:
        if _server is None:
            server = _Server()
            try:
                server.start()
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(server.path)
                server.let_go()
                raise
            watch_failures(server.failures.note)
            _server = server
        return _server.path


def open_or_warn() -> bool:
    """The same; a program that cannot be looked at runs all the same, and its log says why: false."""
    try:
        open_socket()
    except (OSError, RuntimeError) as error:
        _log.warning("this program is not exposed, although the environment asks for it: %s", error)
        return False
    return True


def close_socket() -> None:
    """Undoes ``open_socket``."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        watch_failures(None)
        server.close()


def _let_go() -> None:
    """In a forked child, which has no thread for it."""
    global _lock, _server
    _lock = threading.RLock()
    server, _server = _server, None
    if server is not None:
        watch_failures(None)
        server.let_go()


# When the queues are empty: a view is of most use while they are not.
atexit.register(close_socket)
_exit.unlock_after_fork(_let_go)
