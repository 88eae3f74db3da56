"""Instructions of one message, counted by callgrind: no clock is as exact."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

PYTHON_SHAPES = ("post", "batch", "ask", "priority", "key")
"""Those of ``counted.py``."""
RUST_SHAPES = ("post", "ask", "batch", "retry", "urgent", "key", "keys")
"""Those of ``crates/workers/benches/instructions.rs``, which says what they are."""
MESSAGES = 40_000
RUN_SECONDS = 300


def valgrind() -> str | None:
    """The program that counts, where it is installed."""
    return shutil.which("valgrind")


def _of_run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    counted = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        env={**environment, "PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    found = re.search(r"Collected : (\d+)", counted.stderr)
    if found is None:
        raise ValueError(f"valgrind counted nothing: {counted.stderr[-500:]}")
    return int(found[1])


def of_message(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Instructions of one message: the difference of two runs is that of the messages alone.

    Args:
        command: The program that sends them, without their number, which is its last argument.
        environment: That of the program.

    Raises:
        subprocess.CalledProcessError: The program, or valgrind, failed.
        ValueError: valgrind printed no count.
    """
    half = MESSAGES // 2
    more, fewer = (_of_run([*command, str(count)], environment) for count in (MESSAGES, half))
    return (more - fewer) / (MESSAGES - half)
