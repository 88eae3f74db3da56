"""``python -m pytoweb``: facts for bug reports, and the view of a running program."""

from __future__ import annotations

import argparse
import os
import sys

TYPE_CHECKING = False  # True to type checkers; importing typing for it costs 3 ms.
if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a shell reports of a program that Ctrl-C ended.
INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytoweb", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="print facts for a bug report")
    info.add_argument("--json", action="store_true", help="as JSON")

    top = commands.add_parser(
        "top",
        help="watch the workers of a running program",
        description="Watches the workers of a running program, which has called expose() on a worker or "
        "pool, or was started with PYTOWEB_EXPOSE=1.",
    )
    which = top.add_mutually_exclusive_group()
    which.add_argument(
        "--pid", type=int, metavar="N", help="the number of its process; else the only one there is"
    )
    which.add_argument("--socket", metavar="PATH", help="its socket, as expose() returns it")
    top.add_argument(
        "--json", action="store_true", help="print the numbers once, as JSON; with --stacks the stacks"
    )
    top.add_argument("--stacks", action="store_true", help="print the stack of each handler that runs, once")
    top.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="S", help="seconds from look to look (1)"
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be from 0.1 to 3600 seconds, not {text}")
    return seconds


def _run(options: argparse.Namespace) -> int:
    if options.command == "info":
        from pytoweb import _info

        return _info.main(options.json)
    from pytoweb import _top

    return _top.main(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0, or 1 for what failed, 2 for wrong arguments, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        code = _run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone away; the interpreter would find that out again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
