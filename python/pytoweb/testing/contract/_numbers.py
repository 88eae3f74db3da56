"""The contract of ``stats``: what is counted, by type, and how old, how long and how busy."""

from __future__ import annotations

import json
import operator
from concurrent.futures import wait

from pytoweb.testing import _handlers, frozen_clock
from pytoweb.workers import Retry

from ._subject import WAIT, Subject, check_adds_up

__all__ = ["NumbersContract", "PoolNumbersContract"]


class NumbersContract(Subject):
    """What one worker tells of itself."""

    def test_messages_are_counted_by_type(self) -> None:
        """Those that were begun, each under its type, with its times, also without a handler."""
        one = self.worker()
        futures = [one.ask("add_one", number) for number in range(20)]
        futures += [one.ask(kind, None) for kind in ("fail", "echo", "unknown", "fail")]
        wait(futures, WAIT)
        one.run_until_idle(WAIT)
        types = one.stats().types
        assert {kind: (of.completed, of.failed) for kind, of in types.items()} == {
            "add_one": (20, 0), "fail": (0, 2), "echo": (1, 0), "unknown": (0, 1),
        }  # fmt: skip
        times = types["add_one"]
        assert times.run_p50 is not None
        assert times.run_max is not None
        assert 0 < times.run_p50 <= times.run_max
        assert types["add_one"].as_dict()["completed"] == 20

    def test_a_type_that_is_spelled_anew_each_time_is_one_type(self) -> None:
        """What counts is the text."""
        one = self.worker()
        futures = [one.ask("".join(["e", "ch", "o"]), number) for number in range(5)]
        wait(futures, WAIT)
        one.run_until_idle(WAIT)
        assert one.stats().types["echo"].completed == 5

    def test_the_names_of_types_without_handlers_do_not_pile_up(self) -> None:
        """The first 128 types are told apart; the others are counted together."""
        one = self.worker()
        futures = [one.ask(f"unknown {number}") for number in range(140)]
        wait(futures, WAIT)
        one.run_until_idle(WAIT)
        types = one.stats().types
        assert len(types) == 129
        assert types["(others)"].failed == 12
        assert sum(of.failed for of in types.values()) == one.stats().failed == 140

    def test_the_last_of_several_attempts_counts_as_the_outcome(self) -> None:
        """The others are counted as retried; a message that fails for good is dead."""
        one = self.new_worker()
        one.on_message("until", _handlers.fail_until, retry=Retry(3, backoff=0))
        one.on_message("never", _handlers.fail, retry=Retry(2, backoff=0))
        one.start()
        assert one.ask("until", (self.path(), 3)).result(WAIT) == 3
        assert one.ask("never").exception(WAIT) is not None
        one.run_until_idle(WAIT)
        stats = one.stats()
        until, never = stats.types["until"], stats.types["never"]
        assert (until.completed, until.failed, until.retried) == (1, 0, 2)
        assert (never.completed, never.failed, never.retried) == (0, 1, 1)
        assert (stats.retried, stats.dead, stats.failed) == (3, 1, 1)

    def test_the_age_of_the_oldest_message_grows_until_it_is_begun(self) -> None:
        """It is that of the one that has waited longest."""
        with frozen_clock() as clock:
            one, gate = self.blocked()
            assert one.stats().oldest_age is None
            one.post_message("echo")
            clock.advance(2.5)
            one.post_message("echo")
            clock.advance(1)
            assert one.stats().oldest_age == 3.5
            gate.open()
            one.run_until_idle(WAIT)
            assert one.stats().oldest_age is None

    def test_messages_of_a_worker_that_was_not_started_grow_old(self) -> None:
        """Its age is known at any time."""
        with frozen_clock() as clock:
            one = self.new_worker()
            one.post_messages("echo", range(100))
            clock.advance(60)
            assert one.stats().oldest_age == 60
            one.start().run_until_idle(WAIT)
            assert one.stats().oldest_age is None

    def test_utilisation_is_that_of_the_seconds_just_gone(self) -> None:
        """A handler that runs counts up to now, not only once it has returned."""
        with frozen_clock() as clock:
            one = self.worker()
            one.ask("echo").result(WAIT)
            one.run_until_idle(WAIT)
            clock.advance(40)
            one.on_message("gate", gate := self.gate())
            one.post_message("gate")
            gate.wait_entered()
            clock.advance(20)
            stats = one.stats()
            assert (stats.utilisation_1s, stats.utilisation_10s) == (1, 1)
            assert abs(stats.utilisation_60s - 1 / 3) < 0.01
            assert abs(stats.utilisation - 1 / 3) < 0.01
            assert stats.busy_seconds >= 20
            gate.open()
            one.run_until_idle(WAIT)
            clock.advance(5)
            stats = one.stats()
            assert stats.utilisation_1s == 0
            # What a process was busy with is known to the clock of its own.
            if self.backend == "thread":
                assert abs(stats.utilisation_10s - 0.5) < 0.01

    def test_percentiles_do_not_fall_and_the_longest_is_the_last(self) -> None:
        """Of the times that messages waited and ran."""
        one = self.worker()
        wait([one.ask("echo", number) for number in range(200)], WAIT)
        one.run_until_idle(WAIT)
        stats = one.stats()
        for what in ("wait", "run"):
            times = [getattr(stats, f"{what}_{part}") for part in ("p50", "p90", "p99", "max")]
            assert times == sorted(times), what

    def test_the_numbers_go_into_json(self) -> None:
        """With all that belongs to them."""
        one = self.worker()
        one.ask("echo").result(WAIT)
        one.run_until_idle(WAIT)
        told = json.loads(json.dumps(one.stats().as_dict()))
        assert told["types"]["echo"]["completed"] == told["completed"] == 1
        assert told["drops"] == {"oldest": 0, "newest": 0, "replaced": 0}

    def test_what_the_children_use_is_told(self) -> None:
        """Of each process that is there; a worker with a thread has none."""
        one = self.worker()
        one.ask("echo").result(WAIT)
        stats = one.stats()
        assert len(stats.children) == stats.processes == (1 if self.backend == "process" else 0)
        for child in stats.children:
            assert child.pid > 0
            assert child.memory_bytes is None or child.memory_bytes > 1 << 20
            assert child.cpu_seconds is None or child.cpu_seconds >= 0


class PoolNumbersContract(Subject):
    """What a pool tells of itself."""

    def test_the_types_of_a_pool_are_those_of_its_mailbox_and_its_workers(self) -> None:
        """Functions are counted by their names."""
        some = self.pool(2)
        one = self.equip(some.create_worker("one")).start()
        some.on_message("echo", _handlers.echo)
        futures = [place.ask("echo", number) for place in (one, some) for number in range(10)]
        futures += [some.submit(operator.neg, number) for number in range(7)]
        futures += [some.submit(_handlers.add_one, number) for number in range(5)]
        assert list(some.map(_handlers.add_one, range(6), chunksize=3, timeout=WAIT)) == [1, 2, 3, 4, 5, 6]
        wait(futures, WAIT)
        some.run_until_idle(WAIT)
        stats = some.stats()
        completed = {kind: of.completed for kind, of in stats.types.items()}
        # A chunk of a map is one message; threads have none.
        mapped = 2 if self.backend == "process" else 6
        assert completed == {"echo": 20, "neg": 7, "add_one": 5 + mapped}
        assert stats.workers["one"].types["echo"].completed == 10
        check_adds_up(stats)

    def test_the_oldest_message_of_a_pool_may_be_a_workers(self) -> None:
        """Of all that are queued in it."""
        with frozen_clock() as clock:
            some = self.pool(1)
            one = some.create_worker("not started")
            one.post_message("echo")
            clock.advance(7)
            assert some.stats().oldest_age == 7
            assert some.stats().own.oldest_age is None

    def test_the_numbers_of_a_pool_go_into_json(self) -> None:
        """With those of its workers."""
        some = self.pool(1)
        self.equip(some.create_worker("one")).start()
        assert some.submit(operator.neg, 1).result(WAIT) == -1
        some.run_until_idle(WAIT)
        told = json.loads(json.dumps(some.stats().as_dict()))
        assert told["own"]["completed"] == told["completed"] == 1
        assert told["workers"]["one"]["state"] == "running"
        assert told["lock_wait_seconds"] >= 0
