"""Ready-made answers to whether a program is alive and ready, for ASGI and WSGI servers.

``livez`` and ``readyz`` are ASGI applications; ``livez.wsgi`` and ``readyz.wsgi`` the same for WSGI. Each
answers 200 or 503 with JSON, and tells of all workers and pools of the process; ``readyz.of(pool)`` of
those that it is given.

    app.add_route("/readyz", pytoweb.health.readyz)                  # Starlette, FastAPI

As a route, not a mount: a mount of Starlette is at ``/readyz/``, and redirects ``/readyz`` to that.

They are for the machine that watches over the program: what is in the answers (names of workers, reasons)
is not for the public.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pytoweb._core import program_health
from pytoweb._health import pool_health, worker_health
from pytoweb._pool import WorkerPool
from pytoweb._worker import PythonWorker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from pytoweb._health import Health

    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Receive = Callable[[], Awaitable[dict[str, Any]]]

__all__ = ["HealthCheck", "livez", "readyz"]

MOST_NAMED = 100
"""Workers that an answer tells of; of more it only says how many there are."""

_TYPE = ("content-type", "application/json")
_FRESH = ("cache-control", "no-store")


class HealthCheck:
    """An ASGI application that answers 503 while a worker is in one of some states, and else 200.

    The answer is JSON: ``status`` (``"ok"`` or ``"failing"``), ``states`` (how many workers and pools' own
    mailboxes are in each state), ``failing`` (those for which it is 503: pool, worker, state, reason,
    since). It takes GET and HEAD, blocks for nothing, and does not look at the path. An exception in here
    would be 500, which is no success either.
    """

    def __init__(
        self,
        failing: Iterable[str],
        subjects: Iterable[PythonWorker | WorkerPool] | None = None,
    ) -> None:
        """Makes a check.

        Args:
            failing: the states of ``Health`` for which the answer is 503.
            subjects: the workers and pools that it is about; a pool stands for all its workers, too. None:
                all of the process.
        """
        self._failing = frozenset(failing)
        self._subjects = None if subjects is None else tuple(subjects)

    def of(self, *subjects: PythonWorker | WorkerPool) -> HealthCheck:
        """The same check of these workers and pools alone; one that is stopped fails it."""
        return HealthCheck(self._failing, subjects)

    def check(self) -> tuple[bool, dict[str, Any]]:
        """Looks at the workers now.

        Returns:
            Whether the answer is 200, and what it says.
        """
        states, told = self._of_program() if self._subjects is None else self._of_subjects()
        failing = [each for each in told if each["state"] in self._failing or each.get("stopped")]
        for each in failing:
            each.pop("stopped", None)
        status = "failing" if failing else "ok"
        return not failing, {"status": status, "states": states, "failing": failing[:MOST_NAMED]}

    @staticmethod
    def _of_program() -> tuple[dict[str, int], list[dict[str, Any]]]:
        now = time.time()
        states, worse = program_health(MOST_NAMED)
        return states, [
            _told(pool, None if is_pool else name, state, reason, now - lasted)
            for pool, name, is_pool, (state, reason, lasted) in worse
        ]

    def _of_subjects(self) -> tuple[dict[str, int], list[dict[str, Any]]]:
        states: dict[str, int] = {}
        told = []
        for subject in self._subjects or ():
            if isinstance(subject, WorkerPool):
                of_pool = pool_health(subject)
                each: list[tuple[str | None, Health]] = [(None, of_pool.own), *of_pool.workers.items()]
                pool: str | None = subject.name
            else:
                each, pool = [(subject.name, worker_health(subject))], None
            for place, (name, health) in enumerate(each):
                states[health.state] = states.get(health.state, 0) + 1
                one = _told(pool, name, health.state, health.reason, health.since)
                told.append({**one, "stopped": place == 0 and health.state == "stopped"})
        return states, told

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers a request, as the ASGI specification has it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        status, _, headers, body = self._answer(scope["method"])
        encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    def wsgi(
        self, environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
    ) -> list[bytes]:
        """Answers a request, as the WSGI specification (PEP 3333) has it."""
        status, phrase, headers, body = self._answer(environ["REQUEST_METHOD"])
        start_response(f"{status} {phrase}", headers)
        return [body]

    def _answer(self, method: str) -> tuple[int, str, list[tuple[str, str]], bytes]:
        """Status, its phrase, headers and body."""
        if method not in ("GET", "HEAD"):
            body = b'{"status": "error", "reason": "GET or HEAD"}'
            headers = [_TYPE, ("allow", "GET, HEAD"), ("content-length", str(len(body)))]
            return 405, "Method Not Allowed", headers, body
        well, said = self.check()
        body = json.dumps(said).encode("ascii")
        headers = [_TYPE, _FRESH, ("content-length", str(len(body)))]
        status, phrase = (200, "OK") if well else (503, "Service Unavailable")
        return status, phrase, headers, b"" if method == "HEAD" else body


def _told(pool: str | None, worker: str | None, state: str, reason: str, since: float) -> dict[str, Any]:
    return {"pool": pool, "worker": worker, "state": state, "reason": reason, "since": since}


async def _live(receive: Receive, send: Send) -> None:
    """The life of a server whose whole application this is."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


livez = HealthCheck(("failed", "stuck"))
"""Whether the program is alive: 503 while a worker has failed or is stuck, which a restart may mend."""

readyz = HealthCheck(("failed", "stuck", "overloaded", "restarting"))
"""Whether it can take more work: 503 also while a worker is overloaded or its process is being replaced."""
