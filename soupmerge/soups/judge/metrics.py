"""Metrics by which soups are chosen: clean, a threat, the union, or a weighted sum of these."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from soupmerge.errors import InputError, UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.robustness.report import Report
from soupmerge.storage.run_folder import essence
from soupmerge.weights.tensors import Array

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Metric:
    """A weighted sum of accuracies, Σ w · accuracy.

    Attributes:
        terms: pairs (name of the accuracy, weight w).

    Example:
        >>> Metric.parse("0.5*clean + 0.5*union").terms
        (('clean', Fraction(1, 2)), ('union', Fraction(1, 2)))
    """

    terms: tuple[tuple[str, Fraction], ...]

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Return the metric written in *text*.

        Raises:
            UsageError: a weight is not a number, or a name is missing.
        """
        terms: dict[str, Fraction] = {}
        for term in text.split("+"):
            weight, times, name = term.rpartition("*")
            if not name.strip():
                fix = "write clean, union, a threat, or a sum such as 0.5*clean+0.5*union"
                raise UsageError(f"{text!r} is not a metric", where="metric", fix=fix)
            value = exact(weight, "metric") if times else Fraction(1)
            terms[name.strip()] = terms.get(name.strip(), Fraction(0)) + value
        return cls(tuple(terms.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the accuracies."""
        return tuple(name for name, _ in self.terms)

    def require(self, judged: Sequence[str], where: str) -> None:
        """Refuse names that are not among the *judged* ones; *where* names the option.

        Raises:
            UsageError: an accuracy was not judged.
        """
        for name in self.names:
            if name not in judged:
                fix = near_miss(name, judged)
                raise UsageError(f"no metric {name!r} is judged", where=where, fix=fix)

    def value(self, report: Report) -> Fraction:
        """Return Σ w · accuracy as an exact fraction, so that equal soups tie."""
        return sum((w * report.correct(name) for name, w in self.terms), Fraction(0)) / report.n

    def per_image(self, report: Report) -> Array:
        """Return Σ w · right for each image, ``(N,)`` float64; its mean is the metric."""
        parts = (float(w) * report.bits(name).astype(np.float64) for name, w in self.terms)
        return sum(parts, np.zeros(report.n))


@dataclass(frozen=True)
class Condition:
    """A comparison of a *metric* with a *level*, such as ``clean>=0.85``."""

    metric: Metric
    compare: Callable[[Any, Any], bool]
    level: Fraction

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Return the condition written in *text*.

        Raises:
            UsageError: *text* is not a comparison with a number.
        """
        match = re.fullmatch(r"([^<>=]+)(>=|<=|>|<)([^<>=]+)", text)
        if match is None:
            fix = "write a comparison such as clean>=0.85"
            raise UsageError(f"{text!r} is not a condition", where="where", fix=fix)
        level = exact(match[3], "where")
        return cls(Metric.parse(match[1]), COMPARISONS[match[2]], level)

    def met(self, report: Report) -> bool:
        """Return whether *report* meets the condition."""
        return self.compare(self.metric.value(report), self.level)

    def margin(self, report: Report) -> Fraction:
        """Return by how much *report* meets the condition; below 0 if it does not."""
        above = self.metric.value(report) - self.level
        return above if self.compare(1, 0) else -above


class Gap(NamedTuple):
    """The lead of one soup over another: the mean over images, and its 95% interval.

    Example:
        >>> str(Gap(0.021, -0.005, 0.047))
        '+2.1 points (-0.5 to +4.7)'
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        points = (f"{100 * x:+.1f}" for x in self)
        return "{} points ({} to {})".format(*points)


def paired(one: Report, other: Report, metric: Metric) -> Gap:
    """Return the lead of *one* over *other* in *metric*, compared image by image.

    The interval is mean ± 1.96 · s / √N of the N differences. s / √N is at least one image's worth:
    that no image differs here does not mean that none could.

    Raises:
        InputError: the reports are on different images.
    """
    if one.data is not other.data and essence(one.data) != essence(other.data):
        raise InputError("cannot compare soups that were judged on different images")
    weight = max(abs(float(w)) for _, w in metric.terms)
    return interval(metric.per_image(one) - metric.per_image(other), weight)


def interval(differences: Array, unit: float = 1.0) -> Gap:
    """Return the mean of *differences* ``(N,)`` and its 95% interval; one image is worth *unit*."""
    n = len(differences)
    spread = max(float(differences.std()) / n**0.5, unit / n)
    mean, reach = float(differences.mean()), NormalDist().inv_cdf(0.975) * spread
    return Gap(mean, mean - reach, mean + reach)
