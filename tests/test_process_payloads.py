"""What crosses between processes: data and replies, of every size, equal on both sides."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import gc
import os

import process_handlers as handlers
import pytest

from pytoweb.workers import PythonWorker

try:
    # Here, because its import starts threads that stay.
    import numpy
except ImportError:
    numpy = None

WAIT = 15.0
KIB = 1 << 10
MIB = 1 << 20
INLINE = 16 * KIB
RING = 256 * KIB
EDGES = [0, 1, 2, 63, 64, 65, 4095, 4096, INLINE - 1, INLINE, INLINE + 1, RING - 1, RING, RING + 1]

VALUES = [
    None,
    True,
    0,
    -(2**200),
    1.5,
    "",
    "text \u00e4 \U0001f600 \x00",
    b"",
    (),
    [],
    {},
    set(),
    [1, [2, [3, {"four": (5, {6})}]]],
    {"a": b"x" * 100, ("b", 1): [None, ...]},
    frozenset({1, "two"}),
    decimal.Decimal("0.1"),
    datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
    collections.OrderedDict(a=1, b=2),
    collections.deque([1, 2], maxlen=3),
    array.array("d", [1.0, 2.5]),
    range(3, 30, 4),
    3 + 4j,
    "x" * 100_000,
    list(range(50_000)),
    ["x" * 20_000] * 20,
    [os.urandom(5_000) for _ in range(40)],
]


NAMES = [f"{type(value).__name__}-{number}" for number, value in enumerate(VALUES)]
"""The same in every process that collects the tests, so not of texts that hashes or chance decide."""


@pytest.fixture(scope="module")
def echoing():
    """A process worker for the whole file, warm before the first test looks at what is there."""
    one = PythonWorker("echoing", backend="process")
    for kind, handler in handlers.ANSWERING.items():
        one.on_message(kind, handler)
    with one:
        assert len(one.ask("echo", b"x" * MIB).result(WAIT)) == MIB
        yield one


@pytest.mark.parametrize("value", VALUES, ids=NAMES)
def test_values_come_back_equal(echoing, value):
    back = echoing.ask("echo", value).result(WAIT)
    assert type(back) is type(value)
    assert back == value


def test_one_object_twice_in_a_payload_stays_one(echoing):
    inner = [1]
    first, second = echoing.ask("echo", [inner, inner]).result(WAIT)
    assert first is second
    cycle = []
    cycle.append(cycle)
    back = echoing.ask("echo", cycle).result(WAIT)
    assert back[0] is back


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("kind", [bytes, bytearray, str])
def test_every_size_crosses_both_ways(echoing, kind, size):
    data = handlers.pattern(size)
    value = data.decode("latin-1") if kind is str else kind(data)
    assert echoing.ask("length", value).result(WAIT) == size
    back = echoing.ask("echo", value).result(WAIT)
    assert type(back) is kind
    assert back == value


@pytest.mark.parametrize("size", EDGES)
def test_buffers_of_every_size_arrive_as_they_are(echoing, size):
    data = handlers.pattern(size)
    for value in (bytearray(data), memoryview(data), memoryview(bytearray(data))):
        kind, content = echoing.ask("describe_payload", value).result(WAIT)
        assert kind == type(value).__name__
        assert content == data


@pytest.mark.parametrize("size", [INLINE - 100, INLINE + 100, RING - 100, RING + 100])
def test_what_surrounds_a_payload_counts_with_its_size(echoing, size):
    value = {
        "head": list(range(50)),
        "body": handlers.pattern(size),
        "tail": "end",
        "buffer": bytearray(size),
    }
    assert echoing.ask("echo", value).result(WAIT) == value


@pytest.mark.parametrize("around", [INLINE, RING])
def test_every_size_near_an_edge_crosses(echoing, around):
    sizes = range(around - 40, around + 40)
    futures = [echoing.ask("echo", handlers.pattern(size)) for size in sizes]
    assert all(future.result(WAIT) == handlers.pattern(size) for future, size in zip(futures, sizes))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_sixty_four_mebibytes_cross_both_ways(echoing, kind):
    value = kind(handlers.pattern(64 * MIB))
    back = echoing.ask("echo", value).result(WAIT)
    assert type(back) is kind
    assert back == value


def test_many_large_payloads_at_once_do_not_mix(echoing):
    values = [bytes([number]) * (RING + number) for number in range(100)]
    futures = [echoing.ask("echo", value) for value in values]
    assert [future.result(WAIT) for future in futures] == values


def test_large_and_small_ones_keep_their_order(remote, tmp_path):
    one, path = remote(), str(tmp_path / "handled")
    for number in range(100):
        one.post_message("write", (path, number, b"x" * (RING + 1 if number % 3 == 0 else 10)))
    one.run_until_idle(WAIT)
    assert handlers.noted(path) == [str(number) for number in range(100)]


@pytest.mark.parametrize("size", [10, INLINE + 1, RING + 1])
def test_what_arrives_may_be_written_to(echoing, size):
    for value in (bytearray(size), memoryview(bytearray(size))):
        assert echoing.ask("is_writable", value).result(WAIT)
    back = echoing.ask("overwrite", bytearray(size)).result(WAIT)
    assert back == bytearray([255]) + bytearray(size - 1)
    back[1] = 7
    assert back[:3] == b"\xff\x07\x00"
    assert not echoing.ask("is_writable", bytes(size)).result(WAIT)


@pytest.mark.parametrize("size", [10, INLINE + 1, RING + 1])
def test_what_is_changed_after_the_post_does_not_change_the_message(remote_blocked, remote_gate, size):
    one = remote_blocked()
    data, nested = bytearray(size), {"list": [1, 2]}
    first, second = one.ask("echo", data), one.ask("echo", nested)
    data[0], nested["list"] = 9, "changed"
    remote_gate.open()
    assert first.result(WAIT) == bytearray(size)
    assert second.result(WAIT) == {"list": [1, 2]}


def test_a_reply_is_the_host_s_own(echoing):
    first = echoing.ask("echo", bytearray(RING))
    kept = first.result(WAIT)
    view = memoryview(kept)
    for number in range(20):
        echoing.ask("echo", bytes([number + 1]) * RING).result(WAIT)
    assert bytes(view) == bytes(RING), "the block of a reply is not used anew while it is held"
    assert first.result() is kept


def test_numpy_arrays_cross_and_may_be_written_to(echoing, require):
    require(numpy is not None, "numpy")
    for value in (
        numpy.arange(10),
        numpy.arange(100_000, dtype="float64").reshape(1000, 100),
        numpy.asfortranarray(numpy.arange(60_000, dtype="int32").reshape(300, 200)),
        numpy.arange(100_000)[::3],
        numpy.zeros(0),
        numpy.array(["text", None, 3], dtype=object),
    ):
        back = echoing.ask("echo", value).result(WAIT)
        assert back.dtype == value.dtype
        assert numpy.array_equal(back, value)
        assert back.flags.writeable
        back[...] = 0
        if value.size and value.dtype != object:
            changed = echoing.ask("overwrite", value.ravel().copy()).result(WAIT)
            assert changed[0] == 255
    readonly = numpy.arange(100_000)
    readonly.flags.writeable = False
    assert numpy.array_equal(echoing.ask("echo", readonly).result(WAIT), readonly)


def memory_of(pid):
    """Bytes of shared memory that a process has in use."""
    with open(f"/proc/{pid}/status") as lines:
        (size,) = [line.split()[1] for line in lines if line.startswith("RssShmem:")]
    return int(size) * KIB


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["data", "replies"])
def test_memory_comes_back_after_a_burst(remote, require, until, direction):
    require(os.path.exists("/proc/self/status"), "Linux's account of memory")
    one = remote(transport="shared-memory")
    child = one.ask("pid").result(WAIT)
    before = [memory_of(pid) for pid in (os.getpid(), child)]
    value = handlers.pattern(4 * MIB)
    if direction == "data":
        futures = [one.ask("length", value) for _ in range(64)]
        assert [future.result(WAIT) for future in futures] == [len(value)] * 64
    else:
        futures = [one.ask("make_bytes", len(value)) for _ in range(64)]
        assert all(future.result(WAIT) == value for future in futures)
    del futures
    gc.collect()
    # Up to 32 MiB are kept warm for the next payloads on each side; 256 MiB went through.
    for pid, had in zip((os.getpid(), child), before):
        until(lambda pid=pid, had=had: memory_of(pid) - had < 48 * MIB, "the memory")
