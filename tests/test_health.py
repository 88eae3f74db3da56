"""`pytoweb.health`: requests through the calling conventions of ASGI and WSGI, and what they are answered."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
import wsgiref.simple_server
import wsgiref.validate

import pytest

from pytoweb import metrics
from pytoweb.health import HealthCheck, livez, readyz
from pytoweb.testing import frozen_clock
from pytoweb.workers import MailboxFullError

WAIT = 10.0


def ask_asgi(app, method="GET"):
    """Status, headers and body, as httpx gets them from the application."""
    httpx = pytest.importorskip("httpx")

    async def ask():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, "/any/path")

    answer = asyncio.run(ask())
    return answer.status_code, dict(answer.headers), answer.content


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *args):
        """Nothing."""


def ask_wsgi(app, method="GET"):
    """The same over a socket, from the standard library's server, which checks the application, too."""
    validated = wsgiref.validate.validator(app.wsgi)
    with wsgiref.simple_server.make_server("127.0.0.1", 0, validated, handler_class=Quiet) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/", method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()
        finally:
            serving.join(WAIT)


@pytest.fixture(params=[ask_asgi, ask_wsgi], ids=["asgi", "wsgi"])
def ask(request):
    """How a request is made."""
    return request.param


@pytest.fixture
def overloaded(blocked):
    """A worker whose mailbox was found full for long; with its clock."""
    with frozen_clock() as clock:
        one = blocked("crowded", capacity=1, overflow="reject")
        one.post_message("gate")
        with pytest.raises(MailboxFullError):
            one.post_message("gate")
        clock.advance(60)
        yield one


def test_all_is_well(ask, worker):
    one = worker("well").start()
    for check in (livez, readyz):
        status, headers, body = ask(check.of(one))
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
        assert headers["content-length"] == str(len(body))
        assert json.loads(body) == {"status": "ok", "states": {"ok": 1}, "failing": []}


def test_an_overloaded_worker_is_alive_and_not_ready(ask, overloaded):
    assert ask(livez.of(overloaded))[0] == 200
    status, _, body = ask(readyz.of(overloaded))
    assert status == 503
    said = json.loads(body)
    assert said["status"] == "failing"
    (failing,) = said["failing"]
    assert (failing["pool"], failing["worker"], failing["state"]) == (None, "crowded", "overloaded")
    assert "1 of 1 messages are queued" in failing["reason"]
    assert abs(time.time() - 60 - failing["since"]) < WAIT


def test_a_stuck_worker_of_a_pool_fails_both(ask, pool, gate):
    two = pool(2, name="orders")
    one = two.create_worker("slow").start()
    one.on_message("gate", gate)
    future = one.ask("gate", timeout=0.05)
    gate.wait_entered()
    assert future.exception(WAIT) is not None
    for check in (livez, readyz):
        status, _, body = ask(check.of(two))
        assert status == 503
        assert [each["worker"] for each in json.loads(body)["failing"]] == ["slow"]
        assert json.loads(body)["states"] == {"ok": 1, "stuck": 1}
    gate.open()
    one.run_until_idle(WAIT)
    assert ask(readyz.of(two))[0] == 200


def test_without_subjects_it_is_about_the_program(ask, overloaded):
    status, _, body = ask(readyz)
    assert status == 503
    named = {(each["worker"], each["state"]) for each in json.loads(body)["failing"]}
    assert ("crowded", "overloaded") in named
    assert json.loads(body)["states"]["overloaded"] >= 1


def test_a_subject_that_is_stopped_fails_and_its_workers_may_stop(ask, pool, worker):
    one = worker("not started")
    assert ask(livez.of(one))[0] == 503
    two = pool(1, name="gone")
    two.create_worker("stopped").start().stop(timeout=WAIT)
    assert ask(readyz.of(two))[0] == 200
    two.shutdown()
    status, _, body = ask(readyz.of(two))
    assert status == 503
    assert [(each["pool"], each["worker"]) for each in json.loads(body)["failing"]] == [("gone", None)]


def test_the_states_that_fail_are_the_users_choice(ask, overloaded):
    assert ask(HealthCheck(["overloaded"], [overloaded]))[0] == 503
    assert ask(HealthCheck(["stuck"], [overloaded]))[0] == 200


def test_head_is_answered_without_a_body_and_others_are_refused(ask, worker):
    one = worker("well").start()
    status, headers, body = ask(livez.of(one), "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    status, headers, _ = ask(livez.of(one), "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_it_may_be_the_whole_application_of_an_asgi_server():
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return events.pop(0)

    async def send(event):
        sent.append(event["type"])

    asyncio.run(readyz({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    events.append({"type": "websocket.connect"})
    asyncio.run(readyz({"type": "websocket"}, receive, send))
    assert sent[2:] == ["websocket.close"]


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_a_route_answers_at_its_path(worker, framework):
    """With the status itself: a monitor takes a redirect for neither."""
    httpx = pytest.importorskip("httpx")
    one = worker("well").start()
    if framework == "starlette":
        route = pytest.importorskip("starlette.routing").Route
        routes = [route("/readyz", readyz.of(one)), route("/metrics", metrics.app)]
        app = pytest.importorskip("starlette.applications").Starlette(routes=routes)
    else:
        app = pytest.importorskip("fastapi").FastAPI()
        app.add_route("/readyz", readyz.of(one))
        app.add_route("/metrics", metrics.app)

    async def ask(method, path):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    assert asyncio.run(ask("GET", "/metrics")).text == metrics.render()
    answer = asyncio.run(ask("GET", "/readyz"))
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert asyncio.run(ask("HEAD", "/readyz")).status_code == 200
    assert asyncio.run(ask("POST", "/readyz")).status_code == 405
    one.stop()
    answer = asyncio.run(ask("GET", "/readyz"))
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")
