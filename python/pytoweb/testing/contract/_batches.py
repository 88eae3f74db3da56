"""The contract of batches: handlers that get a list of messages."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, wait

from pytoweb.testing import _handlers
from pytoweb.workers import (
    Batch,
    BatchItemError,
    DeadlineError,
    HandlerError,
    Retry,
    SerializationError,
    UnknownMessageError,
    WorkerCrashedError,
    WorkerStoppedError,
)

from ._subject import NEVER, WAIT, Subject, raised

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

    from pytoweb.workers import PythonWorker, WorkerFuture

__all__ = ["BatchContract"]

LONG = 60.0
"""A wait for company that no test waits out."""


class BatchContract(Subject):
    """Messages that a handler gets in lists."""

    def batched(self, batch: Batch, handler: Any = _handlers.note_batch, **options: Any) -> PythonWorker:
        """A worker, not started, with a handler of batches for "batch"."""
        one = self.new_worker(**options)
        one.on_message("batch", handler, batch=batch)
        return one

    def ask_all(self, one: PythonWorker, numbers: range, **options: Any) -> list[WorkerFuture[Any]]:
        """Asks for a batch of numbers, which are written down."""
        return [one.ask("batch", (self.path(), number), **options) for number in numbers]

    def lists(self) -> list[list[int]]:
        """The numbers of each batch."""
        return [[int(number) for number in line.split()] for line in self.noted()]

    def test_queued_messages_of_a_type_come_as_a_list_in_order(self) -> None:
        """Of at most so many; each gets the result in its place."""
        one = self.batched(Batch(4))
        futures = self.ask_all(one, range(10))
        one.start()
        assert [future.result(WAIT) for future in futures] == list(range(10))
        assert self.lists() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        one.run_until_idle(WAIT)
        assert one.stats().completed == 10

    def test_messages_between_them_are_no_part_of_it(self) -> None:
        """A batch takes the messages of its type, past those of others, which keep their order."""
        one = self.batched(Batch(8))
        for number in range(6):
            self.ask_all(one, range(number, number + 1))
            one.post_message("write", (self.path("others"), number))
        one.start().run_until_idle(WAIT)
        assert self.lists() == [[0, 1, 2, 3, 4, 5]]
        assert self.noted("others") == [str(number) for number in range(6)]

    def test_posts_are_batched_as_asks_are(self) -> None:
        """One by one, many at once, and with an id."""
        one = self.batched(Batch(8))
        replies: list[Any] = []
        one.on_message("response", lambda message: replies.append((message.id, message.data["result"])))
        one.post_message("batch", (self.path(), 0))
        one.post_messages("batch", [(self.path(), 1), (self.path(), 2)])
        one.post_message("batch", (self.path(), 3), message_id="three")
        one.start().run_until_idle(WAIT)
        assert self.lists() == [[0, 1, 2, 3]]
        self.until(lambda: replies, "the reply")
        assert replies == [("three", 3)]
        assert one.stats().completed == 4

    def test_one_alone_comes_in_a_list_too(self) -> None:
        """At once, without a wait that was not asked for."""
        one = self.batched(Batch(64)).start()
        assert self.ask_all(one, range(1))[0].result(WAIT) == 0
        assert self.lists() == [[0]]

    def test_the_first_waits_for_others_until_there_are_enough(self) -> None:
        """Other types are handled meanwhile."""
        one = self.batched(Batch(3, max_wait=LONG)).start()
        futures = self.ask_all(one, range(2))
        assert one.ask("add_one", 1).result(WAIT) == 2
        done, _ = wait(futures, NEVER)
        assert not done
        futures += self.ask_all(one, range(2, 3))
        assert [future.result(WAIT) for future in futures] == [0, 1, 2]
        assert self.lists() == [[0, 1, 2]]

    def test_the_wait_for_others_has_an_end(self) -> None:
        """Counted from the post of the first one."""
        one = self.batched(Batch(100, max_wait=0.05)).start()
        begun = time.monotonic()
        futures = self.ask_all(one, range(3))
        assert [future.result(WAIT) for future in futures] == [0, 1, 2]
        assert time.monotonic() - begun >= 0.05
        assert [number for numbers in self.lists() for number in numbers] == [0, 1, 2]

    def test_a_full_mailbox_waits_for_no_others(self) -> None:
        """None can come: a batch that is larger than its mailbox runs once that is full."""
        one = self.batched(Batch(100, max_wait=LONG), capacity=4).start()
        futures = self.ask_all(one, range(4))
        assert [future.result(WAIT) for future in futures] == [0, 1, 2, 3]
        assert self.lists() == [[0, 1, 2, 3]]

    def test_one_reply_that_cannot_be_sent_costs_no_other(self) -> None:
        """Nor does one error: it fails with its text."""
        one = self.batched(Batch(4, max_wait=LONG), _handlers.reply_strangely).start()
        kinds = ("error", "plain", "result", "unmade")
        futures = dict(zip(kinds, [one.ask("batch", kind) for kind in kinds]))
        assert futures["plain"].result(WAIT) == "plain"
        errors = {kind: futures[kind].exception(WAIT) for kind in ("error", "unmade")}
        assert all("on purpose" in str(error) for error in errors.values())
        result = futures["result"].exception(WAIT)
        if self.backend == "process":
            assert all(isinstance(error, SerializationError) for error in (*errors.values(), result))
        else:
            assert result is None
        one.run_until_idle(WAIT)
        alone = self.batched(Batch(1), _handlers.reply_strangely).start()
        assert "on purpose" in str(alone.ask("batch", "error").exception(WAIT))

    def test_a_stop_waits_for_no_others(self) -> None:
        """None will come: what is queued is handled."""
        one = self.batched(Batch(100, max_wait=LONG)).start()
        futures = self.ask_all(one, range(3))
        one.stop(timeout=WAIT)
        assert [future.result(0) for future in futures] == [0, 1, 2]

    def test_one_result_that_is_no_list_is_for_all(self) -> None:
        """Also None, and a tuple."""
        for result in (None, "one", (1, 2, 3)):
            one = self.batched(Batch(3, max_wait=LONG), _handlers.Constant(result)).start()
            futures = [one.ask("batch", number) for number in range(3)]
            assert [future.result(WAIT) for future in futures] == [result] * 3

    def test_a_list_of_another_length_fails_all(self) -> None:
        """The error names both lengths."""
        one = self.batched(Batch(3, max_wait=LONG), _handlers.Constant([1, 2])).start()
        for future in [one.ask("batch", number) for number in range(3)]:
            error = future.exception(WAIT)
            assert isinstance(error, HandlerError)
            assert "a list of 2" in str(error)
            assert "3 messages" in str(error)
        one.run_until_idle(WAIT)
        assert one.stats().failed == 3

    def test_an_exception_fails_all_of_the_batch_and_no_other(self) -> None:
        """The error handler is told once for each."""
        told: list[Any] = []
        one = self.batched(Batch(3), _handlers.fail_odd)
        one.on_error(lambda error: told.append(str(error)))
        futures = [one.ask("batch", number) for number in (0, 2, 4, 1, 6, 8)]
        one.post_messages("batch", [3, 5, 7])
        one.start()
        assert [future.result(WAIT) for future in futures[:3]] == [0, 2, 4]
        for future in futures[3:]:
            assert "odd: 1" in str(raised(ValueError, future.result, WAIT))
        one.run_until_idle(WAIT)
        self.until(lambda: len(told) == 6, "the error handler")
        assert sorted(told) == ["odd: 1"] * 3 + ["odd: 3"] * 3
        stats = one.stats()
        assert (stats.completed, stats.failed) == (3, 6)

    def test_an_item_error_in_the_list_fails_that_message_alone(self) -> None:
        """Any number of them."""
        one = self.batched(Batch(4, max_wait=LONG), _handlers.fail_odd_items).start()
        futures = [one.ask("batch", number) for number in range(4)]
        assert [futures[0].result(WAIT), futures[2].result(WAIT)] == [0, 2]
        for number in (1, 3):
            assert str(raised(ValueError, futures[number].result, WAIT)) == f"odd: {number}"
        one.run_until_idle(WAIT)
        assert (one.stats().completed, one.stats().failed) == (2, 2)

    def test_an_item_error_that_is_raised_fails_that_message_alone(self) -> None:
        """The others are completed with None; one that names no message fails all."""
        one = self.batched(Batch(3, max_wait=LONG), _handlers.raise_item).start()
        futures = [one.ask("batch", 1) for _ in range(3)]
        assert [futures[0].result(WAIT), futures[2].result(WAIT)] == [None, None]
        assert "on purpose" in str(raised(KeyError, futures[1].result, WAIT))
        for future in [one.ask("batch", 3) for _ in range(3)]:
            assert "0 to 2" in str(raised(HandlerError, future.result, WAIT))

    def test_one_that_is_cancelled_in_the_queue_is_not_in_the_list(self) -> None:
        """Nor is one whose deadline has passed."""
        one = self.batched(Batch(4))
        futures = self.ask_all(one, range(5))
        assert futures[1].cancel()
        late = one.ask("batch", (self.path(), 100), timeout=0.01)
        raised(DeadlineError, late.result, WAIT)
        one.start().run_until_idle(WAIT)
        assert self.lists() == [[0, 2, 3, 4]]
        raised(CancelledError, futures[1].result, WAIT)
        stats = one.stats()
        assert (stats.completed, stats.cancelled, stats.expired) == (4, 1, 1)

    def test_it_is_told_to_stop_once_all_of_it_are(self) -> None:
        """``current_message().cancelled`` is that of the whole batch."""
        one = self.batched(Batch(2, max_wait=LONG), _handlers.until_cancelled).start()
        path = self.path("looks")
        first, second = one.ask("batch", path), one.ask("batch", path)
        _handlers.wait_for(path)
        first.cancel()
        _handlers.wait_for_more(path)
        assert "cancelled" not in self.noted("looks")
        second.cancel()
        self.until(lambda: "cancelled" in self.noted("looks"), "the end of the handler")

    def test_async_handlers_get_lists(self) -> None:
        """With results and errors of the same forms."""
        one = self.batched(Batch(4, max_wait=LONG), _handlers.double_later).start()
        futures = [one.ask("batch", number) for number in (1, 2, -3, 4)]
        assert [futures[place].result(WAIT) for place in (0, 1, 3)] == [2, 4, 8]
        assert "negative" in str(raised(ValueError, futures[2].result, WAIT))
        for future in [one.ask("batch", 0) for _ in range(4)]:
            raised(ZeroDivisionError, future.result, WAIT)
        one.run_until_idle(WAIT)
        assert (one.stats().completed, one.stats().failed) == (3, 5)

    def test_an_async_batch_is_cancelled_once_all_of_it_are(self) -> None:
        """The coroutine goes on for the others before."""
        one = self.batched(Batch(2, max_wait=LONG), _handlers.sleep_and_note).start()
        path = self.path("sleeps")
        first, second = one.ask("batch", path), one.ask("batch", path)
        _handlers.wait_for(path)
        first.cancel()
        assert one.stats().running + one.stats().depth == 2 or self.backend == "process"
        assert self.noted("sleeps") == ["begun"]
        second.cancel()
        self.until(lambda: self.noted("sleeps") == ["begun", "cancelled"], "the end of the coroutine")
        for future in (first, second):
            raised(CancelledError, future.result, WAIT)

    def test_the_handler_can_be_replaced_by_one_without_batches(self) -> None:
        """Queued messages are handled by the handler that is there."""
        one = self.batched(Batch(4))
        futures = [one.ask("batch", number) for number in range(6)]
        one.on_message("batch", _handlers.add_one)
        futures += [one.ask("batch", number) for number in range(6, 9)]
        one.start()
        assert [future.result(WAIT) for future in futures] == list(range(1, 10))
        one.on_message("batch", _handlers.Constant([7]), batch=Batch(1))
        assert one.ask("batch", 1).result(WAIT) == 7

    def test_messages_of_a_key_are_batched_with_their_own(self) -> None:
        """In their order, one batch of a key at a time."""
        one = self.batched(Batch(8))
        for number in range(6):
            self.ask_all(one, range(number, number + 1), key=number % 2)
        one.start().run_until_idle(WAIT)
        assert sorted(self.lists()) == [[0, 2, 4], [1, 3, 5]]

    def retried(self, handler: Any, retry: Retry, batch: Batch, **options: Any) -> PythonWorker:
        """A worker, not started, with a handler of batches for "batch" whose messages are tried again."""
        one = self.new_worker(**options)
        one.on_message("batch", handler, batch=batch, retry=retry)
        one.on_error(lambda error: None)
        return one

    def test_a_batch_that_fails_is_tried_again(self) -> None:
        """Each of its messages; with no jitter they come together, as a rule."""
        one = self.retried(_handlers.fail_batch_until, Retry(3, 0.01, jitter=0), Batch(4))
        futures = [one.ask("batch", (self.path(), number, 3)) for number in range(4)]
        one.start()
        assert [future.result(WAIT) for future in futures] == [0, 1, 2, 3]
        lines = self.lists()
        assert lines[0] == [0, 1, 2, 3]
        assert sorted(number for line in lines for number in line) == sorted([0, 1, 2, 3] * 3)
        one.run_until_idle(WAIT)
        stats = one.stats()
        assert (stats.completed, stats.retried, stats.failed) == (4, 8, 0)
        assert one.dead_letters() == []

    def test_one_of_a_batch_is_tried_again_alone(self) -> None:
        """The others are done; what fails for good is a dead letter with all its errors."""
        told: list[Any] = []
        one = self.retried(_handlers.fail_each_until, Retry(3, 0.001), Batch(4))
        one.on_error(lambda error: told.append(str(error)))
        futures = [one.ask("batch", (self.path(), number, number)) for number in range(4)]
        one.start()
        assert [future.result(WAIT) for future in futures[:3]] == [0, 1, 2]
        assert str(raised(ValueError, futures[3].result, WAIT)) == "3 failed"
        one.run_until_idle(WAIT)
        assert [len(self.noted(f"noted.{number}")) for number in range(4)] == [1, 2, 3, 3]
        self.until(lambda: told == ["3 failed"], "the error handler")
        (letter,) = one.dead_letters()
        assert (letter.data[1], [str(error) for error in letter.errors]) == (3, ["3 failed"] * 3)
        stats = one.stats()
        assert (stats.completed, stats.retried, stats.failed) == (3, 5, 1)

    def test_posts_of_a_batch_are_tried_again_with_their_own_retry(self) -> None:
        """That of the message goes before that of the type."""
        one = self.batched(Batch(8), _handlers.fail_each_until)
        one.on_error(lambda error: None)
        for number in range(4):
            retry = Retry(number, 0.001) if number else None
            one.post_message("batch", (self.path(), number, 9), retry=retry)
        one.start().run_until_idle(WAIT)
        assert [len(self.noted(f"noted.{number}")) for number in range(4)] == [1, 1, 2, 3]
        assert sorted(len(letter.errors) for letter in one.dead_letters()) == [1, 2, 3]

    def test_those_of_a_key_keep_their_places(self) -> None:
        """Before the others of the key, in their order."""
        one = self.retried(_handlers.fail_each_until, Retry(3, 0.01, jitter=0.5), Batch(4))
        for number in range(8):
            one.post_message("batch", (self.path(), number, number in (1, 2)), key="k")
        one.start().run_until_idle(WAIT)
        lines = self.lists()
        assert lines[0] == [0, 1, 2, 3]
        again = [number for line in lines[1:] for number in line]
        assert again == [1, 2, 4, 5, 6, 7]
        assert one.stats().retried == 2

    def test_a_stop_makes_no_more_attempts_of_a_batch(self) -> None:
        """Each fails with what its last one raised."""
        one = self.retried(_handlers.fail_each_until, Retry(3, 3600), Batch(4)).start()
        futures = [one.ask("batch", (self.path(), number, 9)) for number in range(3)]
        self.until(lambda: one.stats().retried == 3, "the first attempts")
        one.stop(timeout=WAIT)
        texts = [str(raised(ValueError, future.result, WAIT)) for future in futures]
        assert texts == ["0 failed", "1 failed", "2 failed"]
        assert len(one.dead_letters()) == 3

    def test_an_async_batch_is_tried_again(self) -> None:
        """By the same rules."""
        one = self.retried(_handlers.double_later, Retry(2, 0.001), Batch(4, max_wait=LONG)).start()
        futures = [one.ask("batch", number) for number in (1, 2, -3, 4)]
        assert [futures[place].result(WAIT) for place in (0, 1, 3)] == [2, 4, 8]
        assert "negative" in str(raised(ValueError, futures[2].result, WAIT))
        one.run_until_idle(WAIT)
        (letter,) = one.dead_letters()
        assert (letter.data, len(letter.errors)) == (-3, 2)
        assert one.stats().retried == 1

    def test_a_crash_is_an_attempt_of_each_message_of_the_batch(self) -> None:
        """They come again, in the child that is there then."""
        if self.backend != "process":
            return
        one = self.retried(_handlers.crash_once_together, Retry(2, 0.001, on=()), Batch(4))
        futures = [one.ask("batch", (self.path(), number)) for number in range(3)]
        one.start()
        assert [future.result(WAIT) for future in futures] == [0, 1, 2]
        assert self.lists()[0] == [0, 1, 2]
        assert one.stats().retried == 3
        other = self.retried(_handlers.crash_together, Retry(2, 0.001), Batch(4))
        futures = [other.ask("batch", number) for number in range(3)]
        other.start()
        for future in futures:
            raised(WorkerCrashedError, future.result, WAIT)
        other.run_until_idle(WAIT)
        letters = other.dead_letters()
        assert [len(letter.errors) for letter in letters] == [2, 2, 2]
        assert all(isinstance(error, WorkerCrashedError) for letter in letters for error in letter.errors)

    def test_a_stop_without_the_queue_fails_what_waits(self) -> None:
        """As messages of other types."""
        one = self.batched(Batch(100, max_wait=LONG)).start()
        futures = self.ask_all(one, range(3))
        one.stop(drain=False, timeout=WAIT)
        for future in futures:
            raised(WorkerStoppedError, future.result, WAIT)
        assert self.lists() == []

    def test_a_type_without_a_handler_is_unknown(self) -> None:
        """Also beside batches."""
        one = self.batched(Batch(2)).start()
        raised(UnknownMessageError, one.ask("other", 1).result, WAIT)

    def test_nonsense_is_refused_by_name(self) -> None:
        """At the call that passes it."""
        assert "size" in str(raised(ValueError, Batch, 0))
        assert "size" in str(raised(ValueError, Batch, 2**16 + 1))
        assert "size" in str(raised(TypeError, Batch, 1.5))
        assert "max_wait" in str(raised(ValueError, Batch, 1, -1))
        assert "max_wait" in str(raised(ValueError, Batch, 1, float("inf")))
        assert "max_wait" in str(raised(TypeError, Batch, 1, "1"))
        assert "size" in str(raised(AttributeError, setattr, Batch(1), "size", 2))
        assert "error" in str(raised(TypeError, BatchItemError, 0, "no"))
        assert "index" in str(raised(ValueError, BatchItemError, -1, ValueError()))
        one = self.new_worker()
        assert "batch" in str(raised(TypeError, one.on_message, "a", _handlers.echo, batch=64))
        assert "batch" in str(raised(ValueError, one.on_message, "error", _handlers.echo, batch=Batch(2)))
        assert Batch(2) == Batch(2, max_wait=0)
        assert repr(Batch(64, max_wait=0.01)) == "Batch(64, max_wait=0.01)"
