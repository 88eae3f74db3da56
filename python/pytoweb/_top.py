"""``python -m pytoweb top``: chooses a program and prints what it says, or hands it to the live view.

The live view is in `_top_view.py`, because it needs `rich` and a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys

from pytoweb._exposing import VARIABLE
from pytoweb._top_client import ProgramConnection, ProgramEnded, TopError, found_programs, sockets
from pytoweb._top_text import printable, stack_lines

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]


def main(options: Any) -> int:
    """Shows a program. Returns the exit code."""
    try:
        if not hasattr(socket, "AF_UNIX"):
            raise TopError("this platform has no Unix sockets, which this needs")
        if not (options.json or options.stacks):
            # Before a program is looked for: it would be in vain.
            view = _view()
        program = ProgramConnection(options.socket or _path_of(options.pid))
        with contextlib.closing(program):
            if options.stacks:
                stacks = program.ask("stacks")
                print(json.dumps(stacks, indent=2) if options.json else "\n".join(stack_lines(stacks)))
                return 0
            if options.json:
                print(json.dumps(program.ask("snapshot"), indent=2))
                return 0
            return int(view(program, options.interval))
    except TopError as error:
        print(f"python -m pytoweb top: {error}", file=sys.stderr)
        return error.code
    except ProgramEnded:
        print("the program has ended")
        return 0


def _view() -> Any:
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        raise TopError("the live view needs a terminal: --json and --stacks print once, to anywhere", 2)
    try:
        import rich  # noqa: F401
    except ImportError:
        raise TopError(
            "the live view needs the package rich: pip install 'pytoweb[top]' (--json and --stacks do not)"
        ) from None
    from pytoweb._top_view import watch

    return watch


def _path_of(pid: int | None) -> str:
    """The socket of a process, or of the only program."""
    if pid is not None:
        for path, number in sockets():
            if number == pid:
                return path
        raise TopError(f"process {pid} is not exposed, or not by this user: {_how()}")
    programs = found_programs()
    if not programs:
        raise TopError(f"no program of this user is exposed: {_how()}")
    if len(programs) > 1:
        lines = "\n".join(f"  --pid {number:<8} {printable(name)}" for number, _, name in programs)
        raise TopError(f"several programs are exposed; choose one:\n{lines}", 2)
    return programs[0][1]


def _how() -> str:
    return f"call pool.expose() or worker.expose() there, or start it with {VARIABLE}=1"
