"""Python code that computes, on every core: a pool of processes, and one worker with state in its process."""

from __future__ import annotations

import os

from pytoweb.workers import PythonWorker, WorkerDecorators, WorkerPool


def collatz_steps(number: int) -> int:
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


class Tally(PythonWorker):
    def __init__(self, name: str) -> None:
        super().__init__(name, backend="process")
        self.highest = 0  # copied to the process by start()

    @WorkerDecorators.worker_method("note")
    def note(self, steps: int) -> tuple[int, int]:
        self.highest = max(self.highest, steps)
        return self.highest, os.getpid()


# A child may import this file, and is not to start processes of its own.
if __name__ == "__main__":
    with WorkerPool(backend="process") as pool, Tally("tally") as tally:
        for steps in pool.map(collatz_steps, range(1, 1001), chunksize=50):
            tally.post_message("note", steps)
        highest, process = tally.ask("note", 0).result(timeout=10)
        print(f"{highest} steps at most, says process {process}; this is {os.getpid()}")
        assert highest == 178 and process != os.getpid()
        assert tally.highest == 0  # that of the process is its own
