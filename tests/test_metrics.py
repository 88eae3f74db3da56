"""Metrics: true under load, in a text that Prometheus reads, without series of what has ended."""

from __future__ import annotations

import asyncio
import operator
import pathlib
import re
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pytoweb import metrics
from pytoweb._core import METRICS
from pytoweb._health import STATES
from pytoweb.testing import frozen_clock
from pytoweb.workers import PythonWorker, WorkerPool

WAIT = 10.0
GUIDE = pathlib.Path(__file__).parent.parent / "docs/guide/frameworks/observability.md"


def fail(data):
    raise ValueError


def samples(text=None):
    """The samples of all metrics, by name and labels."""
    families = text_string_to_metric_families(metrics.render() if text is None else text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((name, tuple(sorted(labels.items()))))


def test_the_numbers_of_a_worker_are_there(worker, backend):
    one = worker("measured", backend=backend, capacity=7)
    one.on_message("work", abs)
    one.on_message("fail", fail)
    one.on_error(lambda error: None)
    one.start()
    futures = [one.ask("work", -number) for number in range(5)] + [one.ask("fail")]
    assert [future.exception(WAIT) is None for future in futures] == [True] * 5 + [False]
    own = {"worker": "measured", "pool": ""}
    found = samples()
    assert value(found, "pytoweb_messages_posted_total", **own) == 6
    ended = "pytoweb_messages_processed_total"
    assert value(found, ended, **own, type="work", outcome="ok") == 5
    assert value(found, ended, **own, type="fail", outcome="error") == 1
    assert value(found, "pytoweb_queue_capacity_messages", **own) == 7
    assert value(found, "pytoweb_queue_messages", **own, state="queued") == 0
    assert value(found, "pytoweb_messages_dropped_total", **own, reason="rejected") == 0
    assert value(found, "pytoweb_workers", backend=backend, state="running") == 1
    assert value(found, "pytoweb_worker_concurrency", **own) == 1
    assert value(found, "pytoweb_worker_health", **own) == STATES.index(one.health().state)
    assert value(found, "pytoweb_message_process_seconds_count", **own, type="fail") in (0, 1)
    assert 0 <= value(found, "pytoweb_message_process_seconds_sum", **own, type="work") < WAIT


def histograms(found, name):
    """The histograms of a metric: by labels, the buckets by bound, the count and the sum."""
    all_of_it = {}
    for (sample, labels), number in found.items():
        if sample.startswith(f"{name}_"):
            own = dict(labels)
            bound = own.pop("le", None)
            key = float(bound) if bound else sample[len(name) + 1 :]
            all_of_it.setdefault(tuple(own.items()), {})[key] = number
    return [(one, one.pop("count"), one.pop("sum")) for one in all_of_it.values()]


def check_histograms(found):
    """Whether each histogram is one. Returns the counts of each metric."""
    counts = {}
    for name in ("pytoweb_message_wait_seconds", "pytoweb_message_process_seconds"):
        for buckets, count, seconds in histograms(found, name):
            assert list(buckets) == sorted(buckets) and len(buckets) == 20
            assert (min(buckets), max(buckets)) == (10e-6, float("inf"))
            below = list(buckets.values())
            assert below == sorted(below) and below[-1] == count
            bounds = [0, *buckets]
            inside = [high - low for low, high in zip([0, *below], below)]
            assert seconds >= sum(map(operator.mul, bounds, inside)) * 7 / 8
            if not inside[-1]:
                assert seconds <= sum(map(operator.mul, bounds[1:-1], inside)) * 9 / 8
            counts[name] = counts.get(name, 0) + count
    return counts


def test_times_are_histograms(worker):
    # The slow ones first, so that all are timed.
    times = [100, 3, 0.07, 0.000_8, 0.000_8, 0.000_012, 0]
    with frozen_clock() as clock:
        one = worker("sleeper")
        one.on_message("work", clock.advance)
        one.start()
        for seconds in times:
            one.ask("work", seconds).result(WAIT)
        found = samples()
        one.stop(timeout=WAIT)
    ((buckets, count, seconds),) = histograms(found, "pytoweb_message_process_seconds")
    assert count == len(times) and seconds == pytest.approx(sum(times))
    assert buckets == {bound: sum(time <= bound for time in times) for bound in buckets}
    assert len(check_histograms(found)) == 2


def test_the_children_of_a_pool_are_counted_once():
    with WorkerPool(2, name="family", backend="process") as pool:
        for name in ("one", "two"):
            member = pool.create_worker(name)
            member.on_message("work", abs)
            member.start().ask("work", -1).result(WAIT)
        found = samples()
    for name in ("pytoweb_child_memory_bytes", "pytoweb_worker_restarts_total"):
        workers = [dict(labels)["worker"] for sample, labels in found if sample == name]
        assert workers == ["family"]


def test_the_series_of_a_worker_end_with_it(worker):
    one = worker("brief")
    one.on_message("work", abs)
    one.start().ask("work", 1).result(WAIT)
    assert 'worker="brief"' in metrics.render()
    one.stop(timeout=WAIT)
    assert 'worker="brief"' not in metrics.render()


def test_a_pool_and_its_workers_have_series_of_their_own():
    with WorkerPool(2, name="shared") as pool:
        member = pool.create_worker("member")
        member.on_message("work", abs)
        member.start().ask("work", 1).result(WAIT)
        assert pool.submit(abs, -1).result(WAIT) == 1
        found = samples()
        assert value(found, "pytoweb_messages_posted_total", worker="member", pool="shared") == 1
        assert value(found, "pytoweb_messages_posted_total", worker="shared", pool="shared") == 1


def test_workers_of_one_name_are_one_series():
    with PythonWorker("twin") as one, PythonWorker("twin") as other:
        for twin in (one, other):
            twin.on_message("work", abs)
            twin.ask("work", 1).result(WAIT)
        assert value(samples(), "pytoweb_messages_posted_total", worker="twin", pool="") == 2


def test_any_name_can_be_a_label(worker):
    name = 'a "quoted" \\ name'
    one = worker(name)
    one.on_message(name, abs)
    one.start().ask(name, 1).result(WAIT)
    own = {"worker": name, "pool": ""}
    assert value(samples(), "pytoweb_messages_processed_total", **own, type=name, outcome="ok") == 1


def test_it_is_scraped_under_load(worker, spawn):
    one = worker("loaded", capacity=100)
    one.on_message("work", abs)
    one.start()
    over = threading.Event()

    def load():
        posted = 0
        while not over.is_set():
            posted += one.post_messages("work", range(100))
        return posted

    loads = [spawn(load) for _ in range(2)]
    before = 0.0
    timed = {}
    for _ in range(30):
        found = samples()
        counts = check_histograms(found)
        assert all(counts[name] >= timed.get(name, 0) for name in counts)
        timed = counts
        posted = value(found, "pytoweb_messages_posted_total", worker="loaded", pool="")
        assert posted >= before
        before = posted
    over.set()
    posted = sum(future.result(WAIT) for future in loads)
    one.run_until_idle(WAIT)
    found = samples()
    assert value(found, "pytoweb_messages_posted_total", worker="loaded", pool="") == posted
    own = {"worker": "loaded", "pool": "", "type": "work", "outcome": "ok"}
    assert value(found, "pytoweb_messages_processed_total", **own) == posted
    assert all(0 < count <= posted for count in check_histograms(found).values())


def test_a_registry_of_prometheus_client_has_the_same(worker):
    one = worker("registered")
    one.on_message("work", abs)
    one.start().ask("work", 1).result(WAIT)
    registry = CollectorRegistry()
    registry.register(metrics.Collector())
    collected, rendered = samples(generate_latest(registry).decode()), samples()
    assert collected.keys() == rendered.keys()
    posted = {"worker": "registered", "pool": ""}
    assert value(collected, "pytoweb_messages_posted_total", **posted) == 1
    assert check_histograms(collected) == check_histograms(rendered)
    assert len(check_histograms(rendered)) == 2


def test_the_guide_lists_each_metric_with_its_labels():
    text = GUIDE.read_text(encoding="utf-8")
    for name, _, _, labels in METRICS:
        own = ",".join(label for label in labels if label not in ("worker", "pool"))
        assert f"`{name}{{{own}}}`" in text if own else f"`{name}`" in text, name
    listed = set(re.findall(r"`(pytoweb_[a-z_]+)[{`]", text.partition("## Grafana")[0]))
    assert listed == {name for name, *_ in METRICS}


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("POST", 405)])
def test_the_application_answers(method, status):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    asyncio.run(metrics.app({"type": "http", "method": method, "path": "/"}, receive, send))
    start, body = sent
    assert start["status"] == status
    assert bool(body["body"]) == (method != "HEAD")
    if status == 200:
        assert dict(start["headers"])[b"content-type"].startswith(b"text/plain; version=0.0.4")
