"""Random lives of streams, end to end on both backends, against a model.

The model says exactly which items the reader sees, and how the stream ends, whatever threads and processes
do in between. Tests of Rust try the window itself more often, and without processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
import stream_handlers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytoweb.workers import DeadlineError, SerializationError, WorkerCrashedError, WorkerPool

WAIT = 10.0

FACTOR = max(1, int(os.environ.get("PYTOWEB_FUZZ", "1")) // 10)
"""How many times as many lives: a tenth of what `make fuzz` asks of the tests of Rust, which are quicker."""

EXAMPLES = {"thread": 300 * FACTOR, "process": 200 * FACTOR}
"""Lives of each backend: as many as take a second."""

ENDS = {
    "return": StopIteration,
    "raise": ZeroDivisionError,
    "for ever": None,
    "stall": DeadlineError,
    "unsendable": SerializationError,
    "die": WorkerCrashedError,
}


def is_crash(found):
    """Whether it says that the child has ended."""
    return isinstance(found, type) and issubclass(found, WorkerCrashedError)


class Expected:
    """A stream as the model has it."""

    def __init__(self, count, how, may_crash):
        self.count, self.how, self.may_crash = count, how, may_crash
        self.taken, self.is_closed = 0, False

    def can_take(self):
        """Whether the next item is one that comes: the reader of any other finds the end."""
        return not self.is_closed and (self.taken < self.count or self.how == "for ever")

    def check(self, found):
        """What a read of the stream gave: an item, or the class of what it raised."""
        if self.may_crash and is_crash(found) and not self.is_closed:
            # It was in the child that another one has ended.
            self.count, self.how = self.taken, "die"
        elif self.can_take():
            if found is DeadlineError is ENDS[self.how]:
                # It came before the handler had made all of its items.
                self.count = self.taken
                return
            assert found == self.taken, (found, vars(self))
            self.taken += 1
        else:
            expected = StopIteration if self.is_closed else ENDS[self.how]
            assert found is expected or (is_crash(found) and is_crash(expected)), (found, vars(self))

    def close(self):
        self.is_closed = True


def read(stream):
    try:
        return next(stream)
    except BaseException as error:
        return type(error)


async def read_later(stream):
    try:
        return await asyncio.wait_for(stream.__anext__(), WAIT)
    except StopAsyncIteration:
        return StopIteration
    except Exception as error:
        return type(error)


async def give_up(stream):
    """Reads in a task that is cancelled, by which no item may be lost; what it read, if that was too late."""
    reading = asyncio.ensure_future(read_later(stream))
    await asyncio.sleep(0)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await reading
    return None


def lives(backend):
    """One or more streams, each with its handler, its window, its count of items, and its end."""
    # A child that dies takes a new one, and a deadline its time: they are the rarer ones.
    hows = ["return"] * 12 + ["raise"] * 8 + ["for ever"] * 8 + ["stall"]
    if backend == "process":
        hows += ["unsendable"] * 4 + ["die"]
    return st.tuples(st.sampled_from([1, 2, 3, 5, 32]), st.integers(0, 12), st.sampled_from(hows))


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["take"] * 8 + ["close", "cancel"])), max_size=30
)


@contextlib.contextmanager
def workers_of(backend):
    """Three workers of a pool, of one child with processes: their coroutines run there at the same time."""
    options = {"max_restarts": None} if backend == "process" else {}
    with WorkerPool(1, backend=backend, **options) as pool:
        workers = [pool.create_worker(f"worker-{number}") for number in range(3)]
        for one in workers:
            one.on_message("numbers", stream_handlers.numbers)
            one.on_message("numbers_later", stream_handlers.numbers_later)
            one.start()
        try:
            yield workers
        finally:
            pool.terminate()


def opened(workers, kind, lives):
    """The streams of an example, and the model of each."""
    found = []
    for index, (window, count, how) in enumerate(lives):
        others = lives[:index] + lives[index + 1 :]
        may_crash = any(other == "die" for _, _, other in others)
        timeout = 0.05 if how == "stall" else None
        stream = workers[index].stream(kind, (count, how), window=window, timeout=timeout, item_timeout=WAIT)
        found.append((stream, Expected(count, how, may_crash)))
    return found


def finish(workers, streams, posted):
    """Reads or closes what is open, and adds up how the messages ended."""
    for stream, expected in streams:
        if expected.how == "for ever":
            stream.close()
            expected.close()
        while expected.can_take():
            expected.check(read(stream))
        expected.check(read(stream))
        # Told twice, and by then its failure has been read.
        expected.check(read(stream))
    posted.extend(streams)
    for one in workers:
        one.run_until_idle(WAIT)
    all_stats = [one.stats() for one in workers]
    assert sum(stats.posted for stats in all_stats) == len(posted)
    for stats in all_stats:
        assert stats.posted == stats.completed + stats.failed + stats.cancelled + stats.expired


def limits(backend):
    # Without shrinking: a life that hangs would hang again and again.
    phases = (Phase.explicit, Phase.generate)
    return settings(max_examples=EXAMPLES[backend], suppress_health_check=list(HealthCheck), phases=phases)


@pytest.mark.slow
@pytest.mark.timeout(60 * FACTOR)
def test_a_stream_that_a_thread_reads_is_as_the_model_says(backend):
    posted = []
    with workers_of(backend) as workers:

        @limits(backend)
        @given(st.sampled_from(["numbers", "numbers_later"]), lives(backend), STEPS)
        def check(kind, life, steps):
            streams = opened(workers, kind, [life])
            ((stream, expected),) = streams
            for _, what in steps:
                if what == "take":
                    expected.check(read(stream))
                elif what == "close":
                    stream.close()
                    expected.close()
            finish(workers, streams, posted)

        check()


@pytest.mark.slow
@pytest.mark.timeout(60 * FACTOR)
def test_streams_that_coroutines_read_at_once_are_as_the_model_says(backend):
    posted = []
    loop = asyncio.new_event_loop()
    with workers_of(backend) as workers, contextlib.closing(loop):

        @limits(backend)
        @given(st.lists(lives(backend), min_size=1, max_size=3), STEPS)
        def check(lives, steps):
            streams = []

            async def live():
                streams.extend(opened(workers, "numbers_later", lives))
                for index, what in steps:
                    stream, expected = streams[index % len(streams)]
                    if what == "take":
                        expected.check(await read_later(stream))
                    elif what == "close":
                        stream.close()
                        expected.close()
                    else:
                        found = await give_up(stream)
                        if found is not None:
                            expected.check(found)

            loop.run_until_complete(live())
            finish(workers, streams, posted)

        check()
