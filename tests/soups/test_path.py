"""The path between two models: where its points are, and how far they are above the chord."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.search.path import Line, steps_of
from tests.soups.planted import Planted, Row, benchmark, first, judged, make_ingredients, some_flags

pytestmark = pytest.mark.usefixtures("unexamined")


def line_of(points: Sequence[tuple[int, int]], n: int = 100) -> Line:
    """Return the line whose evenly spaced soups have so many of *n* right, clean and robust."""
    steps = steps_of(len(points))
    return Line(steps, sm.Trials(tuple(judged(*first(*p, n=n)) for p in points)))


@given(points=st.integers(2, 40), beyond=st.floats(0, 3))
def test_a_path_has_both_ends_and_even_steps(points: int, beyond: float) -> None:
    steps = steps_of(points, beyond)
    assert {0.0, 1.0} <= set(steps)
    gaps = [b - a for a, b in pairwise(steps)]
    assert max(gaps) - min(gaps) < 1e-12
    assert -steps[0] == pytest.approx(steps[-1] - 1)
    assert beyond - gaps[0] < -steps[0] <= beyond + 1e-6
    assert sum(0 <= t <= 1 for t in steps) == points


@pytest.mark.parametrize(
    ("points", "beyond", "steps"),
    [
        (2, 0, (0.0, 1.0)),
        (3, 0.5, (-0.5, 0.0, 0.5, 1.0, 1.5)),
        (11, 0.3, tuple(n / 10 for n in range(-3, 14))),  # 0.3 · 10 is below 3 in floating point
        (3, 0.49, (0.0, 0.5, 1.0)),
    ],
)
def test_steps_on_paper(points: int, beyond: float, steps: tuple[float, ...]) -> None:
    assert steps_of(points, beyond) == pytest.approx(steps)


@pytest.mark.parametrize(("points", "beyond"), [(1, 0), (10_002, 0), (3, -0.1), (3, 10.1)])
def test_what_makes_no_path_is_refused(points: int, beyond: float) -> None:
    with pytest.raises(UsageError, match="^path: .*2 to 10001 points, and 0 to 10"):
        steps_of(points, beyond)


def test_the_longest_path_and_the_furthest_are_allowed() -> None:
    assert len(steps_of(10_001)) == 10_001
    assert steps_of(2, 10) == tuple(float(n) for n in range(-10, 12))


# ---- above the chord


def test_a_lift_is_measured_from_the_line_between_the_ends() -> None:
    """Ends (0.9, 0.2) and (0.5, 0.5): their line rises by 3/4 of a point for each point clean lost.

    At 0.8 it is at 0.275, and (0.8, 0.25) is below; at 0.7 at 0.35, and (0.7, 0.55) is above.
    """
    line = line_of([(90, 20), (80, 25), (70, 55), (50, 50)])
    back = line_of([(50, 50), (70, 55), (80, 25), (90, 20)])
    for found, places in ((line, (0, 1, 2, 3)), (back, (3, 2, 1, 0))):
        lifts = [found.lift(i, "clean", "union") for i in places]
        assert lifts == pytest.approx([0.0, -0.025, 0.2, 0.0], abs=1e-12)


def test_a_lift_is_of_the_metrics_that_are_named() -> None:
    """Seen from the side: at 0.4 the line from (0.2, 0.9) to (0.5, 0.5) is at 0.9 − 4/15."""
    line = line_of([(90, 20), (70, 40), (50, 50)])
    assert line.lift(1, "union", "clean") == pytest.approx(0.7 - 0.9 + 4 / 15)


def test_there_is_no_lift_beside_the_chord() -> None:
    line = line_of([(90, 20), (95, 50), (40, 30), (50, 50)])
    assert [line.lift(i, "clean", "union") for i in (1, 2)] == [None, None]
    assert line_of([(90, 20), (90, 40), (90, 60)]).lift(1, "clean", "union") is None


def test_a_gain_is_measured_from_the_chord_over_t_image_by_image() -> None:
    draw = np.random.default_rng(0)
    flags = draw.random((5, 60)) < 0.6
    line = Line(steps_of(5), sm.Trials(tuple(judged(row) for row in flags.tolist())))
    for i, t in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        d = flags[i] - (1 - t) * flags[0] - t * flags[-1]
        error = max(d.std() / 60**0.5, 1 / 60)
        low, high = stats.norm.interval(0.95, d.mean(), error)
        assert line.gain(i, "clean") == pytest.approx((d.mean(), low, high), abs=1e-12)


def test_points_tell_gains_of_all_metrics_and_the_lift_of_the_last_over_clean() -> None:
    line = line_of([(90, 20), (70, 55), (50, 50)])
    found = list(line.points())
    assert [point["t"] for point in found] == [0.0, 0.5, 1.0]
    assert [point["lift"] for point in found] == pytest.approx([0.0, 0.2, 0.0])
    assert found[1]["gain"]["union"]["mean"] == pytest.approx(0.2)
    assert set(found[1]["gain"]) == {"clean", "linf:0.1", "union"}
    assert found[0]["gain"]["clean"]["mean"] == found[2]["gain"]["union"]["mean"] == 0.0


# ---- the search


def path(tmp_path: Path, table: Any, **settings: Any) -> Line:
    ingredients = make_ingredients(tmp_path / "in", 2)
    return sm.path(Planted(2, table), ingredients, benchmark(50), **settings)


def test_a_path_judges_the_soups_of_its_steps(tmp_path: Path) -> None:
    table, run = some_flags(0, 50), tmp_path / "run"
    line = path(tmp_path, table, points=5, metric="clean", run=sm.Run(run))
    assert line.t == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [t.recipe.weights[0] for t in line.trials] == [(1 - t, t) for t in line.t]
    assert not any(t.recipe.affine for t in line.trials)
    for trial in line.trials:
        clean = np.asarray(table(trial.recipe.weights[0]))[0]
        assert trial.judged().bits("clean").tolist() == clean.tolist()
    parsed = json.loads((run / "recipe.json").read_text())
    assert parsed["weights"]["model"] == list(line.trials.best("clean").recipe.weights[0])
    assert parsed["origin"] == "path"


def test_a_path_beyond_its_ends_is_affine(tmp_path: Path) -> None:
    line = path(tmp_path, some_flags(0, 50), points=3, beyond=0.5)
    rows: list[Row] = [(1.5, -0.5), (1.0, 0.0), (0.5, 0.5), (0.0, 1.0), (-0.5, 1.5)]
    assert [t.recipe.weights[0] for t in line.trials] == rows
    assert all(t.recipe.affine for t in line.trials)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"points": 4}, "settings.points was 3, now 4"),
        ({"beyond": 0.5}, "settings.beyond was 0.0, now 0.5"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    table, out = some_flags(0, 50), tmp_path / "run"
    path(tmp_path, table, points=3, run=sm.Run(out))
    with pytest.raises(UsageError, match=says):
        path(tmp_path, table, **{"points": 3, **settings}, run=sm.Run(out))


def test_eleven_points_are_usual(tmp_path: Path) -> None:
    """As the paper has them: 0, 0.1, …, 1."""
    assert path(tmp_path, some_flags(0, 50)).t == tuple(n / 10 for n in range(11))


def test_a_path_has_two_ends(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="^REF: a path needs exactly 2 ingredients, not 3; name 2 checkpoints"
    ):
        sm.path(Planted(3, some_flags(0, 9)), make_ingredients(tmp_path / "in", 3), benchmark(9))
