"""Handlers that hold the interpreter lock: how soon the watchdog tells of each, with its stack."""

from __future__ import annotations

import os
import re
import select
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .row import Trial, row
from .scripts import started

SCRIPT = """
import logging, random, sys
from pytoweb.workers import PythonWorker

def hold(data):
    import ctypes, os, time
    before, seconds = data
    end = time.monotonic() + before
    while time.monotonic() < end:
        # Most of the time the lock is free before it is held.
        time.sleep(min(0.01, before))
    library = ctypes.PyDLL(None)
    os.write(1, b"%d\\n" % time.monotonic_ns())
    library.usleep(round(seconds * 1e6))

if __name__ == "__main__":
    logging.disable()
    backend, count, seconds = sys.argv[1:]
    worker = PythonWorker("holding", backend=backend)
    worker.on_message("hold", hold)
    worker.start()
    randomly = random.Random(1)
    for number in range(int(count)):
        # Every other one from its first line on.
        before = randomly.uniform(0, 1.5) if number % 2 else 0.0
        worker.ask("hold", (before, float(seconds))).result()
    worker.stop()
"""

BACKENDS = ("thread", "process")
HOLDS = 100
HELD = 3.0
"""Seconds of each."""
NOTICED = 1.2
"""Seconds within which it is to be told."""
NOTICE = re.compile(rb'^pytoweb: worker "holding": a handler has run .*\n(?:  .*\n)*?  .* in hold\n', re.M)


def measure(trial: Trial, backend: str, count: int, found: dict[str, list[float]]) -> None:
    """Has a lock held and notes how long it took until it was told."""
    begun: list[float] = []
    noticed: list[float] = []
    with started(SCRIPT, backend, str(count), str(HELD)) as process:
        assert process.stdout is not None and process.stderr is not None
        streams = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        out, err = streams
        end = time.monotonic() + count * (HELD + 3) + 30
        open_ = set(streams)
        while open_ and time.monotonic() < end:
            ready, _, _ = select.select(list(open_), [], [], 1)
            now = time.monotonic()
            for stream in ready:
                read = os.read(stream, 1 << 16)
                streams[stream] += read
                if not read:
                    open_.discard(stream)
            begun = [int(line) / 1e9 for line in streams[out].split()]
            noticed += [now] * (len(NOTICE.findall(streams[err])) - len(noticed))
        trial.logged.append(streams[err].decode(errors="replace")[-2000:])
    # Each notice belongs to the last hold that had begun by then.
    late = [float("inf")] * count
    for moment in noticed:
        index = sum(time_ <= moment for time_ in begun) - 1
        late[index] = min(late[index], moment - begun[index])
    found[backend] = late


@row("held-lock", 330)
def held_lock(trial: Trial) -> None:
    """A handler holds the lock for three seconds, again and again, on a thread and in a child at once."""
    count = trial.count(HOLDS // 2)
    found: dict[str, list[Any]] = {}
    with ThreadPoolExecutor(len(BACKENDS)) as pool:
        list(pool.map(lambda backend: measure(trial, backend, count, found), BACKENDS))
    for backend, late in found.items():
        trial.injected += len(late)
        trial.exactly(f"{backend}: not noticed while it was held", sum(one > HELD for one in late))
        within = sum(one > NOTICED for one in late)
        trial.at_most(f"{backend}: later than {NOTICED:g} s", within, 0, " times")
        trial.at_most(f"{backend}: the latest after", max(late, default=float("inf")), NOTICED, " s")
