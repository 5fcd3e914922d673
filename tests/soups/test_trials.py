"""Trials, and the ways to choose among them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.judge.trials import Trial, Trials, report_from
from tests.soups.planted import first, judged

Points = list[tuple[int, int]]
POINTS = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12)


def trials_of(points: Sequence[tuple[int, int]], n: int = 10) -> Trials:
    """Return trials with so many of *n* images right clean and under attack."""
    return Trials(tuple(judged(*first(*point, n=n)) for point in points))


# ---- the best


def test_the_best_is_highest_in_the_metric_that_is_asked_for() -> None:
    trials = trials_of([(9, 2), (8, 5), (6, 6)])
    assert trials.best("clean") is trials[0]
    assert trials.best("linf:0.1") is trials.best() is trials[2]
    assert trials.best("0.5*clean+0.5*union") is trials[1]


def test_what_was_not_judged_cannot_be_best() -> None:
    trials = trials_of([(9, 2)])
    with pytest.raises(InputError, match="no metric 'l2:1'"):
        trials.best("l2:1")
    with pytest.raises(InputError, match="there are no trials to choose from"):
        trials[:0].best("clean")
    bare = Trials((Trial(trials[0].recipe),))
    with pytest.raises(InputError, match="was not judged; give a benchmark"):
        bare.best("clean")


# ---- the front and its knee


@given(POINTS)
def test_the_front_is_what_nothing_beats_by_rising_x(points: Points) -> None:
    front = trials_of(points).front("clean", "linf:0.1")
    for i, p in enumerate(points):
        beaten = any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)
        assert (i in front) == (not beaten)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
    assert len(set(front)) == len(front)


def test_equal_soups_are_all_on_the_front_in_their_order() -> None:
    assert trials_of([(5, 5), (9, 2), (5, 5), (4, 5)]).front("clean", "linf:0.1") == (0, 2, 1)
    assert Trials(()).front("clean", "linf:0.1") == ()


@given(POINTS)
def test_the_knee_is_highest_above_the_chord(points: Points) -> None:
    trials = trials_of(points)
    front = [points[i] for i in trials.front("clean", "linf:0.1")]
    knee = points[trials.trials.index(trials.knee("clean", "linf:0.1"))]
    (x0, y0), (x1, y1) = front[0], front[-1]

    def above(p: tuple[int, int]) -> int:
        return (p[1] - y0) * (x1 - x0) - (p[0] - x0) * (y1 - y0)

    assert knee in front
    assert above(knee) == max(map(above, front))


@pytest.mark.parametrize(
    ("points", "knee"),
    [
        ([(2, 9), (8, 7), (9, 1)], 1),  # (8, 7) is far above the line from (2, 9) to (9, 1)
        ([(2, 9), (4, 8), (8, 7), (9, 1)], 2),
        ([(9, 1), (2, 9)], 1),  # nothing between: the end that is best in y
        ([(2, 9), (3, 4), (9, 3)], 0),  # all below the chord: that end, too
        ([(5, 5)], 0),
    ],
)
def test_knees_on_paper(points: Points, knee: int) -> None:
    trials = trials_of(points)
    assert trials.knee("clean", "linf:0.1") is trials[knee]


def test_the_knee_is_of_the_axes_that_are_named() -> None:
    """By default of clean and union; with the axes exchanged, the best end is the other."""
    trials = trials_of([(9, 1), (2, 2)])
    assert trials.knee() is trials[1]
    assert trials.knee("union", "clean") is trials[0]


# ---- conditions


def test_where_keeps_what_meets_every_condition() -> None:
    trials = trials_of([(9, 2), (8, 5), (6, 6)])
    assert list(trials.where(clean=">=0.8")) == [trials[0], trials[1]]
    assert list(trials.where("linf:0.1>0.4", clean=">=0.8")) == [trials[1]]
    assert list(trials.where("0.5*clean+0.5*union>=0.6")) == [trials[1], trials[2]]
    assert list(trials.where()) == list(trials)
    assert not trials.where("clean>0.9")
    with pytest.raises(UsageError, match="not a condition"):
        trials.where(clean="high")


# ---- what ties with the best


def plainly_tied(flags: Any, best: int) -> list[int]:
    """Return the rows whose 95% interval below row *best* holds 0."""
    n = flags.shape[1]
    found = []
    for i, row in enumerate(flags):
        d = flags[best].astype(float) - row
        low = d.mean() - stats.norm.ppf(0.975) * max(d.std() / n**0.5, 1 / n)
        found += [i] if low <= 0 or i == best else []
    return found


@given(st.integers(0, 10_000))
def test_tied_is_what_is_not_told_apart_from_the_best_image_by_image(seed: int) -> None:
    draw = np.random.default_rng(seed)
    flags = draw.random((6, 40)) < draw.uniform(0.4, 0.9, (6, 1))
    trials = Trials(tuple(judged(row) for row in flags.tolist()))
    best = trials.trials.index(trials.best("clean"))
    assert trials.tied("clean") == tuple(plainly_tied(flags, best))


def test_a_tie_is_by_the_interval_and_not_by_the_mean() -> None:
    """Two soups are 6 images of 100 below the best.

    One loses 6 and gains none: 0.06 ± 1.96 · 0.0237 is above 0. The other loses 16 and gains 10:
    0.06 ± 1.96 · 0.0506 holds 0.
    """
    best, loses = first(90, 84, n=100)
    exchanges = [16 <= place < 100 for place in range(100)]
    trials = Trials(tuple(judged(row) for row in (best, loses, exchanges)))
    assert [t.judged().correct("clean") for t in trials] == [90, 84, 84]
    assert trials.tied("clean") == (0, 2)


def test_a_tie_may_be_in_a_sum_and_counts_its_weights() -> None:
    """One image of 100 is worth 2 in twice the metric, so that the verdict stays the same."""
    rows = first(90, 88, 84, n=100)
    trials = Trials(tuple(judged(row) for row in rows))
    assert trials.tied("clean") == trials.tied("2*clean") == (0, 1)


# ---- as a sequence, and as JSON


def test_trials_are_a_sequence_of_what_was_tried_in_order() -> None:
    trials = trials_of([(9, 2), (8, 5), (6, 6)])
    assert (len(trials), list(trials)) == (3, [trials[i] for i in range(3)])
    assert isinstance(trials[1:], Trials)
    assert trials[1:][0] is trials[1]
    assert trials[-1] is trials.trials[2]
    assert trials.metrics == ("clean", "linf:0.1", "union")


def test_a_summary_names_best_front_and_ingredients_by_their_places() -> None:
    points = {(0.5, 0.5): (9, 2), (1.0, 0.0): (8, 5), (0.0, 1.0): (2, 6), (0.25, 0.75): (2, 5)}
    trials = Trials(tuple(judged(*first(*p, n=10), weights=row) for row, p in points.items()))
    summary = json.loads(json.dumps(trials.summary()))
    assert summary["best"] == {"clean": 0, "linf:0.1": 2, "union": 1}
    assert summary["front"] == list(trials.front("clean", "union"))
    assert summary["baselines"] == {"ingredients": {"0": 1, "1": 2}}
    assert [t["weights"] for t in summary["trials"]] == [list(row) for row in points]
    assert [t["metrics"]["clean"]["correct"] for t in summary["trials"]] == [9, 8, 2, 2]
    assert all("flags" not in t for t in summary["trials"])
    bare = Trials((Trial(trials[0].recipe),)).summary()
    assert (bare["best"], bare["front"], bare["baselines"]) == ({}, [], {})
    assert bare["trials"][0]["metrics"] == {}


def test_a_record_gives_its_trial_again_and_no_other() -> None:
    trial = judged(*first(9, 3, n=10), weights=(1 / 3, 2 / 3))
    record = json.loads(json.dumps(trial.to_record()))
    assert record["weights"] == [0.333333, 0.666667]
    found = {"data": {}, "attacks": dict(trial.judged().attacks)}
    again = Trial.from_record(record, trial.recipe, found)
    assert again == trial
    assert Trial.from_record(record, trial.recipe, None) == Trial(trial.recipe)
    other = judged(*first(9, 3, n=10), weights=(0.5, 0.5)).recipe
    with pytest.raises(
        InputError, match=r"trials\.jsonl: a record belongs to another soup; .*--force"
    ):
        Trial.from_record(record, other, found)
    moved = sm.Recipe(
        tuple(type(s)(f"/elsewhere/{s.ref}", s.sha256) for s in trial.recipe.sources),
        ("model",),
        trial.recipe.weights,
    )
    assert Trial.from_record(record, moved, found).report == trial.report


@pytest.mark.parametrize("harm", ["metrics", "flags"])
def test_a_record_that_lacks_something_is_refused(harm: str) -> None:
    trial = judged(*first(9, 3, n=10))
    record = {key: value for key, value in trial.to_record().items() if key != harm}
    with pytest.raises(InputError, match=r"trials\.jsonl: a record holds no report"):
        report_from(record, {"data": {}, "attacks": {}})
