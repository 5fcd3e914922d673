"""The Pareto front of points in a plane, which searches, figures and pages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def front(points: Sequence[tuple[Any, Any]]) -> list[int]:
    """Return the indices of the *points* that no other point dominates, in order of x.

    A point dominates another if it is at least as high in both coordinates and higher in one, so
    equal points are on the front together.

    Example:
        >>> front([(0, 1), (1, 0), (0, 0), (0.5, 0.5)])
        [0, 3, 1]
    """
    highest, kept = None, set()
    for point in sorted(set(points), reverse=True):
        if highest is None or point[1] > highest:
            highest = point[1]
            kept.add(point)
    return sorted((i for i, p in enumerate(points) if p in kept), key=points.__getitem__)
