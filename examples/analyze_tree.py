"""The longest function of every Python file below a directory, found on every core, one message per file.

    python examples/analyze_tree.py [DIR]

What `python -m pytoweb analyze` does, reduced to its core: a file that crashes its worker costs itself.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import as_completed

from pytoweb.analyze.source import analyze_file
from pytoweb.analyze.tree import find_python_files
from pytoweb.workers import WorkerCrashedError, WorkerPool


def main(directory: str) -> None:
    """Prints a line per file, in the order in which the files get done."""
    tree = find_python_files(directory)
    with WorkerPool(backend="process") as pool:
        pool.on_message("analyze", analyze_file)
        futures = [pool.ask("analyze", os.path.join(tree.root, path)) for path in tree.files]
        for future in as_completed(futures):
            if isinstance(future.exception(), WorkerCrashedError):
                continue  # logged, with the place where it crashed
            facts = future.result()
            if facts.problem is not None:
                print(f"{facts.path}: {facts.problem.reason}")
            elif facts.longest is not None:
                print(f"{facts.path}:{facts.longest.line} {facts.longest.name}, {facts.longest.lines} lines")
        print(f"{pool.stats().completed} files")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(json.__file__))
