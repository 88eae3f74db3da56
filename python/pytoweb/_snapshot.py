"""What the view from outside shows of this program: numbers, failures, and stacks of handlers that run.

All of it is dictionaries, lists, strings, numbers and None. Nothing is stopped or waited for.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
import time
from collections import deque

import pytoweb
from pytoweb import _exit
from pytoweb._contained import contained
from pytoweb._core import running_on_threads
from pytoweb._pool_thread import PoolThread
from pytoweb._stacks import MOST_FRAMES, awaited_frames, frames_within

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

__all__ = ["FAILURES", "Failures", "Stacks", "memory_bytes", "snapshot"]

#: Failures that are kept.
FAILURES = 20
#: Characters of the line that stands for an exception.
ERROR_LENGTH = 300


class Failures:
    """The last failures of the program."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, str, str, str]] = deque(maxlen=FAILURES)

    def note(self, worker: str, kind: str, error: BaseException) -> None:
        """Keeps one; called on the thread that tells of it."""
        # A message that its caller gave up has not failed.
        if type(error).__name__ != "CancelledError":
            self._kept.append((time.time(), worker, kind, one_line(error)))

    def told(self) -> list[dict[str, Any]]:
        """Those that are kept, the oldest first."""
        names = ("time", "worker", "type", "error")
        return [dict(zip(names, failure)) for failure in list(self._kept)]


def one_line(error: BaseException) -> str:
    """An exception in one line, whatever its text is."""
    name = type(error).__qualname__
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its text cannot be had)"
    line = f"{name}: {text}" if text else name
    return line if len(line) <= ERROR_LENGTH else line[: ERROR_LENGTH - 3] + "..."


def memory_bytes(pid: int | str = "self") -> int | None:
    """Bytes of resident memory of a process; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def snapshot(failures: Failures) -> dict[str, Any]:
    """The numbers of all workers and pools, by name, and the last failures."""
    pools: list[dict[str, Any]] = []
    workers: list[dict[str, Any]] = []
    for root in _exit.roots():
        # A worker with a thread of its own may stand with its pool. What has ended is of no interest.
        if root._pytoweb.pool is None and not root._pytoweb.runtime.ended.is_set():
            # It may be in the middle of its end.
            contained(_add, root, pools, workers)
    for listed in (pools, workers):
        listed.sort(key=lambda entry: str(entry["name"]))
    return {
        "pid": os.getpid(),
        "pytoweb": pytoweb.__version__,
        "python": sys.version.split()[0],
        "program": _program(),
        "time": time.time(),
        "ending": _exit.ending,
        "memory_bytes": memory_bytes(),
        "pools": pools,
        "workers": workers,
        "failures": failures.told(),
    }


def _program() -> str:
    """What was started, as far as Python knows: never its arguments, which may have secrets."""
    return sys.argv[0] if sys.argv and sys.argv[0] else "python"


def _add(root: Any, pools: list[dict[str, Any]], workers: list[dict[str, Any]]) -> None:
    if root._pytoweb_is_worker:
        _add_worker(root, workers)
    else:
        _add_pool(root, pools)


def _add_pool(pool: Any, into: list[dict[str, Any]]) -> None:
    numbers = _own(pool, "stats")
    totals = _plain(numbers)
    totals.pop("own", None)
    totals.pop("workers", None)
    members = dict(pool._pytoweb.workers)
    into.append(
        {
            **totals,
            "backend": pool._pytoweb.backend,
            "health": _health(pool),
            **_children(pool, totals),
            "own": {**_plain(numbers.own), "backend": pool._pytoweb.backend},
            "workers": [
                {
                    **_plain(each),
                    "backend": pool._pytoweb.backend,
                    "health": _health(members[name]) if name in members else None,
                }
                for name, each in sorted(numbers.workers.items())
            ],
        }
    )


def _add_worker(worker: Any, into: list[dict[str, Any]]) -> None:
    numbers = _plain(_own(worker, "stats"))
    into.append(
        {
            **numbers,
            "backend": worker._pytoweb.backend,
            "health": _health(worker),
            **_children(worker, numbers),
        }
    )


def _own(owner: Any, method: str) -> Any:
    """Calls our method of that name, whatever the user's class has in its place; None where there is none."""
    for base in type(owner).__mro__:
        if base.__module__.partition(".")[0] == "pytoweb" and method in vars(base):
            return vars(base)[method](owner)
    return None


def _health(owner: Any) -> dict[str, Any] | None:
    found = _own(owner, "health")
    return None if found is None else _plain(found)


def _plain(numbers: Any) -> Any:
    """What statistics are made of, as `json` takes it."""
    if hasattr(numbers, "as_dict"):
        return numbers.as_dict()
    return numbers._asdict()


def _children(owner: Any, numbers: dict[str, Any]) -> dict[str, Any]:
    """Its child processes, where the numbers do not tell of them."""
    if "children" in numbers:
        return {}
    pids = owner._pytoweb.runtime.pids()
    return {"children": [{"pid": pid, "memory_bytes": memory_bytes(pid)} for pid in pids]}


class Stacks:
    """The stacks of handlers; it knows those again that it has seen before, and so for how long they run."""

    def __init__(self) -> None:
        #: By thread and number of the message, or by task: when it was first seen, on the monotonic clock.
        self._seen: dict[object, float] = {}

    def look(self) -> list[dict[str, Any]]:
        """Each handler that runs: on threads, as coroutines, and what is known of child processes.

        ``seconds`` is for how long it has run at least, and None for one that is seen for the first time.
        """
        before, self._seen = self._seen, {}
        now = time.monotonic()
        found: list[dict[str, Any]] = []
        for key, entry in (*_on_threads(), *_on_loops(), *_in_children()):
            first = self._seen[key] = before.get(key, now)
            found.append({**entry, "seconds": now - first if key in before else None})
        return found


def _named(owner: Any, name: Any, kind: Any, message_id: Any, attempt: Any) -> dict[str, Any]:
    pool = None if owner is None else owner._pytoweb.pool
    if owner is not None and not owner._pytoweb_is_worker:
        pool = owner
    return {
        "worker": name,
        "pool": None if pool is None else pool._pytoweb.name,
        "type": kind,
        "id": message_id,
        "attempt": attempt,
    }


def _on_threads() -> Iterator[tuple[object, dict[str, Any]]]:
    running = running_on_threads()
    frames = sys._current_frames()
    threads = {thread.ident: thread for thread in threading.enumerate()}
    for ident, number, owner, *named in running:
        thread: Any = threads.get(ident)
        entry = {
            "where": "thread",
            **_named(owner, *named),
            "thread": None if thread is None else getattr(thread, "_name", thread.name),
            "stack": _lines(frames_within(frames.get(ident), PoolThread.run.__code__)),
        }
        yield (ident, number), entry


def _on_loops() -> Iterator[tuple[object, dict[str, Any]]]:
    """The coroutines that run on the event loops of pools."""
    loops: Any = sys.modules.get("pytoweb._loops")
    asyncio: Any = sys.modules.get("asyncio")
    if loops is None or asyncio is None:
        return
    outer = loops.Tenant._drive.__code__
    frames = sys._current_frames()
    for home, running, task in loops.running_now():
        message, owner = running.message, running.owner
        if message is None or owner is None:
            continue
        if task is asyncio.current_task(home.loop):
            stack = frames_within(frames.get(home.ident), outer)
        else:
            stack = [frame for frame in awaited_frames(task.get_coro()) if frame.f_code is not outer]
        entry = {
            "where": "coroutine",
            **_named(owner(), message.worker, message.type, message.id, message.attempt),
            "thread": home._name,
            "stack": _lines(stack),
        }
        yield (id(running), message.id), entry


def _in_children() -> Iterator[tuple[object, dict[str, Any]]]:
    """The handlers that run in child processes, without their stacks."""
    for root in _exit.roots():
        processes: Any = getattr(root._pytoweb.runtime, "processes", None)
        for pid, number, owner, *named in () if processes is None else processes.begun():
            yield (pid, number), {"where": "process", **_named(owner, *named), "pid": pid, "stack": []}


def _lines(frames: list[FrameType]) -> list[dict[str, Any]]:
    """A stack, the outermost frame first."""
    found = []
    for frame in frames[-MOST_FRAMES:]:
        code = frame.f_code
        # None while it is just being entered.
        line = frame.f_lineno or code.co_firstlineno
        text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        name = getattr(code, "co_qualname", code.co_name)
        found.append({"file": code.co_filename, "line": line, "function": name, "code": text})
    return found
