"""Pages that take their reader down: one crashes it, one never ends. Each costs its message, and no other."""

from __future__ import annotations

import os

from pytoweb.workers import DeadlineError, PythonWorker, WorkerCrashedError

SECONDS = 2.0


def read(page: str) -> int:
    if page == "crash":
        os.abort()  # as a bug in a C library would
    while page == "hang":
        pass
    return len(page)


if __name__ == "__main__":
    read_pages = []
    with PythonWorker("reader", backend="process") as worker:
        worker.on_message("read", read)
        worker.on_error(lambda error: None)  # told below
        for page in ("index", "crash", "news", "hang", "imprint"):
            try:
                length = worker.ask("read", page, timeout=SECONDS).result()
            except WorkerCrashedError as error:
                print(f"{page}: signal {error.signal}; {error}\n")
            except DeadlineError:
                print(f"{page}: not done after {SECONDS} s, so its process was killed")
            else:
                print(f"{page}: {length} characters")
                read_pages.append(page)
    assert read_pages == ["index", "news", "imprint"]
