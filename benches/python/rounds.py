"""Runs competitors in turn, so that drift of the machine falls on both sides alike."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, TypeVar

from row import Row

Sample = TypeVar("Sample")

ROUNDS = 5
QUICK_ROUNDS = 3
QUICK_DIVISOR = 20
QUICK_LEAST = 64
"""A smoke run still has a message for each of the tasks or turns of a row."""

Competitor = Callable[[], contextlib.AbstractContextManager[Callable[[int], Sample]]]
"""Sets one side up untimed and yields ``run(count)``, which does the work and returns its sample."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    quick: bool = False
    #: Our side alone: peers are not set up, and have no samples.
    alone: bool = False
    #: Samples of each side; 0: as many as a run of all sides takes.
    samples: int = 0

    @property
    def rounds(self) -> int:
        """Rounds per row: every median is one of at least five, except in a smoke run."""
        return self.samples or (QUICK_ROUNDS if self.quick else ROUNDS)

    def count(self, full: int) -> int:
        """Returns how many messages one round has, given the number of a full run."""
        return max(full // QUICK_DIVISOR, min(full, QUICK_LEAST)) if self.quick else full


def alternate(
    competitors: Mapping[str, Competitor[Sample]], *, count: int, plan: Plan, peers: Collection[str] = ()
) -> dict[str, list[Sample]]:
    """Measures all competitors, one after the other, round by round.

    Each is set up once, warmed up with one untimed round, and starts every second round, so
    that neither always runs in the wake of the other. The cyclic collector stays as the
    interpreter set it, on every side, and is run once, untimed, before each sample.

    Args:
        competitors: Label to competitor; ours first by convention.
        count: Messages per sample.
        plan: Gives the number of rounds.
        peers: Labels of the sides that a run of ours alone can do without.

    Returns:
        Label to samples, in the order of the rounds.
    """
    samples: dict[str, list[Sample]] = {label: [] for label in competitors}
    with contextlib.ExitStack() as stack:
        runs = {
            label: stack.enter_context(make())
            for label, make in competitors.items()
            if not (plan.alone and label in peers)
        }
        for run in runs.values():
            run(count)
        for index in range(plan.rounds):
            order = list(runs) if index % 2 == 0 else list(reversed(list(runs)))
            for label in order:
                gc.collect()
                samples[label].append(runs[label](count))
    return samples


RowGroup = Callable[[Plan], Iterable[Row]]
"""Measures and yields the rows that share one set-up."""


def main(groups: Sequence[RowGroup]) -> None:
    """Entry of a row file: measures its groups and prints one JSON list of rows."""
    # An installed package has its byte code: an environment that forbids writing it would time the compiler,
    # in each interpreter that a row starts.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer messages and rounds")
    parser.add_argument("--alone", action="store_true", help="our side alone, without peers")
    parser.add_argument("--samples", type=int, default=0, help="samples of each side")
    options = parser.parse_args()
    plan = Plan(quick=options.quick, alone=options.alone, samples=options.samples)
    rows = [row.to_dict() for group in groups for row in group(plan)]
    print(json.dumps(rows))
