"""OpenTelemetry: spans of senders and handlers in one trace, and the metrics of the conventions."""

from __future__ import annotations

import asyncio
import importlib.metadata

import otel_handlers
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pytoweb._options import PoolOptions
from pytoweb.otel import PytowebInstrumentor
from pytoweb.workers import Batch, PythonWorker, WorkerDecorators, WorkerPool

WAIT = 10.0


class Recorded:
    """What was exported so far."""

    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("test")

    def spans(self, kind):
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    def points(self, name):
        data = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def recorded():
    found = Recorded()
    instrumentor = PytowebInstrumentor()
    instrumentor.instrument(tracer_provider=found.tracers, meter_provider=found.meters)
    yield found
    instrumentor.uninstrument()
    found.meters.shutdown()
    found.tracers.shutdown()


def test_the_handler_runs_in_the_trace_of_its_sender(recorded, worker, backend):
    one = worker("traced", backend=backend)
    for handler in (otel_handlers.where, otel_handlers.where_later):
        one.on_message(handler.__name__, handler)
    one.start()
    with recorded.tracer.start_as_current_span("request") as request:
        found = [one.ask(kind).result(WAIT) for kind in ("where", "where_later")]
    trace_id = request.get_span_context().trace_id
    assert [of_trace for of_trace, _ in found] == [trace_id] * 2
    sent = recorded.spans(SpanKind.PRODUCER)
    assert [span.name for span in sent] == ["send traced"] * 2
    assert {span.parent.span_id for span in sent} == {request.get_span_context().span_id}
    assert dict(sent[0].attributes) == {
        "messaging.system": "pytoweb",
        "messaging.operation.name": "ask",
        "messaging.operation.type": "send",
        "messaging.destination.name": "traced",
    }
    if backend == "thread":
        handled = recorded.spans(SpanKind.CONSUMER)
        assert [span.context.span_id for span in handled] == [of_span for _, of_span in found]
        assert [span.parent.span_id for span in handled] == [span.context.span_id for span in sent]
        assert [span.name for span in handled] == ["process traced"] * 2
        assert handled[0].attributes["pytoweb.message.type"] == "where"


def test_each_way_to_post_is_a_span(recorded, worker):
    one = worker("ways")
    one.on_message("where", otel_handlers.where)
    one.on_message("stream", otel_handlers.where_streamed)
    one.start()

    async def post():
        await one.apost_message("where", None, "three")
        await one.aask("where")
        return [item async for item in await one.astream("stream")]

    one.post_message("where", None, "one")
    one.post_message("where", message_id="two")
    one.post_messages("where", [1, 2, 3])
    (streamed,) = one.stream("stream")
    assert streamed[0] != 0
    assert len(asyncio.run(post())) == 1
    one.run_until_idle(WAIT)
    sent = recorded.spans(SpanKind.PRODUCER)
    names = [span.attributes["messaging.operation.name"] for span in sent]
    assert names == ["post", "post", "post", "stream", "post", "ask", "stream"]
    found = [span.attributes.get("messaging.message.id") for span in sent]
    assert found == ["one", "two", None, None, "three", None, None]
    assert sent[2].attributes["messaging.batch.message_count"] == 3
    assert len(recorded.spans(SpanKind.CONSUMER)) == 9


def test_a_failure_is_one_of_the_span_and_of_the_metrics(recorded, worker):
    one = worker("failing")
    one.on_message("fail", otel_handlers.fail)
    one.on_error(lambda error: None)
    one.start()
    with pytest.raises(ValueError, match="why"):
        one.ask("fail", "why").result(WAIT)
    one.stop(timeout=WAIT)
    with pytest.raises(Exception, match="stopped"):
        one.post_message("fail")
    (handled,) = recorded.spans(SpanKind.CONSUMER)
    assert handled.attributes["error.type"] == "ValueError"
    assert handled.status.status_code is StatusCode.ERROR
    assert [event.name for event in handled.events] == ["exception"]
    (point,) = recorded.points("messaging.process.duration")
    assert (point.count, point.attributes["error.type"]) == (1, "ValueError")
    sent = recorded.points("messaging.client.sent.messages")
    assert {(point.attributes.get("error.type"), point.value) for point in sent} == {
        (None, 1),
        ("WorkerStoppedError", 1),
    }


def test_metrics_count_messages_and_seconds(recorded, worker):
    one = worker("counted")
    one.on_message("where", otel_handlers.where)
    one.start()
    one.post_messages("where", range(5))
    one.ask("where").result(WAIT)
    one.run_until_idle(WAIT)
    sent = recorded.points("messaging.client.sent.messages")
    by_operation = {point.attributes["messaging.operation.name"]: point.value for point in sent}
    assert by_operation == {"post": 5, "ask": 1}
    (consumed,) = recorded.points("messaging.client.consumed.messages")
    assert consumed.value == 6
    (processing,) = recorded.points("messaging.process.duration")
    assert processing.count == 6 and 0 <= processing.sum < WAIT
    assert sum(point.count for point in recorded.points("messaging.client.operation.duration")) == 2


@pytest.mark.parametrize("later", [False, True])
def test_each_message_of_a_batch_is_consumed(recorded, worker, later):
    one = worker("together")

    async def together(items):
        return otel_handlers.where_together(items)

    one.on_message("where", together if later else otel_handlers.where_together, batch=Batch(8))
    futures = [one.ask("where") for _ in range(8)]
    one.start()
    sizes = {future.result(WAIT)[2] for future in futures}
    one.ask("where").result(WAIT)
    assert sizes == {8}
    (consumed,) = recorded.points("messaging.client.consumed.messages")
    assert consumed.value == 9
    handled = recorded.spans(SpanKind.CONSUMER)
    assert [span.attributes.get("messaging.batch.message_count") for span in handled] == [8, None]
    (processing,) = recorded.points("messaging.process.duration")
    assert processing.count == 2


@pytest.mark.parametrize("options", [{}, {"buffersize": 3}, {"chunksize": 4}])
def test_calls_of_map_run_in_the_trace_of_its_caller(recorded, backend, options):
    count = 30
    with WorkerPool(2, name="mapping", backend=backend, capacity=2) as pool:
        for mapping in (pool, pool.options(timeout=WAIT)):
            with recorded.tracer.start_as_current_span("request") as request:
                found = list(mapping.map(otel_handlers.where_of, range(count), **options))
            assert {of_trace for of_trace, _ in found} == {request.get_span_context().trace_id}
        assert len(found) == count
    sent = recorded.spans(SpanKind.PRODUCER)
    mapped = [span for span in sent if span.attributes["messaging.operation.name"] == "map"]
    assert [span.name for span in mapped] == ["send mapping"] * 2
    chunked = "chunksize" in options and backend == "process"
    messages = sum(point.value for point in recorded.points("messaging.client.sent.messages"))
    assert messages == 2 * (8 if chunked else count)


def test_a_decorated_function_runs_in_the_trace_of_its_caller(recorded):
    with WorkerPool(2) as pool:

        @WorkerDecorators.run_in_worker("decorated", pool=pool)
        async def where():
            return otel_handlers.ids()

        with recorded.tracer.start_as_current_span("request") as request:
            found = asyncio.run(where())
        assert found[0] == request.get_span_context().trace_id
    (sent,) = recorded.spans(SpanKind.PRODUCER)
    (handled,) = recorded.spans(SpanKind.CONSUMER)
    assert (sent.name, handled.parent.span_id) == ("send decorated", sent.context.span_id)
    (point,) = recorded.points("messaging.client.sent.messages")
    assert point.value == 1


def test_workers_and_pools_of_before_are_traced_too(worker, backend):
    one = worker("early", backend=backend)
    one.on_message("where", otel_handlers.where)
    one.start()
    assert one.ask("where").result(WAIT) == (0, 0)
    with WorkerPool(2, backend=backend) as pool:
        member = pool.create_worker("member")
        member.on_message("where", otel_handlers.where)
        member.start()
        found = Recorded()
        PytowebInstrumentor().instrument(tracer_provider=found.tracers, meter_provider=found.meters)
        try:
            with found.tracer.start_as_current_span("request") as request:
                trace_id = request.get_span_context().trace_id
                assert one.ask("where").result(WAIT)[0] == trace_id
                assert member.ask("where").result(WAIT)[0] == trace_id
                assert pool.submit(otel_handlers.where, None).result(WAIT)[0] == trace_id
                own = pool.create_worker("own", pin=True) if backend == "thread" else member
                own.on_message("where", otel_handlers.where)
                assert own.start().ask("where").result(WAIT)[0] == trace_id
                late = pool.create_worker("late")
                late.on_message("where", otel_handlers.where)
                assert late.start().ask("where").result(WAIT)[0] == trace_id
            sent = [span.name for span in found.spans(SpanKind.PRODUCER)]
            assert sent == [
                "send early",
                "send member",
                f"send {pool.name}",
                f"send {own.name}",
                "send late",
            ]
            if backend == "thread":
                handled = sorted(span.name for span in found.spans(SpanKind.CONSUMER))
                assert handled == sorted(name.replace("send", "process") for name in sent)
        finally:
            PytowebInstrumentor().uninstrument()
            found.meters.shutdown()
            found.tracers.shutdown()


def test_uninstrument_leaves_nothing(worker):
    before = {name: getattr(PythonWorker, name) for name in ("ask", "aask", "stream", "post_message")}
    submit, mapped, own = WorkerPool.submit, PoolOptions.map, dict(vars(WorkerPool))
    found, instrumentor = Recorded(), PytowebInstrumentor()
    assert instrumentor is PytowebInstrumentor()
    instrumentor.instrument(tracer_provider=found.tracers, meter_provider=found.meters)
    instrumentor.instrument()
    one = worker("short")
    one.on_message("where", otel_handlers.where)
    one.start()
    assert one.ask("where").result(WAIT)[0] != 0
    instrumentor.uninstrument()
    instrumentor.uninstrument()
    assert one.ask("where").result(WAIT) == (0, 0)
    assert len(found.exporter.get_finished_spans()) == 2
    assert {name: getattr(PythonWorker, name) for name in before} == before
    assert WorkerPool.submit is submit
    assert PoolOptions.map is mapped
    assert dict(vars(WorkerPool)) == own
    found.meters.shutdown()
    found.tracers.shutdown()


def test_auto_instrumentation_finds_it():
    points = importlib.metadata.entry_points()
    group = points.select(group="opentelemetry_instrumentor") if hasattr(points, "select") else points[
        "opentelemetry_instrumentor"
    ]  # fmt: skip
    (point,) = [point for point in group if point.name == "pytoweb"]
    assert point.load() is PytowebInstrumentor
    assert trace.get_current_span().get_span_context().trace_id == 0
