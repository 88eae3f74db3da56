"""Descriptors that a host lends its children: those of ``multiprocessing`` objects that go there by value."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket

from pytoweb import _parentage
from pytoweb._imported import imported

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Borrowed", "Lending"]


class Borrowed:
    """Stands for a descriptor of the host in a pickle."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """The descriptor, as one of this process."""
        return _parentage.borrow(str(self._number))


class Lending:
    """What the children of one pool may ask for, as long as the pool is.

    To ``multiprocessing`` it is what starts a process: queues, locks and connections let themselves be
    pickled while one is being started, and tell it the descriptors that they need there.
    """

    def __init__(self) -> None:
        self._lent: dict[int, int] = {}
        self._numbers = itertools.count(1)
        #: What was lent already, by what tells it from others: it may be pickled again and again.
        self._known: dict[tuple[int, ...], int] = {}

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """What is pickled on this thread meanwhile goes to children as they start."""
        context = imported("multiprocessing.context")
        if context is None:
            # There are no such objects.
            yield
            return
        before = context.get_spawning_popen()
        context.set_spawning_popen(self)
        try:
            yield
        finally:
            context.set_spawning_popen(before)

    def duplicate_for_child(self, fd: int) -> int:
        """Keeps a descriptor for the children. Called by ``multiprocessing``."""
        status = os.fstat(fd)
        # Both ends of a pipe are the same file, opened in different ways.
        identity = (fd, status.st_dev, status.st_ino, fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE)
        number = self._known.get(identity)
        if number is None:
            number = self._known[identity] = next(self._numbers)
            self._lent[number] = os.dup(fd)
        return number

    def DupFd(self, number: int) -> Borrowed:
        """What the pickle has in the descriptor's place. Called by ``multiprocessing``."""
        return Borrowed(number)

    def answer(self, door: int, key: bytes) -> None:
        """Answers a child that asks for a descriptor.

        Args:
            door: a descriptor of the host's end of the child's door; closed here.
            key: what it asked with: its number, and a colon.
        """
        fds, why = [], ""
        try:
            fds = [self._find(key[:-1].decode())]
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        with socket.socket(fileno=door) as sender, contextlib.suppress(OSError):
            # One that does not take its answers gives up by itself.
            socket.send_fds(sender, [key, why.encode()[:500]], fds, socket.MSG_DONTWAIT)

    def _find(self, key: str) -> int:
        if key == _parentage.TRACKER:
            from multiprocessing import resource_tracker

            tracker: int = resource_tracker.getfd()  # type: ignore[assignment]
            return tracker
        fd = self._lent.get(int(key))
        if fd is None:
            raise LookupError("the pool that lent it is closed")
        return fd

    def close(self) -> None:
        """Takes everything back that no child has asked for yet."""
        lent, self._lent, self._known = self._lent, {}, {}
        for fd in lent.values():
            os.close(fd)

    def __del__(self) -> None:
        self.close()
