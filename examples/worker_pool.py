"""Many named workers on two threads: each keeps its own order, all of them share the threads."""

from __future__ import annotations

from pytoweb.workers import WorkerPool


class Ledger:
    def __init__(self) -> None:
        self.balance = 0

    def book(self, amount: int) -> int:
        # No lock: a worker handles one message at a time.
        self.balance += amount
        return self.balance


if __name__ == "__main__":
    with WorkerPool(size=2) as pool:
        for number in range(1000):
            worker = pool.create_worker(f"account-{number}")
            worker.on_message("book", Ledger().book)
            worker.start()

        for worker in pool.workers.values():
            worker.post_messages("book", range(10))
        replies = [worker.ask("book", 0) for worker in pool.workers.values()]
        assert all(reply.result(timeout=10) == 45 for reply in replies)

        stats = pool.stats()
        print(f"{len(stats.workers)} workers, at most {stats.size} at a time, {stats.completed} messages")
