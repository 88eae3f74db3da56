"""`create_worker(name, pin=True)`: one thread of its own for all messages of a worker of a pool."""

from __future__ import annotations

import operator
import sqlite3
import threading

import pytest

from pytoweb.workers import WorkerPool

WAIT = 10.0


def ident(data=None):
    return threading.get_ident()


@pytest.fixture
def pinned(pool):
    """Returns `pinned(**options)`: a pool of two and a started worker of it with a thread of its own."""

    def make(**options):
        many = pool(2, name="shared", **options)
        one = many.create_worker("pinned", pin=True)
        one.on_message("ident", ident)
        return many, one

    return make


def test_all_its_messages_run_on_one_thread_that_no_other_has(pinned, gates):
    many, one = pinned()
    seen, hooked = set(), []
    others = [many.create_worker(f"other-{number}") for number in range(4)]
    one.on_start(lambda: hooked.append(ident()))
    one.on_error(lambda error: hooked.append(ident()))
    one.start()
    for other in others:
        other.on_message("ident", ident)
        other.start()
    elsewhere = {future.result(WAIT) for other in others for future in [other.ask("ident")] * 20}
    for _ in range(50):
        seen.add(one.ask("ident").result(WAIT))
    # Nor after its handler has waited for another one, whose place another thread may take.
    one.on_message("ask", lambda data: (others[0].ask("ident").result(WAIT), ident())[1])
    seen |= {one.ask("ask").result(WAIT), one.ask("ident").result(WAIT)}
    with pytest.raises(ZeroDivisionError):
        one.on_message("fail", lambda data: 1 / 0)
        one.ask("fail").result(WAIT)

    assert len(seen) == 1
    assert set(hooked) == seen
    assert not seen & elsewhere
    assert one.pool is many
    assert many.get_worker("pinned") is one


def test_its_handler_leaves_the_threads_of_the_pool_alone(pinned, gate):
    many, one = pinned()
    one.on_message("gate", gate)
    one.start().post_message("gate")
    gate.wait_entered()
    both = threading.Barrier(2)
    assert sorted(f.result(WAIT) for f in [many.submit(both.wait, WAIT) for _ in range(2)]) == [0, 1]
    assert many.stats().threads == 3
    assert many.stats().workers["pinned"].running == 1


def test_a_sqlite_connection_stays_usable(pinned):
    _, one = pinned()
    kept = []
    one.on_start(lambda: kept.append(sqlite3.connect(":memory:")))
    one.on_message("sql", lambda sql: kept[0].execute(sql).fetchall())
    one.start()
    one.ask("sql", "create table t (n)").result(WAIT)
    for number in range(20):
        one.post_message("sql", f"insert into t values ({number})")
    assert one.ask("sql", "select count(*), sum(n) from t").result(WAIT) == [(20, 190)]
    one.on_message("close", lambda data: kept.pop().close())
    one.ask("close").result(WAIT)


def test_its_thread_is_initialized_as_those_of_the_pool(pinned):
    prepared = []
    _, one = pinned(initializer=lambda: prepared.append(ident()))
    assert [one.start().ask("ident").result(WAIT)] == prepared


@pytest.mark.parametrize("end", ["shutdown", "with", "stop", "remove", "stop_all", "terminate"])
def test_it_ends_with_its_pool_or_by_itself(pinned, end):
    many, one = pinned()
    thread = one.start()._pytoweb_call(threading.current_thread, (), None, False).result(WAIT)
    if end == "shutdown":
        many.shutdown()
    elif end == "with":
        with many:
            pass
    elif end == "stop":
        one.stop(timeout=WAIT)
    elif end == "remove":
        many.remove_worker("pinned")
    elif end == "stop_all":
        many.stop_all(timeout=WAIT)
    else:
        one.terminate()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert one.state == "stopped"


def test_what_it_has_queued_is_finished_at_the_exit(run_python):
    done = run_python("""
from pytoweb.workers import WorkerPool
one = WorkerPool(2).create_worker("pinned", pin=True)
one.on_message("print", lambda data: print(data, flush=True))
one.start().post_messages("print", range(3))
""")
    assert (done.rc, done.stdout.split(), done.stderr) == (0, ["0", "1", "2"], "")


def test_a_process_worker_is_pinned_anyway(pool):
    one = pool(2, backend="process").create_worker("pinned", pin=True)
    one.on_message("negate", operator.neg)
    assert one.start().ask("negate", 1).result(WAIT) == -1


@pytest.mark.parametrize("pin", [None, 1, "yes"])
def test_what_is_no_bool_is_refused(pool, pin):
    with pytest.raises(TypeError, match="pin"):
        pool(1).create_worker("pinned", pin=pin)


def test_it_is_collected_with_its_pool(until):
    import gc
    import weakref

    many = WorkerPool(1)
    one = many.create_worker("pinned", pin=True)
    one.on_message("ident", ident)
    gone = weakref.ref(one)
    del many, one
    gc.collect()
    until(lambda: gone() is None)
