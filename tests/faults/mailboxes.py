"""Full mailboxes: every message that is offered is accepted, dropped or rejected, and counted there."""

from __future__ import annotations

import threading
from typing import Any

from .handlers import echo
from .row import WAIT, Trial, row, threads

PRODUCERS = 8
CAPACITY = 16
POLICIES = ("block", "reject", "drop_newest", "drop_oldest")


class Offers:
    """What producers offered, and what became of it as they see it."""

    def __init__(self, worker: Any, trial: Trial, each: int) -> None:
        self.worker, self.trial, self.each = worker, trial, each
        self.lock = threading.Lock()
        self.accepted = self.dropped = self.rejected = self.wrong = 0

    def offer(self, first: int) -> None:
        """Offers every so manieth number, asking for each tenth and posting the others."""
        from pytoweb.workers import MailboxFullError

        futures, rejected = [], 0
        for number in range(first, first + PRODUCERS * self.each, PRODUCERS):
            try:
                if number // PRODUCERS % 10:
                    self.worker.post_message("echo", number)
                else:
                    futures.append((number, self.worker.ask("echo", number)))
            except MailboxFullError:
                rejected += 1
        accepted = dropped = wrong = 0
        for number, future in futures:
            value, error, _ = self.trial.outcome(future)
            dropped += type(error) is MailboxFullError
            accepted += value == number
            wrong += type(error) is not MailboxFullError and value != number
        with self.lock:
            self.accepted += accepted
            self.dropped += dropped
            self.rejected += rejected
            self.wrong += wrong


def offer_all(trial: Trial, policy: str, each: int) -> tuple[int, int]:
    """Fills the mailbox of a worker; returns how many are miscounted, and how many had a wrong end."""
    worker = trial.worker(f"full-{policy}", [echo], capacity=CAPACITY, overflow=policy).start()
    trial.outcome(worker.ask("echo", 0))
    before = worker.stats()
    offers = Offers(worker, trial, each)
    with threads(*(lambda first=first: offers.offer(first) for first in range(PRODUCERS))):
        pass
    worker.run_until_idle(WAIT)
    after = worker.stats()
    completed, dropped, rejected, posted = (
        getattr(after, name) - getattr(before, name)
        for name in ("completed", "dropped", "rejected", "posted")
    )
    offered = PRODUCERS * each
    miscounted = abs(offered - completed - dropped - rejected) + abs(offered - posted - rejected)
    miscounted += abs(rejected - offers.rejected) + after.failed + after.depth + after.running
    # What is asked for is a part of it all, so it bounds it from below.
    miscounted += max(0, offers.accepted - completed) + max(0, offers.dropped - dropped)
    unused = {"block": dropped + rejected, "reject": dropped}.get(policy, rejected)
    trial.tell(f"{policy}: accepted", completed)
    if policy != "block":
        trial.tell(f"{policy}: dropped or rejected", dropped + rejected)
        miscounted += dropped + rejected == 0
    trial.injected += offered
    return miscounted + unused, offers.wrong


@row("full-mailbox", 300)
def full_mailbox(trial: Trial) -> None:
    """Eight producers and a mailbox of sixteen, with each policy; a million posts that block."""
    miscounted = wrong = 0
    for policy in POLICIES:
        each = trial.count(125_000 if policy == "block" else 25_000, least=100)
        policy_miscounted, policy_wrong = offer_all(trial, policy, each)
        miscounted += policy_miscounted
        wrong += policy_wrong
    trial.exactly("offered but not accepted, dropped or rejected", miscounted)
    trial.exactly("wrong ends", wrong)
