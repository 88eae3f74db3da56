"""`initializer` of a worker and of the default pool; `test_process_start.py` has that of a pool."""

from __future__ import annotations

import sys
import threading

import process_handlers as handlers
import pytest

from pytoweb.workers import WorkerCrashedError, default_pool

WAIT = 10.0


@pytest.fixture(autouse=True)
def no_default_initializer(monkeypatch):
    """The default pools of other tests have none."""
    from pytoweb import _pool

    monkeypatch.setattr(_pool, "_default_initializers", {})


def test_the_initializer_of_a_worker_runs_before_its_handlers(worker, backend, tmp_path):
    path = str(tmp_path / "initialized")
    one = worker(backend=backend, initializer=handlers.initialize, initargs=(path, "word"))
    one.on_message("initialized", handlers.initialized)
    pid, word = one.start().ask("initialized").result(WAIT)
    assert (word, handlers.noted(path)) == ("word", [f"{pid} word"])


def test_the_initializer_of_a_worker_that_raises_is_the_reason_of_what_fails(worker, backend, tmp_path):
    one = worker(
        backend=backend, initializer=handlers.fail_to_initialize, initargs=(str(tmp_path / "initialized"),)
    )
    one.on_message("echo", handlers.echo)
    one.on_error(lambda error: None)
    error = one.start().ask("echo").exception(WAIT)
    assert isinstance(error, WorkerCrashedError)
    assert type(error.__cause__) is ValueError, "its own exception, not a copy of its text"
    assert "no database today" in str(error)


def test_the_initializer_runs_before_the_handlers_are_looked_up(worker, tmp_path, monkeypatch):
    (tmp_path / "needs_setup.py").write_text(
        "import process_handlers\n"
        "assert process_handlers.state.get('initialized') == 'ready'\n"
        "def answer(data):\n"
        "    return 42\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(handlers.state, "initialized", "ready")
    import needs_setup

    one = worker(backend="process", initializer=handlers.initialize, initargs=(str(tmp_path / "i"), "ready"))
    one.on_message("answer", needs_setup.answer)
    assert one.start().ask("answer").result(WAIT) == 42
    del sys.modules["needs_setup"]


def test_the_initializer_belongs_to_the_pool_of_a_worker(pool):
    with pytest.raises(ValueError, match="WorkerPool"):
        pool(1).create_worker("one", initializer=print)


def test_the_initializer_of_a_worker_must_be_callable(worker, backend):
    with pytest.raises(TypeError, match="initializer"):
        worker(backend=backend, initializer="setup")


def test_the_default_pool_takes_an_initializer_before_it_is_used(backend, tmp_path):
    path = str(tmp_path / "initialized")
    one = default_pool(backend, initializer=handlers.initialize, initargs=(path, "word"))
    assert one.submit(handlers.initialized, None).result(WAIT)[1] == "word"
    assert default_pool(backend) is one
    assert default_pool(backend, initializer=handlers.initialize, initargs=(path, "word")) is one
    with pytest.raises(RuntimeError, match="in use already"):
        default_pool(backend, initializer=threading.Event)
    one.shutdown()
    again = default_pool(backend)
    assert again is not one
    assert again.submit(handlers.initialized, None).result(WAIT)[1] == "word"
