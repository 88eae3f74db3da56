"""Children that write rubbish into the memory they share with the host: every future ends, work goes on."""

from __future__ import annotations

import asyncio
import sys

import pytest
import scribbling

from pytoweb.workers import WorkerCrashedError

WAIT = 20.0
PLACES = {
    "claims": scribbling.CLAIMS,
    "bells": scribbling.BELLS,
    "counts": scribbling.COUNTS,
    "rings": scribbling.RINGS,
}
#: Never used, every bit set, and what is a state of a claim in every byte: offered, begun, taken back.
VALUES = [0x00, 0xFF, 0x01, 0x02, 0x03]


@pytest.fixture
def scribbler(remote, require):
    """A started worker whose messages are sent ahead, and whose handlers can scribble."""
    require(sys.platform == "linux", "shared memory")
    one = remote("scribbler", start=False, transport="shared-memory")
    one.on_message("fill", scribbling.fill)
    one.on_error(lambda error: None)
    one.start()
    for number in range(50):
        assert one.ask("echo", number).result(WAIT) == number
    return one


def ending(future):
    """How a future ends: with the value, or with the error of a crash. Anything else fails the test."""
    try:
        return future.result(WAIT)
    except WorkerCrashedError as error:
        return error


@pytest.mark.parametrize("value", VALUES, ids=hex)
@pytest.mark.parametrize("place", PLACES)
def test_every_future_ends_after_a_scribble(scribbler, place, value):
    scribbler.ask("echo", 0)
    scribble = scribbler.ask("fill", (*PLACES[place], value))
    after = [scribbler.ask("echo", number) for number in range(50)]

    endings = [ending(future) for future in [scribble, *after]]

    crashes = [end for end in endings if isinstance(end, WorkerCrashedError)]
    expected = ["written", *range(50)]
    assert all(end == right for end, right in zip(endings, expected) if end not in crashes)
    # The worker goes on, in this child or in the next one.
    assert scribbler.ask("echo", "again").result(WAIT) == "again"


def test_the_error_says_what_the_child_did(scribbler):
    crashes = []
    for _ in range(50):
        # While the first runs, the others become a batch, and go to the child together.
        scribbler.ask("echo", 0)
        futures = [scribbler.ask("fill", (*scribbling.CLAIMS, 0))]
        futures += [scribbler.ask("echo", number) for number in range(20)]
        crashes = [end for end in map(ending, futures) if isinstance(end, WorkerCrashedError)]
        if crashes:
            # What was sent ahead of the scribble lost its claim words.
            break
    assert crashes
    assert all("was not taken back" in str(crash) for crash in crashes)


@pytest.mark.slow
def test_a_child_that_keeps_its_host_from_waking_is_heard_late(scribbler):
    async def ask():
        # The loop's thread does not read replies: only the host's own thread can bring this one.
        await asyncio.wait_for(scribbler.ask("fill", (*scribbling.BELLS, 0)), WAIT)
        return await asyncio.wait_for(scribbler.ask("echo", 1), WAIT)

    assert asyncio.run(ask()) == 1


def test_terminate_ends_what_a_scribble_left(scribbler):
    futures = [scribbler.ask("fill", (*scribbling.CLAIMS, 0xFF))]
    futures += [scribbler.ask("loop_forever") for _ in range(3)]
    scribbler.terminate()
    for future in futures:
        # With a value or an error; one that never ends raises TimeoutError here.
        future.exception(WAIT)
    assert all(future.done() for future in futures)
