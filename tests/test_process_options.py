"""The options of process workers and pools: what is refused, at the call, and how the error says it."""

from __future__ import annotations

import math

import process_handlers as handlers
import pytest

from pytoweb.workers import PythonWorker, WorkerPool


@pytest.fixture(params=["worker", "pool"])
def make(request):
    """Makes a process worker or a pool with the options; it is refused, so there is nothing to stop."""
    if request.param == "worker":
        return lambda **options: PythonWorker("refused", backend="process", **options)
    return lambda **options: WorkerPool(1, backend="process", **options)


@pytest.mark.parametrize("option", ["max_attempts", "max_messages", "max_memory"])
@pytest.mark.parametrize("value", [0, -1, -(2**70)])
def test_a_count_below_one_is_refused(make, option, value):
    with pytest.raises(ValueError, match=option):
        make(**{option: value})


@pytest.mark.parametrize("option", ["max_attempts", "max_messages", "max_memory", "max_restarts"])
@pytest.mark.parametrize("value", [True, 1.5, "10", b"1", [1], object()])
def test_a_count_that_is_not_an_int_is_refused(make, option, value):
    with pytest.raises(TypeError, match=option):
        make(**{option: value})


def test_attempts_without_a_limit_are_refused(make):
    with pytest.raises(TypeError, match="max_attempts"):
        make(max_attempts=None)


@pytest.mark.parametrize("option", ["max_attempts", "max_messages", "max_memory", "max_restarts"])
def test_a_count_that_no_machine_has_is_refused_by_its_name(make, option):
    with pytest.raises(ValueError, match=f"{option} must be at most"):
        make(**{option: 2**80})


def test_restarts_below_zero_are_refused(make):
    with pytest.raises(ValueError, match="max_restarts"):
        make(max_restarts=-1)


SECONDS = ["restart_window", "grace", "start_timeout"]


@pytest.mark.parametrize("option", SECONDS)
@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, -math.inf])
def test_seconds_that_are_no_time_are_refused(make, option, value):
    if (option, value) == ("grace", 0):
        value = -(10**400)  # no grace at all is one
    with pytest.raises(ValueError, match=option):
        make(**{option: value})


@pytest.mark.parametrize("option", SECONDS)
@pytest.mark.parametrize("value", [None, True, "5", [5]])
def test_seconds_that_are_no_number_are_refused(make, option, value):
    if (option, value) == ("start_timeout", None):
        value = b"1"  # None is no limit
    with pytest.raises(TypeError, match=option):
        make(**{option: value})


@pytest.mark.parametrize("option", SECONDS)
@pytest.mark.parametrize("value", [math.inf, 1e300, 30])
def test_seconds_may_be_any_time(worker, option, value):
    one = worker(backend="process", **{option: value})
    one.on_message("echo", handlers.echo)
    assert one.start().ask("echo", 1).result(10) == 1


@pytest.mark.parametrize("option", ["max_restarts", *SECONDS])
def test_options_of_processes_are_refused_for_threads(worker, option):
    with pytest.raises(ValueError, match=f"{option} is for backend='process'"):
        worker(backend="thread", **{option: 7})


@pytest.mark.parametrize("value", ["", "pigeon", "Socket", 3, b"socket", ["socket"]])
def test_an_unknown_transport_is_refused_with_the_two_names(make, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        make(transport=value)
    for name in ("shared-memory", "socket"):
        assert name in str(caught.value)


def test_the_environment_chooses_the_transport(make, monkeypatch):
    monkeypatch.setenv("PYTOWEB_TRANSPORT", "pigeon")
    with pytest.raises(ValueError, match="pigeon"):
        make()


def test_an_argument_wins_over_the_environment(worker, monkeypatch):
    monkeypatch.setenv("PYTOWEB_TRANSPORT", "pigeon")
    assert worker(backend="process", transport="socket").state == "new"


def test_an_empty_variable_chooses_nothing(worker, monkeypatch):
    monkeypatch.setenv("PYTOWEB_TRANSPORT", "")
    assert worker(backend="process").state == "new"


@pytest.mark.parametrize("backend", ["", "Process", "fork", None, 3, ["process"]])
def test_an_unknown_backend_is_refused_with_the_two_names(backend):
    for make in (lambda: PythonWorker("w", backend=backend), lambda: WorkerPool(1, backend=backend)):
        with pytest.raises((ValueError, TypeError)) as caught:
            make()
        assert "'thread'" in str(caught.value)
        assert "'process'" in str(caught.value)


@pytest.mark.parametrize("option", ["capacity", "overflow"])
def test_what_a_thread_worker_refuses_is_refused_here_too(option):
    with pytest.raises(ValueError, match=option):
        PythonWorker("w", backend="process", **{option: 0 if option == "capacity" else "ring"})


def test_an_unknown_option_is_refused(make):
    with pytest.raises(TypeError):
        make(color="blue")


@pytest.mark.parametrize("timeout", [-1, math.nan, "1", True])
def test_a_bad_timeout_is_refused_at_the_call(worker, timeout):
    one = worker(backend="process")
    for call in (
        lambda: one.ask("work", timeout=timeout),
        lambda: one.post_message("work", timeout=timeout),
        lambda: one.stop(timeout=timeout),
    ):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            call()
    assert one.stats().posted == 0


@pytest.mark.parametrize("handler", [3, "handler", object()])
def test_a_handler_that_is_not_callable_is_refused(worker, handler):
    one = worker(backend="process")
    for register in (lambda: one.on_message("work", handler), lambda: one.on_error(handler)):
        with pytest.raises(TypeError):
            register()


@pytest.mark.parametrize("message_type", ["response", "error"])
def test_the_owners_side_cannot_be_posted_to(worker, message_type):
    one = worker(backend="process")
    for post in (one.ask, one.post_message, lambda kind: one.post_messages(kind, [1])):
        with pytest.raises(ValueError, match=message_type):
            post(message_type)
