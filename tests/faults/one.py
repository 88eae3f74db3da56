"""The program of one row: ``python -m faults.one NAME RESULT SCALE [--soak]``."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import resource
import sys
import time
import traceback

from conftest import Seen, settle

from . import rows
from .row import START_UP, Trial


class Collect(logging.Handler):
    """Keeps what the pools log: an error that is expected is not for the terminal."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(logging.WARNING)
        self._trial = trial

    def emit(self, record: logging.LogRecord) -> None:
        self._trial.logged.append(record.getMessage()[:300])


def names() -> set[str]:
    """Names in shared memory; not of semaphores, which this project does not use and others do."""
    with contextlib.suppress(FileNotFoundError):
        return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}
    return set()


def main() -> None:
    """Runs a row and writes its figures."""
    name, result, scale = sys.argv[1], sys.argv[2], float(sys.argv[3])
    row = rows()[name]
    trial = Trial(scale, "--soak" in sys.argv)
    seconds = 3600.0 if trial.soak else 0.0
    faulthandler.dump_traceback_later(START_UP + row.seconds * scale + seconds, exit=True)
    # A thousand dumps of cores would fill a disk, and none is read.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logger = logging.getLogger("pytoweb")
    logger.addHandler(Collect(trial))
    logger.propagate = False
    before, named = Seen.now(), names()
    began = time.monotonic()
    try:
        row.run(trial)
    except Exception:
        trial.logged.append(traceback.format_exc())
        trial.exactly("ended by an exception", 1)
    trial.finish()
    left = settle(before)
    left += [f"shared memory {new}" for new in names() - named]
    trial.logged += left
    trial.exactly("left behind", len(left))
    faulthandler.cancel_dump_traceback_later()
    with open(result, "w", encoding="utf-8") as file:
        json.dump(
            {
                "injected": trial.injected,
                "figures": trial.figures,
                "seconds": time.monotonic() - began,
                "logged": trial.logged[-20:],
            },
            file,
        )


if __name__ == "__main__":
    main()
