"""Too much memory: over the limit of the worker, or refused by the system."""

from __future__ import annotations

import signal

import process_handlers as handlers

from .handlers import run_out_of_memory
from .row import MIB, Trial, memory, row

LIMIT = 200 * MIB
MUCH = 4096 * MIB


@row("out-of-memory", 120)
def out_of_memory(trial: Trial) -> None:
    """Handlers that grow past ``max_memory``, and handlers that the system refuses memory."""
    from pytoweb.workers import WorkerCrashedError

    worker = trial.worker(
        "grown", [handlers.grow_memory, handlers.echo, handlers.pid, run_out_of_memory],
        max_memory=LIMIT, max_restarts=1,
    ).start()  # fmt: skip
    trial.outcome(worker.ask("echo"))
    before = memory()
    unclear = neighbours = survived = same = 0
    for number in range(trial.count(50, least=3)):
        pid = trial.outcome(worker.ask("pid")).value
        ahead = worker.ask("echo", number)
        future = worker.ask("grow_memory", MUCH)
        behind = [worker.ask("echo", number) for _ in range(10)]
        error = trial.outcome(future).error
        clear = isinstance(error, WorkerCrashedError) and error.signal == signal.SIGKILL
        unclear += not clear or not all(word in str(error) for word in ("memory", str(LIMIT), "grow_memory"))
        neighbours += sum(trial.outcome(one).value != number for one in [ahead, *behind])
        same += trial.outcome(worker.ask("pid")).value == pid
        trial.injected += 1
    for _ in range(trial.count(50, least=3)):
        pid = trial.outcome(worker.ask("pid")).value
        survived += type(trial.outcome(worker.ask("run_out_of_memory")).error) is not MemoryError
        survived += trial.outcome(worker.ask("pid")).value != pid
        trial.injected += 1
    trial.exactly("unclear errors", unclear)
    trial.exactly("neighbours failed", neighbours)
    trial.exactly("not replaced", same)
    trial.exactly("no MemoryError, or a new child for it", survived)
    trial.exactly("worker failed", worker.state != "running")
    trial.at_most("growth of the host", (memory() - before) / MIB, 32, " MiB")
