"""Metrics, conditions on them, and paired differences of two soups."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.metrics import Condition, Gap, Metric, interval, paired
from tests.soups.planted import first, report

SIX = report(*first(9, 3, n=10))
"""Clean 9 of 10, robust 3 of 10."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("clean", Fraction(9, 10)),
        (" union ", Fraction(3, 10)),
        ("1/3*clean + 2/3*linf:0.1", Fraction(1, 2)),
        ("clean+clean", Fraction(9, 5)),
        ("2*clean+clean", Fraction(27, 10)),
        ("0.25*clean+0.75*union", Fraction(9, 20)),
        ("clean+-1*union", Fraction(6, 10)),
    ],
)
def test_a_metric_is_the_exact_weighted_sum_that_is_written(text: str, value: Fraction) -> None:
    metric = Metric.parse(text)
    assert metric.value(SIX) == value
    assert metric.per_image(SIX).mean() == pytest.approx(float(value), abs=1e-12)
    assert metric.per_image(SIX).shape == (10,)


def test_thirds_tie_exactly() -> None:
    """In floating point, 0.1 + 0.2 is above 0.3; as fractions they are equal."""
    one, other = report(*first(3, 0, n=10)), report(*first(2, 1, n=10))
    metric = Metric.parse("0.1*clean+0.1*union")
    assert metric.value(one) == metric.value(other) == Fraction(3, 100)


@pytest.mark.parametrize("text", ["", "0.5*", "x*clean", "clean+", "nan*clean", "+clean", " "])
def test_what_is_no_metric_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="^metric: "):
        Metric.parse(text)


def test_a_metric_that_is_not_judged_is_refused_with_the_nearest_name() -> None:
    metric = Metric.parse("0.5*clean+0.5*unoin")
    assert metric.names == ("clean", "unoin")
    with pytest.raises(UsageError, match=r"^--best: .*'unoin'.*'union'"):
        metric.require(["clean", "union"], "--best")
    Metric.parse("clean").require(["clean"], "--best")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("clean>=0.9", True),
        ("clean<=0.9", True),
        ("clean > 0.9", False),
        ("clean<9/10", False),
        ("clean>0.899", True),
        ("clean<=0.899", False),
        ("clean<0.901", True),
        ("clean>=0.901", False),
        ("0.5*clean+0.5*union<0.61", True),
    ],
)
def test_conditions_compare_exactly(text: str, met: bool) -> None:
    assert Condition.parse(text).met(SIX) is met


@pytest.mark.parametrize(
    "text", ["clean", "clean=0.9", ">=0.5", "clean>=", "clean>=0.5>=0.2", "clean>=high"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="^where: "):
        Condition.parse(text)


@given(st.lists(st.integers(-1, 1), min_size=2, max_size=60), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_interval_is_that_of_the_normal_distribution(signs: list[int], unit: float) -> None:
    """Of s / √N, but of no less than one image in N."""
    found = interval(unit * np.array(signs), unit)
    error = max(unit * np.std(signs) / len(signs) ** 0.5, unit / len(signs))
    low, high = stats.norm.interval(0.95, loc=unit * np.mean(signs), scale=error)
    assert found == pytest.approx((unit * np.mean(signs), low, high), abs=1e-12)


def test_an_interval_on_paper() -> None:
    """36 better, 4 worse of 400: mean 0.08, s² = 0.1 − 0.0064, s/20 = 0.015297."""
    found = interval(np.array([1.0] * 36 + [-1.0] * 4 + [0.0] * 360))
    assert found == pytest.approx((0.08, 0.050018, 0.109982), abs=1e-6)
    assert str(found) == "+8.0 points (+5.0 to +11.0)"
    assert interval(np.zeros(100)) == pytest.approx((0.0, -0.0195996, 0.0195996), abs=1e-7)


def test_intervals_hold_what_they_should_in_95_of_100_samples() -> None:
    draw = np.random.default_rng(0)
    gaps = [interval(draw.integers(-1, 2, 200) * 0.6 + 0.1) for _ in range(1500)]
    covered = sum(gap.low <= 0.1 <= gap.high for gap in gaps)
    assert 0.935 * 1500 <= covered <= 0.965 * 1500


def test_every_image_is_compared_with_itself() -> None:
    """Two soups of equal accuracy may differ in no image or in all: the interval tells."""
    half = report([1, 0] * 50, [0] * 100)
    same, other = report([1, 0] * 50, [0] * 100), report([0, 1] * 50, [0] * 100)
    clean = Metric.parse("clean")
    assert paired(half, same, clean) == pytest.approx((0, -0.0195996, 0.0195996), abs=1e-7)
    assert paired(half, other, clean) == pytest.approx((0, -0.195996, 0.195996), abs=1e-6)


@pytest.mark.parametrize(("text", "unit"), [("3*clean", 3.0), ("clean+-3*union", 3.0)])
def test_one_image_counts_as_the_largest_weight(text: str, unit: float) -> None:
    gap = paired(SIX, SIX, Metric.parse(text))
    assert gap.high == -gap.low == pytest.approx(unit * 1.959964 / 10)


def test_the_first_is_compared_with_the_second() -> None:
    better, worse = report(*first(9, 5, n=10)), report(*first(9, 3, n=10))
    assert paired(better, worse, Metric.parse("union")).mean == pytest.approx(0.2)
    assert paired(worse, better, Metric.parse("union")).mean == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ({"ref": "a", "sha256": "1"}, {"ref": "b", "sha256": "1"}, False),
        ({"ref": "a", "sha256": "1"}, {"ref": "a", "sha256": "2"}, True),
    ],
)
def test_only_reports_on_the_same_images_are_compared(one: Any, other: Any, refused: bool) -> None:
    reports = [Report(data, SIX.flags, SIX.attacks) for data in (one, other)]
    if refused:
        with pytest.raises(InputError, match="different images"):
            paired(*reports, Metric.parse("clean"))
    else:
        assert isinstance(paired(*reports, Metric.parse("clean")), Gap)
