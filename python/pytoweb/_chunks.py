"""Many calls of one function as one message: what ``map`` sends to processes.

A chunk is a list of items for each argument of the function, not a tuple of arguments for each call: a list
of numbers or texts is pickled and unpickled in half the time of tuples of one, or less.
"""

from __future__ import annotations

from itertools import islice
from types import CoroutineType

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["make_chunks", "run_chunk"]


def make_chunks(size: int, *iterables: Iterable[Any]) -> Iterator[tuple[list[Any], ...]]:
    """Cuts the arguments of many calls into chunks; reads no further ahead than the chunk that it makes.

    Args:
        size: calls in a chunk, at least 1; the last chunk may have fewer.
        *iterables: one for each argument; the shortest ends all, as for ``map``.

    Returns:
        The chunks, each for ``run_chunk(function, *chunk)``.
    """
    if len(iterables) == 1:
        items = iter(iterables[0])
        while chunk := list(islice(items, size)):
            yield (chunk,)
        return
    rows = zip(*iterables)
    while calls := list(islice(rows, size)):
        yield tuple(map(list, zip(*calls)))


def run_chunk(function: Callable[..., Any], *columns: list[Any]) -> Any:
    """Calls ``function`` for each item of a chunk, in order; the first exception ends the chunk.

    Args:
        function: what to call.
        *columns: a list of items for each of its arguments.

    Returns:
        What the calls returned; of an ``async def`` function a coroutine that makes them one by one.
    """
    calls = map(function, *columns)
    first = list(islice(calls, 1))
    if first and isinstance(first[0], CoroutineType):
        return _run_coroutines(first[0], calls)
    first.extend(calls)
    return first


async def _run_coroutines(coroutine: Any, others: Iterator[Any]) -> list[Any]:
    results = [await coroutine]
    for other in others:
        results.append(await other)
    return results
