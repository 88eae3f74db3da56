"""Descriptors, processes and threads that the system refuses: the caller is told, and it works again."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .handlers import echo, pid
from .row import MIB, Trial, row, until

LIMIT = 5.0
"""Seconds within which the caller must be told."""
CROWD = 12
"""Threads of each size that wait."""
STEPS = 14
"""How many more descriptors there are, one after another: each place that needs one is refused once."""


@contextlib.contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    """Lowers a limit of this process for a while."""
    usual = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, usual)


class Tries:
    """Counts how what was tried under a limit ended."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.refused = self.done = self.unclear = self.late = self.useless = 0

    def attempt(self, what: str, function: Callable[[], Any]) -> Any:
        """Tries something that may be refused, by an exception or by a future's."""
        from pytoweb.workers import WorkerError

        self.trial.injected += 1
        began = time.monotonic()
        result = error = None
        try:
            result = function()
            if hasattr(result, "exception"):
                error = self.trial.outcome(result, LIMIT).error
        except Exception as raised:
            error = raised
        self.late += time.monotonic() - began > LIMIT
        self.refused += error is not None
        self.done += error is None
        if error is not None and not isinstance(error, (OSError, RuntimeError, MemoryError, WorkerError)):
            self.unclear += 1
            self.trial.logged.append(f"{what}: {error!r}")
        return result

    def again(self, what: str, worker: Any) -> None:
        """What must work once the resource is back."""
        value, error, _ = self.trial.outcome(worker.ask("echo", what), LIMIT)
        if value != what:
            self.useless += 1
            self.trial.logged.append(f"{what}: afterwards {error!r}")

    def figures(self, least: int) -> None:
        """The figures of a row, of which at least so many attempts must have been refused."""
        trial = self.trial
        trial.tell("refused", self.refused)
        trial.tell("done all the same", self.done)
        trial.exactly("not refused often enough", max(0, least - self.refused))
        trial.exactly("unclear errors", self.unclear)
        trial.exactly("told too late", self.late)
        trial.exactly("useless once the resource was back", self.useless)


class New:
    """A worker that is started, and asked for something."""

    def __init__(self, trial: Trial, name: str) -> None:
        self.worker = trial.worker(name, [echo, pid])

    def __call__(self) -> Any:
        return self.worker.start().ask("echo", 1)


def free_descriptors(count: int) -> list[int]:
    """Fills the holes among the descriptors; a limit of what is returned plus n leaves n."""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    highest = max(int(entry) for entry in os.listdir("/proc/self/fd"))
    while max(opened) < highest:
        opened.append(os.open(os.devnull, os.O_RDONLY))
    return opened


@row("no-descriptors", 120)
def no_descriptors(trial: Trial) -> None:
    """Workers that start, and children that are replaced, with ever more descriptors free."""
    tries = Tries(trial)
    for _ in range(trial.count(10)):
        for more in range(STEPS):
            new, old = New(trial, f"new-{more}"), trial.worker("old", [echo, pid]).start()
            child = trial.outcome(old.ask("pid")).value
            opened = free_descriptors(8)
            try:
                with limited(resource.RLIMIT_NOFILE, max(opened) + 1 + more):
                    tries.attempt(f"new worker, {more} free", new)
                    os.kill(child, signal.SIGKILL)
                    until(lambda child=child: not os.path.exists(f"/proc/{child}"))
                    tries.attempt(f"next child, {more} free", lambda old=old: old.ask("echo", 1))
            finally:
                for number in opened:
                    os.close(number)
            tries.again(f"next child, {more} free", old)
            new.worker.start()
            tries.again(f"new worker, {more} free", new.worker)
            for one in (old, new.worker):
                one.stop(timeout=LIMIT)
    tries.figures(STEPS // 4)


@row("no-processes", 120)
def no_processes(trial: Trial) -> None:
    """An interpreter that cannot be executed for a while."""
    tries = Tries(trial)
    wrapper = trial.path("python")
    with open(wrapper, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.environ["PYTOWEB_PYTHON"] = wrapper
    try:
        for number in range(trial.count(50, least=3)):
            os.chmod(wrapper, 0o700)
            old, new = trial.worker("old", [echo, pid]).start(), trial.worker("new", [echo])
            child = trial.outcome(old.ask("pid")).value
            os.chmod(wrapper, 0o600)
            tries.attempt("new worker", lambda new=new: new.start().ask("echo", 1))
            os.kill(child, signal.SIGKILL)
            until(lambda child=child: not os.path.exists(f"/proc/{child}"))
            tries.attempt("next child", lambda old=old, number=number: old.ask("echo", number))
            os.chmod(wrapper, 0o700)
            for one in (old, new):
                tries.again("an interpreter", one)
                one.stop(timeout=LIMIT)
    finally:
        del os.environ["PYTOWEB_PYTHON"]
    tries.figures(trial.injected)


@contextlib.contextmanager
def crowd() -> Iterator[None]:
    """Threads that take the stacks which the system keeps of threads that have ended."""
    over = threading.Event()
    usual = threading.stack_size()
    waiting = []
    # A kept stack is given to a thread that asks for at least a quarter of it.
    for size in (MIB, 4 * MIB):
        threading.stack_size(size)
        waiting += [threading.Thread(target=over.wait, daemon=True) for _ in range(CROWD)]
        for thread in waiting[-CROWD:]:
            thread.start()
    threading.stack_size(usual)
    try:
        yield
    finally:
        over.set()
        for thread in waiting:
            thread.join(LIMIT)


@row("no-threads", 120)
def no_threads(trial: Trial) -> None:
    """Address space for ever more threads, but not for all that a worker needs."""
    tries = Tries(trial)
    for number in range(trial.count(80, least=8)):
        new = New(trial, f"new-{number}")
        with crowd():
            with open("/proc/self/statm", encoding="ascii") as file:
                used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            # From half a stack of a thread on, in steps of half a stack.
            with limited(resource.RLIMIT_AS, used + (1 + number % 8) * MIB):
                tries.attempt("new worker", new)
        new.worker.start()
        tries.again("threads", new.worker)
        new.worker.stop(timeout=LIMIT)
    tries.figures(trial.injected // 4)


@row("interruptions", 60)
def interruptions(trial: Trial) -> None:
    """A signal each millisecond, which interrupts whatever waits in the system."""
    wrong = 0
    signals = [0]

    def count(number: int, frame: Any) -> None:
        signals[0] += 1

    worker = trial.worker("interrupted", [echo, pid]).start()
    pool = trial.pool(2)
    usual = signal.signal(signal.SIGALRM, count)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        wanted = trial.count(5000, least=200)
        end = time.monotonic() + 60 * max(trial.scale, 0.1)
        number = 0
        while signals[0] < wanted and time.monotonic() < end:
            number += 1
            wrong += trial.outcome(worker.ask("echo", number)).value != number
            wrong += trial.outcome(pool.submit(pow, number, 2)).value != number * number
            if number % 50 == 0:
                child = trial.outcome(worker.ask("pid")).value
                os.kill(child, signal.SIGKILL)
                wrong += trial.outcome(worker.ask("pid")).value == child
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    trial.injected = signals[0]
    trial.exactly("too few signals", max(0, wanted - signals[0]))
    trial.exactly("wrong answers", wrong)
