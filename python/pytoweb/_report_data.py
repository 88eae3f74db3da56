"""The data of a report: the recordings of the engine and the looks in between, as the page draws them.

All times of the page are whole numbers of 0.1 us since the start. What is very long is in columns, one list
for each field: a third of the size of a list of objects.
"""

from __future__ import annotations

import heapq
import re
import sys
import time
from array import array

import pytoweb
from pytoweb._runtime import PREFIX

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pytoweb._report_samples import Sample, Samples
    from pytoweb._stats import PoolStats

__all__ = ["VERSION", "build"]

#: Of the layout of the data.
VERSION = 1
#: Nanoseconds of one unit of the page.
UNIT = 100
#: Lanes that the page has; of more the busiest ones.
MOST_LANES = 200
#: Bars beside each other in one lane.
MOST_ROWS = 24
#: A bar that begins so much before the end of the one before it, in units, is a fault of measurement.
TOLERANCE = 500
#: The same of a child, whose answers may be read many at a time: 5 ms.
CHILD_TOLERANCE = 50_000
#: Queues that the page shows each for itself.
MOST_QUEUES = 6
#: Failures whose texts are in the page.
MOST_FAILURES = 1_000
#: What `wait` is where it is not known.
_UNKNOWN = 2**64 - 1

_FATES = ("completed", "failed", "expired", "cancelled", "retried", "crashed")
_COUNTS = (
    "posted", "completed", "failed", "dropped", "cancelled", "expired", "rejected", "shed", "retried", "dead",
)  # fmt: skip


class _Bar:
    """A message that ran, and where it is drawn."""

    __slots__ = ("begin", "fate", "kind", "lane", "row", "run", "together", "wait", "worker")

    def __init__(self, *fields: int) -> None:
        self.begin, self.run, self.wait, self.lane, self.worker, self.kind, self.together, self.fate = fields
        self.row = 0


class _Names:
    """Numbers for names, over several recordings."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def of(self, name: Any) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def names(self) -> list[Any]:
        return list(self.numbers)


class _Parts:
    """Several recordings as one."""

    def __init__(self, parts: Iterable[dict[str, Any]]) -> None:
        self.workers, self.kinds, self.lanes = _Names(), _Names(), _Names()
        self.bars: list[_Bar] = []
        self.busy: list[tuple[int, int | None, int, int, int]] = []
        #: Each with its bar, if that is kept.
        self.failures: list[tuple[dict[str, Any], _Bar | None]] = []
        self.failures_left_out = 0
        self.recorded = 0
        self.gap = 0
        self.seconds = 0.0
        #: By type: fates, seconds, buckets of waits and of runs.
        self.numbers: dict[int, tuple[list[int], float, dict[int, int], dict[int, int]]] = {}
        parts = list(parts)
        longest = max((part["seconds"] for part in parts), default=0.0)
        self.seconds = longest
        for part in parts:
            # One that began later ends with the others.
            self._add(part, round((longest - part["seconds"]) * 1e9 / UNIT))

    def _add(self, part: dict[str, Any], shift: int) -> None:
        workers = [self.workers.of(name) for name in part["workers"]]
        kinds = [self.kinds.of(name) for name in part["types"]]
        lanes = [self.lanes.of((kind, name)) for kind, name in part["lanes"]]
        self.recorded += part["recorded"]
        self.gap = max(self.gap, part["busy_gap_nanos"] // UNIT)
        self.failures_left_out += part["failures_left_out"]
        columns: list[Any] = []
        for code, column in zip("QQQIIIIB", part["bars"]):
            values = array(code)
            values.frombytes(column)
            columns.append(values)
        failed: dict[tuple[int, int, int], _Bar] = {}
        for begin, run, wait, lane, worker, kind, together, fate in zip(*columns):
            bar = _Bar(
                begin // UNIT + shift,
                run // UNIT,
                -1 if wait == _UNKNOWN else wait // UNIT,
                lanes[lane],
                workers[worker],
                kinds[kind],
                together,
                fate,
            )
            self.bars.append(bar)
            if fate:
                failed[lane, begin, run] = bar
        for lane, worker, begin, end, nanos in part["busy"]:
            times = (begin // UNIT + shift, end // UNIT + shift, nanos // UNIT)
            self.busy.append((lanes[lane], None if worker is None else workers[worker], *times))
        for at, (worker, kind, lane), text, fate, place in part["failures"]:
            failure = {
                "at": at // UNIT + shift,
                "worker": workers[worker],
                "type": kinds[kind],
                "text": text,
                "fate": fate,
                "lane": lanes[lane],
                "begin": None,
                "run": None,
            }
            known = None
            if place is not None:
                lane, begin, run = place
                failure.update(lane=lanes[lane], begin=begin // UNIT + shift, run=run // UNIT)
                known = failed.get((lane, begin, run))
            self.failures.append((failure, known))
        for kind, (fates, nanos, waits, runs) in zip(kinds, part["numbers"]):
            own = self.numbers.setdefault(kind, ([0] * len(_FATES), 0.0, {}, {}))
            for place, count in enumerate(fates):
                own[0][place] += count
            for into, buckets in zip(own[2:], (waits, runs)):
                for least, count in buckets:
                    into[least] = into.get(least, 0) + count
            self.numbers[kind] = (own[0], own[1] + nanos / 1e9, own[2], own[3])


def build(
    about: dict[str, Any],
    recorded: list[dict[str, Any]],
    samples: Samples,
    totals: tuple[PoolStats, PoolStats],
) -> dict[str, Any]:
    """The data of the page.

    Args:
        about: title, pool, backend, size and start, and whether its children run coroutines.
        recorded: what `Threads.stop_recording` has returned, of each of the threads.
        samples: the looks in between.
        totals: the numbers of the pool at the start and at the end.

    Returns:
        What `json` takes.
    """
    parts = _Parts(recorded)
    lanes, left_out = _lay_out(parts, samples, about["pool"], bool(about.pop("has_coroutines", False)))
    parts.bars.sort(key=lambda bar: bar.begin)
    failures = sorted((failure for failure, _ in parts.failures), key=lambda failure: failure["at"])
    kept_failures = failures[:MOST_FAILURES]
    before, after = totals
    return {
        "version": VERSION,
        **about,
        "python": sys.version.split()[0],
        "pytoweb": pytoweb.__version__,
        "clock": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(about["started_unix"])),
        "seconds": round(parts.seconds, 6),
        "unit_nanos": UNIT,
        "fates": list(_FATES),
        "workers": parts.workers.names(),
        "types": parts.kinds.names(),
        "lanes": lanes,
        "bars": _columns(parts.bars),
        "busy": [list(busy) for busy in parts.busy],
        "failures": kept_failures,
        "counts": {name: max(0, getattr(after, name) - getattr(before, name)) for name in _COUNTS},
        "numbers": _numbers(parts, before, after),
        "samples": _samples(samples, _shares(parts, samples, about["backend"])),
        "left_out": {
            # A batch is one bar.
            "untimed": max(0, _ended(before, after) - sum(sum(each[0]) for each in parts.numbers.values())),
            "bars": max(0, parts.recorded - len(parts.bars)),
            "recorded": parts.recorded,
            "failures": parts.failures_left_out + len(failures) - len(kept_failures),
            "lanes": left_out,
            "busy_gap": parts.gap,
            "sample_seconds": round(samples.interval, 3),
        },
    }


def _ended(before: PoolStats, after: PoolStats) -> int:
    """Messages that a handler ended meanwhile, attempts included."""
    names = ("completed", "failed", "expired", "cancelled", "retried")

    def ended(stats: PoolStats) -> int:
        return sum(getattr(each, name) for each in stats.types.values() for name in names)

    return ended(after) - ended(before)


def _lay_out(
    parts: _Parts, samples: Samples, pool: str, has_coroutines: bool
) -> tuple[list[dict[str, Any]], int]:
    """Gives each bar its row, each lane its place; returns the lanes, and how many there is no place for."""
    by_lane: dict[int, list[_Bar]] = {}
    for bar in parts.bars:
        by_lane.setdefault(bar.lane, []).append(bar)
    weight = {lane: sum(bar.run for bar in bars) + len(bars) for lane, bars in by_lane.items()}
    for lane, *_, nanos in parts.busy:
        weight[lane] = weight.get(lane, 0) + nanos
    keys = parts.lanes.names()
    for failure, _ in parts.failures:
        # A thread that only told of it is no lane.
        if failure["lane"] not in weight:
            failure["lane"] = None
    shown = heapq.nlargest(MOST_LANES, weight, key=lambda lane: weight[lane])
    shown.sort(key=lambda lane: _order(keys[lane]))
    place = {lane: number for number, lane in enumerate(shown)}
    lanes = []
    for lane in shown:
        kind, name = keys[lane]
        bars = by_lane.get(lane, [])
        if kind == "process":
            _part(bars, has_coroutines)
        rows = _rows(bars, TOLERANCE if kind != "coroutines" else 0)
        pids = samples.pids.get(int(name), []) if kind == "process" else []
        told = [[pid, max(0, round(seen * 1e9 / UNIT))] for pid, seen in pids]
        lanes.append({"kind": kind, "name": _label(kind, name, pool), "rows": rows, "pids": told})
    parts.bars = [bar for bar in parts.bars if bar.lane in place]
    for bar in parts.bars:
        bar.lane = place[bar.lane]
    parts.busy = [(place[lane], *rest) for lane, *rest in parts.busy if lane in place]  # type: ignore[misc]
    for failure, of in parts.failures:
        failure["lane"] = place.get(failure["lane"])
        if of is not None:
            failure.update(begin=of.begin, run=of.run)
    return lanes, len(weight) - len(shown)


def _label(kind: str, name: str, pool: str) -> str:
    """What a lane is called on the page."""
    if kind == "process":
        return f"process {int(name) + 1}"
    if kind == "thread":
        rest = name[len(PREFIX) :] if name.startswith(PREFIX) else name
        number = rest[len(pool) + 1 :] if rest.startswith(f"{pool}-") else rest
        return f"thread {number}" if number.isdigit() else number
    return name


def _order(key: tuple[str, str]) -> tuple[int, list[tuple[int, int, str]]]:
    """Threads and processes by their numbers, coroutines last."""
    kind, name = key
    parts = re.split(r"(\d+)", name)
    natural = [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
    return ("thread", "process", "coroutines").index(kind), natural


def _part(bars: list[_Bar], has_coroutines: bool) -> None:
    """Of a child: the end of a message is known by when its answer was read, maybe along with later ones."""
    bars.sort(key=lambda bar: bar.begin + bar.run)
    next_begin = None
    for bar in reversed(bars):
        late = 0 if next_begin is None else bar.begin + bar.run - next_begin
        # More than that, and they did run at the same time. None began before it was posted.
        most = min(CHILD_TOLERANCE, bar.wait) if has_coroutines else bar.wait
        if bar.wait < 0:
            # Its begin is a guess as well.
            bar.run -= min(max(late, 0), bar.run)
        elif 0 < late <= most:
            bar.begin -= late
            bar.wait -= late
        next_begin = bar.begin


def _rows(bars: list[_Bar], tolerance: int) -> int:
    """Gives bars that overlap rows of their own; returns how many."""
    bars.sort(key=lambda bar: bar.begin)
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    rows = 0
    for bar in bars:
        while busy and busy[0][0] <= bar.begin + min(tolerance, bar.run // 2):
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            bar.row = heapq.heappop(free)
        elif rows < MOST_ROWS:
            bar.row, rows = rows, rows + 1
        else:
            bar.row = MOST_ROWS - 1
            continue
        heapq.heappush(busy, (bar.begin + bar.run, bar.row))
    return max(1, rows)


def _columns(bars: list[_Bar]) -> dict[str, Any]:
    """The bars in columns: begins as differences, and all that repeats as a number of a table."""
    table: dict[tuple[int, ...], int] = {}
    begins, runs, waits, looks = [], [], [], []
    last = 0
    for bar in bars:
        begins.append(bar.begin - last)
        last = bar.begin
        runs.append(bar.run)
        waits.append(bar.wait)
        look = (bar.lane, bar.row, bar.worker, bar.kind, bar.together, bar.fate)
        looks.append(table.setdefault(look, len(table)))
    return {
        "begin": begins,
        "run": runs,
        "wait": waits,
        "look": looks,
        "looks": [list(look) for look in table],
    }


def _numbers(parts: _Parts, before: PoolStats, after: PoolStats) -> list[dict[str, Any]]:
    """By type what is known of all its messages."""
    names = parts.kinds.names()
    # A type that only ran untimed has a line too.
    for kind, stats in after.types.items():
        known = before.types.get(kind)
        if kind not in parts.kinds.numbers and (known is None or known.completed != stats.completed):
            names.append(kind)
            parts.kinds.of(kind)
    empty: tuple[list[int], float, dict[int, int], dict[int, int]] = ([0] * len(_FATES), 0.0, {}, {})
    numbers = []
    for number, kind in enumerate(names):
        fates, seconds, waits, runs = parts.numbers.get(number, empty)
        counted: dict[str, int] = dict(zip(_FATES, fates))
        if kind in after.types:
            for name in ("completed", "failed", "expired", "cancelled", "retried"):
                was = getattr(before.types[kind], name) if kind in before.types else 0
                counted[name] = max(0, getattr(after.types[kind], name) - was)
            # A crash is a failure to the pool.
            counted["failed"] = max(0, counted["failed"] - counted["crashed"])
        numbers.append(
            {
                "type": number,
                "timed": sum(fates),
                "run_seconds": round(seconds, 6),
                **counted,
                "waits": sorted(waits.items()),
                "runs": sorted(runs.items()),
            }
        )
    return numbers


def _unit(sample: Sample, samples: Samples) -> int:
    return max(0, round((sample.time - samples.began) * 1e9 / UNIT))


def _shares(parts: _Parts, samples: Samples, backend: str) -> list[float]:
    """Which share of the time up to each look, from the one before, handlers took of their places."""
    kept = samples.kept
    busy = [sample.busy * 1e9 / UNIT for sample in kept]
    if backend == "process" and parts.recorded == len(parts.bars):
        # A message counts as busy in a child that is still starting: the bars know better, if all are there.
        busy = _busy(parts.bars, [_unit(sample, samples) for sample in kept])
    shares = [0.0]
    for (last, sample), (was, now) in zip(zip(kept, kept[1:]), zip(busy, busy[1:])):
        had = (sample.time - last.time) * 1e9 / UNIT * sample.places
        shares.append(min(1.0, max(0.0, (now - was) / had)) if had > 0 else 0.0)
    return shares


def _busy(bars: list[_Bar], times: list[int]) -> list[float]:
    """How long bars took up to each of the times."""
    begins = sorted(bar.begin for bar in bars)
    ends = sorted(bar.begin + bar.run for bar in bars)
    busy = []
    begun = begun_sum = ended = ended_sum = 0
    for now in times:
        while begun < len(begins) and begins[begun] <= now:
            begun_sum += begins[begun]
            begun += 1
        while ended < len(ends) and ends[ended] <= now:
            ended_sum += ends[ended]
            ended += 1
        busy.append(float(ended_sum - begun_sum + (begun - ended) * now))
    return busy


def _samples(samples: Samples, shares: list[float]) -> dict[str, Any]:
    """The looks in columns."""
    kept = samples.kept
    sums: dict[str, int] = {}
    for sample in kept:
        for name, depth in sample.depths.items():
            sums[name] = sums.get(name, 0) + depth
    queues = sorted(sums, key=lambda name: (-sums[name], name))[:MOST_QUEUES]
    return {
        "time": [_unit(sample, samples) for sample in kept],
        "depth": [sample.depth for sample in kept],
        "running": [sample.running for sample in kept],
        "queues": queues,
        "depths": [[sample.depths.get(name, 0) for name in queues] for sample in kept],
        "utilisation": [round(share, 4) for share in shares],
        "memory": [sample.memory for sample in kept],
        "child_memory": [sample.child_memory for sample in kept],
        "children": [sample.children for sample in kept],
    }
