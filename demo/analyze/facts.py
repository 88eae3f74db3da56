"""What is known about one Python file: plain tuples, so that they pickle and cost little."""

from __future__ import annotations

from typing import NamedTuple

UNREADABLE = "unreadable"
"""The bytes could not be read, or do not decode as the file declares."""

UNPARSABLE = "unparsable"
"""The text was read but Python's parser refuses it."""

CRASHED = "crashed"
"""The process that worked on the file ended; another one took its place for the files after it."""

FAILED = "failed"
"""The worker gave no facts: the handler itself failed. Not the file's fault."""


class FunctionFacts(NamedTuple):
    """One function or method.

    Attributes:
        name: As `__qualname__` gives it: `Class.method`, `outer.<locals>.inner`.
        line: Line of its `def`, from 1.
        lines: Lines from its `def` to its last line; decorators are not counted.
        complexity: Cyclomatic complexity, at least 1; the rule is in `outline`.
    """

    name: str
    line: int
    lines: int
    complexity: int


class Problem(NamedTuple):
    """Why a file has no outline.

    Attributes:
        kind: `UNREADABLE`, `UNPARSABLE`, `CRASHED` or `FAILED`.
        reason: One line for people.
        line: The line the parser stopped at, from 1, where it names one.
        signal: The number of the signal that ended the process, where one did.
    """

    kind: str
    reason: str
    line: int | None = None
    signal: int | None = None


class FileFacts(NamedTuple):
    """One file.

    Attributes:
        path: As it was asked for.
        size_bytes: Length of the content; 0 if it could not be read.
        lines: Physical lines; a last line without a line end counts.
        sha256: Of the content, in hexadecimal; None if it could not be read.
        functions: Every function of the file, by line.
        classes: How many classes are defined in it, nested ones included.
        imports: Top-level names of the imported modules, sorted, each once. Relative imports stay
            inside the package and are left out.
        problem: None if the file was read and parsed; else functions, classes and imports are empty.
    """

    path: str
    size_bytes: int = 0
    lines: int = 0
    sha256: str | None = None
    functions: tuple[FunctionFacts, ...] = ()
    classes: int = 0
    imports: tuple[str, ...] = ()
    problem: Problem | None = None

    @property
    def longest(self) -> FunctionFacts | None:
        """The function with the most lines, the first of equals; None without functions."""
        return max(self.functions, key=lambda function: function.lines, default=None)
