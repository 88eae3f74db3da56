"""Numbers of all workers and pools of the program for Prometheus.

    from pytoweb import metrics

    metrics.render()            # the text that Prometheus scrapes
    app.mount("/metrics", metrics.app)          # the same as an ASGI application

    registry.register(metrics.Collector())      # or beside others, with prometheus_client

To read takes no lock that a message needs, and changes nothing. The series of a worker end with it. Those of
workers and pools that have the same names are sums. Each has the label ``worker``, and ``pool``: the pool of
the worker, or nothing; the pool's own mailbox is a worker with the name of the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytoweb import _exit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pytoweb._stats import TypeStats, WorkerStats

__all__ = ["CONTENT_TYPE", "Collector", "app", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""That of the text of ``render``."""

QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))


class _Metric(NamedTuple):
    """A metric of Prometheus, without its samples."""

    name: str
    kind: str
    text: str


_STATES = _Metric("pytoweb_workers", "gauge", "Workers, pools' own mailboxes among them, by state.")
_RESTARTS = _Metric(
    "pytoweb_worker_restarts_total", "counter", "Child processes started in the place of one that ended."
)
_BUSY = _Metric("pytoweb_worker_busy_seconds_total", "counter", "Time that threads or children spent on it.")
_MESSAGES = _Metric("pytoweb_queue_messages", "gauge", "Messages in the mailbox, queued or running.")
_CAPACITY = _Metric("pytoweb_queue_capacity_messages", "gauge", "Messages that the mailbox holds at most.")
_BYTES = _Metric("pytoweb_queue_bytes", "gauge", "Bytes of the messages, where Limits bounds them.")
_OLDEST = _Metric(
    "pytoweb_queue_oldest_message_age_seconds", "gauge", "How long the oldest queued message has waited."
)
_POSTED = _Metric("pytoweb_messages_posted_total", "counter", "Messages that were accepted.")
_ENDED = _Metric("pytoweb_messages_processed_total", "counter", "Messages that a handler began, by outcome.")
_RETRIED = _Metric("pytoweb_messages_retried_total", "counter", "Attempts followed by another one.")
_DEAD = _Metric("pytoweb_messages_dead_total", "counter", "Messages that became dead letters.")
_DROPPED = _Metric("pytoweb_messages_dropped_total", "counter", "Messages that no handler got, by reason.")
_WAIT = _Metric("pytoweb_message_wait_seconds", "summary", "Time from the post to the handler.")
_RUN = _Metric("pytoweb_message_process_seconds", "summary", "Run time of the handler.")
_MEMORY = _Metric("pytoweb_child_memory_bytes", "gauge", "Resident memory of the child processes.")
_CPU = _Metric("pytoweb_child_cpu_seconds_total", "counter", "Processor time of the child processes.")

_METRICS = (
    _STATES,
    _RESTARTS,
    _BUSY,
    _MESSAGES,
    _CAPACITY,
    _BYTES,
    _OLDEST,
    _POSTED,
    _ENDED,
    _RETRIED,
    _DEAD,
    _DROPPED,
    _WAIT,
    _RUN,
    _MEMORY,
    _CPU,
)

#: The labels of a sample, in order, and their values.
_Labels = tuple[tuple[str, str], ...]


class _Samples:
    """The samples of all metrics, those with the same labels as one."""

    def __init__(self) -> None:
        self.of: dict[_Metric, dict[_Labels, float]] = {metric: {} for metric in _METRICS}

    def add(self, metric: _Metric, value: float, **labels: str) -> None:
        """Adds a sample to that of the same labels."""
        key = tuple(labels.items())
        found = self.of[metric]
        found[key] = found.get(key, 0) + value

    def raise_to(self, metric: _Metric, value: float, **labels: str) -> None:
        """The same for what has no sum: the larger one stays."""
        key = tuple(labels.items())
        found = self.of[metric]
        found[key] = max(found.get(key, 0), value)


def _of_worker(samples: _Samples, stats: WorkerStats, pool: str, backend: str) -> None:
    own = {"worker": stats.name, "pool": pool}
    samples.add(_STATES, 1, backend=backend, state=stats.state)
    samples.add(_RESTARTS, stats.restarts, **own)
    samples.add(_BUSY, stats.busy_seconds, **own)
    samples.add(_MESSAGES, stats.depth, **own, state="queued")
    samples.add(_MESSAGES, stats.running, **own, state="running")
    samples.add(_CAPACITY, stats.capacity, **own)
    samples.add(_BYTES, stats.bytes, **own)
    samples.raise_to(_OLDEST, stats.oldest_age or 0, **own)
    samples.add(_POSTED, stats.posted, **own)
    samples.add(_RETRIED, stats.retried, **own)
    samples.add(_DEAD, stats.dead, **own)
    dropped = {**stats.drops, "rejected": stats.rejected, "shed": stats.shed}
    begun = list(stats.types.values())
    # What is not among the types never began.
    dropped["expired"] = max(0, stats.expired - sum(kind.expired for kind in begun))
    dropped["cancelled"] = max(0, stats.cancelled - sum(kind.cancelled for kind in begun))
    for reason, count in dropped.items():
        samples.add(_DROPPED, count, **own, reason=reason)
    for kind, of_kind in stats.types.items():
        _of_type(samples, of_kind, {**own, "type": kind})
    for child in stats.children:
        samples.add(_MEMORY, child.memory_bytes or 0, **own)
        samples.add(_CPU, child.cpu_seconds or 0, **own)


def _of_type(samples: _Samples, stats: TypeStats, labels: dict[str, str]) -> None:
    outcomes = {"ok": "completed", "error": "failed", "expired": "expired", "cancelled": "cancelled"}
    for outcome, name in outcomes.items():
        samples.add(_ENDED, getattr(stats, name), **labels, outcome=outcome)
    for metric, name in ((_WAIT, "wait"), (_RUN, "run")):
        for quantile, suffix in QUANTILES:
            value = getattr(stats, f"{name}_{suffix}")
            if value is not None:
                samples.raise_to(metric, value, **labels, quantile=f"{quantile:g}")


def _samples() -> _Samples:
    samples = _Samples()
    # The kinds of roots differ in what their numbers hold.
    roots: list[Any] = list(_exit.roots())
    for root in roots:
        stats, backend = root.stats(), root.backend
        if not hasattr(stats, "own"):
            if root._pytoweb.pool is None and stats.state not in ("stopped", "failed"):
                _of_worker(samples, stats, "", backend)
            continue
        if stats.own.state not in ("stopped", "failed"):
            _of_worker(samples, stats.own, stats.name, backend)
        for worker in stats.workers.values():
            if worker.state not in ("stopped", "failed"):
                _of_worker(samples, worker, stats.name, backend)
    return samples


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _lines() -> Iterator[str]:
    for metric, samples in _samples().of.items():
        yield f"# HELP {metric.name} {metric.text}"
        yield f"# TYPE {metric.name} {metric.kind}"
        for labels, value in samples.items():
            inside = ",".join(f'{name}="{_escaped(label)}"' for name, label in labels)
            yield f"{metric.name}{{{inside}}} {value!r}"


def render() -> str:
    """The numbers of all workers and pools in the text format of Prometheus.

    Returns:
        The text, of the type ``CONTENT_TYPE``; times in seconds, sizes in bytes.
    """
    return "\n".join(_lines()) + "\n"


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """An ASGI application that answers GET and HEAD with ``render()``, and other methods with 405."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "http":
        raise ValueError(f"metrics.app answers http requests, not {scope['type']!r}")
    allowed = scope["method"] in ("GET", "HEAD")
    body = render().encode() if allowed else b"use GET\n"
    headers = [
        (b"content-type", CONTENT_TYPE.encode() if allowed else b"text/plain"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200 if allowed else 405, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Collector:
    """The same for a registry of ``prometheus_client``, which has to be installed."""

    def collect(self) -> Iterator[Any]:
        """Called by the registry for each scrape."""
        from prometheus_client.core import Metric

        for metric, samples in _samples().of.items():
            name = metric.name[: -len("_total")] if metric.kind == "counter" else metric.name
            family = Metric(name, metric.text, metric.kind)
            for labels, value in samples.items():
                family.add_sample(metric.name, dict(labels), value)
            yield family
