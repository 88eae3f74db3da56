"""Workers from a coroutine, and handlers that are coroutines themselves."""

from __future__ import annotations

import asyncio

from pytoweb.workers import PythonWorker


def shout(text: str) -> str:
    return text.upper()


async def greet(name: str) -> str:
    await asyncio.sleep(0)  # stands for a request: other workers run meanwhile
    return f"hello, {name}"


async def main() -> None:
    async with PythonWorker("words", capacity=100) as worker:
        worker.on_message("shout", shout)
        worker.on_message("greet", greet)

        print(await worker.ask("greet", "world"))
        print(*await asyncio.gather(*(worker.ask("shout", word) for word in ("to", "be", "or", "not"))))
        print(await asyncio.wait_for(worker.ask("shout", "in time"), timeout=10))

        for number in range(1000):
            # Waits for room in the mailbox without blocking the event loop.
            await worker.apost_message("shout", str(number))
    print(f"{worker.stats().completed} messages handled")


if __name__ == "__main__":
    asyncio.run(main())
