"""The program and its terminal: errors, exit codes, and writing to standard output."""

from __future__ import annotations

import contextlib
import os
import sys

EXIT_ERROR = 1
"""The program could not finish, for example because its output could not be written."""

EXIT_USAGE = 2
"""What was asked for makes no sense; argparse uses the same code."""

EXIT_SIGNAL = 128
"""Plus the number of the signal that ended the program, as shells count."""

EXIT_BROKEN_PIPE = EXIT_SIGNAL + 13
"""The output's reader is gone: the status that a shell shows for a program that SIGPIPE ended."""

CHUNK = 65_536
"""Characters per write: what an unbuffered stream (`python -u`) cannot write in one go it loses without
a word, and one call more is enough to be told that the reader is gone."""


class CommandError(Exception):
    """The program cannot do what was asked; its text is for the person at the terminal."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        """Takes the text, one line without a full stop, and the exit code of the process."""
        super().__init__(message)
        self.exit_code = exit_code


def write_output(text: str) -> None:
    """Writes the whole result to standard output and flushes it.

    Characters that the terminal's encoding lacks are written as escapes. A closed standard output
    is not an error: nothing is written.

    Args:
        text: The result, with its last line end.

    Raises:
        CommandError: The reader is gone (`EXIT_BROKEN_PIPE`, without a text) or the device refuses.
    """
    if sys.stdout is None:
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        for start in range(0, len(text), CHUNK):
            sys.stdout.write(text[start : start + CHUNK])
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise CommandError("", EXIT_BROKEN_PIPE) from None
    except OSError as error:
        _discard_output()
        raise CommandError(f"cannot write the output: {error.strerror}", EXIT_ERROR) from None


def _discard_output() -> None:
    # The interpreter flushes once more at its exit and would complain there.
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
