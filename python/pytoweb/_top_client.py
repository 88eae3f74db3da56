"""The connection to a running program that is exposed, and which programs there are."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time

from pytoweb._expose import VERSION, directories

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["ProgramConnection", "ProgramEnded", "TopError", "found_programs", "sockets"]

#: Seconds that a program may take to answer where the answer is printed once. One whose code holds the
#: interpreter lock does not answer meanwhile.
PATIENCE = 10.0
#: The same where programs are looked for: one that does not answer is listed without its name.
GLANCE = 1.0
#: Bytes that are read at once.
CHUNK = 1 << 16


class TopError(Exception):
    """What is wrong, for the user; with the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class ProgramEnded(Exception):
    """The program has closed the connection, as it does at its end."""


class ProgramConnection:
    """A connection to a running program."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._received = bytearray()
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.connect(path)
            self.socket.setblocking(False)
        except OSError as error:
            self.socket.close()
            raise TopError(f"no program answers at {path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Ends the connection."""
        self.socket.close()

    def request(self, what: str) -> None:
        """Asks; the answer comes when it comes."""
        line = json.dumps({"version": VERSION, "ask": what}).encode() + b"\n"
        # One short line at a time always has room. Where the program has closed the connection, its last word
        # may be there to read.
        with contextlib.suppress(OSError):
            self.socket.sendall(line)

    def answer(self) -> dict[str, Any] | None:
        """The next answer, as far as it has come; None: not all of it. Does not wait.

        Raises:
            ProgramEnded: there will be none.
            TopError: the program has refused.
        """
        try:
            received = self.socket.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            raise ProgramEnded from None
        if not received:
            raise ProgramEnded
        self._received += received
        # Only what is new may have the end: answers may be megabytes.
        if b"\n" not in received:
            return None
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TopError(f"the program refuses: {answer['error']}")
        if answer.get("version") != VERSION:
            raise TopError("the program has another version of pytoweb, which this one does not understand")
        return answer

    def ask(self, what: str, patience: float = PATIENCE) -> Any:
        """Asks, and waits for the answer.

        Raises:
            ProgramEnded: there will be none.
            TopError: the program has refused, or does not answer.
        """
        self.request(what)
        end = time.monotonic() + patience
        while True:
            select.select([self.socket], [], [], max(0.0, end - time.monotonic()))
            answer = self.answer()
            if answer is not None:
                return answer[what]
            if time.monotonic() >= end:
                raise TopError(
                    f"the program does not answer within {patience:g} s: its code may hold the "
                    "interpreter lock"
                )


def sockets() -> Iterator[tuple[str, int]]:
    """The paths of all sockets, and the numbers of their processes."""
    for directory in directories():
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory)):
                number = name.partition(".")[0].partition("-")[0]
                if name.endswith(".sock") and number.isdigit():
                    yield os.path.join(directory, name), int(number)


def found_programs() -> list[tuple[int, str, str]]:
    """The programs that are there: number of the process, path of the socket, name."""
    found = []
    for path, number in sockets():
        try:
            with contextlib.closing(ProgramConnection(path)) as program:
                name = str(program.ask("snapshot", GLANCE)["program"])
        except ProgramEnded:
            continue
        except TopError:
            if not _is_there(path):
                continue
            name = "(does not answer)"
        found.append((number, path, name))
    return found


def _is_there(path: str) -> bool:
    try:
        ProgramConnection(path).close()
    except TopError:
        return False
    return True
