"""Chunks of calls: what `map` sends to processes as one message."""

from __future__ import annotations

import itertools
import pickle

import pytest

from pytoweb._chunks import make_chunks, run_chunk


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("iterables", [[range(7)], [range(7), "abcdefghij"], [[], "abc"], [[None] * 5], []])
def test_chunks_are_the_calls_of_zip_in_order(size, iterables):
    chunks = list(make_chunks(size, *iterables))
    calls = list(zip(*iterables))
    assert [call for chunk in chunks for call in zip(*chunk)] == calls
    assert [len(chunk[0]) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)


def test_a_chunk_is_made_when_it_is_asked_for():
    chunks = make_chunks(3, itertools.count(), itertools.count(10))
    assert next(chunks) == ([0, 1, 2], [10, 11, 12])
    assert next(chunks) == ([3, 4, 5], [13, 14, 15])


def test_run_chunk_calls_in_order_and_ends_at_the_first_exception():
    assert run_chunk(divmod, [7, 8], [2, 3]) == [(3, 1), (2, 2)]
    calls = []
    with pytest.raises(ZeroDivisionError):
        run_chunk(lambda number: calls.append(number) or 1 / number, [2, 1, 0, 3])
    assert calls == [2, 1, 0]


def test_run_chunk_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(run_chunk)) is run_chunk
