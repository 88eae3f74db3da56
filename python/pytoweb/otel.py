"""OpenTelemetry: spans and metrics of messages, by its conventions for messaging.

    from pytoweb.otel import PytowebInstrumentor

    PytowebInstrumentor().instrument()

From then on each post has a span ``send <worker>``, and each handler runs in a span ``process <worker>`` that
has the sender's as its parent: on threads, in coroutines and in child processes. ``opentelemetry-instrument``
finds it by itself. It needs ``opentelemetry-api`` (``pip install pytoweb[otel]``); without an SDK it
does nothing but carry the context of the sender.

A program that does not call it pays nothing. The names of spans, attributes and metrics are those of the
semantic conventions for messaging, version 1.44.
"""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Callable

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.trace import SpanKind
except ImportError as error:
    raise ImportError("pytoweb.otel needs opentelemetry-api: pip install 'pytoweb[otel]'") from error

from pytoweb import _child, _exit, _map
from pytoweb._addressable import Addressable
from pytoweb._options import PoolOptions
from pytoweb._pool import WorkerPool
from pytoweb.errors import WorkerStoppedError
from pytoweb.workers import current_message, current_worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["PytowebInstrumentor"]

SYSTEM = "pytoweb"

#: Methods that post a message, with the name of their operation.
_SENDERS = {
    "post_message": "post",
    "post_messages": "post",
    "ask": "ask",
    "stream": "stream",
    "_pytoweb_call": "submit",
}
_ASYNC_SENDERS = {
    "apost_message": "post",
    "aask": "ask",
    "astream": "stream",
    "_pytoweb_acall": "submit",
}

#: The sender's trace context, for a child process: what is in there of it on a thread, which the handler has
#: anyway, cannot be sent.
_carrier: ContextVar[dict[str, str] | None] = ContextVar("pytoweb_otel_carrier", default=None)


class _Instruments:
    """What spans and metrics are made with."""

    def __init__(self, tracer_provider: Any, meter_provider: Any) -> None:
        self.tracer = trace.get_tracer(SYSTEM, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SYSTEM, meter_provider=meter_provider)
        self.sent = meter.create_counter(
            "messaging.client.sent.messages", unit="{message}", description="Messages that were posted."
        )
        self.consumed = meter.create_counter(
            "messaging.client.consumed.messages", unit="{message}", description="Messages that were handled."
        )
        self.sending = meter.create_histogram(
            "messaging.client.operation.duration", unit="s", description="The time that a post took."
        )
        self.processing = meter.create_histogram(
            "messaging.process.duration", unit="s", description="The time that a handler took."
        )


#: None: nothing is recorded.
_instruments: _Instruments | None = None


def _found() -> _Instruments | None:
    """Those of this process; a child has its own, because its hook is all that the host sends."""
    global _instruments
    if _instruments is None and _child.is_child:
        _instruments = _Instruments(None, None)
    return _instruments


def _attributes(operation: str, kind: str, destination: str, **others: Any) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
        **others,
    }


class _Sending:
    """One post: its span, its metrics, and the context for a child process."""

    def __init__(self, operation: str, owner: Any, message_id: object, items: object) -> None:
        self._attributes = _attributes(operation, "send", owner.name)
        self._found = _found()
        self._process = owner.backend == "process"
        self._count = len(items) if isinstance(items, (list, tuple, range)) else 1
        if operation == "map":
            # They are counted as they are posted.
            self._count = 0
        self._own: dict[str, Any] = {}
        if isinstance(message_id, str):
            self._own["messaging.message.id"] = message_id
        if self._count != 1 and operation != "map":
            self._own["messaging.batch.message_count"] = self._count

    def __enter__(self) -> None:
        found = self._found
        assert found is not None
        self._span = found.tracer.start_as_current_span(
            f"send {self._attributes['messaging.destination.name']}",
            kind=SpanKind.PRODUCER,
            attributes={**self._attributes, **self._own},
        )
        self._span.__enter__()
        self._token = None
        if self._process:
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            self._token = _carrier.set(carrier)
        self._begun = time.perf_counter()

    def __exit__(self, kind: Any, error: Any, trace_back: Any) -> None:
        found = self._found
        assert found is not None
        took = time.perf_counter() - self._begun
        if self._token is not None:
            _carrier.reset(self._token)
        attributes = self._attributes
        if error is not None:
            attributes = {**attributes, "error.type": type(error).__qualname__}
        found.sending.record(took, attributes)
        if self._count:
            found.sent.add(self._count, attributes)
        self._span.__exit__(kind, error, trace_back)


def _sender(name: str, operation: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _instruments is None:
            return original(self, *args, **kwargs)
        message_id = _message_id(name, args, kwargs)
        items = kwargs.get("items", args[1] if len(args) > 1 else None) if name == "post_messages" else None
        with _Sending(operation, self, message_id, items):
            return original(self, *args, **kwargs)

    return send


def _mapper(original: Callable[..., Any]) -> Callable[..., Any]:
    """``map`` of a pool, or of a view of one, in the span of a sender: its calls run in the trace of that."""

    @functools.wraps(original)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _instruments is None:
            return original(self, *args, **kwargs)
        with _Sending("map", self if isinstance(self, WorkerPool) else self._pool, None, None):
            return original(self, *args, **kwargs)

    return send


def _count_mapped(pool: WorkerPool) -> None:
    """A call of ``map`` is posted."""
    if _instruments is not None:
        _instruments.sent.add(1, _attributes("map", "send", pool.name))


def _message_id(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The id that a post was given."""
    if name in ("post_message", "apost_message") and len(args) > 2:
        return args[2]
    return kwargs.get("message_id")


def _async_sender(name: str, operation: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _instruments is None:
            return await original(self, *args, **kwargs)
        with _Sending(operation, self, _message_id(name, args, kwargs), None):
            return await original(self, *args, **kwargs)

    return send


def _process(count: int = 1) -> Iterator[None]:
    """What surrounds each handler, of so many messages; a child looks it up by its name."""
    found, message, owner = _found(), current_message(), current_worker()
    if found is None or message is None or owner is None:
        yield
        return
    carrier = _carrier.get()
    parent = propagate.extract(carrier) if carrier else None
    attributes = _attributes("process", "process", owner.name)
    own: dict[str, Any] = {"pytoweb.message.type": message.type}
    if message.id is not None:
        own["messaging.message.id"] = message.id
    if count != 1:
        own["messaging.batch.message_count"] = count
    begun = time.perf_counter()
    try:
        with found.tracer.start_as_current_span(
            f"process {owner.name}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes={**attributes, **own},
        ) as span:
            try:
                yield
            except BaseException as error:
                attributes["error.type"] = type(error).__qualname__
                span.set_attribute("error.type", type(error).__qualname__)
                raise
    finally:
        found.processing.record(time.perf_counter() - begun, attributes)
        found.consumed.add(count, attributes)


_process._pytoweb_counts = True  # type: ignore[attr-defined]


class PytowebInstrumentor:
    """Has messages of all workers and pools traced and measured, as instrumentors of OpenTelemetry do it.

    One for the program: each that is made is the same. Workers and pools that were made before are included.
    With the backend ``"process"`` the spans of handlers are made in the children: configure the SDK there as
    well, in the ``initializer`` of the pool.
    """

    _only: PytowebInstrumentor | None = None
    _is_on = False

    def __new__(cls) -> PytowebInstrumentor:
        """Returns the one that there is."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether ``instrument`` was called, and not undone."""
        return self._is_on

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed for it: nothing beside this package and the API."""
        return ()

    def instrument(self, *, tracer_provider: Any = None, meter_provider: Any = None, **_others: Any) -> None:
        """Has messages traced and measured from now on; again it does nothing.

        Args:
            tracer_provider: of OpenTelemetry; None is the global one. Children have their global one.
            meter_provider: the same for metrics.
            **_others: what other instrumentors take, which means nothing here.
        """
        global _instruments
        if self._is_on:
            return
        self._is_on = True
        _instruments = _Instruments(tracer_provider, meter_provider)
        for name, operation in _SENDERS.items():
            setattr(Addressable, name, _sender(name, operation, getattr(Addressable, name)))
        for name, operation in _ASYNC_SENDERS.items():
            setattr(Addressable, name, _async_sender(name, operation, getattr(Addressable, name)))
        for owner, name, wrapped in (
            (WorkerPool, "submit", functools.partial(_sender, "submit", "submit")),
            (WorkerPool, "map", _mapper),
            (PoolOptions, "map", _mapper),
        ):
            _wrapped.append((owner, name, vars(owner).get(name)))
            setattr(owner, name, wrapped(getattr(owner, name)))
        _map.on_posted = _count_mapped
        _exit.on_register(_surround)

    def uninstrument(self, **_others: Any) -> None:
        """Ends it; messages that are queued are handled without a span."""
        global _instruments
        if not self._is_on:
            return
        self._is_on = False
        _instruments = _map.on_posted = None
        _exit.off_register(_surround)
        for name in (*_SENDERS, *_ASYNC_SENDERS):
            wrapped = getattr(Addressable, name).__wrapped__
            delattr(Addressable, name)
            if getattr(Addressable, name, None) is not wrapped:
                setattr(Addressable, name, wrapped)
        while _wrapped:
            owner, name, own = _wrapped.pop()
            delattr(owner, name) if own is None else setattr(owner, name, own)


#: What is wrapped besides the senders: the class, the name, and what it had of its own under that name.
_wrapped: list[tuple[type, str, Any]] = []

#: Workers and pools whose handlers are surrounded; also after `uninstrument`, where it records nothing.
_surrounded: weakref.WeakSet[Any] = weakref.WeakSet()


def _surround(root: Any) -> None:
    """Has the handlers of a worker or pool surrounded, once."""
    # A worker of a pool with a thread of its own: the pool's hook surrounds its handlers.
    if root in _surrounded or root._pytoweb.pool is not None:
        return
    _surrounded.add(root)
    # One that has ended handles no more messages.
    with contextlib.suppress(WorkerStoppedError):
        root.around(_process)
