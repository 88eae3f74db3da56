"""A pool where the standard library wants an executor."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import Executor, Future, as_completed

from pytoweb.workers import WorkerPool


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


async def in_a_coroutine(pool: WorkerPool) -> str:
    return await asyncio.get_running_loop().run_in_executor(pool, digest, b"asyncio")


if __name__ == "__main__":
    with WorkerPool(size=4) as pool:
        assert isinstance(pool, Executor)
        words = (b"one", b"two", b"three")
        futures: dict[Future[str], bytes] = {pool.submit(digest, word): word for word in words}
        for future in as_completed(futures, timeout=10):
            print(futures[future].decode(), future.result())
        print(list(pool.map(digest, [b"four", b"five"], timeout=10)))
        print(asyncio.run(in_a_coroutine(pool)))
