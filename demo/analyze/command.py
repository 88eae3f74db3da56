"""The command line, `python demo [DIR]`. Light to import: the work is imported when it begins."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyze.console import EXIT_ERROR, EXIT_SIGNAL, CommandError, write_output
from analyze.facts import CRASHED, FAILED

if TYPE_CHECKING:
    from analyze.run import Analysis, Backend
    from analyze.stop import StopSignals
    from analyze.tree import SourceTree

PROGRAM = "python demo"
"""What the help and the errors call the program: as it is typed at the top of the checkout."""

DESCRIPTION = """\
Reads every Python file (.py) below DIR in background workers, one message per file, and reports
the most complex functions, the most imported modules, the totals, the files that could not be
read or parsed, and how the workers did: also how much faster they are than one thread, measured on
a sample of the files.

The workers are processes, one per CPU, and get small files in batches. One that crashes costs the file
that it was reading, and is replaced: the other files of its batch are asked for again, one by one.

Directories named __pycache__ or starting with a dot are passed over, and symbolic links to
directories are not followed. In the standard library installed packages are left out too."""
EPILOG = """\
exit codes: 0 done, also with unreadable or unparsable files; 1 a worker crashed or failed on a file
(the report is complete otherwise), or the report cannot be written; 2 wrong use, or DIR has no
Python file; 130 stopped by Ctrl-C and 143 by SIGTERM, both with a report of what was done so far.
A second signal ends the program at once."""

WORKERS_VARIABLE = "PYTOWEB_WORKERS"
"""Environment variable with the default of `--workers`."""

BACKENDS: tuple[Backend, ...] = ("process", "thread")
"""Where the workers can be; the first is the default."""

BACKEND_VARIABLE = "PYTOWEB_BACKEND"
"""Environment variable with the default of `--backend`."""

MAX_WORKERS = 1024
"""More threads than any storage answers at the same time; above it is a slip of the keyboard."""


def make_parser() -> argparse.ArgumentParser:
    """Declares the arguments."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="default: the standard library of the running Python"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_worker_count,
        help=f"how many files are read at the same time (default: ${WORKERS_VARIABLE}, else the usable CPUs)",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="processes use every core, threads share one interpreter"
        f" (default: ${BACKEND_VARIABLE}, else {BACKENDS[0]})",
    )
    parser.add_argument(
        "--crash",
        metavar="N",
        type=_crash_count,
        default=0,
        help="let N files, spread over the tree, end their worker with a segmentation fault: the others"
        " are analysed all the same",
    )
    parser.add_argument(
        "--no-compare",
        action="store_true",
        help="do not measure how much faster the workers are than one thread (about three seconds)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document, with the facts of every file, instead of the report",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="also write an HTML page to look at: which worker did what when, and what failed",
    )
    parser.add_argument(
        "--progress",
        choices=["auto", "plain", "none"],
        default="auto",
        help="on standard error: auto is a bar if it is a terminal (needs rich), plain a line now and then",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: Without the program's name; None takes those of the process.

    Returns:
        The exit code, as the help explains it.

    Raises:
        SystemExit: From argparse, for `--help` and wrong arguments.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        return run(parsed)
    except CommandError as error:
        if str(error):
            print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while nothing was analysed that could be reported
        return EXIT_SIGNAL + signal.SIGINT


def run(arguments: argparse.Namespace) -> int:
    """Analyses the tree and prints the report.

    Args:
        arguments: What `make_parser` declared.

    Returns:
        The exit code.

    Raises:
        CommandError: There is nothing to analyse, or the report could not be written.
    """
    size = arguments.workers if arguments.workers is not None else _workers_from_environment()
    backend: Backend = arguments.backend if arguments.backend is not None else _backend_from_environment()
    if arguments.crash and backend != "process":
        raise CommandError(
            "--crash needs --backend process: a crash in a thread would take this program down with it"
        )

    if arguments.report is not None:
        _check_report(arguments.report)

    from analyze.stop import StopSignals

    with StopSignals() as stop:
        from analyze.progress import open_progress
        from analyze.report import json_report
        from analyze.run import analyze_tree
        from analyze.totals import Totals

        tree = _find_files(arguments.directory, stop)
        if arguments.crash > len(tree.files) and tree.complete:
            raise CommandError(f"--crash {arguments.crash}: there are only {len(tree.files)} files")
        totals = Totals(keep_files=arguments.json)
        with open_progress(arguments.progress) as progress:
            analysis = analyze_tree(
                tree,
                totals,
                backend=backend,
                size=size,
                crashes=min(arguments.crash, len(tree.files)),
                compare=not arguments.no_compare,
                report=arguments.report,
                progress=progress,
                stop=stop,
            )
        stop.finish()
        if arguments.json:
            write_output(json_report(analysis))
        else:
            from analyze.render import text_report

            write_output(text_report(analysis))
        exit_code = _exit_code(analysis) if stop.signal is None else EXIT_SIGNAL + stop.signal
        if analysis.abandoned:
            # A handler still reads, from a storage that does not answer: leaving the usual way
            # would wait for it.
            os._exit(exit_code)
    return exit_code


def _check_report(path: str) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise CommandError(f"no directory for the report: {directory!r}")
    if os.path.isdir(path):
        raise CommandError(f"the report is to be a file, not a directory: {path!r}")


def _exit_code(analysis: Analysis) -> int:
    return EXIT_ERROR if analysis.totals.count(CRASHED) or analysis.totals.count(FAILED) else 0


def _worker_count(text: str) -> int:
    count = _whole_number(text)
    if count is None or not 1 <= count <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_WORKERS}, not {text!r}")
    return count


def _crash_count(text: str) -> int:
    count = _whole_number(text)
    if count is None or count < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of files, 0 or more, not {text!r}")
    return count


def _whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _workers_from_environment() -> int | None:
    text = os.environ.get(WORKERS_VARIABLE)
    if not text:
        return None
    try:
        return _worker_count(text)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"{WORKERS_VARIABLE} {error}") from None


def _backend_from_environment() -> Backend:
    text = os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    for backend in BACKENDS:
        if backend == text:
            return backend
    raise CommandError(f"{BACKEND_VARIABLE} must be {' or '.join(BACKENDS)}, not {text!r}")


def _find_files(directory: str | None, stop: StopSignals) -> SourceTree:
    from analyze.tree import INSTALLED, find_python_files, standard_library

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
