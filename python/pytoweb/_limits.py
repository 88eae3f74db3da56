"""``Limits`` and ``Rate``: how much a worker takes in, and how fast it begins what it has."""

from __future__ import annotations

from pytoweb._checks import MAX_THREADS, checked_count
from pytoweb._core import DEFAULT_CAPACITY, checked_timeout

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any, Optional, Union

    #: What a post asks of the mailbox, in the order of its keywords.
    Wishes = tuple[
        Optional[int], Union[str, int, bytes, None], Optional[float], Optional[datetime], bool, object
    ]

__all__ = ["Limits", "Rate", "Shed", "checked_limits", "checked_rate", "wished"]

#: Seconds of each unit that a rate may be given in. "m" is a minute: no rate is worth a name for months.
_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0}
_UNITS |= {"h": 3600.0, "hour": 3600.0, "d": 86_400.0, "day": 86_400.0}

#: The burst of a rate that says none: what it allows in this time, at least one message.
_BURST_SECONDS = 0.01

_MOST = 2**32 - 1


class Rate:
    """How many messages may begin in a time: a token bucket.

    They begin evenly, one every ``period / messages`` seconds, after a burst of up to ``burst`` at once; a
    message that begins up to 10 ms late does not make the next one later.

    Args:
        text: such as ``"100/s"``, ``"20/min"``, ``"1000/h"`` or ``"5/d"``; or a number of messages a second.
            The units are ``s``, ``sec``, ``second``; ``m``, ``min``, ``minute``; ``h``, ``hour``; ``d``,
            ``day``. With a number before it, it is so many of them: ``"3/10s"`` is three messages in ten
            seconds.
        burst: messages that may begin at once after a rest; None is what the rate allows in 10 ms, at least
            one.
        per_key: it counts for the messages of each ``key`` by themselves, and for none without a key. For
            the rate of a type: ``on_message(..., rate=)``.

    Raises:
        TypeError: ``text`` is no str and no number, ``burst`` not an int, or ``per_key`` not a bool.
        ValueError: no such rate, or ``burst`` below 1.
    """

    __slots__ = ("burst", "messages", "per_key", "period")

    messages: int
    #: In seconds.
    period: float
    burst: int
    per_key: bool

    def __init__(self, text: str | float, burst: int | None = None, *, per_key: bool = False) -> None:
        messages, period = _parse(text)
        if burst is None:
            burst = max(1, min(int(messages / period * _BURST_SECONDS), _MOST))
        elif isinstance(burst, bool) or not isinstance(burst, int):
            raise TypeError(f"burst must be an int, not {type(burst).__name__}")
        elif not 1 <= burst <= _MOST:
            raise ValueError(f"burst must be from 1 to {_MOST}, not {burst}")
        if not isinstance(per_key, bool):
            raise TypeError(f"per_key must be a bool, not {type(per_key).__name__}")
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "per_key", per_key)
        object.__setattr__(self, "period", period)
        object.__setattr__(self, "burst", burst)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Rate does not change: make another one to set {name}")

    def numbers(self) -> tuple[int, float, int]:
        """Messages, in seconds, and the burst."""
        return self.messages, self.period, self.burst

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Rate) else NotImplemented

    def _all(self) -> tuple[int, float, int, bool]:
        return (*self.numbers(), self.per_key)

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rate, self._all()

    def __repr__(self) -> str:
        per_key = ", per_key=True" if self.per_key else ""
        return f"Rate('{self.messages}/{self.period:g}s', burst={self.burst}{per_key})"


def _rate(messages: int, period: float, burst: int, per_key: bool) -> Rate:
    """The rate of these numbers."""
    return Rate(f"{messages}/{period!r}s", burst, per_key=per_key)


def _parse(text: object) -> tuple[int, float]:
    """Messages, and in how many seconds."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        try:
            number, period = float(text), 1.0
        except OverflowError:
            raise ValueError("a rate must be a number of messages a second that a float can hold") from None
    elif isinstance(text, str):
        first, _, unit = text.partition("/")
        unit = unit.strip()
        digits = unit.rstrip("abcdefghijklmnopqrstuvwxyz")
        try:
            number = float(first)
            period = _UNITS[unit[len(digits) :]] * (float(digits) if digits.strip() else 1.0)
        except (KeyError, ValueError):
            raise _no_rate(text) from None
    else:
        raise TypeError(
            "a rate must be a str such as '100/s', or a number of messages a second, not "
            f"{type(text).__name__}"
        )
    if not 0 < number < float("inf") or not 0 < period < float("inf"):
        raise _no_rate(text)
    # A fraction of a message in a time is a whole one in a longer time.
    while number != int(number) and number < 1_000:
        number, period = number * 10, period * 10
    messages = int(number)
    if not 1 <= messages <= _MOST or not 1e-9 <= period / messages <= 1e9:
        raise _no_rate(text)
    return messages, period


def _no_rate(text: object) -> ValueError:
    return ValueError(
        f"no such rate: {text!r}; use messages/unit, such as '100/s', '5/min' or '3/10s', with one of the "
        f"units {', '.join(_UNITS)}"
    )


def checked_rate(rate: object, name: str = "rate") -> Rate | None:
    """``rate`` as a ``Rate``; None is no limit."""
    if rate is None or isinstance(rate, Rate):
        return rate
    try:
        return Rate(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


class Shed:
    """When a worker refuses messages because those that are queued have waited too long.

    A long queue for a moment is a burst; one that stays long makes every message late. Once the oldest
    queued message has waited longer than ``target`` for ``window`` seconds without a break, new ones are
    refused with ``OverloadedError``, whatever ``overflow`` says, until it keeps up again: the idea of CoDel
    (K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 10 (5), 2012).

    Args:
        target: seconds that the oldest message may wait.
        window: seconds for which it may have waited longer than that.

    Raises:
        TypeError: one of them is not a number.
        ValueError: one of them is negative or not finite.
    """

    __slots__ = ("target", "window")

    target: float
    window: float

    def __init__(self, target: float = 0.05, window: float = 1.0) -> None:
        for name, value in (("target", target), ("window", window)):
            seconds = checked_timeout(value, name)
            if seconds is None:
                raise ValueError(f"{name} must be a finite number of seconds, not {value}")
            object.__setattr__(self, name, seconds)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Shed does not change: make another one to set {name}")

    def __repr__(self) -> str:
        return f"Shed(target={self.target:g}, window={self.window:g})"

    def _all(self) -> tuple[float, float]:
        return self.target, self.window

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Shed) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return Shed, self._all()


class Limits:
    """What a worker or a pool takes in, and how fast it begins what it has.

    Args:
        messages: messages that the mailbox holds at most, at least 1: the same as ``capacity``.
        bytes: bytes that the data of its messages may have together, at least 1, until each of them is over:
            also while it runs, and until one that was cancelled or has expired leaves the queue. None is no
            limit. What a post to a mailbox that is full does, ``overflow`` says, by messages or by bytes; one
            that is larger than the limit alone is refused with ``MessageTooLargeError``. For processes the
            bytes are those of the pickle. On threads they are the length of a buffer (``bytes``, an array) or
            of a ``str``, and for other data what ``size_of`` returns.
        shed: refuses messages while those that are queued have waited too long; None does not.
        concurrency: messages that run at the same time, at least 1. More than one give up their order, but
            for messages with a key, and what their handlers share needs a lock. ``async def`` handlers run
            side by side on the event loop, others on as many threads as the pool has; a worker by itself has
            as many. One that waits for a reply lends its place. With the backend ``"process"`` each runs in a
            child of its own, ``async def`` or not: a worker by itself has as many, which are started as they
            are needed, and one of a pool uses those of the pool, and no more than there are. Each child has a
            copy of its own of what the handlers change. Not for a pool, which runs as many as its size.
        size_of: called by the sender with data that is no buffer and no ``str``; returns its bytes. None is
            ``sys.getsizeof``, which counts nothing of what the data refers to.
        rate: messages that may begin in a time, as ``Rate`` takes it; None is no limit. What waits for it
            waits in the mailbox, and ``stop()`` handles it at that rate.
        stuck_after: seconds after which a run of a handler counts as stuck: ``health()`` says so until it
            ends, and it is logged once with its stack. It is not interrupted; for that there are ``timeout=``
            and ``soft_timeout=``. With processes the run begins when the host sees that the child has begun
            it, up to a quarter of this time late. None: it may take as long as it takes.

    Raises:
        TypeError: one of them is of a wrong type.
        ValueError: ``messages``, ``bytes`` or ``concurrency`` is below 1, ``size_of`` is given without
            ``bytes``, there is no such rate, or ``stuck_after`` is not above 0.
    """

    __slots__ = ("bytes", "concurrency", "messages", "rate", "shed", "size_of", "stuck_after")

    messages: int
    bytes: int | None
    concurrency: int
    rate: Rate | None
    shed: Shed | None
    size_of: Callable[[Any], int] | None
    stuck_after: float | None

    def __init__(
        self,
        *,
        messages: int = DEFAULT_CAPACITY,
        bytes: int | None = None,
        rate: Rate | str | float | None = None,
        shed: Shed | None = None,
        concurrency: int = 1,
        size_of: Callable[[Any], int] | None = None,
        stuck_after: float | None = None,
    ) -> None:
        if size_of is not None and not callable(size_of):
            raise TypeError(f"size_of must be a function of the data, not {type(size_of).__name__}")
        if size_of is not None and bytes is None:
            raise ValueError("size_of is for a limit by bytes: give bytes, too")
        object.__setattr__(self, "bytes", None if bytes is None else checked_count(bytes, "bytes"))
        if shed is not None and not isinstance(shed, Shed):
            raise TypeError(f"shed must be a Shed, not {type(shed).__name__}")
        object.__setattr__(self, "shed", shed)
        object.__setattr__(self, "size_of", size_of)
        object.__setattr__(self, "concurrency", checked_count(concurrency, "concurrency", most=MAX_THREADS))
        object.__setattr__(self, "messages", checked_count(messages, "messages"))
        rate = checked_rate(rate)
        if rate is not None and rate.per_key:
            raise ValueError("rate: one per key is for a message type: give it to on_message(..., rate=)")
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "stuck_after", _checked_stuck_after(stuck_after))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Limits do not change: make others to set {name}")

    def __repr__(self) -> str:
        stuck_after = "" if self.stuck_after is None else f", stuck_after={self.stuck_after:g}"
        return (
            f"Limits(messages={self.messages}, bytes={self.bytes}, rate={self.rate!r}, "
            f"shed={self.shed!r}, concurrency={self.concurrency}{stuck_after})"
        )

    def _all(self) -> tuple[Any, ...]:
        return (
            self.messages, self.bytes, self.rate, self.shed, self.concurrency, self.size_of, self.stuck_after
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Limits) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return _limits, self._all()


def _checked_stuck_after(given: float | None) -> float | None:
    # Above 0, unlike other times: so it says the same of 0 and of less.
    if isinstance(given, (int, float)) and not isinstance(given, bool) and not given > 0:
        raise ValueError(f"stuck_after must be above 0 seconds, not {given}")
    return checked_timeout(given, "stuck_after")


def _limits(
    messages: int,
    bytes: int | None,
    rate: Rate | None,
    shed: Shed | None,
    concurrency: int,
    size_of: Callable[[Any], int] | None,
    stuck_after: float | None,
) -> Limits:
    """The limits of these values."""
    return Limits(
        messages=messages, bytes=bytes, rate=rate, shed=shed, concurrency=concurrency, size_of=size_of,
        stuck_after=stuck_after,
    )  # fmt: skip


def checked_limits(limits: object, capacity: object, is_pool: bool = False) -> Limits:
    """``limits``, or those with ``capacity``, of which one is given at most."""
    if limits is None:
        return _DEFAULT if capacity is None else Limits(messages=checked_count(capacity, "capacity"))
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
    if capacity is not None:
        raise ValueError("give capacity or limits, not both: capacity is Limits(messages=...)")
    if limits.concurrency > 1 and is_pool:
        raise ValueError("concurrency is for named workers: a pool runs as many messages as its size")
    return limits


_DEFAULT = Limits()


def wished(
    priority: int | None,
    key: str | int | bytes | None,
    delay: float | None,
    at: datetime | None,
    keep_latest: bool,
    retry: object = None,
) -> Wishes | None:
    """These as the engine's side takes them; None where none is given. It checks them."""
    wishes = priority, key, delay, at, keep_latest, retry
    return None if wishes == (None, None, None, None, False, None) else wishes


Limits.__module__ = Rate.__module__ = Shed.__module__ = "pytoweb.workers"
