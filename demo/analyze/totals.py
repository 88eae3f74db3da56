"""The sums over all files, in memory that does not grow with the number of functions."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import NamedTuple

from analyze.facts import FileFacts, FunctionFacts

TOP = 10
"""How many functions, imports and problems the text report names."""


class Found(NamedTuple):
    """A function and the file it is in."""

    path: str
    function: FunctionFacts


def _by_complexity(found: Found) -> tuple[int, str, int]:
    return -found.function.complexity, found.path, found.function.line


def _by_length(found: Found) -> tuple[int, str, int]:
    return -found.function.lines, found.path, found.function.line


class Totals:
    """Adds up facts in any order; the result does not depend on the order."""

    def __init__(self, *, keep_files: bool = False) -> None:
        """Starts at zero.

        Args:
            keep_files: Also keep the facts of every file, in `files`.
        """
        self.analysed = 0
        self.lines = 0
        self.size_bytes = 0
        self.functions = 0
        self.classes = 0
        self.complexity = 0
        self.imports: Counter[str] = Counter()
        self.problems: list[FileFacts] = []
        self.most_complex: list[Found] = []
        self.longest: Found | None = None
        self.files: list[FileFacts] | None = [] if keep_files else None
        self._contents: set[bytes] = set()

    @property
    def done(self) -> int:
        """Files that were added, with a problem or without."""
        return self.analysed + len(self.problems)

    @property
    def duplicates(self) -> int:
        """Analysed files whose content, by SHA-256, another analysed file has too."""
        return self.analysed - len(self._contents)

    def count(self, kind: str) -> int:
        """How many files have a problem of this kind."""
        return sum(1 for facts in self.problems if facts.problem and facts.problem.kind == kind)

    def add(self, facts: FileFacts) -> None:
        """Adds one file. Lines and bytes are summed over the files that could be analysed."""
        if self.files is not None:
            self.files.append(facts)
        if facts.problem is not None:
            self.problems.append(facts)
            return
        self.analysed += 1
        self.lines += facts.lines
        self.size_bytes += facts.size_bytes
        self.functions += len(facts.functions)
        self.classes += facts.classes
        self.complexity += sum(function.complexity for function in facts.functions)
        self.imports.update(facts.imports)
        if facts.sha256 is not None:
            self._contents.add(bytes.fromhex(facts.sha256))
        self._add_functions(facts)

    def _add_functions(self, facts: FileFacts) -> None:
        # Most files have nothing to say here: this thread shares its cores with the workers.
        least = self.most_complex[-1].function.complexity if len(self.most_complex) == TOP else 0
        found = [Found(facts.path, function) for function in facts.functions if function.complexity >= least]
        if found:
            self.most_complex = heapq.nsmallest(TOP, self.most_complex + found, key=_by_complexity)
        if facts.longest is not None:
            longest = Found(facts.path, facts.longest)
            if self.longest is None or _by_length(longest) < _by_length(self.longest):
                self.longest = longest

    def import_ranking(self) -> list[tuple[str, int]]:
        """Imported modules and how many files import each, most first, then by name."""
        return sorted(self.imports.items(), key=lambda item: (-item[1], item[0]))
