"""Numbers: the counters always add up, and are there before the future says done."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytoweb.workers import MailboxFullError, PythonWorker, WorkerStoppedError

WAIT = 10.0
COUNTERS = (
    "posted",
    "completed",
    "failed",
    "dropped",
    "cancelled",
    "expired",
    "rejected",
    "depth",
    "running",
)
TIMES = ("wait_p50", "wait_p99", "run_p50", "run_p99")


def counts(stats):
    """Returns the counters that are not zero."""
    return {name: getattr(stats, name) for name in COUNTERS if getattr(stats, name)}


def test_a_new_worker_has_counted_nothing(worker):
    stats = worker("new", capacity=7).stats()
    assert (stats.name, stats.state, stats.capacity, stats.stuck) == ("new", "new", 7, False)
    assert counts(stats) == {}
    assert sum(stats.drops.values()) == 0
    assert [getattr(stats, name) for name in TIMES] == [None] * 4
    assert (stats.busy_seconds, stats.utilisation) == (0, 0)


def test_a_snapshot_does_not_change(worker):
    one = worker()
    before = one.stats()
    one.post_message("work")
    assert before.posted == 0
    for name in ("posted", "name", "state"):
        with pytest.raises(AttributeError):
            setattr(before, name, 1)


def test_every_outcome_is_counted(blocked, gate):
    one = blocked(capacity=3, overflow="drop_oldest")
    one.on_message("echo", lambda data: data)
    one.on_error(lambda error: None)
    assert counts(one.stats()) == {"posted": 1, "running": 1}
    one.ask("echo").cancel()
    one.ask("echo", timeout=0).exception(WAIT)
    one.post_messages("echo", range(4))
    assert counts(one.stats()) == {
        "posted": 7, "running": 1, "depth": 3, "cancelled": 1, "expired": 1, "dropped": 1,
    }  # fmt: skip
    gate.open()
    one.run_until_idle(WAIT)
    one.ask("unheard").exception(WAIT)
    assert counts(one.stats()) == {
        "posted": 8, "completed": 4, "failed": 1, "cancelled": 1, "expired": 1, "dropped": 1,
    }  # fmt: skip


def test_counters_are_there_before_the_future_says_done(worker):
    one, seen = worker(), []
    one.on_message("echo", lambda data: data)
    one.on_error(lambda error: None)
    one.start()
    for number in range(1, 300):
        assert one.ask("echo", number).result(WAIT) == number
        assert one.stats().completed == number
        one.ask("unheard").exception(WAIT)
        assert counts(one.stats()) == {"posted": 2 * number, "completed": number, "failed": number}
    last, called = one.ask("echo"), threading.Event()
    last.add_done_callback(lambda done: (seen.append(one.stats().completed), called.set()))
    assert called.wait(WAIT)
    assert seen == [300]


def test_a_cancelled_message_is_counted_before_cancel_returns(blocked):
    one = blocked()
    for number in range(1, 20):
        assert one.ask("gate").cancel()
        assert counts(one.stats()) == {"posted": 1 + number, "running": 1, "cancelled": number}


def test_snapshots_under_load_add_up(worker, adds_up, spawn):
    one = worker(capacity=5, overflow="drop_oldest")
    one.on_message("echo", lambda data: data)
    one.start()

    def produce():
        for number in range(2000):
            one.post_message("echo", number)

    producing = [spawn(produce) for _ in range(2)]
    while not all(outcome.done() for outcome in producing):
        adds_up(one.stats())
    one.run_until_idle(WAIT)
    stats = one.stats()
    adds_up(stats)
    assert stats.posted == 4000
    assert stats.depth <= 5


def test_times_are_measured(worker, gate):
    one = worker()
    one.on_message("gate", gate)
    one.start().post_message("gate")
    gate.wait_entered()
    waiting = one.ask("gate")
    with pytest.raises(concurrent.futures.TimeoutError):
        waiting.result(0.1)
    gate.open()
    waiting.result(WAIT)
    one.run_until_idle(WAIT)

    stats = one.stats()
    assert 0 <= stats.wait_p50 <= stats.wait_p99
    assert 0 <= stats.run_p50 <= stats.run_p99
    assert stats.wait_p99 >= 0.08, "one message waited for 0.1 s, some percent of rounding allowed"
    assert stats.run_p99 >= 0.08
    assert stats.busy_seconds >= 0.08
    assert 0 < stats.utilisation <= 1


def test_an_idle_worker_is_not_busy(worker):
    one = worker().start()
    one.on_message("echo", lambda data: data)
    one.ask("echo").result(WAIT)
    one.run_until_idle(WAIT)
    assert one.stats().busy_seconds == one.stats().busy_seconds
    assert 0 <= one.stats().utilisation < 1


def test_the_numbers_of_a_pool_are_the_sum(pool, adds_up):
    two = pool(2, name="summed")
    first, second = (
        two.create_worker("first"),
        two.create_worker("second", capacity=1, overflow="drop_newest"),
    )
    for address in (first, second, two):
        address.on_message("echo", lambda data: data)
        address.on_error(lambda error: None)
    second.post_messages("echo", range(4))
    first.start().post_messages("echo", range(10))
    first.post_message("unheard")
    two.post_messages("echo", range(5))
    assert two.submit(pow, 2, 2).result(WAIT) == 4
    first.run_until_idle(WAIT)

    stats = two.stats()
    assert (stats.name, stats.size) == ("summed", 2)
    assert stats.threads >= 1
    assert set(stats.workers) == {"first", "second"}
    assert counts(stats.own) == {"posted": 6, "completed": 6}
    assert counts(stats.workers["first"]) == {"posted": 11, "completed": 10, "failed": 1}
    assert counts(stats.workers["second"]) == {"posted": 4, "dropped": 3, "depth": 1}
    parts = [stats.own, *stats.workers.values()]
    for name in COUNTERS:
        assert getattr(stats, name) == sum(getattr(part, name) for part in parts), name
    for part in [stats, *parts]:
        adds_up(part)
    assert 0 <= stats.wait_p50 <= stats.wait_p99
    assert 0 <= stats.utilisation <= 1


def test_the_threads_of_a_pool(pool, gate):
    two = pool(2)
    two.on_message("gate", gate)
    futures = [two.ask("gate") for _ in range(2)]
    gate.wait_entered()
    assert 1 <= two.stats().threads <= 2
    gate.open()
    concurrent.futures.wait(futures, timeout=WAIT)


class Model:
    """What a worker that is not started has to count, in the plainest way."""

    def __init__(self, capacity, overflow):
        self.capacity, self.overflow = capacity, overflow
        self.queue, self.asked = [], []
        self.count = dict.fromkeys(COUNTERS, 0)

    def post(self, item):
        """Accepts an item, or says that it is refused."""
        if len(self.queue) >= self.capacity:
            if self.overflow in ("block", "reject"):
                self.count["rejected"] += 1
                return False
            self.count["posted"] += 1
            self.count["dropped"] += 1
            if self.overflow == "drop_newest":
                return True
            self.queue.pop(0)
        else:
            self.count["posted"] += 1
        self.queue.append(item)
        return True

    def cancel(self, item):
        """Removes an item, if it still waits."""
        if item not in self.queue:
            return False
        self.queue.remove(item)
        self.count["cancelled"] += 1
        return True

    def counts(self):
        """Returns the counters that are not zero."""
        now = {**self.count, "depth": len(self.queue)}
        return {name: now[name] for name in COUNTERS if now[name]}


operations = st.lists(
    st.one_of(
        st.sampled_from(["post", "ask", "fail", "unknown"]),
        st.tuples(st.just("many"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 10)),
    ),
    max_size=30,
)


def do(one, model, operation, number, futures):
    """Does one operation to the worker and to the model, and compares what they say."""
    if isinstance(operation, tuple) and operation[0] == "cancel":
        if futures:
            item, future = futures[operation[1] % len(futures)]
            was_cancelled = future.cancelled()
            assert future.cancel() is (model.cancel(item) or was_cancelled)
        return
    if isinstance(operation, tuple):
        if model.overflow == "block":
            return
        items = [("echo", number, index) for index in range(operation[1])]
        before = model.count["dropped"]
        taken = sum(model.post(item) for item in items)
        if model.overflow == "drop_newest":
            taken -= model.count["dropped"] - before
        assert one.post_messages("echo", items) == taken
        return
    kind = {"post": "echo", "ask": "echo"}.get(operation, operation)
    accepted = model.post((kind, number))
    # What the model refuses would block for ever under "block".
    timeout = None if accepted or model.overflow != "block" else 0
    try:
        if operation == "post":
            one.post_message(kind, (kind, number), timeout=timeout)
        else:
            futures.append(((kind, number), one.ask(kind, (kind, number), timeout=timeout)))
        assert accepted
    except MailboxFullError:
        assert not accepted


@settings(max_examples=80)
@given(
    operations,
    st.integers(1, 4),
    st.sampled_from(["block", "reject", "drop_newest", "drop_oldest"]),
    st.sampled_from(["drain", "abandon", "terminate", "never started"]),
)
def test_the_counters_of_any_sequence_are_those_of_the_model(adds_up, steps, capacity, overflow, end):
    one, model, futures, handled = (
        PythonWorker("modelled", capacity=capacity, overflow=overflow),
        None,
        [],
        [],
    )
    model = Model(capacity, overflow)
    one.on_message("echo", handled.append)
    one.on_message("fail", lambda data: 1 / 0)
    one.on_error(lambda error: None)
    for number, operation in enumerate(steps):
        do(one, model, operation, number, futures)
        stats = one.stats()
        adds_up(stats)
        assert counts(stats) == model.counts()

    waiting = list(model.queue)
    if end == "drain":
        one.start().stop(timeout=WAIT)
        good = [item for item in waiting if item[0] == "echo"]
        assert handled == good
        model.count["completed"], model.count["failed"] = len(good), len(waiting) - len(good)
    else:
        one.terminate() if end == "terminate" else one.stop(drain=end != "abandon", timeout=WAIT)
        assert handled == []
        model.count["failed"] = len(waiting)
    model.queue.clear()

    assert counts(one.stats()) == model.counts()
    adds_up(one.stats())
    for item, future in futures:
        assert future.done(), "every future is resolved when its message is counted"
        error = None if future.cancelled() else future.exception()
        if item in waiting and end != "drain":
            assert isinstance(error, WorkerStoppedError)
        elif item in waiting:
            assert (error is None) == (item[0] == "echo")
        else:
            assert future.cancelled() or isinstance(error, MailboxFullError)
