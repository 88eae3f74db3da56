"""Streams: what the contract does not see, because it ends processes and programs, or looks at memory."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from pytoweb.workers import (
    Batch,
    DeadlineError,
    Retry,
    SerializationError,
    WorkerCrashedError,
    WorkerDecorators,
    WorkerPool,
    current_message,
)

WAIT = 10.0
MB = 1 << 20


def two_and_die(data):
    yield 1
    yield 2
    os.kill(os.getpid(), signal.SIGKILL)
    yield 3


def unpicklable(data):
    yield 1
    yield (item for item in ())


def large(count):
    for number in range(count):
        yield bytes([number]) * MB


def slow(data):
    yield 1
    while True:
        pass


@pytest.fixture
def streaming(backend, worker):
    one = worker("streaming", backend=backend)
    one.on_message("large", large)
    return one.start()


def test_large_items_take_no_more_room_than_the_window(streaming):
    for number, item in enumerate(streaming.stream("large", 200, window=2)):
        assert len(item) == MB and item[0] == number
    assert number == 199


def test_a_child_that_ends_ends_its_stream_after_the_items(worker):
    one = worker("dying", backend="process", max_attempts=3)
    one.on_message("two", two_and_die)
    one.start()
    stream = one.stream("two")
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(WorkerCrashedError):
        next(stream)
    one.run_until_idle(WAIT)
    # Once more would have been two items more.
    assert one.stats().posted == one.stats().failed == 1


def test_an_item_that_cannot_be_sent_fails_the_stream(worker):
    one = worker("unsendable", backend="process")
    one.on_message("unpicklable", unpicklable)
    one.start()
    stream = one.stream("unpicklable")
    assert next(stream) == 1
    with pytest.raises(SerializationError, match="item"):
        next(stream)


def test_a_soft_limit_is_for_the_whole_stream(backend, worker):
    one = worker("soft", backend=backend)
    one.on_message("slow", slow, soft_timeout=0.2)
    one.start()
    stream = one.stream("slow")
    assert next(stream) == 1
    with pytest.raises(DeadlineError, match="soft_timeout"):
        next(stream)


def test_what_surrounds_a_handler_surrounds_its_stream(worker):
    seen = []
    one = worker("surrounded")

    @one.around
    def note():
        seen.append("enter")
        yield
        seen.append("leave")

    @one.on_message("count")
    def count(data):
        for number in range(data):
            seen.append(number)
            yield number

    one.start()
    assert list(one.stream("count", 3)) == [0, 1, 2]
    assert seen == ["enter", 0, 1, 2, "leave"]


def test_a_method_of_a_worker_may_stream(backend, worker):
    one = worker("methods", backend=backend)
    one.on_message("count", worker_count)
    one.start()
    assert list(one.stream("count", 3)) == [("methods", 0), ("methods", 1), ("methods", 2)]


@WorkerDecorators.worker_method("count")
def worker_count(one, data):
    for number in range(data):
        yield one.name, number


def test_a_pool_streams_as_many_at_once_as_it_has_threads():
    with WorkerPool(2) as pool:
        pool.on_message("name", lambda data: (yield current_message().worker))
        streams = [pool.stream("name") for _ in range(20)]
        assert [list(stream) for stream in streams] == [[pool.name]] * 20


def test_streams_that_wait_for_their_readers_do_not_keep_a_pool_from_others():
    with WorkerPool(1) as pool:
        pool.on_message("large", large)
        waiting = [pool.stream("large", 3, window=1) for _ in range(5)]
        firsts = [next(stream) for stream in waiting]
        assert [len(first) for first in firsts] == [MB] * 5
        assert pool.submit(abs, -1).result(WAIT) == 1
        for stream in waiting:
            assert len(list(stream)) == 2


def test_whatever_has_a_yield_streams(worker):
    class Generating:
        def __call__(self, data):
            yield data

        def method(self, data):
            yield data

    one = worker("shapes").start()
    for handler in (Generating(), Generating().method, functools.partial(large)):
        one.on_message("work", handler)
        assert len(list(one.stream("work", 1))) == 1


def passed_on(function):
    """A decorator that leaves what it wraps as it is."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def collected(function):
    """A decorator that reads all of a generator, unless there is nothing to read."""

    @functools.wraps(function)
    def wrapper(data):
        return list(function(data))

    return wrapper


@passed_on
def counted(limit):
    yield from range(limit)


@passed_on
async def counted_later(limit):
    for number in range(limit):
        yield number


@collected
def listed(limit):
    yield from range(limit)


def handed_over(limit):
    return (number for number in range(limit))


@pytest.mark.parametrize("soft_timeout", [None, WAIT])
def test_a_decorated_generator_function_streams_or_not_as_what_it_returns_says(backend, worker, soft_timeout):
    one = worker("wrapped", backend=backend)
    one.on_error(lambda error: None)
    for handler in (counted, counted_later, listed, handed_over):
        one.on_message(handler.__name__, handler, soft_timeout=soft_timeout)
    one.start()
    for kind in ("counted", "counted_later"):
        assert list(one.stream(kind, 40)) == list(range(40))
        with pytest.raises(TypeError, match=r"stream\(\)"):
            one.ask(kind, 3).result(WAIT)
        assert asyncio.run(collect(one, kind, 5)) == list(range(5))
    assert one.ask("listed", 3).result(WAIT) == [0, 1, 2]
    with pytest.raises(TypeError, match=r"returned list.*ask\(\)"):
        list(one.stream("listed", 3))
    # What wraps nothing is known when it returns.
    with pytest.raises(TypeError, match=r"'handed_over' returned a generator.*wraps"):
        one.ask("handed_over", 3).result(WAIT)
    with pytest.raises(TypeError, match=r"ask\(\)"):
        one.stream("handed_over", 3)


async def collect(one, kind, data):
    return [item async for item in await one.astream(kind, data)]


def test_what_may_return_a_generator_is_tried_again_as_what_returns_a_value(backend, worker):
    one = worker("retried", backend=backend)
    one.on_error(lambda error: None)
    one.on_message("listed", listed, retry=Retry(2))
    one.start()
    assert one.ask("listed", 2).result(WAIT) == [0, 1]
    with pytest.raises(TypeError, match=r"ask\(\)"):
        one.stream("listed", 2)


def lazily_each(items):
    return (item for item in items)


@pytest.mark.parametrize(("option", "value"), [("retry", Retry(2, backoff=0)), ("batch", Batch(2))])
def test_a_decorated_generator_function_with_an_option_that_no_stream_has(backend, worker, option, value):
    one = worker("both", backend=backend)
    one.on_error(lambda error: None)
    # A decorator may read all of the generator, so only the first call tells.
    for handler in (counted, counted_later, functools.partial(counted)):
        one.on_message("count", handler, **{option: value})
        one.start()
        with pytest.raises(TypeError, match=rf"'count' returned a generator.*with {option}=.*stream\(\)"):
            one.ask("count", 3).result(WAIT)
        with pytest.raises(
            TypeError, match=rf"'count' is registered with {option}=.*ask\(\).* without {option}="
        ):
            one.stream("count", 3)
    # Registered without the option, it streams.
    one.on_message("count", counted)
    assert list(one.stream("count", 3)) == [0, 1, 2]
    # A plain handler is told apart as ever.
    one.on_message("count", collected, **{option: value})
    with pytest.raises(TypeError, match=r"no generator function.*ask\(\)"):
        one.stream("count", 3)


def test_a_handler_of_batches_that_returns_a_generator_is_told(backend, worker):
    one = worker("lazy", backend=backend)
    one.on_error(lambda error: None)
    one.on_message("each", lazily_each, batch=Batch(2))
    one.start()
    with pytest.raises(TypeError, match=r"'each' returned a generator.*list"):
        one.ask("each", 1).result(WAIT)


def test_a_timer_of_a_type_that_streams_is_refused_at_once(backend, worker):
    one = worker("timed", backend=backend)
    one.on_message("large", large)
    with pytest.raises(TypeError, match=r"'large' streams its answer.*stream\(\)"):
        one.every(60, "large", 1)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_program_that_ends_closes_its_streams(tmp_path, kind):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import itertools
            from pytoweb.workers import PythonWorker

            def count(data):
                try:
                    yield from itertools.count()
                finally:
                    print("closed", flush=True)

            if __name__ == "__main__":
                worker = PythonWorker("w", backend={kind!r}).start()
                worker.on_message("count", count)
                stream = worker.stream("count")
                print(next(stream), next(stream), flush=True)
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout.split(), ended.stderr, ended.returncode) == (["0", "1", "closed"], "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_leaves_the_stream_of_its_parent_alone(worker):
    one = worker("forked")
    one.on_message("large", large)
    one.start()
    stream = one.stream("large", 4, window=1)
    next(stream)
    pid = os.fork()
    if pid == 0:
        try:
            stream.close()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(list(stream)) == 3


def test_a_closed_stream_of_a_child_ends_at_its_next_item(worker, tmp_path):
    one = worker("closed", backend="process")
    one.on_message("count", count_and_note)
    one.start()
    path = tmp_path / "noted"
    with one.stream("count", str(path)) as stream:
        assert [next(stream), next(stream)] == [0, 1]
    one.run_until_idle(WAIT)
    # The window had room for thirty more.
    assert len(path.read_text().split()) < 20


def count_and_note(path):
    number = 0
    while True:
        with open(path, "a") as file:
            file.write(f"{number}\n")
        yield number
        number += 1
        time.sleep(0.01)


def test_a_second_task_that_reads_is_refused(worker):
    one = worker("shared")
    one.on_message("slow", forever)
    one.start()

    async def read_twice():
        stream = one.stream("slow")
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await stream.__anext__()
        stream.close()
        with pytest.raises(StopAsyncIteration):
            await first

    asyncio.run(asyncio.wait_for(read_twice(), WAIT))


async def forever(data):
    await asyncio.get_running_loop().create_future()
    yield


def test_feed_says_what_takes_asynchronous_iterables(worker):
    one = worker("fed").start()
    with pytest.raises(TypeError, match="afeed"):
        one.feed("work", forever(None))


def test_other_tasks_have_a_turn_while_items_are_at_hand(worker):
    """The reader would never wait."""
    one = worker("quick").start()
    one.on_message("count", counted)
    read: list[int] = []

    async def look(seen):
        while True:
            seen.append(len(read))
            await asyncio.sleep(0)

    async def main():
        seen: list[int] = []
        stream = one.stream("count", 2000, window=4000)
        while one.stats().completed < 1:
            await asyncio.sleep(0)
        looking = asyncio.ensure_future(look(seen))
        async for item in stream:
            read.append(item)
        looking.cancel()
        return seen

    seen = asyncio.run(main())
    assert read == list(range(2000))
    assert max(later - before for before, later in zip(seen, [*seen[1:], 2000])) <= 2 * 128
