"""Replies by id are bounded by the mailbox's capacity: posts wait, are refused or are dropped for them."""

from __future__ import annotations

import asyncio
import logging
import queue

import process_handlers
import pytest

from pytoweb.workers import MailboxFullError, Retry, WorkerStoppedError

WAIT = 10.0
CAPACITY = 5
#: As many messages as the mailbox holds, and the one that runs.
PLACES = CAPACITY + 1
MANY = 40


@pytest.fixture
def replying(worker, gate):
    """Returns `replying(**options)`: a worker with reply handlers that stand in the gate, and their ids."""

    def make(backend="thread", **options):
        one = worker("replying", backend=backend, capacity=CAPACITY, **options)
        one.on_message("echo", process_handlers.echo)
        one.on_message("fail", process_handlers.fail)
        one.on_error(lambda error: None)
        replies = []

        def handle(message):
            gate()
            replies.append(message.id)

        one.on_message("response", handle)
        one.on_message("error", handle)
        one.start()
        return one, replies

    return make


def fill(one, until, gate, kind="echo"):
    """Posts as many messages with an id as there are places, and waits until their replies wait."""
    for number in range(PLACES):
        one.post_message(kind, number, f"first {number}")
        if number == 0:
            gate.wait_entered()
    until(lambda: one.stats().depth + one.stats().running == 0, "the end of the messages")


@pytest.mark.parametrize("kind", ["echo", "fail"])
def test_a_post_waits_for_the_reply_handler(replying, backend, gate, spawn, until, kind):
    one, replies = replying(backend)
    ids = [f"id {number}" for number in range(MANY)]
    posting = spawn(lambda: [one.post_message(kind, None, own) for own in ids])
    gate.wait_entered()
    until(lambda: one.stats().posted == PLACES, "all places taken")
    assert not posting.done()
    # Messages without an id go past.
    assert one.ask("echo", "asked").result(WAIT) == "asked"
    assert one.stats().posted == PLACES + 1
    gate.open()
    posting.result(WAIT)
    until(lambda: len(replies) == MANY, "the replies")
    assert replies == ids


def test_a_post_is_refused(replying, backend, gate, until):
    one, replies = replying(backend, overflow="reject")
    fill(one, until, gate)
    with pytest.raises(MailboxFullError, match="'response' and 'error' handlers"):
        one.post_message("echo", None, "refused")
    assert one.stats().rejected == 1
    one.post_message("echo", "no id")
    gate.open()
    until(lambda: len(replies) == PLACES, "the replies")
    one.post_message("echo", None, "accepted")
    until(lambda: replies[-1] == "accepted", "its reply")


@pytest.mark.parametrize(("overflow", "taken"), [("drop_newest", 0), ("drop_oldest", PLACES)])
def test_a_post_is_dropped(replying, backend, gate, until, caplog, overflow, taken):
    # Where the oldest makes room, there are twice as many places: its error takes one until it is handled.
    one, replies = replying(backend, overflow=overflow)
    fill(one, until, gate)
    for number in range(taken):
        one.post_message("echo", None, f"second {number}")
        until(lambda: one.stats().depth + one.stats().running == 0, "the end of the message")
    with caplog.at_level(logging.WARNING, "pytoweb.worker"):
        for number in range(MANY):
            one.post_message("echo", None, f"dropped {number}")
    assert one.stats().dropped == MANY
    assert len(caplog.records) == 1
    assert "from 'dropped 0' on" in caplog.text
    gate.open()
    until(lambda: len(replies) == PLACES + taken, "the replies")
    one.post_message("echo", None, "accepted")
    until(lambda: replies[-1] == "accepted", "its reply")
    assert not any("dropped" in reply for reply in replies)


def test_the_oldest_makes_room_and_its_owner_hears_of_it(worker, backend):
    one = worker("oldest", backend=backend, capacity=3, overflow="drop_oldest")
    results, errors = [], {}
    one.on_message("echo", process_handlers.echo)
    one.on_message("response", lambda message: results.append(message.id))
    one.on_message("error", lambda message: errors.update({message.id: message.data["error"]}))
    for number in range(7):
        one.post_message("echo", None, str(number))
    one.start()
    one.stop()
    assert results == ["4", "5", "6"]
    assert sorted(errors) == ["0", "1", "2", "3"]
    assert {type(error) for error in errors.values()} == {MailboxFullError}
    assert one.stats().drops["oldest"] == 4


def test_a_post_waits_only_so_long(replying, gate, until):
    one, _ = replying()
    fill(one, until, gate)
    with pytest.raises(MailboxFullError, match=r"within 0\.01 s"):
        one.post_message("echo", None, "late", timeout=0.01)
    assert one.stats().rejected == 1


@pytest.mark.parametrize("end", ["stop", "terminate"])
def test_a_post_that_waits_hears_of_the_end(replying, gate, spawn, until, end):
    one, _ = replying()
    fill(one, until, gate)
    waiting = spawn(one.post_message, "echo", None, "late")
    if end == "stop":
        stopping = spawn(one.stop)
    else:
        one.terminate()
    assert isinstance(waiting.exception(WAIT), WorkerStoppedError)
    gate.open()
    if end == "stop":
        stopping.result(WAIT)


def test_without_a_handler_no_post_waits(worker):
    one = worker(capacity=CAPACITY)
    one.on_message("echo", lambda data: data)
    one.start()
    for number in range(MANY):
        one.post_message("echo", None, str(number))
    one.run_until_idle(WAIT)
    replies = queue.Queue()
    one.on_message("response", replies.put)
    one.post_message("echo", None, "last")
    kept = [replies.get(timeout=WAIT).id for _ in range(CAPACITY + 1)]
    assert kept == [*(str(number) for number in range(MANY - CAPACITY, MANY)), "last"]


def test_replies_without_a_handler_are_warned_of_once_and_counted(worker, caplog):
    one = worker("forgetful", capacity=CAPACITY)
    one.on_message("echo", lambda data: data)
    one.start()
    with caplog.at_level(logging.WARNING, "pytoweb.worker"):
        for number in range(MANY):
            one.post_message("echo", None, str(number))
        one.run_until_idle(WAIT)
    (record,) = caplog.records
    assert "on_message('response', ...)" in record.getMessage()
    assert "reply=False" in record.getMessage()
    assert f"since that to message {str(CAPACITY)!r} came" in record.getMessage()
    assert one.stats().lost_replies == MANY - CAPACITY


def test_an_id_that_asks_for_no_reply_takes_no_room(worker, backend, until, caplog):
    one = worker(backend=backend, capacity=CAPACITY)
    one.on_message("echo", process_handlers.echo)
    one.on_message("fail", process_handlers.fail)
    one.on_error(lambda error: None)
    heard = queue.Queue()
    one.on_message("response", heard.put)
    one.on_message("error", heard.put)
    one.start()

    async def post(number):
        await one.apost_message("echo", None, f"awaited {number}", reply=False)

    with caplog.at_level(logging.WARNING, "pytoweb.worker"):
        for number in range(MANY):
            one.post_message("echo", None, str(number), reply=False)
            run(post(number))
        one.post_message("fail", "no", "failed", reply=False)
        one.post_message("echo", 7, "asked", reply=True)
        until(lambda: one.explain("asked").state == "done", "the last message")
    # In order: had one of the others a reply, it came before this.
    assert heard.get(timeout=WAIT).id == "asked"
    assert heard.empty()
    assert not caplog.records
    assert one.stats().lost_replies == 0
    assert one.explain("0").outcome == one.explain(f"awaited {MANY - 1}").outcome == "completed"
    assert one.explain("failed").outcome == "failed"
    assert one.explain("failed").error is not None
    with pytest.raises(TypeError, match="reply must be a bool, not str"):
        one.post_message("echo", None, "id", reply="no")


def test_a_dead_letter_of_one_without_a_reply_is_posted_again_without_one(worker, backend, until):
    one = worker(backend=backend)
    one.on_message("fail", process_handlers.fail)
    one.on_error(lambda error: None)
    heard = queue.Queue()
    one.on_message("error", heard.put)
    one.start()
    one.post_message("fail", "no", "silent", retry=Retry(1), reply=False)
    until(one.dead_letters, "the dead letter")
    one.dead_letters()[0].post_again()
    until(lambda: one.stats().failed == 2, "the second end")
    one.post_message("fail", "no", "asked")
    assert heard.get(timeout=WAIT).id == "asked"


def test_a_reply_handler_may_post_the_next_message(worker, backend):
    one = worker(backend=backend, capacity=1)
    one.on_message("add_one", process_handlers.add_one)
    ended = queue.Queue()

    def handle(message):
        number = message.data["result"]
        if number == MANY:
            ended.put(number)
        else:
            one.post_message("add_one", number, str(number))

    one.on_message("response", handle)
    one.start()
    # As many at once as there are places.
    one.post_message("add_one", 0, "a")
    one.post_message("add_one", 0, "b")
    assert [ended.get(timeout=WAIT) for _ in range(2)] == [MANY, MANY]


def test_a_reply_handler_that_would_wait_for_itself_is_told(worker, backend, until):
    one = worker(backend=backend, capacity=CAPACITY)
    one.on_message("echo", process_handlers.echo)
    heard = queue.Queue()

    def handle(message):
        try:
            for number in range(MANY):
                one.post_message("echo", None, f"{message.id} {number}")
        except MailboxFullError as error:
            heard.put(str(error))

    one.on_message("response", handle)
    one.start()
    one.post_message("echo", None, "first")
    assert "deadlock" in heard.get(timeout=WAIT)
    one.on_message("response", lambda message: None)
    until(lambda: one.ask("echo", 1).result(WAIT) == 1, "the worker")


def run(main):
    return asyncio.run(asyncio.wait_for(main, WAIT))


@pytest.mark.parametrize("is_async", [True, False])
def test_coroutines_wait_for_the_reply_handler(worker, backend, is_async):
    one = worker(backend=backend, capacity=CAPACITY)
    one.on_message("echo", process_handlers.echo)
    one.start()

    async def main():
        ids = [f"id {number}" for number in range(MANY)]
        replies, all_here, most, under_way = [], asyncio.Event(), 0, 0

        def take(message):
            replies.append(message.id)
            if len(replies) == MANY:
                all_here.set()

        async def take_slowly(message):
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            take(message)

        one.on_message("response", take_slowly if is_async else take)
        with pytest.raises(MailboxFullError):
            # The loop is held up, and takes no reply meanwhile.
            for own in ids:
                one.post_message("echo", None, own)
        left = ids[one.stats().posted :]
        await asyncio.gather(*(one.apost_message("echo", None, own) for own in left))
        await all_here.wait()
        return replies == ids, most <= PLACES

    assert run(main()) == (True, True)


@pytest.mark.parametrize("awaits", [True, False])
def test_a_coroutine_that_takes_a_reply_may_post_the_next_message(worker, awaits):
    one = worker(capacity=1)
    one.on_message("add_one", process_handlers.add_one)
    one.start()

    async def main():
        ended = asyncio.Queue()

        async def handle(message):
            number = message.data["result"]
            await asyncio.sleep(0)
            if number == MANY:
                ended.put_nowait(number)
            elif awaits:
                await one.apost_message("add_one", number, str(number))
            else:
                one.post_message("add_one", number, str(number))

        one.on_message("response", handle)
        await one.apost_message("add_one", 0, "a")
        return await ended.get()

    assert run(main()) == MANY


def test_a_closed_loop_gives_the_room_of_its_replies_back(worker, until):
    one = worker(capacity=CAPACITY)
    one.on_message("echo", lambda data: data)
    one.start()

    async def register():
        one.on_message("response", lambda message: None)

    # Given: a loop that ends with all places taken by replies on the way to it.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(register())
    for number in range(PLACES):
        one.post_message("echo", None, str(number))
    one.run_until_idle(WAIT)
    loop.close()

    # When: there is a handler elsewhere.
    replies = queue.Queue()
    one.on_message("response", replies.put)
    for number in range(MANY):
        one.post_message("echo", None, f"heard {number}")

    # Then: no post waits for the loop.
    assert [replies.get(timeout=WAIT).id for _ in range(MANY)] == [
        f"heard {number}" for number in range(MANY)
    ]
