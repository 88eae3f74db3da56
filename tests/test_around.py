"""around: what surrounds the handlers of a worker or a pool, on threads and in children."""

from __future__ import annotations

import asyncio
import contextlib
import os

import process_handlers as handlers
import pytest

from pytoweb.workers import PythonWorker, WorkerDecorators, current_message, current_worker

WAIT = 10.0


def noting(events, name):
    """A generator function that notes when it is entered and left."""

    def around():
        events.append(f"+{name}")
        try:
            yield
        finally:
            events.append(f"-{name}")

    return around


def test_they_are_entered_in_the_order_of_registration(worker):
    events = []
    one = worker()
    one.on_message("work", events.append)
    one.around(noting(events, "first"))
    one.start()
    assert one.ask("work", "one").result(WAIT) is None
    one.around(noting(events, "second"))
    one.ask("work", "two").result(WAIT)
    assert events == ["+first", "one", "-first", "+first", "+second", "two", "-second", "-first"]


def test_a_context_manager_will_do_and_the_message_is_there(worker):
    seen = []
    one = worker("seeing")

    @one.around
    @contextlib.contextmanager
    def look():
        seen.append((current_message().type, current_message().data, current_worker() is one))
        yield

    one.around(lambda: contextlib.nullcontext())
    one.on_message("work", lambda data: data)
    assert one.start().ask("work", 1).result(WAIT) == 1
    assert seen == [("work", 1, True)]


def test_a_failure_passes_through_and_so_does_one_of_its_own(worker):
    seen, reported = [], []
    one = worker()
    one.on_error(reported.append)

    @one.around
    def watch():
        try:
            yield
        except KeyError as error:
            seen.append(error)
            raise

    @one.on_message("fail")
    def fail(error):
        raise error

    raised = KeyError("original")
    one.start()
    assert one.ask("fail", raised).exception(WAIT) is raised
    one.post_message("fail", raised)
    one.run_until_idle(WAIT)
    assert seen == [raised, raised]
    assert reported == [raised, raised]

    @one.around
    def refuse():
        raise PermissionError("not you")
        yield

    assert isinstance(one.ask("fail", raised).exception(WAIT), PermissionError)
    assert one.is_alive()


def test_a_swallowed_failure_is_no_reply(worker):
    one = worker()
    one.around(lambda: contextlib.suppress(KeyError))

    @one.on_message("fail")
    def fail(error):
        raise error

    assert one.start().ask("fail", KeyError("swallowed")).result(WAIT) is None


def test_coroutine_handlers_are_surrounded_until_they_end(worker):
    events = []
    one = worker()
    one.around(noting(events, "sync"))

    @one.around
    async def asynchronous():
        await asyncio.sleep(0)
        events.append("+async")
        yield
        events.append("-async")

    @one.on_message("work")
    async def work(data):
        await asyncio.sleep(0)
        events.append(current_message().data)
        return data

    assert one.start().ask("work", 1).result(WAIT) == 1
    assert events == ["+sync", "+async", 1, "-async", "-sync"]
    one.on_message("plain", lambda data: data)
    assert "asynchronous" in str(one.ask("plain").exception(WAIT))


def test_a_handler_that_gives_a_coroutine_is_surrounded_until_that_ends(worker):
    events = []
    one = worker()
    one.around(noting(events, "around"))

    async def work(data):
        await asyncio.sleep(0)
        events.append(data)

    one.on_message("work", lambda data: work(data))
    one.start().ask("work", "work").result(WAIT)
    assert events == ["+around", "work", "-around"]


def test_those_of_a_pool_surround_its_calls_and_its_workers(pool):
    events = []
    two = pool(1)
    before = two.create_worker("before").start()
    two.around(noting(events, "pool"))
    after = two.create_worker("after").start()
    after.around(noting(events, "worker"))
    two.around(noting(events, "too"))
    for worker in (before, after):
        worker.on_message("work", events.append)
        worker.ask("work", worker.name).result(WAIT)
    two.submit(events.append, "submit").result(WAIT)
    assert list(two.map(events.append, ["map"])) == [None]

    @WorkerDecorators.run_in_worker("after", pool=two)
    def decorated():
        events.append("decorated")

    @WorkerDecorators.run_in_worker("async", pool=two)
    async def decorated_too():
        events.append("async")

    decorated()
    asyncio.run(decorated_too())
    outer, inner = ["+pool", "+too"], ["-too", "-pool"]
    assert events == [
        *(*outer, "before", *inner),
        *(*outer, "+worker", "after", "-worker", *inner),
        *(*outer, "submit", *inner),
        *(*outer, "map", *inner),
        *(*outer, "+worker", "decorated", "-worker", *inner),
        *(*outer, "async", *inner),
    ]


def test_they_go_to_the_child(pool, remote):
    one = remote(start=False)
    one.on_message("look", handlers.look_around)
    one.on_message("look later", handlers.look_around_later)
    one.around(handlers.surround)
    one.start()
    pid, depth = one.ask("look").result(WAIT)
    assert (pid != os.getpid(), depth) == (True, 1)
    one.around(handlers.surround)
    assert one.ask("look").result(WAIT) == (pid, 2)
    assert one.ask("look later").result(WAIT) == (pid, 2)

    two = pool(1, backend="process")
    named = two.create_worker("named")
    named.on_message("look", handlers.look_around)
    named.start()
    assert named.ask("look").result(WAIT)[1] == 0
    two.around(handlers.surround)
    assert named.ask("look").result(WAIT)[1] == 1
    assert two.submit(handlers.look_around, None).result(WAIT)[1] == 1
    assert [depth for _, depth in two.map(handlers.look_around, [1, 2], chunksize=2)] == [1, 1]


@pytest.mark.parametrize("hook", [None, 3, "text"])
def test_what_cannot_be_called_is_refused(worker, hook):
    one = worker()
    if hook is None:

        async def hook():
            return None

    with pytest.raises(TypeError):
        one.around(hook)


def test_what_gives_no_context_manager_fails_the_message(worker):
    one = worker()
    one.around(lambda: 3)
    one.on_message("work", lambda data: data)
    error = one.start().ask("work").exception(WAIT)
    assert isinstance(error, TypeError)
    assert "int" in str(error)


def test_a_subclass_may_surround_its_own_handlers(worker):
    class Database(PythonWorker):
        def __init__(self, name):
            super().__init__(name)
            self.open = 0
            self.around(self.connection)

        def connection(self):
            self.open += 1
            yield
            self.open -= 1

        @WorkerDecorators.worker_method("query")
        def query(self, data):
            return self.open

    one = worker("database", cls=Database).start()
    assert [one.ask("query").result(WAIT) for _ in range(2)] == [1, 1]
    assert one.open == 0
