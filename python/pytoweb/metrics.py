"""Numbers of all workers and pools of the program for Prometheus.

    from pytoweb import metrics

    metrics.render()            # the text that Prometheus scrapes
    app.add_route("/metrics", metrics.app)      # the same as an ASGI application

    registry.register(metrics.Collector())      # or beside others, with prometheus_client

To read takes no lock that a message needs, and changes nothing. The series of a worker end with it. Those of
workers and pools that have the same names are sums. Each has the label ``worker``, and ``pool``: the pool of
the worker, or nothing; the pool's own mailbox is a worker with the name of the pool.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from pytoweb import _exit
from pytoweb._core import METRICS, TIME_BOUNDS
from pytoweb._health import STATES
from pytoweb._stats import stats_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pytoweb._addressable import Addressable

__all__ = ["CONTENT_TYPE", "Collector", "app", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""That of the text of ``render``."""

#: How outcomes are called in ``TypeStats``.
_OUTCOMES = {"ok": "completed", "error": "failed", "expired": "expired", "cancelled": "cancelled"}

#: What ends for good, with its series.
_OVER = ("stopped", "failed")


class _Metric(NamedTuple):
    """A metric of Prometheus, without its samples."""

    name: str
    kind: str
    text: str
    labels: list[str]


#: Those of the engine's table, which Rust programs export from, too.
_METRICS = {one.name: one for one in itertools.starmap(_Metric, METRICS)}

#: The bounds of the buckets of a histogram.
_BOUNDS = (*map(repr, TIME_BOUNDS), "+Inf")

#: What ends the labels of the sample of a bucket, in the text.
_LE = tuple(f',le="{bound}"}} ' for bound in _BOUNDS)

#: What cannot stand in a label as it is.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Samples:
    """The samples of all metrics, those with the same labels as one."""

    def __init__(self) -> None:
        self._of: dict[str, dict[tuple[str, ...], Any]] = {name: {} for name in _METRICS}

    def add(self, metric: str, value: float, *labels: str) -> None:
        """Adds a value to that of the same labels."""
        found = self._of[metric]
        found[labels] = found.get(labels, 0) + value

    def raise_to(self, metric: str, value: float, *labels: str) -> None:
        """The same for what has no sum: the larger one stays."""
        found = self._of[metric]
        found[labels] = max(found.get(labels, 0), value)

    def add_times(self, metric: str, counts: list[int], seconds: float, *labels: str) -> None:
        """The same for a histogram."""
        found = self._of[metric]
        before, sum_before = found.get(labels, ([0] * len(counts), 0.0))
        found[labels] = [one + other for one, other in zip(before, counts)], sum_before + seconds

    def of_each(self) -> Iterator[tuple[_Metric, dict[tuple[str, ...], Any]]]:
        """Each metric, with its values by their labels: numbers, or counts and sum of a histogram."""
        for name, samples in self._of.items():
            yield _METRICS[name], samples


def _add(samples: _Samples, one: Addressable, pool: str, backend: str, owns_children: bool) -> None:
    """Adds those of a worker, or of a pool's own mailbox."""
    stats = stats_of(one)
    if stats.state in _OVER:
        return
    own = (stats.name, pool)
    samples.add("pytoweb_workers", 1, backend, stats.state)
    samples.raise_to("pytoweb_worker_health", STATES.index(one._pytoweb_health()[0]), *own)
    samples.add("pytoweb_worker_busy_seconds_total", stats.busy_seconds, *own)
    samples.add("pytoweb_worker_concurrency", stats.concurrency, *own)
    samples.add("pytoweb_queue_messages", stats.depth, *own, "queued")
    samples.add("pytoweb_queue_messages", stats.running, *own, "running")
    samples.add("pytoweb_queue_capacity_messages", stats.capacity, *own)
    samples.add("pytoweb_queue_bytes", stats.bytes, *own)
    samples.raise_to("pytoweb_queue_oldest_message_age_seconds", stats.oldest_age or 0, *own)
    samples.add("pytoweb_messages_posted_total", stats.posted, *own)
    samples.add("pytoweb_messages_retried_total", stats.retried, *own)
    samples.add("pytoweb_messages_dead_total", stats.dead, *own)
    dropped = {**stats.drops, "rejected": stats.rejected, "shed": stats.shed}
    begun = list(stats.types.values())
    # What is not among the types never began.
    dropped["expired"] = max(0, stats.expired - sum(kind.expired for kind in begun))
    dropped["cancelled"] = max(0, stats.cancelled - sum(kind.cancelled for kind in begun))
    for reason, count in dropped.items():
        samples.add("pytoweb_messages_dropped_total", count, *own, reason)
    for kind, of_kind in stats.types.items():
        for outcome, name in _OUTCOMES.items():
            samples.add("pytoweb_messages_processed_total", getattr(of_kind, name), *own, kind, outcome)
    for kind, (wait, run) in one._pytoweb_times().items():
        samples.add_times("pytoweb_message_wait_seconds", *wait, *own, kind)
        samples.add_times("pytoweb_message_process_seconds", *run, *own, kind)
    if owns_children:
        samples.add("pytoweb_worker_restarts_total", stats.restarts, *own)
        for child in stats.children:
            samples.add("pytoweb_child_memory_bytes", child.memory_bytes or 0, *own)
            samples.add("pytoweb_child_cpu_seconds_total", child.cpu_seconds or 0, *own)


def _samples() -> _Samples:
    samples = _Samples()
    # A worker or a pool.
    roots: list[Any] = list(_exit.roots())
    for root in roots:
        # A worker of a pool with a thread of its own is among those of its pool.
        if root._pytoweb.pool is not None:
            continue
        members = getattr(root, "workers", None)
        _add(samples, root, "" if members is None else root.name, root.backend, owns_children=True)
        for member in dict(members or {}).values():
            # The children of a pool run the messages of all its workers: they are counted once.
            _add(samples, member, root.name, root.backend, owns_children=False)
    return samples


@functools.lru_cache(maxsize=4096)
def _escaped(label: str) -> str:
    """A label as it stands in the text; most are in many lines."""
    return label.translate(_ESCAPES)


def _lines() -> Iterator[str]:
    for (name, kind, text, label_names), samples in _samples().of_each():
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        for labels, value in samples.items():
            each = zip(label_names, labels)
            inside = ",".join([f'{label}="{_escaped(value)}"' for label, value in each])
            if kind != "histogram":
                yield f"{name}{{{inside}}} {value!r}"
                continue
            counts, seconds = value
            # Most of the text are these: it is made as seldom as can be.
            bucket = f"{name}_bucket{{{inside}"
            for end, below in zip(_LE, itertools.accumulate(counts)):
                yield f"{bucket}{end}{below}"
            yield f"{name}_sum{{{inside}}} {seconds!r}"
            yield f"{name}_count{{{inside}}} {sum(counts)}"


def render() -> str:
    """The numbers of all workers and pools in the text format of Prometheus.

    Returns:
        The text, of the type ``CONTENT_TYPE``; times in seconds, sizes in bytes.
    """
    return "\n".join(_lines()) + "\n"


class _Application:
    """An object: a route of Starlette calls a function with a request, and an object as an application."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answers a request, as the ASGI specification has it."""
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


app = _Application()
"""An ASGI application that answers GET and HEAD with ``render()``, and other methods with 405."""


class Collector:
    """The same for a registry of ``prometheus_client``, which has to be installed."""

    def collect(self) -> Iterator[Any]:
        """Called by the registry for each scrape."""
        from prometheus_client.core import Metric

        for metric, samples in _samples().of_each():
            name = metric.name[: -len("_total")] if metric.kind == "counter" else metric.name
            family = Metric(name, metric.text, metric.kind)
            for labels, value in samples.items():
                own = dict(zip(metric.labels, labels))
                if metric.kind != "histogram":
                    family.add_sample(metric.name, own, value)
                    continue
                counts, seconds = value
                for bound, below in zip(_BOUNDS, itertools.accumulate(counts)):
                    family.add_sample(f"{name}_bucket", {**own, "le": bound}, below)
                family.add_sample(f"{name}_sum", own, seconds)
                family.add_sample(f"{name}_count", own, sum(counts))
            yield family
