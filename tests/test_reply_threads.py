"""The threads that call reply handlers: few for all workers; one that blocks holds up its own alone."""

from __future__ import annotations

import contextvars
import queue
import threading

import pytest

from pytoweb.workers import PythonWorker

WAIT = 10.0
MANY = 50
#: More than start at once.
BLOCKED = 8


@pytest.fixture
def replying(worker):
    """Returns `replying(name, handler)`: a started worker whose replies go to `handler`."""

    def make(name, handler):
        one = worker(name)
        one.on_message("echo", lambda data: data)
        one.on_message("response", handler)
        return one.start()

    return make


def reply_threads():
    """The threads that there are for reply handlers, the one that looks after the waiting ones included."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("pytoweb-replies-")]


def test_blocked_reply_handlers_hold_up_no_other(replying, gate, until):
    blocked = [replying(f"blocked {number}", gate) for number in range(BLOCKED)]
    heard = queue.Queue()
    others = [replying(f"other {number}", heard.put) for number in range(MANY)]
    for one in blocked:
        one.post_message("echo", None, "blocked")
    until(lambda: len(gate.calls) == BLOCKED, "the blocked handlers")

    for one in others:
        one.post_message("echo", one.name, "heard")

    names = {heard.get(timeout=WAIT).data["result"] for _ in others}
    assert names == {one.name for one in others}
    gate.open()


def test_handlers_that_wait_for_each_other_meet(replying):
    together = threading.Barrier(BLOCKED)
    met = queue.Queue()

    def meet(message):
        together.wait(WAIT)
        met.put(message.data["result"])

    for number in range(BLOCKED):
        replying(f"meeting {number}", meet).post_message("echo", number, "id")

    assert sorted(met.get(timeout=WAIT) for _ in range(BLOCKED)) == list(range(BLOCKED))


def test_replies_of_one_worker_come_in_order_and_one_at_a_time(replying):
    left = queue.Queue()
    runs, heard = [0] * MANY, [[] for _ in range(MANY)]

    def handler(number):
        def handle(message):
            runs[number] += 1
            assert runs[number] == 1
            heard[number].append(message.data["result"])
            runs[number] -= 1
            if len(heard[number]) == MANY:
                left.put(number)

        return handle

    workers = [replying(f"ordered {number}", handler(number)) for number in range(MANY)]
    for item in range(MANY):
        for one in workers:
            one.post_message("echo", item, "id")

    assert sorted(left.get(timeout=WAIT) for _ in workers) == list(range(MANY))
    assert heard == [list(range(MANY))] * MANY


def test_the_threads_are_shared_and_end_with_the_last_worker(until):
    heard = queue.Queue()
    workers = [PythonWorker(f"sharing {number}") for number in range(MANY)]
    for one in workers:
        one.on_message("echo", lambda data: data)
        one.on_message("response", heard.put)
        one.start().post_message("echo", None, "id")
    for _ in workers:
        heard.get(timeout=WAIT)

    # Those that a busy machine made necessary end after a second without work.
    until(lambda: len(reply_threads()) <= 3, "the end of threads without work")
    for one in workers[1:]:
        one.stop()
    assert reply_threads()
    workers[0].stop()
    assert not reply_threads()


def test_the_name_of_a_thread_says_whose_reply_handler_runs_on_it(replying):
    names = queue.Queue()
    one = replying("named", lambda message: names.put(threading.current_thread().name))
    one.post_message("echo", None, "id")

    assert names.get(timeout=WAIT) == "pytoweb-replies-1 (named)"
    one.stop()


def test_context_variables_of_one_workers_reply_handlers_are_none_of_anothers(replying):
    seen = queue.Queue()
    variable = contextvars.ContextVar("variable", default=0)

    def count(message):
        variable.set(variable.get() + 1)
        seen.put(variable.get())

    for name in ("one", "two"):
        counting = replying(name, count)
        for expected in (1, 2, 3):
            counting.post_message("echo", None, "id")
            assert seen.get(timeout=WAIT) == expected


def test_a_reply_handler_may_stop_the_other_workers_and_its_own(replying, worker):
    other = replying("other", print)
    ended = queue.Queue()

    def stop_both(message):
        other.stop()
        one.stop()
        ended.put((other.state, one.state))

    one = replying("one", stop_both)
    one.post_message("echo", None, "id")
    assert ended.get(timeout=WAIT) == ("stopped", "stopped")


def test_replies_past_a_thread_that_the_system_refuses(replying, gate, monkeypatch):
    """As at the end of the interpreter, where some versions of Python start no more threads."""
    heard = queue.Queue()
    one, two = replying("one", gate), replying("two", heard.put)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one.post_message("echo", None, "id")
    gate.wait_entered()
    two.post_message("echo", 2, "id")
    two.run_until_idle(WAIT)
    gate.open()

    assert heard.get(timeout=WAIT).data["result"] == 2
