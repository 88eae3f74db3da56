"""``os.fork()`` under load: the child is told at once or makes its own, the parent notices nothing."""

from __future__ import annotations

from .row import Trial, percentile, row
from .scripts import finished

NEW = 20
"""Of so many forked processes, one makes a pool of its own."""

SCRIPT = """
import json, logging, os, select, signal, struct, sys, threading, time, warnings
logging.disable()
warnings.simplefilter("ignore", DeprecationWarning)
warnings.simplefilter("ignore", RuntimeWarning)
from faults.book import Book
from faults.handlers import echo, pid
from pytoweb.workers import ForkedProcessError, PythonWorker, WorkerPool

count, new, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
times = Book(path, 8 * 2 * count)
pool = WorkerPool(1, backend="process")
worker = PythonWorker("alone", backend="process")
worker.on_message("echo", echo)
worker.on_message("pid", pid)
before = worker.start().ask("pid").result(20)
over = threading.Event()
wrong = [0]

def load():
    number = 0
    while not over.is_set():
        number += 1
        wrong[0] += worker.ask("echo", number).result(20) != number
        wrong[0] += pool.submit(pow, number, 2).result(20) != number * number

loading = [threading.Thread(target=load) for _ in range(2)]
for thread in loading:
    thread.start()
# Not started, so that its future is pending for as long as forks go on.
waiting = PythonWorker("waiting", backend="process")
future = waiting.ask("echo", 1)

def child(number):
    if number % new == 0:
        with WorkerPool(1, backend="process") as own:
            assert own.submit(pow, 2, 3).result(20) == 8
        return
    longest, own = 0.0, time.process_time()
    for attempt in (
        lambda: worker.post_message("echo", 1), lambda: worker.ask("echo", 1), lambda: pool.submit(pow, 2, 2),
        lambda: worker.stop(), lambda: future.result(5),
    ):
        began = time.monotonic()
        try:
            attempt()
        except ForkedProcessError:
            longest = max(longest, time.monotonic() - began)
        else:
            sys.exit(3)
    own = time.process_time() - own
    struct.pack_into("dd", times.pages, 16 * number, longest, own)

codes, hangs = {}, 0
for number in range(count):
    forked = os.fork()
    if forked == 0:
        child(number)
        sys.exit(0)
    handle = os.pidfd_open(forked)
    if not select.select([handle], [], [], 20)[0]:
        hangs += 1
        os.kill(forked, signal.SIGKILL)
    os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])
    codes[str(code)] = codes.get(str(code), 0) + 1
over.set()
for thread in loading:
    thread.join(20)
same = worker.ask("pid").result(20) == before
failed = worker.stats().failed + pool.stats().failed
made = [number for number in range(count) if number % new]
longest, own = ([times.stamped(2 * number + column) for number in made] for column in (0, 1))
worker.stop()
waiting.stop()
pool.shutdown()
wrong = wrong[0] + failed
told = {"codes": codes, "hangs": hangs, "wrong": wrong, "same": same, "longest": longest, "own": own}
print(json.dumps(told))
"""


@row("forks-under-load", 400)
def forks_under_load(trial: Trial) -> None:
    """A thousand forks of a host whose pools work."""
    import json

    count = trial.count(1000, least=NEW)
    done = finished(SCRIPT, str(count), str(NEW), trial.path("times"), limit=20 + 0.35 * count)
    told = json.loads(done.stdout) if done.rc == 0 else {}
    trial.logged += [done.stderr[-2000:]] if done.stderr else []
    longest = told.get("longest", [])
    trial.injected = sum(told.get("codes", {}).values())
    trial.logged.append(f"exit codes of forked processes: {told.get('codes')}")
    trial.exactly("exit code of the parent", -1000 if done.rc is None else done.rc)
    trial.exactly("forks", trial.injected, count)
    trial.exactly("forked processes that ended otherwise", trial.injected - told.get("codes", {}).get("0", 0))
    trial.exactly("forked processes that hung", told.get("hangs", 1))
    trial.exactly("parent affected", told.get("wrong", 1) + (not told.get("same")))
    trial.exactly("printed", len(done.stderr))
    trial.tell("ForkedProcessError median", 1e3 * percentile(longest, 0.5), " ms")
    trial.at_most("ForkedProcessError p99", 1e3 * percentile(longest, 0.99), 10, " ms")
    trial.tell("ForkedProcessError max", 1e3 * max(longest, default=float("inf")), " ms")
    # Without the time in which others had the cores: the longest may not be hidden behind a percentile.
    own = told.get("own", [])
    trial.at_most(
        "ForkedProcessError max, own time of all calls", 1e3 * max(own, default=float("inf")), 10, " ms"
    )
