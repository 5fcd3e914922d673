"""The front is what no point dominates, in order of x; the hypervolume is what points dominate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from soupmerge.pareto import front, hypervolume

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


@given(POINTS, st.tuples(st.integers(-1, 5), st.integers(-1, 5)))
def test_the_hypervolume_is_the_number_of_unit_squares_below_some_point(
    points: list[tuple[float, float]], low: tuple[int, int]
) -> None:
    squares = [(x, y) for x in range(low[0], 5) for y in range(low[1], 5)]
    covered = sum(any(p[0] > x and p[1] > y for p in points) for x, y in squares)
    assert hypervolume(points, low) == covered


@given(POINTS)
def test_only_the_front_has_volume(points: list[tuple[float, float]]) -> None:
    on_front = [points[i] for i in front(points)]
    assert hypervolume(on_front, (0, 0)) == hypervolume(points, (0, 0))
