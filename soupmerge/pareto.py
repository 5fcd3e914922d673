"""The Pareto front of points in a plane, which searches, figures and pages share; its area."""

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


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area between the *reference* and the *points*: what they dominate above it.

    Points that are not above the reference in both coordinates add nothing (Zitzler and Thiele
    1999, "Multiobjective evolutionary algorithms").

    Example:
        >>> hypervolume([(3, 1), (1, 2), (1, 1)], (0, 0))
        4.0
    """
    (left, height), area = reference, 0.0
    for x, y in sorted(points, reverse=True):
        if x > left and y > height:
            area += (x - left) * (y - height)
            height = y
    return area
