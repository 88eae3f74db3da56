"""Ctrl-C and ``sys.exit`` of the caller, while its data is pickled and while its reply is unpickled."""

from __future__ import annotations

import asyncio
import signal

import process_handlers as handlers
import pytest

from pytoweb.workers import HandlerError, SerializationError

WAIT = 20.0


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def leave():
    raise SystemExit(7)


INTERRUPTS = {KeyboardInterrupt: ctrl_c, SystemExit: leave}

pending = []
"""What interrupts this process, once each; the child's copy of this module has none."""


def interrupt_here():
    if pending:
        INTERRUPTS[pending.pop()]()


class Fragile:
    """Data whose pickling and unpickling may be interrupted."""

    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        interrupt_here()
        return {"value": self.value}

    def __setstate__(self, state):
        interrupt_here()
        self.__dict__.update(state)


class FragileError(Exception):
    """An exception of that kind."""

    def __setstate__(self, state):
        interrupt_here()


def make(value):
    return Fragile(value)


def raise_it(value):
    error = FragileError(value)
    error.more = value
    raise error


@pytest.mark.parametrize("interrupt", INTERRUPTS)
@pytest.mark.parametrize("call", ["ask", "post_message", "post_messages", "submit", "handler", "local"])
def test_an_interrupt_while_data_is_pickled_passes_as_it_is(remote, pool, interrupt, call):
    one, data = remote(), Fragile(1)

    class Local(Fragile):
        """One that only cloudpickle takes, so it is pickled twice."""

    calls = {
        "ask": lambda: one.ask("echo", data),
        "post_message": lambda: one.post_message("echo", data),
        "post_messages": lambda: one.post_messages("echo", [data]),
        "submit": lambda: pool(1, backend="process").submit(handlers.echo, data),
        "handler": lambda: one.on_message("more", data.__getstate__),
        "local": lambda: one.ask("echo", Local(1)),
    }
    pending.append(interrupt)
    with pytest.raises(interrupt):
        calls[call]()
    assert pending == []
    assert one.ask("echo", data).result(WAIT).value == 1


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_a_reply_whose_unpickling_was_interrupted_can_be_asked_for_again(worker, until, interrupt):
    one = worker(backend="process")
    one.on_message("make", make)
    future = one.start().ask("make", 5)
    until(future.done)
    for ask in (future.result, future.exception, future.result):
        pending.append(interrupt)
        with pytest.raises(interrupt):
            ask(WAIT)
    assert future.exception(WAIT) is None
    assert future.result(WAIT).value == 5
    assert future.result(WAIT) is future.result(WAIT)


def test_a_coroutine_that_was_interrupted_finds_the_reply_too(worker):
    one = worker(backend="process")
    one.on_message("make", make)
    future = one.start().ask("make", 5)

    async def wait():
        return (await future).value

    pending.append(SystemExit)
    with pytest.raises(SystemExit):
        asyncio.run(wait())
    assert asyncio.run(wait()) == 5


def test_threads_that_ask_while_one_is_interrupted_get_the_reply(worker, spawn):
    one = worker(backend="process")
    one.on_message("make", make)
    one.start()
    for number in range(20):
        future = one.ask("make", number)
        pending.append(SystemExit)
        asked = [spawn(future.result, WAIT) for _ in range(4)]
        errors = [one.exception(WAIT) for one in asked]
        assert [type(error) for error in errors if error is not None] == [SystemExit]
        assert {one.result(WAIT).value for one, error in zip(asked, errors) if error is None} == {number}


def test_an_exit_in_the_unpickling_of_an_error_is_no_exit_of_ours(worker):
    one, errors = worker(backend="process"), []
    one.on_message("raise", raise_it)
    one.on_error(errors.append)
    future = one.start().ask("raise", "why")
    pending.append(SystemExit)
    assert isinstance(future.exception(WAIT), HandlerError)
    assert len(errors) == 1
    assert pending == []


def test_an_exit_in_the_unpickling_of_a_reply_by_id_is_its_error(worker, until):
    one, replies = worker(backend="process"), []
    one.on_message("make", make)
    one.on_message("response", replies.append)
    one.on_message("error", replies.append)
    one.start()
    pending.append(SystemExit)
    one.post_message("make", 1, "first")
    one.post_message("make", 2, "second")
    until(lambda: len(replies) == 2)
    assert isinstance(replies[0].data["error"], SerializationError)
    assert replies[1].data["result"].value == 2
