"""Evenly spaced points of the simplex."""

from __future__ import annotations

import math
from collections.abc import Iterator


def lattice_size(k: int, parts: int) -> int:
    """Return the number of soups, C(parts + K − 1, K − 1): 6, 21, 56, … for step 0.2."""
    return math.comb(parts + k - 1, k - 1)


def lattice(k: int, parts: int) -> Iterator[tuple[float, ...]]:
    """Yield all (w_1, …, w_K) with w_k in {0, 1/parts, …, 1} and Σ w_k = 1.

    Example:
        >>> list(lattice(2, 2))
        [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    """
    return (tuple(n / parts for n in numbers) for numbers in _compositions(k, parts))


def _compositions(k: int, total: int) -> Iterator[tuple[int, ...]]:
    if k == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(k - 1, total - first):
            yield (first, *rest)


def spread(k: int, most: int) -> list[tuple[float, ...]]:
    """Return the points of the finest lattice that has at most *most* points, corners among them.

    Example:
        >>> spread(2, 3)
        [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
        >>> [len(spread(3, most)) for most in (3, 9, 11)]
        [3, 6, 10]
    """
    parts = 1
    while lattice_size(k, parts + 1) <= most:
        parts += 1
    return list(lattice(k, parts))
