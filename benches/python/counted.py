"""Messages from Python to count the instructions of: ``python counted.py post 20000``.

As in ``crates/workers/benches/instructions.rs``: a handler of the same worker sends them, so that no thread
waits for another, and the clock stands still, for a program that is slowed down to be counted has slow
handlers, of which each is timed. The cyclic collector rests: whether a run has one pass over all objects more
depends on how many there are, down to the environment's variables.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from pytoweb.testing import frozen_clock
from pytoweb.workers import PythonWorker

WARM_UP = 32
"""Messages after which the worker knows that its handler is quick."""


def noop(data: Any) -> Any:
    """The handler."""
    return data


def main() -> None:
    """Sends as many as the command line says, in the way that it says."""
    shape, count = sys.argv[1], int(sys.argv[2])
    replies: list[Any] = []
    gc.disable()
    with frozen_clock():
        worker = PythonWorker("counted", capacity=count + 1)

        def send(_: Any) -> None:
            post = worker.post_message
            if shape == "batch":
                worker.post_messages("work", range(count))
            for item in range(0 if shape == "batch" else count):
                if shape == "ask":
                    replies.append(worker.ask("work", item))
                elif shape == "priority":
                    post("work", item, priority=item % 10)
                elif shape == "key":
                    post("work", item, key=item % 16)
                else:
                    post("work", item)

        worker.on_message("work", noop)
        worker.on_message("send", send)
        with worker:
            for item in range(WARM_UP):
                worker.ask("work", item).result()
            worker.ask("send").result()
            for reply in replies:
                reply.result()
            worker.run_until_idle()


if __name__ == "__main__":
    main()
