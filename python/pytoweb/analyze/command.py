"""The command line of `pytoweb analyze`. Light to import: the work is imported when it begins."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from pytoweb.console import EXIT_SIGNAL, CommandError, write_output

if TYPE_CHECKING:
    from pytoweb.analyze.stop import StopSignals
    from pytoweb.analyze.tree import SourceTree

NAME = "analyze"
SUMMARY = "count what is in the Python files of a directory, with one message per file"
DESCRIPTION = """\
Reads every Python file (.py) below DIR in background workers, one message per file, and reports
the most complex functions, the most imported modules, the totals, the files that could not be
read or parsed, and how the workers did.

Directories named __pycache__ or starting with a dot are passed over, and symbolic links to
directories are not followed. In the standard library installed packages are left out too."""
EPILOG = """\
exit codes: 0 done, also with unreadable or unparsable files; 2 wrong use, or DIR has no Python
file; 130 stopped by Ctrl-C and 143 by SIGTERM, both with a report of what was done so far.
A second signal ends the program at once."""

WORKERS_VARIABLE = "PYTOWEB_WORKERS"
"""Environment variable with the default of `--workers`."""

MAX_WORKERS = 1024
"""More threads than any storage answers at the same time; above it is a slip of the keyboard."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="default: the standard library of the running Python"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_worker_count,
        help=f"how many files are read at the same time (default: ${WORKERS_VARIABLE}, else the CPU count)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document, with the facts of every file, instead of the report",
    )
    parser.add_argument(
        "--progress",
        choices=["auto", "plain", "none"],
        default="auto",
        help="on standard error: auto is a bar if it is a terminal (needs rich), plain a line now and then",
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyses the tree and prints the report.

    Args:
        arguments: What `add_arguments` declared.

    Returns:
        The exit code.

    Raises:
        CommandError: There is nothing to analyse, or the report could not be written.
    """
    size = arguments.workers if arguments.workers is not None else _workers_from_environment()

    from pytoweb.analyze.stop import StopSignals

    with StopSignals() as stop:
        from pytoweb.analyze.progress import open_progress
        from pytoweb.analyze.report import json_report
        from pytoweb.analyze.run import analyze_tree
        from pytoweb.analyze.totals import Totals

        tree = _find_files(arguments.directory, stop)
        totals = Totals(keep_files=arguments.json)
        with open_progress(arguments.progress) as progress:
            analysis = analyze_tree(tree, totals, size=size, progress=progress, stop=stop)
        stop.finish()
        if arguments.json:
            write_output(json_report(analysis))
        else:
            from pytoweb.analyze.render import text_report

            write_output(text_report(analysis))
        exit_code = 0 if stop.signal is None else EXIT_SIGNAL + stop.signal
        if analysis.abandoned:
            # A handler still reads, from a storage that does not answer: leaving the usual way
            # would wait for it.
            os._exit(exit_code)
    return exit_code


def _worker_count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_WORKERS}, not {text!r}")
    return count


def _workers_from_environment() -> int | None:
    text = os.environ.get(WORKERS_VARIABLE)
    if not text:
        return None
    try:
        return _worker_count(text)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"{WORKERS_VARIABLE} {error}") from None


def _find_files(directory: str | None, stop: StopSignals) -> SourceTree:
    from pytoweb.analyze.tree import INSTALLED, find_python_files, standard_library

    root = standard_library() if directory is None else directory
    if not os.path.lexists(root):
        raise CommandError(f"directory does not exist: {root!r}")
    if not os.path.isdir(root):
        raise CommandError(f"not a directory: {root!r}")
    tree = find_python_files(root, skip=INSTALLED if directory is None else (), stopped=stop.requested)
    if not tree.files and tree.complete:
        why = f" ({tree.unreadable[0][0]}: {tree.unreadable[0][1]})" if tree.unreadable else ""
        raise CommandError(f"no Python file in directory: {root!r}{why}")
    return tree
