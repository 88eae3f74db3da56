"""Metrics: true under load, in a text that Prometheus reads, without series of what has ended."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pytoweb import metrics
from pytoweb.workers import PythonWorker, WorkerPool

WAIT = 10.0


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
    median = value(found, "pytoweb_message_process_seconds", **own, type="work", quantile="0.5")
    assert median is not None and 0 <= median < WAIT


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
    for _ in range(30):
        found = samples()
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
