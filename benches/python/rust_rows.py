"""The Rust rows: builds and runs the crate beside this folder and gives its samples their targets."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from row import AT_LEAST, AT_MOST, Row, Side

CRATE = Path(__file__).resolve().parent.parent / "rust"
TARGET = CRATE / "target"
BUILD_SECONDS = 900
RUN_SECONDS = 180

TARGETS = {
    "rust-ask-actors": (AT_LEAST, 3.0),
    "rust-ask-rayon": (AT_LEAST, 1.0),
    "rust-producers": (AT_LEAST, 1.5),
    "rust-round-trip": (AT_MOST, 1.0),
    "rust-workers-1000": (AT_MOST, 1.5),
    "rust-workers-10000": (AT_MOST, 1.5),
    "rust-control-priority": (AT_MOST, 2.0),
    "rust-control-key": (AT_MOST, 2.0),
    "rust-control-million-keys": (AT_MOST, 3.0),
}
"""Bound and ratio by the name the crate prints; a row without an entry gives context only."""

ROWS = (*TARGETS, "rust-ask-default", "rust-ask-by-hand", "rust-post")
"""All the crate prints."""


def with_flags(flags: str) -> dict[str, str]:
    """The environment with these flags of the compiler behind those that are there."""
    if not flags:
        return dict(os.environ)
    return {**os.environ, "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {flags}".strip()}


def build(target: Path = TARGET, flags: str = "") -> None:
    """Builds the crate in release; the compiler's messages go to standard error.

    Args:
        target: The directory to build in.
        flags: More of the compiler's flags, behind those of the environment.

    Raises:
        subprocess.CalledProcessError: The build failed.
    """
    # As in the Makefile: a lock file that does not fit is an error in CI and mended elsewhere.
    locked = ["--locked"] if os.environ.get("CI") else []
    subprocess.run(
        ["cargo", "build", "--release", "--target-dir", str(target), *locked],
        cwd=CRATE,
        env=with_flags(flags),
        check=True,
        timeout=BUILD_SECONDS,
        stdout=subprocess.DEVNULL,
    )


def run(*, quick: bool, only: str = "", target: Path = TARGET, arguments: Sequence[str] = ()) -> list[Row]:
    """Runs the crate as built in ``target`` and returns its rows whose name contains ``only``."""
    binary = target / "release" / "pytoweb-benches"
    command = [str(binary), *(["--quick"] if quick else []), "--only", only, *arguments]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=RUN_SECONDS)
    return [_row(part) for part in json.loads(printed.stdout)["rows"]]


def _row(part: dict[str, Any]) -> Row:
    bound, target = TARGETS.get(part["name"], (AT_LEAST, None))
    return Row(
        name=part["name"],
        title=part["title"],
        unit=part["unit"],
        ours=Side(part["ours"]["label"], part["ours"]["samples"]),
        peers=[Side(peer["label"], peer["samples"]) for peer in part["peers"]],
        bound=bound,
        target=target,
        notes=part["notes"],
    )
