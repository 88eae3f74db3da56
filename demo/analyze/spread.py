"""Choices from a list that are spread evenly over all of it."""

from __future__ import annotations


def spread(count: int, total: int) -> list[int]:
    """Chooses `count` of `total` places, as far from each other and from the ends as can be.

    Args:
        count: How many, from 0 to `total`.
        total: How many there are.

    Returns:
        Their numbers from 0, in order, each once. No two are neighbours, if `count` is at most half of
        `total`.
    """
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def spread_order(total: int) -> list[int]:
    """Orders all places so that however many one takes from the front, they are spread over the list.

    Counts with the bits of each number in reverse, so that the first half of the order are the even places,
    the first quarter every fourth one, and so on.

    Args:
        total: How many there are.

    Returns:
        Their numbers from 0, each once; always the same ones for the same total.
    """
    bits = max(1, total.bit_length())
    return sorted(range(total), key=lambda number: int(f"{number:0{bits}b}"[::-1], 2))
