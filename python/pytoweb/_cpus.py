"""How many CPUs this process may use."""

from __future__ import annotations

import os
import sys


def usable_cpus() -> int:
    """As ``os.process_cpu_count()``, which came with Python 3.13: at least 1.

    ``-X cpu_count`` and ``PYTHON_CPU_COUNT`` come first, then the CPUs that the scheduler may put this
    process on.
    """
    newest = getattr(os, "process_cpu_count", None)
    if newest is not None:
        return newest() or 1
    asked = sys._xoptions.get("cpu_count")
    if asked is None and not sys.flags.ignore_environment:
        asked = os.environ.get("PYTHON_CPU_COUNT")
    if isinstance(asked, str) and asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
