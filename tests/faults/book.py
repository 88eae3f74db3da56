"""Numbers that a host and its children write into one file, which all of them map."""

from __future__ import annotations

import mmap
import os
import struct
import time

BEGUN, ENDED = 0, 1


class Book:
    """A file of bytes or times; pickled by its path, opened where it is used."""

    def __init__(self, path: str, size: int = 0) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        if size:
            with open(path, "wb") as file:
                file.truncate(size)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_map": None}

    @property
    def pages(self) -> mmap.mmap:
        """The file."""
        if self._map is None:
            number = os.open(self.path, os.O_RDWR)
            try:
                self._map = mmap.mmap(number, 0)
            finally:
                os.close(number)
        return self._map

    def close(self) -> None:
        """Lets go of the file."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def count(self, number: int, column: int) -> int:
        """How often a message was begun, or ended."""
        return self.pages[2 * number + column]

    def add(self, number: int, column: int) -> None:
        """Counts one, in a byte: only one process at a time handles a message."""
        self.pages[2 * number + column] += 1

    def stamp(self, place: int) -> None:
        """Notes the time, on the clock that all processes share."""
        struct.pack_into("d", self.pages, 8 * place, time.monotonic())

    def stamped(self, place: int) -> float:
        """That time; 0 if it was never noted."""
        return float(struct.unpack_from("d", self.pages, 8 * place)[0])
