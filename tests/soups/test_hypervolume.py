"""Hypervolumes: against counting cells and the library, and the bootstrap's interval."""

from __future__ import annotations

from itertools import product
from typing import Any

import moocore
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.report import Report
from soupmerge.soups.judge import hypervolume as judge
from soupmerge.soups.judge.hypervolume import compare_hypervolumes, hypervolume
from soupmerge.weights.tensors import Array
from tests.soups.planted import first, report

N = 10
METRICS = ("clean", "linf:0.1", "l2:0.5")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let intervals come from few draws, which are enough for what does not depend on them."""
    monkeypatch.setattr(judge, "RESAMPLES", 200)


def cells(points: Array, reference: Array) -> int:
    """Count the unit cells that are below one of *points* and above *reference*, all integers."""
    ranges = (range(low, N) for low in reference)
    corners = np.array(list(product(*ranges))).reshape(-1, len(reference))
    below = (corners[:, None] + 1 <= points[None]).all(2).any(1)
    return int(below.sum())


@st.composite
def sets(draw: Any) -> tuple[Array, Array, Array]:
    """Draw two sets of soups, and ingredients: counts of right images in two or three metrics."""
    m = draw(st.integers(2, 3))
    point = st.lists(st.integers(0, N), min_size=m, max_size=m)
    return tuple(np.array(draw(st.lists(point, min_size=1, max_size=5))) for _ in range(3))  # type: ignore[return-value]


@given(sets())
def test_a_hypervolume_is_a_number_of_cells(drawn: tuple[Array, Array, Array]) -> None:
    points, _, ingredients = drawn
    reference = ingredients.min(0)
    found = hypervolume(points / N, reference / N)
    assert found == pytest.approx(cells(points, reference) / N ** points.shape[1], abs=1e-12)
    theirs = moocore.hypervolume(-points / N, -reference / N)
    assert found == pytest.approx(float(theirs), abs=1e-12)


def reports(counts: Array) -> list[Report]:
    return [report(*first(*row.tolist(), n=N)) for row in counts]


@pytest.mark.usefixtures("few")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sets())
def test_ingredients_belong_to_both_sides(drawn: tuple[Array, Array, Array]) -> None:
    """And the worst of them in each metric is the reference."""
    ours, theirs, ingredients = drawn
    names = METRICS[: ours.shape[1]]
    found = compare_hypervolumes(*map(reports, drawn), names)  # type: ignore[arg-type]
    reference = ingredients.min(0)
    for side, value in ((ours, found.ours), (theirs, found.theirs)):
        expected = cells(np.vstack([side, ingredients]), reference) / N ** len(names)
        assert value == pytest.approx(expected, abs=1e-12)
    assert found.reference == pytest.approx((reference / N).tolist())
    assert found.metrics == names
    assert found.gap.mean == pytest.approx(found.ours - found.theirs)
    back = compare_hypervolumes(*map(reports, (theirs, ours, ingredients)), names)  # type: ignore[arg-type]
    mirrored = (-found.gap.mean, -found.gap.high, -found.gap.low)
    assert tuple(back.gap) == pytest.approx(mirrored, abs=1e-12)


# ---- the interval


def drawn_report(seed: int, clean: float, robust: float, hard: Array) -> Report:
    """Return a report whose images are right with these probabilities; *hard* images together."""
    noise = 0.3 * np.random.default_rng(seed).random((2, len(hard))) + 0.7 * hard
    return report(*(noise < np.array([[clean], [robust]])).tolist())


def test_equal_sets_do_not_differ() -> None:
    hard = np.random.default_rng(0).random(200)
    soups = [drawn_report(seed, 0.8, 0.5, hard) for seed in (1, 2)]
    ends = [drawn_report(3, 0.9, 0.2, hard), drawn_report(4, 0.5, 0.5, hard)]
    found = compare_hypervolumes(soups, soups[::-1], ends, ("clean", "linf:0.1"))
    assert tuple(found.gap) == (0, 0, 0)


@pytest.mark.usefixtures("few")
def test_the_interval_covers_the_true_difference() -> None:
    """In about 95 of 100 samples of 300 images from planted soups; the truth is of 100,000."""

    def sampled(n: int, seed: int) -> list[Report]:
        hard = np.random.default_rng([9, seed]).random(n)
        rates = ((0.8, 0.5), (0.75, 0.45), (0.9, 0.2), (0.5, 0.4))  # ours, theirs, ingredients
        return [drawn_report(seed + i, *rate, hard) for i, rate in enumerate(rates)]

    rights = [[r.accuracy(m) for m in METRICS[:2]] for r in sampled(100_000, 0)]
    accuracies = np.array(rights)
    sides = (hypervolume(accuracies[[i, 2, 3]], accuracies[2:].min(0)) for i in (0, 1))
    truth = next(sides) - next(sides)
    assert truth > 0.01
    gaps = []
    for seed in range(4, 124, 4):
        ours, theirs, *ends = sampled(300, seed)
        gaps.append(compare_hypervolumes([ours], [theirs], ends, METRICS[:2]).gap)
    covered = sum(gap.low <= truth <= gap.high for gap in gaps)
    assert covered >= 25  # of 30: fewer have a probability below 1%, if 95% are covered
    assert any(gap.low > 0 for gap in gaps)


def test_the_draws_depend_on_the_seed_alone() -> None:
    hard = np.random.default_rng(0).random(100)
    soups = [[drawn_report(seed, 0.8, 0.5, hard)] for seed in (1, 2, 3)]
    same = [compare_hypervolumes(*soups, ("clean", "linf:0.1")) for _ in range(2)]
    assert same[0] == same[1]
    other = compare_hypervolumes(*soups, ("clean", "linf:0.1"), seed=1)
    assert other.gap != same[0].gap
    assert (other.ours, other.theirs) == (same[0].ours, same[0].theirs)


def test_a_comparison_in_words() -> None:
    """The soup covers 0.8 · 0.6 above an ingredient that is 0.5 and 0.2."""
    one, other = report(*first(8, 6, n=N)), report(*first(5, 2, n=N))
    found = compare_hypervolumes([one], [other], [other], ("clean", "linf:0.1"))
    assert str(found).startswith("120.0‰, the others 0.0‰ (")
    assert found.to_json()["gap"]["mean"] == pytest.approx(0.12)


def test_what_cannot_be_compared_is_refused() -> None:
    one, other = report(*first(8, 6, n=N)), report(*first(5, 2, n=N))
    with pytest.raises(UsageError, match="two or more metrics"):
        compare_hypervolumes([one], [other], [other], ("clean",))
    with pytest.raises(UsageError, match="soups and ingredients to compare"):
        compare_hypervolumes([one], [], [other], ("clean", "linf:0.1"))
    with pytest.raises(InputError, match="no metric 'l2:0.5' was judged"):
        compare_hypervolumes([one], [other], [other], ("clean", "l2:0.5"))
    elsewhere = Report({"ref": "other"}, other.flags, other.attacks)
    with pytest.raises(InputError, match="judged on different images"):
        compare_hypervolumes([one], [elsewhere], [other], ("clean", "linf:0.1"))


def test_the_interval_is_of_95_percent() -> None:
    """A soup that is always right when clean, above nothing: its volume is its robust accuracy."""
    n, robust = 400, 120
    ours, nothing = report(*first(n, robust, n=n)), report(*first(0, 0, n=n))
    found = compare_hypervolumes([ours], [nothing], [nothing], METRICS[:2])
    p = robust / n
    assert found.gap.mean == pytest.approx(p)
    reach = 1.96 * (p * (1 - p) / n) ** 0.5
    assert found.gap.high - found.gap.low == pytest.approx(2 * reach, rel=0.06)
