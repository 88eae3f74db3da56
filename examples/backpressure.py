"""Ten messages for a mailbox of four: what each overflow policy does."""

from __future__ import annotations

from pytoweb.workers import MailboxFullError, PythonWorker

POSTED = 10


def fill(worker: PythonWorker) -> None:
    handled: list[int] = []
    worker.on_message("number", handled.append)
    refused = 0
    for number in range(POSTED):
        try:
            worker.post_message("number", number)
        except MailboxFullError:
            refused += 1
    with worker:  # starts it; leaving the block finishes what is queued
        pass
    stats = worker.stats()
    print(f"{worker.name:12} handled {handled}, refused {refused}, dropped {stats.drops}")
    assert stats.completed + stats.rejected + stats.dropped == POSTED


if __name__ == "__main__":
    # Started at once: else no handler would make the room that the sender waits for.
    fill(PythonWorker("block", capacity=4, overflow="block").start())
    fill(PythonWorker("reject", capacity=4, overflow="reject"))
    fill(PythonWorker("drop_newest", capacity=4, overflow="drop_newest"))
    fill(PythonWorker("drop_oldest", capacity=4, overflow="drop_oldest"))
