"""Functions that run in a named worker, and methods that handle messages."""

from __future__ import annotations

from pytoweb.workers import PythonWorker, WorkerDecorators, current_worker


@WorkerDecorators.run_in_worker("background-tasks", timeout=10)
def where(name: str) -> str:
    return f"{name} ran in {current_worker()!r}"


class Counter(PythonWorker):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.count = 0

    @WorkerDecorators.worker_method("add")
    def add(self, amount: int) -> int:
        self.count += amount
        return self.count


if __name__ == "__main__":
    print(where("a call"))  # waits for the result, and raises what the function raised
    print(where.submit("a submit").result())

    with Counter("counter") as counter:
        counter.post_messages("add", [1] * 99)
        print(counter.ask("add", 1).result(timeout=10))
