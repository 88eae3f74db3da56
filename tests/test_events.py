"""Events: what the contract does not see, because it looks at transports, hooks and forks."""

from __future__ import annotations

import logging
import os
import threading
from queue import SimpleQueue

import pytest

from pytoweb.workers import PythonWorker, WorkerCrashedError, current_worker

WAIT = 10.0
KB = 1 << 10


def emit_large(how_many, how_large):
    for number in range(how_many):
        current_worker().emit("large", (number, bytes(how_large)))
    return how_many


def emit_large_in(shape):
    return emit_large(*shape)


def emit_and_die(data):
    current_worker().emit("last", data)
    os._exit(1)


def emit_from_thread(data):
    worker, raised = current_worker(), []

    def run():
        try:
            worker.emit("any")
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(WAIT)
    return raised


class Hooked(PythonWorker):
    def __init__(self, path, **options):
        super().__init__("hooked", **options)
        self.path = path
        self.on_message("any", self.handle)
        self.on_start(self.begin)
        self.on_stop(self.end)

    def handle(self, data):
        current_worker().emit("hook", "handler")

    def begin(self):
        current_worker().emit("hook", "start")

    def end(self):
        try:
            current_worker().emit("hook", "stop")
        except RuntimeError as error:
            with open(self.path, "w") as file:
                file.write(str(error))


@pytest.mark.parametrize("transport", ["shared-memory", "socket"])
@pytest.mark.parametrize("size", [KB, 20 * KB, 300 * KB])
def test_large_events_come_in_order_and_before_the_reply(worker, transport, size):
    one, came = worker("large", backend="process", transport=transport), SimpleQueue()
    one.on_message("large", emit_large_in)
    one.on_message("response", lambda message: came.put(message.data["result"]))
    one.on_event("large", lambda event: came.put(event.data))
    one.start()
    for _ in range(3):
        one.post_message("large", (40, size), message_id="1")
        found = [came.get(timeout=WAIT) for _ in range(41)]
        assert [number for number, data in found[:-1] if len(data) == size] == list(range(40))
        assert found[-1] == 40


def test_a_flood_is_counted_to_the_last(worker, backend, caplog):
    caplog.set_level(logging.ERROR)
    one, gate, came = worker("flood", backend=backend), threading.Event(), []

    def stand(event):
        gate.wait(WAIT)
        came.append(event.data[0])

    one.on_message("large", emit_large_in)
    one.on_event("large", stand)
    one.start()
    assert one.ask("large", (20_000, KB)).result(30) == 20_000
    gate.set()
    one.stop(timeout=WAIT)
    assert came[-1] == 19_999 and came == sorted(came)
    assert len(came) + one._pytoweb_events_dropped() == 20_000


def test_what_a_child_says_before_its_end_comes(worker):
    one, came = worker("dying", backend="process"), SimpleQueue()
    one.on_message("die", emit_and_die)
    one.on_event("last", lambda event: came.put(event.data))
    one.on_error(lambda error: None)
    one.start()
    with pytest.raises(WorkerCrashedError):
        one.ask("die", 7).result(WAIT)
    assert came.get(timeout=WAIT) == 7


def test_hooks_emit_but_for_the_last(tmp_path, backend):
    path, came = tmp_path / "raised", []
    one = Hooked(str(path), backend=backend)
    one.on_event("hook", lambda event: came.append(event.data))
    one.start().ask("any").result(WAIT)
    one.stop(timeout=WAIT)
    assert came == ["start", "handler"]
    assert "emit() is for handlers" in path.read_text()


def test_a_thread_of_a_handler_has_no_message_to_emit_for(worker, backend):
    one = worker("threads", backend=backend)
    one.on_message("any", emit_from_thread)
    one.on_event("any", lambda event: None)
    one.start()
    (raised,) = one.ask("any").result(WAIT)
    assert "emit() is for handlers" in raised
