"""What a report knows between its messages: depths, load and memory, looked at ten times a second or less."""

from __future__ import annotations

import threading
import time

from pytoweb._contained import contained
from pytoweb._snapshot import memory_bytes

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable

    from pytoweb._pool import WorkerPool

__all__ = ["MOST_SAMPLES", "Sample", "Samples"]

#: Seconds between two looks, at first.
INTERVAL = 0.1
#: Samples that are kept; of more every second one is let go, and the looks become rarer.
MOST_SAMPLES = 1_000
#: A look may take this share of a processor: with very many workers they are rarer.
COST = 0.02
#: Workers of one sample whose depth is kept.
MOST_DEPTHS = 12


class Sample:
    """One look."""

    __slots__ = ("busy", "child_memory", "children", "depth", "depths", "memory", "places", "running", "time")

    def __init__(self) -> None:
        #: On the monotonic clock.
        self.time = time.monotonic()
        self.depth = 0
        self.running = 0
        #: The longest queues, by worker.
        self.depths: dict[str, int] = {}
        #: Seconds that handlers took, ever, and how many of them can run at the same time.
        self.busy = 0.0
        self.places = 0
        self.memory = memory_bytes()
        self.child_memory = 0
        self.children = 0


class Samples:
    """The looks of one report, and the thread that takes them."""

    def __init__(self, pool: WorkerPool, look: weakref.WeakMethod[Callable[[], None]]) -> None:
        self._pool = pool
        #: Called before each look, as long as it is there.
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pytoweb-report", daemon=True)
        self._interval = INTERVAL
        #: When it began, on the monotonic clock.
        self.began = 0.0
        self.kept: list[Sample] = []
        #: By place of a child process: the number of each that was there, and when it was first seen.
        self.pids: dict[int, list[tuple[int, float]]] = {}

    @property
    def interval(self) -> float:
        """Seconds between two looks, by now."""
        return self._interval

    def start(self, began: float) -> None:
        """Begins; ``began``: when the recording did, on the monotonic clock."""
        self.began = began
        self.take()
        self._thread.start()

    def end(self) -> None:
        """Takes no more by itself, and does not wait for one that is being taken."""
        self._ended.set()

    def stop(self) -> None:
        """Takes no more by itself."""
        self.end()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            before = time.thread_time()
            contained(self._look_around)
            if self._ended.is_set():
                # The report was dropped.
                return
            contained(self.take)
            self._interval = max(self._interval, (time.thread_time() - before) / COST)

    def _look_around(self) -> None:
        look = self._look()
        if look is not None:
            look()

    def take(self) -> None:
        """Takes one."""
        sample = Sample()
        own = self._pool._pytoweb
        numbers = self._pool._pytoweb_stats()
        children = numbers["children"]
        sample.children = len(children)
        sample.child_memory = sum(memory or 0 for _, memory, _ in children)
        sample.places = own.size
        self._add(sample, own.name, numbers)
        for name, worker in list(own.workers.items()):
            self._add(sample, name, worker._pytoweb_stats())
            sample.places += worker._pytoweb_owns_threads()
        if len(sample.depths) > MOST_DEPTHS:
            longest = sorted(sample.depths, key=lambda name: -sample.depths[name])
            sample.depths = {name: sample.depths[name] for name in longest[:MOST_DEPTHS]}
        self._note_children(sample.time - self.began)
        self.kept.append(sample)
        if len(self.kept) >= MOST_SAMPLES:
            # The higher ones of each two stay: peaks are of interest. The first and the last one stay too.
            kept = self.kept
            pairs = zip(kept[1:-1:2], kept[2:-1:2])
            self.kept = [kept[0], *(max(pair, key=lambda one: one.depth) for pair in pairs), kept[-1]]
            self._interval *= 2

    def _add(self, sample: Sample, name: str, numbers: dict[str, object]) -> None:
        depth = numbers["depth"]
        if depth:
            sample.depths[name] = depth  # type: ignore[assignment]
        sample.depth += depth  # type: ignore[operator]
        sample.running += numbers["running"]  # type: ignore[operator]
        sample.busy += numbers["busy_seconds"]  # type: ignore[operator]

    def _note_children(self, now: float) -> None:
        processes = getattr(self._pool._pytoweb.runtime, "processes", None)
        for place, pid in enumerate(processes.pids() if processes is not None else ()):
            if pid is not None:
                known = self.pids.setdefault(place, [])
                if not known or known[-1][0] != pid:
                    known.append((pid, now))
