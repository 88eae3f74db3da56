"""One worker: messages go in, handlers run in the background, replies come back."""

from __future__ import annotations

from pytoweb.workers import PythonWorker


def count_words(text: str) -> int:
    return len(text.split())


if __name__ == "__main__":
    worker = PythonWorker("background-tasks")
    worker.on_message("count", count_words)
    worker.start()

    worker.post_message("count", "no reply is wanted")  # returns at once
    reply = worker.ask("count", "to be or not to be")  # so does this, with a future
    print(f"{reply.result(timeout=10)} words")

    worker.stop()  # finishes what is queued, then ends the thread
    print(f"{worker.stats().completed} messages handled")
