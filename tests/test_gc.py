"""Garbage collection: an object without a holder ends, is finished, and is let go."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
import weakref

import pytest

from pytoweb.workers import MailboxFullError, PythonWorker, WorkerPool, WorkerStoppedError

WAIT = 10.0


class Payload:
    """Something that a weak reference can watch."""


def fail(data):
    """Fails with its data."""
    raise ValueError(data)


def is_gone(reference):
    """Says whether no other object holds it, cycles apart."""
    gc.collect()
    return reference() is None


@pytest.fixture
def released(until):
    """Returns `released(reference)`: a thread may let go a moment after it said that it was done."""
    return lambda reference: until(lambda: is_gone(reference), "the release")


def test_a_forgotten_worker_warns_and_finishes_its_queue(gate):
    handled = []
    forgotten = PythonWorker("forgotten")
    forgotten.on_message("gate", gate)
    forgotten.on_message("work", handled.append)
    forgotten.start().post_message("gate")
    gate.wait_entered()
    forgotten.post_messages("work", range(100))
    last = forgotten.ask("work", 100)
    with pytest.warns(ResourceWarning, match="forgotten"):
        del forgotten
        gc.collect()
    gate.open()

    assert last.result(WAIT) is None
    assert handled == list(range(101))


def test_a_forgotten_worker_in_a_cycle(released):
    class Owner:
        def __init__(self):
            self.worker = PythonWorker("in a cycle")
            self.worker.on_message("work", self.work)
            self.worker.on_error(self.failed)
            self.worker.on_message("response", self.reply)
            self.worker.start()

        def work(self, data):
            return data

        def failed(self, error):
            pass

        def reply(self, message):
            pass

    owner = Owner()
    assert owner.worker.ask("work", 1).result(WAIT) == 1
    owner.worker.run_until_idle(WAIT)
    reference = weakref.ref(owner)
    with pytest.warns(ResourceWarning, match="in a cycle"):
        del owner
        released(reference)


@pytest.mark.parametrize("state", ["new", "stopped", "terminated"])
def test_a_worker_that_needs_no_stop_does_not_warn(state, released):
    class Watched(PythonWorker):
        """A class of Python, so that a weak reference can watch it."""

    one = Watched("quiet")
    if state != "new":
        one.start()
        one.stop(timeout=WAIT) if state == "stopped" else one.terminate()
    reference = weakref.ref(one)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del one
        released(reference)


def test_the_messages_of_a_worker_that_was_never_started_fail():
    one = PythonWorker("never started")
    future = one.ask("work")
    del one
    gc.collect()
    assert isinstance(future.exception(WAIT), WorkerStoppedError)


def test_a_pool_dropped_with_work_pending_finishes_it(gate):
    handled = []
    pool = WorkerPool(2)
    futures = [pool.submit(gate, number) for number in range(20)]
    one = pool.create_worker("named")
    one.on_message("work", handled.append)
    one.start().post_messages("work", range(100))
    last = one.ask("work", 100)
    gate.wait_entered()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del pool, one
        gc.collect()
    gate.open()

    assert [future.result(WAIT) for future in futures] == list(range(20))
    assert last.result(WAIT) is None
    assert handled == list(range(101))


def test_a_named_worker_keeps_its_pool_alive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        one = WorkerPool(1).create_worker("only handle")
        one.on_message("echo", lambda data: data)
        gc.collect()
        assert one.start().ask("echo", 1).result(WAIT) == 1
        one.stop(timeout=WAIT)
        del one
        gc.collect()


def test_dropped_futures_do_not_drop_their_messages(worker):
    handled = []
    one = worker()
    one.on_message("work", handled.append)
    one.start()
    for number in range(1000):
        one.ask("work", number)
    one.run_until_idle(WAIT)
    assert handled == list(range(1000))


def test_a_payload_is_released_after_its_handler(worker, released):
    one = worker()
    one.on_message("work", lambda data: None)
    one.on_message("fail", fail)
    one.on_error(lambda error: None)
    one.start()
    for kind in ("work", "fail"):
        payload = Payload()
        reference = weakref.ref(payload)
        one.post_message(kind, payload)
        del payload
        one.run_until_idle(WAIT)
        released(reference)


def test_a_result_is_released_with_its_future(worker, released):
    one = worker()
    one.on_message("make", lambda data: Payload())
    one.on_message("echo", lambda data: data)
    one.start()
    future = one.ask("make")
    reference = weakref.ref(future.result(WAIT))
    assert reference() is future.result()
    del future
    one.ask("echo").result(WAIT)
    released(reference)


def test_an_error_is_released_with_its_future(worker, released):
    one = worker()
    one.on_message("fail", fail)
    one.on_message("echo", lambda data: data)
    one.on_error(lambda error: None)
    one.start()
    payload = Payload()
    reference = weakref.ref(payload)
    future = one.ask("fail", payload)
    assert isinstance(future.exception(WAIT), ValueError)
    del future, payload
    one.ask("echo").result(WAIT)
    released(reference)


@pytest.mark.parametrize("outcome", ["cancelled", "dropped", "expired", "rejected", "abandoned"])
def test_a_payload_that_is_never_handled_is_released(blocked, released, outcome):
    one = blocked(capacity=1, overflow="drop_newest" if outcome == "dropped" else "reject")
    one.on_error(lambda error: None)
    payload = Payload()
    reference = weakref.ref(payload)
    if outcome in ("dropped", "rejected"):
        one.post_message("work")
    if outcome == "rejected":
        with pytest.raises(MailboxFullError):
            one.post_message("work", payload)
    else:
        future = one.ask("work", payload, timeout=0.01 if outcome == "expired" else None)
        if outcome == "cancelled":
            assert future.cancel()
        if outcome == "abandoned":
            one.terminate()
        if outcome != "cancelled":
            assert future.exception(WAIT) is not None
        del future
    del payload
    released(reference)


def test_handlers_are_released_with_the_worker(released):
    class Handler:
        def __call__(self, data):
            return data

    one = PythonWorker("released")
    references = []
    for kind in ("work", "response", "error"):
        handler = Handler()
        references.append(weakref.ref(handler))
        one.on_message(kind, handler)
    handler = Handler()
    references.append(weakref.ref(handler))
    one.on_error(handler)
    one.start().ask("work").result(WAIT)
    one.stop(timeout=WAIT)
    del one, handler
    for reference in references:
        released(reference)


def test_a_replaced_handler_is_released(worker, released):
    def old(data):
        return data

    one = worker()
    one.on_message("work", old)
    one.start().ask("work").result(WAIT)
    reference = weakref.ref(old)
    del old
    one.on_message("work", lambda data: data)
    one.ask("work").result(WAIT)
    released(reference)


def test_callbacks_are_released_after_their_call(worker, released):
    called = threading.Event()

    def callback(done):
        called.set()

    one = worker()
    one.on_message("echo", lambda data: data)
    future = one.start().ask("echo")
    future.add_done_callback(callback)
    reference = weakref.ref(callback)
    assert called.wait(WAIT)
    one.ask("echo").result(WAIT)
    del callback, future
    released(reference)


def test_a_payload_whose_end_raises_harms_no_other(worker, monkeypatch):
    class Broken:
        def __del__(self):
            raise RuntimeError("in __del__")

    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: ignored.append(args.exc_type))
    one = worker()
    one.on_message("echo", lambda data: None)
    one.start().post_messages("echo", (Broken() for _ in range(10)))
    assert one.ask("echo").result(WAIT) is None
    one.run_until_idle(WAIT)
    gc.collect()
    assert ignored == [RuntimeError] * 10


def test_a_payload_that_asks_when_it_ends_harms_no_other(worker):
    one = worker()
    asked = []

    class Asking:
        def __del__(self):
            asked.append(one.ask("echo", "from the end"))

    one.on_message("echo", lambda data: data if isinstance(data, str) else None)
    one.start().post_message("echo", Asking())
    one.run_until_idle(WAIT)
    gc.collect()
    assert [future.result(WAIT) for future in asked] == ["from the end"]
