"""The front is what no point dominates, in order of x; equal points are on it together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from soupmerge.pareto import front

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30)


def dominated(p: tuple[float, float], points: list[tuple[float, float]]) -> bool:
    return any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)


@given(POINTS)
def test_the_front_is_what_no_point_dominates(points: list[tuple[float, float]]) -> None:
    indices = front(points)
    assert sorted(indices) == [i for i, p in enumerate(points) if not dominated(p, points)]
    assert [points[i] for i in indices] == sorted(points[i] for i in indices)


@given(POINTS)
def test_equal_points_keep_their_order(points: list[tuple[float, float]]) -> None:
    indices = front([*points, *points])
    for i in front(points):
        assert indices.index(i) < indices.index(i + len(points))
