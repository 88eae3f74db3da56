#!/usr/bin/env python3
"""Checks that one name means one thing: a type is called like no other one of the crates and the package.

Left out: tests and models, types within functions, associated types.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Names of several types, and why.
SHARED = {
    "one thing, in Rust and as Python sees it": """
        Batch Blocking Collector DeadLetter DeadLetters Exit Exits HandClock Health Limits PoolHealth
        PoolOptions PoolStats Progress Rate Report Retry Shed Threads TypeStats Worker WorkerError WorkerPool
        WorkerStats""",
    "what both APIs, of Python and of Rust, make of the engine's": """
        Channel Company Fleet Hand Handler Hook Kinds OfKind Planned PoolInner Runner Wishes""",
    "for a platform that has none": "Block Store View Window",
    "a private word: what a lock guards, what a handle refers to, a function to call": "Callback Inner State",
}

RUST = re.compile(r"^(?:pub(?:\([a-z ]+\))? )?(?:unsafe )?(?:struct|enum|trait|union|type) ([A-Z]\w*)", re.M)
PYTHON = re.compile(r"^class (\w+)", re.M)


def definitions(root: Path) -> dict[str, list[str]]:
    """The files that define a type, by its name."""
    found = defaultdict(list)
    for path in sorted([*root.glob("crates/*/src/**/*.rs"), *root.glob("python/pytoweb/**/*.py")]):
        where = path.relative_to(root).as_posix()
        if re.search(r"/(tests|models|testing)(/|\.rs$)", where):
            continue
        text = path.read_text(encoding="utf-8")
        for name in sorted(set((RUST if path.suffix == ".rs" else PYTHON).findall(text))):
            found[name].append(where)
    return found


def complaints(root: Path, shared: dict[str, str]) -> list[str]:
    """What is wrong: a name of several types that is not listed, and a listed one that is of one alone."""
    several = {name: ", ".join(files) for name, files in definitions(root).items() if len(files) > 1}
    listed = {name for names in shared.values() for name in names.split()}
    new, gone = sorted(several.keys() - listed), sorted(listed - several.keys())
    return [
        *(f"{name} is defined in {several[name]}: rename one" for name in new),
        *(f"{name} is defined once, or nowhere: take it out of SHARED" for name in gone),
    ]


if __name__ == "__main__":
    wrong = complaints(ROOT, SHARED)
    for line in wrong:
        print(f"names: {line}", file=sys.stderr)
    sys.exit(bool(wrong))
