"""What a figure was measured on: the header of the table and of the JSON document."""

from __future__ import annotations

import datetime
import gc
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = "pytoweb"
UNKNOWN = "unknown"
COMMAND_SECONDS = 10


def _output(command: list[str], directory: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=directory, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or UNKNOWN


def _commit(root: Path) -> str:
    commit = _output(["git", "rev-parse", "--short=12", "HEAD"], root)
    changed = _output(["git", "status", "--porcelain"], root)
    return commit if commit == UNKNOWN or not changed else f"{commit} with changes"


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def cores_used() -> int:
    """Returns how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(root: Path, *, pinned: bool) -> dict[str, Any]:
    """Returns processor, system, versions, commit and date.

    Args:
        root: The repository, for the commit.
        pinned: Whether the run was limited to one core.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_used": cores_used(),
        "pinned": pinned,
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gc_thresholds": list(gc.get_threshold()),
        "rustc": _output(["rustc", "--version"], root),
        PACKAGE: _version(),
        "commit": _commit(root),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
