"""Hosts that are killed: nothing of them stays."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from pathlib import Path

from .row import Trial, percentile, row, until
from .scripts import started

SCRIPT = """
import sys
import process_handlers as handlers
from pytoweb.workers import PythonWorker, WorkerPool

busy, path = sys.argv[1:]
pool = WorkerPool(2, backend="process")
worker = PythonWorker("hosted", backend="process")
for kind, handler in handlers.ANSWERING.items():
    worker.on_message(kind, handler)
worker.start()
if busy == "starting":
    pool.submit(handlers.pid, None)
    print(flush=True)
    sys.stdin.read()
pids = {worker.ask("pid").result(20)}
while len(pids) < 3:
    pids |= {future.result(20) for future in [pool.submit(handlers.pid, None) for _ in range(8)]}
if busy == "large payloads":
    print(*pids, flush=True)
    while True:
        worker.ask("echo", bytes(64 << 20)).result(20)
if busy != "idle":
    worker.post_message(busy, path)
    handlers.wait_for(path)
print(*pids, flush=True)
sys.stdin.read()
"""

BUSY = ("starting", "idle", "loop_forever", "hold_the_interpreter", "deadlock", "large payloads")
STARTING = 0.06
"""Seconds within which a child starts, and its host is killed."""
LIMIT = 5.0
"""Seconds after which what is left counts as left for good."""


def memory_of(pid: int) -> set[str]:
    """The nameless shared memory that a process maps, by its number."""
    with contextlib.suppress(OSError):
        return set(re.findall(r"\S+ (\d+) +/memfd:", Path(f"/proc/{pid}/maps").read_text()))
    return set()


def children_of(pid: int) -> list[int]:
    """The child processes of a process."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(entry))
    return found


def mapped() -> set[str]:
    """The same of all processes."""
    return set().union(*(memory_of(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()))


@row("host-killed", 200)
def host_killed(trial: Trial) -> None:
    """SIGKILL for hosts whose children are idle, busy, or write."""
    # Without it there is nothing to look for, and the row could not fail.
    uses_memory = os.environ.get("PYTOWEB_TRANSPORT", "shared-memory") == "shared-memory"
    gone, left, unmapped, said, starting = [], 0, 0, 0, 0
    for number in range(trial.count(100, least=len(BUSY))):
        busy = BUSY[number % len(BUSY)]
        with started(SCRIPT, busy, trial.path(f"entered-{number}")) as host:
            assert host.stdout is not None
            pids = [int(pid) for pid in host.stdout.readline().split()]
            if busy == "starting":
                time.sleep(trial.random.uniform(0, STARTING))
                pids = children_of(host.pid)
            shared = memory_of(host.pid)
            unmapped += not shared and busy != "starting" and uses_memory
            handles = [os.pidfd_open(pid) for pid in pids]
            starting += busy == "starting" and bool(pids)
            if busy == "large payloads":
                time.sleep(trial.random.uniform(0, 0.1))
            began = time.monotonic()
            host.send_signal(signal.SIGKILL)
            for handle in handles:
                left += not select.select([handle], [], [], LIMIT)[0]
                os.close(handle)
            gone.append(time.monotonic() - began)
            # Its end comes when no writer is left.
            said += bool(host.communicate(timeout=LIMIT)[1])
        left += len(pids) != 3 and busy != "starting"
        left += not until(lambda shared=shared: not shared & mapped(), LIMIT)
        trial.injected += 1
    trial.exactly("children or shared memory left", left)
    trial.exactly("hosts without shared memory", unmapped)
    trial.tell("hosts killed while children started", starting)
    trial.tell("hosts whose children printed something", said)
    trial.tell("children gone median", 1e3 * percentile(gone, 0.5), " ms")
    trial.at_most("children gone max", 1e3 * max(gone), 1000, " ms")
