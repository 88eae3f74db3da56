"""``Batch``: handlers that get a list of messages."""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType

from pytoweb._checks import checked_count
from pytoweb._core import checked_timeout
from pytoweb._functions import is_coroutine_function
from pytoweb.errors import HandlerError

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Union

    #: A result for each message, or one for all in a tuple.
    Results = Union[list[Any], tuple[Any]]

__all__ = ["MAX_SIZE", "Batch", "BatchHandler", "BatchItemError", "checked_batch"]

#: Messages that a batch can have: each of them takes a place of the mailbox, and is found by its place.
MAX_SIZE = 2**16


class Batch:
    """How many messages of one type a handler gets at once: for ``on_message(..., batch=Batch(64))``.

    Args:
        size: messages that a batch has at most, from 1 to 65536.
        max_wait: seconds that the first message waits for others, from when it was posted; with 0 it takes
            those along that are queued when its turn comes. It goes earlier once there are ``size``, when the
            mailbox is full of messages, or when the worker stops.

    Raises:
        TypeError: ``size`` is no int, or ``max_wait`` no number.
        ValueError: one of them is out of its range.
    """

    __slots__ = ("max_wait", "size")

    size: int
    #: In seconds.
    max_wait: float

    def __init__(self, size: int, max_wait: float = 0.0) -> None:
        object.__setattr__(self, "size", checked_count(size, "size", most=MAX_SIZE))
        seconds = checked_timeout(max_wait, "max_wait")
        if seconds is None:
            raise ValueError("max_wait must be a time that comes: a finite number of seconds")
        object.__setattr__(self, "max_wait", seconds)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Batch does not change: make another one to set {name}")

    def numbers(self) -> tuple[int, float]:
        """Its size and its wait in seconds."""
        return self.size, self.max_wait

    def __eq__(self, other: object) -> bool:
        return self.numbers() == other.numbers() if isinstance(other, Batch) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.numbers())

    def __reduce__(self) -> tuple[type[Batch], tuple[int, float]]:
        return Batch, self.numbers()

    def __repr__(self) -> str:
        return f"Batch({self.size}, max_wait={self.max_wait:g})"


class BatchItemError(Exception):
    """One message of a batch failed, and the others did not.

    In the list that a handler of batches returns it takes the place of a result; then that place counts, and
    not its index. Raised by the handler, it fails the message at ``index``, and the others are completed with
    None: raise it when they are done.

    Args:
        index: the place of the message in the list that the handler got, from 0.
        error: what that message fails with: its future raises it, and ``on_error`` gets it.

    Raises:
        TypeError: ``index`` is no int, or ``error`` no exception.
        ValueError: ``index`` is negative.
    """

    index: int
    error: BaseException

    def __init__(self, index: int, error: BaseException) -> None:
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, not {type(error).__name__}")
        self.index = checked_count(index, "index", least=0)
        self.error = error
        super().__init__(index, error)

    def __str__(self) -> str:
        return f"message {self.index} of the batch: {self.error!r}"


class BatchHandler:
    """A handler of batches, as the engine's side calls it."""

    __slots__ = ("_awaits", "_handler", "_message_type")

    def __init__(self, handler: Callable[[list[Any]], Any], message_type: str, awaits: bool) -> None:
        self._handler = handler
        self._message_type = message_type
        self._awaits = awaits

    @property
    def call(self) -> Callable[[list[Any]], Any]:
        """The function that gets the list, a coroutine function where the handler is one.

        It returns a list with a result for each, in which a ``BatchItemError`` is no result, or a tuple with
        what is for all.
        """
        return self._awaited if self._awaits else self._called

    def _called(self, items: list[Any]) -> Results | Coroutine[Any, Any, Results]:
        # The handler may change the list.
        count = len(items)
        try:
            returned = self._handler(items)
        except BatchItemError as error:
            return self._spread(error, count)
        if isinstance(returned, CoroutineType):
            return self._finished(returned, count)
        return self._spread(returned, count)

    async def _awaited(self, items: list[Any]) -> Results:
        return await self._finished(self._handler(items), len(items))

    async def _finished(self, coroutine: Coroutine[Any, Any, Any], count: int) -> Results:
        try:
            returned = await coroutine
        except BatchItemError as error:
            returned = error
        return self._spread(returned, count)

    def _spread(self, returned: Any, count: int) -> Results:
        if isinstance(returned, list):
            if len(returned) != count:
                raise HandlerError(
                    f"the handler of {self._message_type!r} returned a list of {len(returned)} for a batch "
                    f"of {count} messages: return a result for each, or one for all that is no list"
                )
            return returned
        if isinstance(returned, (GeneratorType, AsyncGeneratorType)):
            raise TypeError(
                f"the handler of {self._message_type!r} returned a generator, of which nothing has run: "
                "return a list with a result for each message of the batch"
            )
        if not isinstance(returned, BatchItemError):
            return (returned,)
        if returned.index >= count:
            raise HandlerError(
                f"the handler of {self._message_type!r} says that message {returned.index} failed, of a "
                f"batch of {count}, which has the indices 0 to {count - 1}"
            ) from returned.error
        results: list[Any] = [None] * count
        results[returned.index] = returned
        return results


class _EachAlone:
    """A handler of one message that gets a list."""

    __slots__ = ("_handler",)

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self._handler = handler

    def __call__(self, items: list[Any]) -> Any:
        results: list[Any] = [_outcome(index, self._handler, item) for index, item in enumerate(items)]
        if any(isinstance(result, CoroutineType) for result in results):
            return _awaited_each(results)
        return results


def messages_of(function: object, args: tuple[Any, ...]) -> int:
    """How many messages are handled by a call of ``function``, the engine's side of a handler."""
    is_of_lists = isinstance(function, _EachAlone) or isinstance(
        getattr(function, "__self__", None), BatchHandler
    )
    return len(args[0]) if is_of_lists else 1


def one_by_one(handler: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    """A handler of one message as one of batches: for messages that were together when it was registered."""
    return _EachAlone(handler)


def _outcome(index: int, handler: Callable[[Any], Any], item: Any) -> Any:
    try:
        return handler(item)
    except Exception as error:
        return BatchItemError(index, error)


async def _awaited_each(results: list[Any]) -> list[Any]:
    for index, result in enumerate(results):
        if isinstance(result, CoroutineType):
            try:
                results[index] = await result
            except Exception as error:
                results[index] = BatchItemError(index, error)
    return results


def checked_batch(batch: object) -> Batch | None:
    """``batch``, if it is one; None is none."""
    if batch is None or isinstance(batch, Batch):
        return batch
    raise TypeError(f"batch must be a Batch, such as Batch(64), not {type(batch).__name__}")


def batch_handler(
    handler: Callable[..., Any], awaited: Callable[..., Any], message_type: str
) -> BatchHandler:
    """``handler``, which may be limited, for lists; ``awaited``: the user's own, which may be async def."""
    return BatchHandler(handler, message_type, is_coroutine_function(awaited))


Batch.__module__ = BatchItemError.__module__ = "pytoweb.workers"
