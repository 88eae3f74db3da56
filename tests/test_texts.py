"""What errors say: who, which message, how long, and what to do about it. One table, a row for each text."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading

import process_handlers
import pytest

from pytoweb.components import Component
from pytoweb.workers import (
    DeadlineError,
    MailboxFullError,
    PythonWorker,
    SerializationError,
    UnknownMessageError,
    WorkerCrashedError,
    WorkerPool,
    WorkerStoppedError,
    current_worker,
)

WAIT = 10.0


def full(worker, overflow="block"):
    """A worker that is not started, with a mailbox of one that is full."""
    one = worker("mail", capacity=1, overflow=overflow)
    one.post_message("send")
    return one


def reject(worker):
    full(worker, "reject").post_message("send")


def no_room(worker):
    full(worker).post_message("send", timeout=0.01)


def block_the_loop(worker):
    one = full(worker)

    async def main():
        one.post_message("send")

    asyncio.run(main())


def no_room_in_a_coroutine(worker):
    asyncio.run(full(worker).apost_message("send", timeout=0.01))


def fill_its_own_mailbox(worker):
    one = worker("mail", capacity=1)
    one.on_message("send", lambda data: None)

    @one.on_message("fill")
    def fill(data):
        for _ in range(2):
            current_worker().post_message("send")

    one.start().ask("fill").result(WAIT)


def fill_its_own_mailbox_in_a_coroutine(worker):
    one = worker("mail", capacity=1)
    one.on_message("send", lambda data: None)

    @one.on_message("fill")
    async def fill(data):
        for _ in range(2):
            await current_worker().apost_message("send")

    one.start().ask("fill").result(WAIT)


def post_to_a_stopped_one(worker):
    one = worker("mail")
    one.stop()
    one.post_message("send")


def start_a_stopped_one(worker):
    one = worker("mail")
    one.stop()
    one.start()


def be_dropped(worker):
    one = worker("mail", capacity=1, overflow="drop_oldest")
    dropped = one.ask("send")
    one.post_message("send")
    dropped.result(WAIT)


def be_stopped(worker):
    one = worker("mail")
    reply = one.ask("send")
    one.stop(drain=False)
    reply.result(WAIT)


def ask_for_an_unknown_type(worker):
    worker("mail").start().ask("send").result(WAIT)


def be_busy(worker):
    one = worker("mail")
    one.post_message("send")
    one.run_until_idle(timeout=0.01)


def post_a_lock_to_a_process(worker):
    worker("mail", backend="process").post_message("send", threading.Lock())


def post_a_reply(worker):
    worker("mail").post_message("response")


FULL = "the mailbox of 'mail' is full (1 message)"
OWN = (
    f"{FULL}: waiting would deadlock, because the caller is this worker's own handler or one that it awaits; "
    "post fewer, or choose another overflow policy"
)
NO_ROOM = f"{FULL}: no room came within 0.01 s; allow more time, or post fewer"
STOPPED = "worker 'mail' is stopped; make a new one to go on"

TEXTS = [
    (reject, MailboxFullError,
     f"{FULL}: post fewer, wait for replies, or choose another overflow policy"),
    (no_room, MailboxFullError, NO_ROOM),
    (no_room_in_a_coroutine, MailboxFullError, NO_ROOM),
    (block_the_loop, MailboxFullError,
     f"{FULL}: waiting would block the event loop: await the same for coroutines, which is apost_message(), "
     "aask(), astream() or afeed()"),
    (fill_its_own_mailbox, MailboxFullError, OWN),
    (fill_its_own_mailbox_in_a_coroutine, MailboxFullError, OWN),
    (post_to_a_stopped_one, WorkerStoppedError, STOPPED),
    (start_a_stopped_one, WorkerStoppedError, STOPPED),
    (be_dropped, MailboxFullError, "dropped from the full mailbox of worker 'mail' as its oldest message"),
    (be_stopped, WorkerStoppedError, "worker 'mail' stopped before it finished this message"),
    (ask_for_an_unknown_type, UnknownMessageError,
     "worker 'mail' has no handler for messages of type 'send'; register one with on_message"),
    (be_busy, DeadlineError, "'mail' is not idle after 0.01 s: queued messages: 1, running: 0"),
    (post_a_lock_to_a_process, SerializationError,
     "the data of a message of type 'send' for worker 'mail' cannot be sent to another process: "
     "pickling it raised TypeError: cannot pickle '_thread.lock' object"),
    (post_a_reply, ValueError,
     "'response' is the owner's side of a reply and cannot be posted; handle it with "
     "on_message('response', handler)"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "kind", "text"), TEXTS, ids=[act.__name__ for act, _, _ in TEXTS])
def test_a_text_names_who_which_and_what_to_do(worker, act, kind, text):
    with pytest.raises(kind) as raised:
        act(worker)
    assert str(raised.value) == text


@pytest.mark.slow
def test_a_deadline_says_whether_the_message_waited_or_ran(worker, remote_gate, backend):
    one = worker("mail", backend=backend)
    one.on_error(lambda error: None)
    one.on_message("send", remote_gate)
    one.on_message("ready", str)
    assert one.start().ask("ready", "").result(WAIT) == ""
    running = one.ask("send", timeout=0.25)
    remote_gate.wait_entered()
    waiting = one.ask("send", timeout=0.02)

    assert str(waiting.exception(WAIT)) == (
        "a message of type 'send' waited 0.02 s, its whole timeout, in the mailbox of worker 'mail' and was "
        "not run: allow it more time, or give the work to more workers"
    )
    assert str(running.exception(WAIT)) == (
        "worker 'mail' was still running a message of type 'send' when its timeout of 0.25 s ended: allow it "
        "more time, or split its work"
    )


def test_the_deadline_of_a_post_says_the_same_to_the_error_handler(worker, gate, until):
    one = worker("mail")
    seen = []
    one.on_error(seen.append)
    one.on_message("send", gate)
    one.start().post_message("send")
    gate.wait_entered()
    one.post_message("send", timeout=0.01)
    late = one.ask("send", timeout=0.02)
    assert isinstance(late.exception(WAIT), DeadlineError)
    gate.open()
    one.stop(timeout=WAIT)
    until(lambda: seen, "the report")
    assert str(seen[0]).startswith("a message of type 'send' waited 0.01 s")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("plain", "'plain'"), ("it's", '"it\'s"'), ("a'b\"c", "'a\\'b\"c'"), ("a\nb\\", "'a\\nb\\\\'")],
)
def test_names_are_quoted_as_python_quotes_them(worker, name, quoted):
    assert quoted == repr(name)
    one = worker(name)
    one.stop()
    with pytest.raises(WorkerStoppedError) as raised:
        one.post_message("send")
    assert str(raised.value).startswith(f"worker {quoted} is stopped")


@pytest.mark.parametrize("method", ["ask", "post_message", "post_messages"])
def test_a_wrong_call_names_no_class_that_users_do_not_know(worker, method):
    with pytest.raises(TypeError, match=rf"^PythonWorker\.{method}\(\) missing 1 required|2 required"):
        getattr(worker("mail"), method)()


METHODS = [
    (kind, name)
    for kind in (PythonWorker, WorkerPool)
    for name in dir(kind)
    if not name.startswith("_") and callable(getattr(kind, name)) and name != "submit"
]
"""All but the one whose keywords are those of the function."""


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_an_unknown_keyword_is_told_with_the_public_name_of_the_method(worker, pool, kind, method):
    one = worker("mail") if kind is PythonWorker else pool(1)
    args = ("name",) if method == "create_worker" else ()
    with pytest.raises(TypeError) as raised:
        getattr(one, method)(*args, message_idx="m-1")
    owner, text = rf"({kind.__name__}|PythonWorker)\.", str(raised.value)
    assert re.match(rf"({owner})?{method}\(\) (got an unexpected keyword|missing \d required)", text), text


def test_a_component_and_a_pool_without_a_function_name_their_methods_too(pool):
    with pytest.raises(TypeError, match=r"^Component\.create_worker\(\) got an unexpected keyword"):
        Component().create_worker("mail", sizes=1)
    for wrong in ((), (None,)):
        with pytest.raises(TypeError, match=r"must be a function to call, .*: submit\(function, "):
            pool(1).submit(*wrong)


def test_a_pool_that_is_shut_down_says_so_in_the_words_of_the_library(pool):
    one = pool(1, name="crew")
    one.shutdown()
    for call in (lambda: one.submit(len, ""), lambda: one.ask("send")):
        with pytest.raises(WorkerStoppedError) as raised:
            call()
        assert str(raised.value) == (
            "cannot schedule new futures after shutdown: pool 'crew' is shut down; make a new one to go on"
        )


ENDING = """
import time
from pytoweb.workers import PythonWorker, WorkerStoppedError

worker = PythonWorker("mail")

@worker.on_message("late")
def late(data):
    end = time.monotonic() + 5
    while worker.state != "stopping" and time.monotonic() < end:
        time.sleep(0.002)
    try:
        worker.post_message("late")
    except WorkerStoppedError as error:
        print(error)

worker.start().post_message("late")
"""


def test_a_post_while_the_program_ends_says_so(run_python):
    done = run_python(ENDING)
    assert done.stdout == (
        "worker 'mail' takes nothing more, because the program is ending: post before the main thread ends\n"
    ), done.stderr


LAMBDA = """
from pytoweb.workers import PythonWorker, SerializationError, WorkerPool

def local():
    return lambda: 1

if __name__ == "__main__":
    pool = WorkerPool(1, backend="process", name="crew")
    worker = PythonWorker("mail", backend="process")
    for call in (lambda: pool.submit(local()), lambda: worker.on_message("send", local())):
        try:
            call()
        except SerializationError as error:
            print(error)
    pool.shutdown()
"""


def test_a_lambda_that_cannot_cross_says_what_helps(run_python, cloudpickle_is):
    cloudpickle_is("absent")
    done = run_python(LAMBDA)
    call, handler = done.stdout.splitlines()
    unsent = "cannot be sent to another process: pickling it raised "
    assert call.startswith(f"a call of 'local.<locals>.<lambda>' {unsent}")
    assert handler.startswith(f"the handler of 'send' of worker 'mail' {unsent}")
    for text in (call, handler):
        assert text.endswith(
            "; put the function into a module, or install cloudpickle (the extra pytoweb[process]), which "
            "takes lambdas and closures"
        )
    assert done.rc == 0, done.stderr


STDIN = """
from pytoweb.workers import SerializationError, WorkerPool

def shout(text):
    return text.upper()

if __name__ == "__main__":
    with WorkerPool(1, backend="process", name="crew") as pool:
        try:
            print(pool.submit(shout, "hi").result(timeout=10))
        except SerializationError as error:
            print(error)
"""


@pytest.mark.parametrize("way", ["-", "-c"])
def test_a_program_without_a_file_says_so(cloudpickle_is, snippet_env, tmp_path, way):
    cloudpickle_is("absent")
    arguments, given = (["-c", STDIN], None) if way == "-c" else (["-"], STDIN)
    done = subprocess.run(
        [sys.executable, *arguments], input=given, env=snippet_env, cwd=tmp_path,
        capture_output=True, text=True, timeout=WAIT, check=True,
    )  # fmt: skip
    assert done.stdout == (
        "the process of pool 'crew' cannot unpickle a message of type 'shout': the program has no file "
        "that could be imported here (it came from standard input, by -c, or was typed in): put the function "
        "into a module, or install cloudpickle (the extra pytoweb[process])\n"
    )


@pytest.mark.slow
def test_a_crash_is_in_its_record_once(remote, caplog):
    one = remote("mail")
    one.on_message("die", process_handlers.abort)
    one.post_message("die")
    one.stop(timeout=WAIT)
    (record,) = [record for record in caplog.records if record.name == "pytoweb.worker.mail"]
    assert issubclass(record.exc_info[0], WorkerCrashedError)
    text = logging.Formatter("%(message)s").format(record)
    assert text.count("worker 'mail' crashed while it handled a message of type 'die'") == 1
    assert text.splitlines()[0] == "worker 'mail' failed to handle a message of type 'die'"


def test_a_failure_is_in_its_record_once(worker, caplog):
    one = worker("mail")
    one.on_message("fail", process_handlers.fail)
    one.start().post_message("fail", "only once")
    one.stop(timeout=WAIT)
    (record,) = [record for record in caplog.records if record.name == "pytoweb.worker.mail"]
    assert logging.Formatter("%(message)s").format(record).count("only once") == 1
