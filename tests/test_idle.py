"""What waits costs no processor time: no thread of the library turns while nothing happens.

Judged is processor time, which other programs on the machine do not add to, and not how long something takes.
"""

from __future__ import annotations

import ast
import os
import select
import subprocess
import sys
import threading
import time

import pytest

WAIT = 30.0
SECONDS = 2.0
"""How long the program is watched. Nothing is waited for meanwhile."""
MOST = 0.1
"""The share of a processor that one thread may take. Looks take some thousandths; one that turns takes
all, or half, where other programs want it too."""

EXPECTED = {
    "thread": {
        "pytoweb-standing", "pytoweb-many", "pytoweb-timers", "pytoweb-watch", "pytoweb-prober",
        "pytoweb-expose", "pytoweb-report", "pytoweb-loop", "pytoweb-replies", "pytoweb-soft-limits",
    },
    # Of those that Python does not know the system has 15 characters.
    "process": {
        "pytoweb-standing", "pytoweb-many", "pytoweb-timers", "pytoweb-watch", "pytoweb-prober",
        "pytoweb-expose", "pytoweb-report", "pytoweb-replies", "pytoweb-many-ch", "pytoweb-many-su",
        "pytoweb-host-wa",
    },
}  # fmt: skip
"""Threads that must be among those that are watched, without their numbers. Those that are there for a moment
alone, as while memory is given back or a report of progress waits, are not."""

PROGRAM = '''
import asyncio, concurrent.futures, itertools, os, sys, threading, time
from pytoweb.workers import Limits, PythonWorker, WorkerPool, current_worker

BACKEND = sys.argv[1]


def stand(data):
    # An event of its own: another process cannot have one of this.
    threading.Event().wait()


async def await_forever(data):
    await asyncio.get_running_loop().create_future()


def yield_one(data):
    yield 1
    threading.Event().wait()


async def yield_one_later(data):
    yield 1
    await asyncio.get_running_loop().create_future()


def yield_many(data):
    yield from itertools.count()


def echo(data):
    return data


def report(data):
    current_worker().progress(1, 2)
    current_worker().emit("said", 1)
    threading.Event().wait()


HANDLERS = [
    stand, await_forever, yield_one, yield_one_later, yield_many, echo, report,
]


def names_of_threads():
    """By its number in the system: the name of each thread that Python knows."""
    return {thread.native_id: thread.name for thread in threading.enumerate()}


def main():
    # Messages that stand in their handlers, and who has them.
    asked = []

    def ask(one, *args, **options):
        asked.append((one, one.ask(*args, **options)))
        return asked[-1][1]

    def in_thread(function, *args):
        name = f"waits in {function.__name__}"
        threading.Thread(target=function, args=args, daemon=True, name=name).start()

    def worker_of(name, **options):
        # No child is killed for the deadline that passes.
        extra = {"grace": 600.0} if BACKEND == "process" else {}
        worker = PythonWorker(name, backend=BACKEND, **extra, **options)
        for handler in HANDLERS:
            worker.on_message(handler.__name__, handler)
        worker.on_error(lambda error: None)
        return worker.start()

    pool = WorkerPool(3, backend=BACKEND, name="many")
    pool.on_message("stand", stand)
    pool.expose()
    report_of_pool = pool.report("run.html").start()

    # One waiting handler of each kind, with what waits behind it, and what waits for it.
    standing = worker_of("standing", capacity=2)
    first = ask(standing, "stand", timeout=3600)
    in_thread(first.result)
    in_thread(first.exception)
    in_thread(concurrent.futures.wait, [first])
    in_thread(lambda: list(concurrent.futures.as_completed([first])))
    in_thread(standing.run_until_idle)
    for number in range(2):
        standing.post_message("stand", number, f"id {number}")
    in_thread(standing.post_message, "stand", 3)
    in_thread(standing.post_message, "stand", 4, "id 4")
    standing.every(0.5, "stand")
    limited = worker_of("limited", limits=Limits(stuck_after=0.1))
    limited.on_message("soft", stand, soft_timeout=3600)
    ask(limited, "soft")
    awaiting = worker_of("awaiting")
    ask(awaiting, "await_forever")
    late = worker_of("late")
    late.ask("echo").result()
    while not late.stats().running:
        # One that is past its deadline runs on; where the machine is busy it may not have begun by then.
        past = late.ask("stand", timeout=0.5)
        concurrent.futures.wait([past])
    late.post_message("stand", delay=3600)
    # Handlers of the owner's side that wait, and what waits for them.
    replied = worker_of("replied", capacity=1)
    replied.on_message("response", stand)
    for number in range(2):
        replied.post_message("echo", number, f"id {number}")
    in_thread(replied.post_message, "echo", 2, "id 2")
    reporting = worker_of("reporting")
    reporting.on_event("said", stand)
    ask(reporting, "report").on_progress(lambda progress: None)

    # Streams whose reader waits, and one whose handler waits for its reader.
    for name in ("yield_one", "yield_one_later"):
        stream = worker_of(name).stream(name)
        assert next(stream) == 1
        in_thread(next, stream)
    unread = worker_of("unread").stream("yield_many", window=1)
    next(unread)

    # A handler that waits for another worker's reply, and a call of map.
    if BACKEND == "thread":
        outer = worker_of("outer")
        outer.on_message("ask", lambda data: standing_too.ask("stand").result())
        standing_too = worker_of("standing too")
        ask(outer, "ask")
    for _ in range(3):
        ask(pool, "stand")
    in_thread(lambda: list(pool.map(stand, range(8))))

    # A program that asks from an event loop.
    async def wait_in_loop():
        await asyncio.gather(awaiting.aask("stand"), standing.apost_message("stand", 5), first)

    in_thread(asyncio.run, wait_in_loop())

    # Stopped, and waited for.
    ending = worker_of("ending")
    last = ending.ask("stand")
    while ending.explain(last).state != "running":
        time.sleep(0.01)
    in_thread(ending.stop)

    # Until all of it is under way: children are started, and have begun what they were sent.
    while any(one.explain(future).state != "running" for one, future in asked):
        time.sleep(0.01)
    print(repr(names_of_threads()), flush=True)
    # Watched from here on, until the test ends the program.
    threading.Event().wait()


if __name__ == "__main__":
    main()
'''


def ticks_of(pid):
    """By thread of that process: its name in the system, and its processor time in seconds."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as file:
                head, _, fields = file.read().rpartition(")")
        except OSError:
            # It has ended meanwhile.
            continue
        user, system = fields.split()[11:13]
        found[int(thread)] = (
            head.partition("(")[2], (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"),
        )  # fmt: skip
    return found


def children_of(pid):
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:
            found += map(int, file.read().split())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_threads_that_wait_take_no_processor_time(tmp_path, snippet_env, backend, require):
    require(os.path.exists("/proc/self/task"), "threads are looked at in /proc")
    script = tmp_path / "waiting.py"
    script.write_text(PROGRAM, encoding="utf-8")
    program = subprocess.Popen(
        [sys.executable, str(script), backend],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path, env=snippet_env, text=True,
    )  # fmt: skip
    try:
        assert select.select([program.stdout], [], [], WAIT)[0], "it is not settled"
        line = program.stdout.readline()
        assert line, "it has ended"
        names = ast.literal_eval(line)
        pids = [program.pid, *children_of(program.pid)]
        before = {pid: ticks_of(pid) for pid in pids}
        began = time.monotonic()
        threading.Event().wait(SECONDS)
        taken = time.monotonic() - began
        after = {pid: ticks_of(pid) for pid in pids}
    finally:
        # Its children end with it.
        program.kill()
        program.wait(WAIT)
        program.stdout.close()
    shares = {}
    for place, pid in enumerate(pids):
        for thread, (name, seconds) in after[pid].items():
            if place == 0:
                name = names.get(thread, name)
            known = before[pid].get(thread, (name, 0.0))[1]
            shares[f"{'host' if place == 0 else 'child'}: {name} {thread}"] = (seconds - known) / taken
    short = {name.partition(": ")[2].partition(" ")[0].rstrip("0123456789").rstrip("-") for name in shares}
    assert EXPECTED[backend] <= short
    turning = {name: share for name, share in shares.items() if share > MOST}
    assert not turning
