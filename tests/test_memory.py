"""Memory that a burst took comes back once it is over."""

from __future__ import annotations

import sys

import pytest

BURST = """
import time
from pytoweb.workers import PythonWorker

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def burst(worker, number):
    {burst}
    worker.run_until_idle(60)

def main():
    worker = PythonWorker("worker", backend={backend!r}, capacity=1_000_000)
    worker.on_message("work", abs)
    worker.on_message("large", bytes)
    worker.on_error(lambda error: None)
    worker.start()
    burst(worker, 100)
    before = resident()
    burst(worker, {number})
    peak = after = resident()
    end = time.monotonic() + 10
    while after > before * 1.2 + 32 and time.monotonic() < end:
        time.sleep(0.05)
        after = resident()
    print(round(before), round(peak), round(after), after <= before * 1.2 + 32)
    worker.stop()

if __name__ == "__main__":
    main()
"""

ASKS = """futures = [worker.ask("work", number) for number in range(number)]
    [future.result() for future in futures]"""
ASKS_WITH_DEADLINES = """futures = [worker.ask("work", number, timeout=600) for number in range(number)]
    [future.result() for future in futures]"""
POSTS_WITH_DEADLINES = """for number in range(number):
        worker.post_message("work", number, timeout=600)"""
LARGE_ASKS = """futures = [worker.ask("large", bytes(number)) for _ in range(500)]
    [future.result() for future in futures]"""
DEADLINES_THAT_PASS = """futures = [worker.ask("work", number, timeout=0.0001) for number in range(number)]
    [future.exception() for future in futures]"""
# Longer than memory is tidied up after growth was seen.
LONG_ASKS = """futures = [worker.ask("large", 300) for _ in range(number)]
    end = time.monotonic() + (6 if number > 1000 else 0)
    while time.monotonic() < end:
        [future.result() for future in [worker.ask("work", 1) for _ in range(1000)]]
    [future.result() for future in futures]"""


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(
    "burst", [ASKS, ASKS_WITH_DEADLINES, POSTS_WITH_DEADLINES, DEADLINES_THAT_PASS, LARGE_ASKS, LONG_ASKS]
)
def test_memory_comes_back_after_a_burst(run_python, require, backend, burst):
    require(sys.platform == "linux", "/proc")
    done = run_python(BURST.format(backend=backend, burst=burst, number=150_000), timeout=50)
    assert done.rc == 0, done.stderr
    assert done.stdout.split()[-1] == "True", done.stdout
