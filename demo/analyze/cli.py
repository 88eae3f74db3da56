"""The command line: `python demo COMMAND`.

A command is a module with `NAME`, `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> exit code`.
It is imported at every start, so it imports what it needs inside `run`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from analyze import command as analyze
from analyze.console import EXIT_SIGNAL, CommandError
from pytoweb import __version__

COMMANDS = (analyze,)


def make_parser() -> argparse.ArgumentParser:
    """Builds the parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="pytoweb",
        description="Background workers for Python and Rust, and what they can do for you.",
        epilog="'pytoweb COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"pytoweb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit code: 0 done, 1 could not finish, 2 wrong use, 128 + signal when a signal ended it.

    Raises:
        SystemExit: From argparse, for `--help`, `--version` and wrong arguments.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        exit_code: int = parsed.run(parsed)
    except CommandError as error:
        if str(error):
            print(f"pytoweb {parsed.command}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while no command was handling it
        return EXIT_SIGNAL + signal.SIGINT
    return exit_code
