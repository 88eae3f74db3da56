"""One row of the comparison: what was measured on both sides and what it had to reach."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

RATE = "/s"
"""Unit of a row that counts messages per second: more is better, the ratio is ours over the peer."""

AT_LEAST = ">="
AT_MOST = "<="


@dataclass(frozen=True)
class Side:
    """The samples of one competitor, one number per round, in the unit of its row."""

    label: str
    samples: Sequence[float]

    @property
    def median(self) -> float:
        """The figure that the table shows and the ratio is made of; no number without samples."""
        return statistics.median(self.samples) if self.samples else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Returns label, median and every sample."""
        return {"label": self.label, "median": self.median, "samples": list(self.samples)}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``unit`` is ``"/s"`` for rates and else the unit of a cost (``"us"``, ``"ms"``, ``"B"``). With
    several peers the best of them is the one compared with. Without a peer the target is a limit
    on our own median. ``target`` is None for rows that only give context.
    """

    name: str
    title: str
    unit: str
    ours: Side
    peers: Sequence[Side] = ()
    bound: str = AT_LEAST
    target: float | None = None
    notes: Sequence[str] = field(default_factory=list)

    @property
    def peer(self) -> Side | None:
        """The best peer, or None for a row that has only a limit."""
        if not self.peers:
            return None
        best = max if self.unit == RATE else min
        return best(self.peers, key=lambda side: side.median)

    @property
    def ratio(self) -> float | None:
        """Median of ours over the median of the best peer; None without a peer."""
        peer = self.peer
        return None if peer is None else self.ours.median / peer.median

    @property
    def passed(self) -> bool | None:
        """Whether the target is met; None for a row without one."""
        if self.target is None:
            return None
        value = self.ours.median if self.ratio is None else self.ratio
        return value >= self.target if self.bound == AT_LEAST else value <= self.target

    def to_dict(self) -> dict[str, Any]:
        """Returns everything that was measured, fit for JSON."""
        peer = self.peer
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "ours": self.ours.to_dict(),
            "peer": None if peer is None else peer.label,
            "peers": [side.to_dict() for side in self.peers],
            "ratio": self.ratio,
            "bound": self.bound,
            "target": self.target,
            "passed": self.passed,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Row:
        """Builds a row from what :meth:`to_dict` returned."""

        def side(part: dict[str, Any]) -> Side:
            return Side(part["label"], part["samples"])

        peers: list[Side] = [side(part) for part in document["peers"]]
        return cls(
            name=document["name"],
            title=document["title"],
            unit=document["unit"],
            ours=side(document["ours"]),
            peers=peers,
            bound=document["bound"],
            target=document["target"],
            notes=document["notes"],
        )
