"""Deadlines: the caller gets its error in time, and the handler is asked to stop."""

from __future__ import annotations

from pytoweb.workers import DeadlineError, PythonWorker, current_message


def add_up(steps: int) -> int:
    """Works in steps and looks whether its caller still waits, because a thread cannot be killed."""
    message = current_message()
    total = 0
    for step in range(steps):
        if message is not None and message.cancelled:
            print(f"its caller does not wait any more: gave up before step {steps}")
            break
        total += sum(range(step % 10_000))
    return total


if __name__ == "__main__":
    with PythonWorker("patient") as worker:
        worker.on_message("add up", add_up)
        worker.on_error(lambda error: print(f"on_error got {type(error).__name__}"))
        print(worker.ask("add up", 10, timeout=10).result())
        try:
            worker.ask("add up", 10_000_000, timeout=0.05).result()  # seconds, queued and running
        except DeadlineError as error:
            print(error)
    print(f"{worker.stats().expired} message expired")
