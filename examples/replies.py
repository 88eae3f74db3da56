"""The owner's side: replies and failures come back to handlers, never on the worker's thread."""

from __future__ import annotations

from pytoweb.workers import PythonWorker, WorkerMessage


def on_response(message: WorkerMessage) -> None:
    print(f"{message.data['id']}: {message.data['result']}")


def on_failure(message: WorkerMessage) -> None:
    print(f"{message.data['id']} failed: {message.data['error']!r}")


if __name__ == "__main__":
    with PythonWorker("parser") as worker:
        worker.on_message("parse", int)
        worker.on_message("response", on_response)
        worker.on_message("error", on_failure)
        worker.on_error(lambda error: None)  # else the failure is logged as well

        for number, text in enumerate(["17", "4", "seven"], start=1):
            worker.post_message("parse", text, message_id=f"task-{number}")
    # Leaving the block waited for the worker, and for its replies.
    print("all replies are here")
