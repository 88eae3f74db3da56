"""A report: what a pool did for a while, as one HTML file to look at.

The engine keeps which message ran where and when (`recorder.rs`). A thread looks at depths, load and memory
meanwhile (`_report_samples.py`). `_report_data.py` puts both together, `_report_page.py` makes a file of it.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
import warnings
import weakref

from pytoweb import _exit
from pytoweb._checks import checked_count
from pytoweb._report_samples import Samples

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from pytoweb._core import Threads
    from pytoweb._pool import WorkerPool
    from pytoweb._stats import PoolStats

    Self = TypeVar("Self", bound="Report")

__all__ = ["MOST_BARS", "Report"]

#: Messages that a report shows each for itself: as many as a browser draws without a pause.
MOST_BARS = 50_000
#: More than this make a file that is too large to open.
BARS_LIMIT = 1_000_000

_log = logging.getLogger("pytoweb.report")

#: Those that are being recorded.
_recorded: weakref.WeakSet[Report] = weakref.WeakSet()


def _write(page: str, path: str) -> None:
    path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
        return
    half = f"{path}.{os.getpid()}.part"
    try:
        with open(half, "w", encoding="utf-8") as file:
            if mode is not None:
                os.chmod(half, stat.S_IMODE(mode))
            file.write(page)
        os.replace(half, path)
    except OSError:
        if os.path.exists(half):
            os.unlink(half)
        raise


class Report:
    """A recording of a pool: ``with pool.report("run.html"): ...``, and the file is there.

    It begins with the block, or with ``start()``, and is written at the end of the block, or by ``save()``.
    One that is dropped before that ends with a ``ResourceWarning`` and no file. One that is still recorded at
    the end of the program is written then, and the log says so.
    """

    def __init__(
        self, pool: WorkerPool, path: str | os.PathLike[str], title: str | None, most_bars: int
    ) -> None:
        if title is not None and not isinstance(title, str):
            raise TypeError(f"title must be a str or None, not {type(title).__name__}")
        self._pool = pool
        self._path = _checked_path(path)
        self._title = title
        self._most_bars = checked_count(most_bars, "most_bars")
        if most_bars > BARS_LIMIT:
            raise ValueError(f"most_bars must be at most {BARS_LIMIT}, not {most_bars}")
        self._pid = os.getpid()
        #: What records: the threads of the pool, and those of its workers that have some of their own.
        self._recording: dict[int, Threads] = {}
        self._started_at = 0.0
        self._before: PoolStats | None = None
        # Weakly: the thread that looks is not to keep a report that the program has dropped.
        self._samples = Samples(pool, weakref.WeakMethod(self._look))
        self._is_over = False
        #: The page, from the end of the recording until it is in a file.
        self._page: str | None = None

    @property
    def path(self) -> str:
        """The file that is written, absolute."""
        return self._path

    def start(self: Self) -> Self:
        """Begins to record.

        Returns:
            The report.

        Raises:
            FileNotFoundError: the directory of the file is not there.
            IsADirectoryError: the path is a directory.
            RuntimeError: it was started before, or another report of this pool is being recorded.
            ForkedProcessError: this is a forked child, and the pool is the parent's.
        """
        from pytoweb._stats import pool_stats

        if self._before is not None or self._is_over:
            raise RuntimeError("a report is started once; make another one with pool.report()")
        directory = os.path.dirname(self._path)
        if not os.path.isdir(directory):
            raise FileNotFoundError(f"no directory for the report: {directory!r}")
        if os.path.isdir(self._path):
            raise IsADirectoryError(f"the report is to be a file, and {self._path!r} is a directory")
        # First, because of very many workers that takes long: the time of the page begins with the recording.
        before = pool_stats(self._pool)
        threads = self._pool._pytoweb.threads
        threads.start_recording(self._most_bars)
        began, self._started_at, self._before = time.monotonic(), time.time(), before
        self._recording[id(threads)] = threads
        try:
            self._look()
            self._samples.start(began)
        except BaseException:
            # The system refuses a thread, say.
            self._is_over = True
            self._stop()
            raise
        _recorded.add(self)
        return self

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """Ends the recording and writes the file; one of that name is replaced as a whole, or not at all.

        One that is replaced leaves its permissions to the new one; of a link, the file is replaced that it
        stands for; into a pipe or a device the page is written.

        Blocks for some tenths of a second where there were many messages. What still runs is not in it. Where
        the file cannot be written the report is kept: call it again, with another path if need be.

        Args:
            path: Another file than that of the report.

        Returns:
            The path of the file.

        Raises:
            RuntimeError: it was not started, or is saved already.
            OSError: the file cannot be written.
        """
        if path is not None:
            self._path = _checked_path(path)
        if self._page is None:
            if self._before is None:
                raise RuntimeError("the report was not started: use it in a with block, or call start()")
            if self._is_over:
                raise RuntimeError("the report is over: it is saved once")
            self._page = self._end(self._before)
        try:
            _write(self._page, self._path)
        except OSError as error:
            text = f"{error.strerror}; the report is kept: call save() with another path"
            raise OSError(error.errno, text, self._path) from None
        self._page = None
        return self._path

    def _end(self, before: PoolStats) -> str:
        """Ends the recording; returns the page."""
        from pytoweb._report_data import build
        from pytoweb._report_page import page
        from pytoweb._stats import pool_stats

        self._is_over = True
        _recorded.discard(self)
        # First, because it takes in workers that are new.
        self._samples.stop()
        parts = self._stop()
        self._samples.take()
        after = pool_stats(self._pool)
        own = self._pool._pytoweb
        about = {
            "title": self._title if self._title is not None else f"Pool {own.name}",
            "pool": own.name,
            "backend": own.backend,
            "size": own.size,
            "started_unix": self._started_at,
            "has_coroutines": any(
                one._pytoweb.has_coroutines for one in (self._pool, *list(own.workers.values()))
            ),
        }
        return page(build(about, parts, self._samples, (before, after)))

    def __enter__(self: Self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self._pid:
            # A forked child has left the block: the file is its parent's.
            return
        try:
            self.save()
        except Exception:
            if error is None:
                raise
            # The exception of the block says more.
            _log.exception("the report of pool %r is not written", self._pool._pytoweb.name)

    def _is_recording(self) -> bool:
        """Whether it has begun and not ended, in this process."""
        return self._before is not None and not self._is_over and os.getpid() == self._pid

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Where the constructor has raised there is nothing of it.
        if _finalizing() or not hasattr(self, "_page") or not self._is_recording():
            return
        self._is_over = True
        # Not waited for: it may be the calling thread.
        self._samples.end()
        self._stop()
        warnings.warn(
            f"the report of pool {self._pool._pytoweb.name!r} was dropped while it was recorded, and is not "
            f"written to {self._path!r}: keep it and save() it, or use it in a with block",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    def __repr__(self) -> str:
        ended = "ended" if self._page is not None else "saved"
        state = ended if self._is_over else "made" if self._before is None else "recording"
        return f"<Report of pool {self._pool._pytoweb.name!r}, {state}, {self._path!r}>"

    def _stop(self) -> list[dict[str, Any]]:
        """Ends what records; returns what it has recorded."""
        recorded = [threads.stop_recording() for threads in self._recording.values()]
        return [part for part in recorded if part is not None]

    def _look(self) -> None:
        """Takes in the workers with threads of their own that are new."""
        for worker in list(self._pool._pytoweb.workers.values()):
            threads: Any = worker._pytoweb.threads
            if worker._pytoweb_owns_threads() and id(threads) not in self._recording:
                threads.start_recording(self._most_bars)
                self._recording[id(threads)] = threads


def _end_all(finished: bool) -> None:
    """The program has ended, and what was queued with it."""
    for report in list(_recorded):
        if not report._is_recording():
            continue
        name, path = report._pool._pytoweb.name, report.path
        if not finished:
            _log.warning(
                "the report of pool %r is not written to %r: Ctrl-C has ended the program", name, path
            )
            continue
        try:
            report.save()
        except Exception:
            _log.exception("the report of pool %r is not written", name)
        else:
            _log.warning(
                "the report of pool %r was recorded until the end of the program, and is written to %r: "
                "save() it, or use it in a with block",
                name,
                path,
            )


_exit.call_when_finished(_end_all)


def _checked_path(path: str | os.PathLike[str]) -> str:
    name = os.fsdecode(path)
    if not name:
        raise ValueError("the path of a report must name a file")
    return os.path.abspath(name)


Report.__module__ = "pytoweb.workers"
