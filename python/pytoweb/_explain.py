"""``explain``: why a message waits, where it runs, or what became of it."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Union

from pytoweb._core import KEPT_ENDS, running_on_threads
from pytoweb._worker_stream import WorkerStream
from pytoweb.futures import WorkerFuture

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Explanation", "explain"]

#: What ``explain`` finds a message by.
Message = Union[str, "WorkerFuture[Any]"]

#: Threads of the pool that are named where none is free.
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Where a message is, and why it waits; or what became of it. It is that of one moment.

    ``state`` is one of these:

    - ``"waiting"``: it is queued, or waits for room in a full mailbox, or its process has not begun it.
    - ``"running"``: its handler runs, or awaits.
    - ``"done"``: it is over; ``outcome`` says how.
    - ``"unknown"``: no message of that id is here, and none has ended lately.
    """

    state: Literal["waiting", "running", "done", "unknown"]
    reason: str
    """Why it waits, where it runs, or how it ended, in words. They may change from version to version."""
    worker: str | None
    """The name of the worker or pool that has it, or had it."""
    ahead: int | None = None
    """Of one that waits: messages that go before it as things are; with keys and priorities at least so
    many."""
    since: float | None = None
    """Of one that waits, if it is among those that are timed: when it was posted. Of one that runs: when its
    handler began, if that is known. Of one that is done: when it ended, if that is known. In seconds as
    ``time.time()`` has them."""
    due: float | None = None
    """Of one that waits for a time, such as its delay, a rate or its next attempt: when that is, likewise."""
    attempt: int | None = None
    """Of one with ``retry=`` that waits or runs: which attempt it is, or will be, from 1 on."""
    outcome: Literal["completed", "failed", "cancelled", "expired", "dropped", "stopped"] | None = None
    """Of one that is done."""
    begun: bool | None = None
    """Of one that expired: whether its handler had begun, and may have done a part of its work."""
    error: str | None = None
    """Of one that failed: the class and the text of what its handler raised, in a line of 300 characters at
    most."""
    pid: int | None = None
    """Of one that runs in a child process, if that is known: the number of the process."""

    def as_dict(self) -> dict[str, Any]:
        """The same as a dictionary that ``json.dumps`` takes."""
        return dataclasses.asdict(self)


def explain(endpoints: Iterable[Any], message: Message | WorkerStream[Any], where: str) -> Explanation:
    """Looks for a message with each of them; ``where`` says who they are together.

    Raises:
        TypeError: ``message`` is no str, and neither the future nor the stream of a message.
    """
    if isinstance(message, WorkerStream):
        message = message._future
    if not isinstance(message, (str, WorkerFuture)):
        raise TypeError(
            f"explain takes a message_id, a WorkerFuture or a WorkerStream, not {type(message).__name__}"
        )
    ended, endpoints = None, tuple(endpoints)
    for endpoint in endpoints:
        found = endpoint._pytoweb_explain(message)
        if found is None:
            continue
        if found["code"] != "done":
            return _of_living(endpoint, message, found)
        # A message with the same id may live with another one.
        if ended is None or _ended(found) > _ended(ended[1]):
            ended = endpoint, found
    if ended is not None:
        return _of_done(ended[0]._pytoweb.name, ended[1])
    if isinstance(message, WorkerFuture):
        return _of_future(message, where, [endpoint._pytoweb.name for endpoint in endpoints])
    reason = (
        f"no message with the id {message!r} waits or runs in {where}, and none is among the last "
        f"{KEPT_ENDS} with an id that ended in each mailbox"
    )
    return Explanation("unknown", reason, None)


def _ended(found: dict[str, Any]) -> float:
    """When a message ended; one whose place in the mailbox is not cleared yet has ended just now."""
    since: float | None = found["since"]
    return time.time() if since is None else since


def _of_living(endpoint: Any, message: Message, found: dict[str, Any]) -> Explanation:
    name, now = endpoint._pytoweb.name, time.time()
    attempt = found["attempt"] or None
    if found["code"] == "running":
        reason, pid = _where(endpoint, message, found)
        ran = found["ran"]
        since = None if ran is None else now - ran
        return Explanation("running", reason, name, since=since, attempt=attempt, pid=pid)
    left, waited = found.get("left"), found.get("waited")
    return Explanation(
        "waiting", _why(endpoint, found), name, ahead=found["ahead"], attempt=attempt,
        since=None if waited is None else now - waited, due=None if left is None else now + left,
    )  # fmt: skip


def _why(endpoint: Any, found: dict[str, Any]) -> str:
    code, ahead, left = found["code"], found["ahead"], found.get("left")
    behind = f"{ahead} {'message is' if ahead == 1 else 'messages are'} before it"
    if code == "start":
        return f"the worker is not started; {behind}"
    if code == "room":
        return f"the mailbox is full, and the sender waits for a place; {behind}"
    if code == "child":
        return f"its process has it, and has not begun it; {behind} there"
    if code == "key":
        return f"{_blocker(found)} with the same key runs; {behind} of that key"
    if left is not None:
        words = {
            "rate": "its rate lets it begin",
            "delay": "it is delayed: it takes its place",
            "retry": f"attempt {found['attempt']} of {found['attempts']} comes"
            if found["attempt"] > 1
            else "a message with the same key goes before it, and is tried again",
            "company": "it waits for others to run with it: it begins",
        }
        return f"{words[code]} in {left:.1f} s" + (f"; {behind}" if code == "rate" else "")
    if ahead:
        return behind
    if endpoint._pytoweb_stats()["running"]:
        return f"it is the next, after {_names_of(_run_by(endpoint)) or 'the one that runs'}"
    busy = _names_of(running_on_threads())
    return f"no thread is free: {busy}" if busy else "it is the next: a thread is about to take it"


def _blocker(found: dict[str, Any]) -> str:
    place = found.get("behind")
    for ident, number, _, _, kind, message_id, _ in running_on_threads():
        if (ident, number) == place:
            return f"a message of type {kind!r}" + ("" if message_id is None else f" (id {message_id!r})")
    message_id = found.get("behind_id")
    return "another message" if message_id is None else f"the message {message_id!r}"


def _run_by(endpoint: Any) -> list[Any]:
    return [entry for entry in running_on_threads() if entry[2] is endpoint]


def _names_of(entries: list[Any]) -> str:
    named = [f"{kind!r} of {name!r}" for _, _, _, name, kind, _, _ in entries[:_MOST_NAMED]]
    return ", ".join(named) + (", ..." if len(entries) > _MOST_NAMED else "")


def _where(endpoint: Any, message: Message, found: dict[str, Any]) -> tuple[str, int | None]:
    """Where a message runs, and whether its caller has been told of its end already; the process of it."""
    late = ", although its caller waits no more: it was cancelled, or its deadline has passed"
    late = late if found["late"] else ""
    for ident, number, _, name, kind, message_id, _ in running_on_threads():
        is_it = (ident, number) == found.get("place") or (
            isinstance(message, str) and (name, message_id) == (endpoint._pytoweb.name, message)
        )
        if is_it:
            thread = next((one for one in threading.enumerate() if one.ident == ident), None)
            on = "a thread" if thread is None else f"the thread {getattr(thread, '_name', thread.name)!r}"
            return f"its handler of {kind!r} runs on {on}{late}", None
    processes: Any = getattr(endpoint._pytoweb.runtime, "processes", None)
    if processes is not None:
        begun = [entry for entry in processes.begun() if entry[2] is endpoint]
        if isinstance(message, str):
            begun = [entry for entry in begun if entry[5] == message] or begun
        else:
            own = message._process(processes)
            begun = [entry for entry in begun if entry[0] == own] or begun
        kinds, pids = {entry[4] for entry in begun}, {entry[0] for entry in begun}
        of = f" of {kinds.pop()!r}" if len(kinds) == 1 else ""
        if len(pids) == 1:
            pid = pids.pop()
            return f"its handler{of} runs in process {pid}{late}", pid
        return f"its handler{of} runs in a process{late}", None
    return f"its handler awaits, or is about to begin or to end{late}", None


_ENDS: dict[str, tuple[Any, str]] = {
    "completed": ("completed", "its handler returned"),
    "failed": ("failed", "it failed"),
    "dropped_oldest": ("dropped", "it was dropped from the full mailbox as the oldest message"),
    "dropped_newest": ("dropped", "it was dropped, because it came when the mailbox was full"),
    "dropped_unanswerable": (
        "dropped",
        "it was dropped, because replies that wait for the 'response' and 'error' handlers took the room",
    ),
    "replaced": ("dropped", "a newer message with the same key took its place"),
    "stopped": ("stopped", "the worker stopped before it was handled"),
    "cancelled": ("cancelled", "it was cancelled"),
    "expired": ("expired", "its deadline passed before its handler had begun"),
    "expired_begun": ("expired", "its deadline passed while its handler ran, which was asked to stop"),
}


def _of_done(name: str, found: dict[str, Any]) -> Explanation:
    outcome, reason = _ENDS[found["outcome"]]
    error = found["error"]
    if error is not None:
        reason += f": {error}"
    if found["dead"]:
        reason += "; it is a dead letter"
    begun = found["outcome"] == "expired_begun" if outcome == "expired" else None
    return Explanation("done", reason, name, since=found["since"], outcome=outcome, begun=begun, error=error)


def _of_future(future: WorkerFuture[Any], where: str, names: list[str]) -> Explanation:
    """What a future says of a message that is not here any more."""
    # Not `exception()`: who looks at the failure here has not dealt with it.
    end = future._end()
    name = future._worker_name()
    if end is None and name in names:
        # It was dropped, say, and a thread of the pool is to tell of it.
        return Explanation("waiting", "it was taken out of the mailbox, and is about to end", name)
    if end is None:
        return Explanation("unknown", f"the message of this future is not in {where}", None)
    outcome, error, dead = end
    return _of_done(name, {"outcome": outcome, "error": error, "dead": dead, "since": None})


Explanation.__module__ = "pytoweb.workers"
