"""The longest function of every Python file below a directory, found on every core, one message per file.

    python examples/analyze_tree.py [DIR]

A file that crashes its worker, as deeply nested source can, costs itself and no other.
"""

from __future__ import annotations

import ast
import sys
from concurrent.futures import as_completed
from pathlib import Path

from pytoweb.workers import WorkerCrashedError, WorkerPool


def longest_function(path: Path) -> str:
    """Runs in a worker: returns where the longest function is, or why there is none."""
    try:
        tree = ast.parse(path.read_bytes())
    except Exception as error:  # unreadable, no Python, nested too deeply
        return f"{path}: {error}"
    found = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    sizes = {f"{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in found}
    longest = max(sizes, key=sizes.__getitem__, default="")
    return f"{path}:{longest}, {sizes[longest]} lines" if longest else f"{path}: no function"


def main(directory: str) -> None:
    """Prints a line per file, in the order in which the files get done."""
    with WorkerPool(backend="process") as pool:
        pool.on_message("longest", longest_function)
        for future in as_completed([pool.ask("longest", path) for path in Path(directory).rglob("*.py")]):
            if not isinstance(future.exception(), WorkerCrashedError):  # logged, with the place of the crash
                print(future.result())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
