"""Hypervolume: how much of the space of accuracies a set of soups covers, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import moocore
import numpy as np

from soupmerge.errors import InputError, UsageError
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.metrics import Gap
from soupmerge.storage.run_folder import essence
from soupmerge.weights.tensors import Array

RESAMPLES = 2000


@dataclass(frozen=True)
class HypervolumeGap:
    """The hypervolume of one set of soups compared with that of another.

    Attributes:
        metrics: the accuracies that span the space.
        reference: the worst ingredient in each metric; only what is better counts.
        ours: hypervolume of the first set, in units of the product of accuracies.
        theirs: hypervolume of the second.
        gap: their difference, and its 95% interval from a paired bootstrap over images.
    """

    metrics: tuple[str, ...]
    reference: tuple[float, ...]
    ours: float
    theirs: float
    gap: Gap

    def __str__(self) -> str:
        """Return both hypervolumes and their difference, in thousandths of the unit square."""
        low, high = (f"{1000 * x:+.1f}" for x in (self.gap.low, self.gap.high))
        ours, theirs = f"{1000 * self.ours:.1f}", f"{1000 * self.theirs:.1f}"
        return f"{ours}‰, the others {theirs}‰ ({low} to {high})"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {**asdict(self), "gap": self.gap._asdict()}


def hypervolume(points: Array, reference: Array) -> float:
    """Return the volume of all that is below one of *points* and above *reference*.

    Args:
        points: accuracies ``(S, M)`` of S soups in M metrics.
        reference: ``(M,)``.

    Example:
        >>> round(hypervolume(np.array([[0.8, 0.2], [0.6, 0.3]]), np.array([0.5, 0.1])), 3)
        0.04
    """
    return float(moocore.hypervolume(points, reference, maximise=True))


def compare_hypervolumes(
    ours: Sequence[Report],
    theirs: Sequence[Report],
    ingredients: Sequence[Report],
    metrics: Sequence[str],
    *,
    seed: int = 0,
) -> HypervolumeGap:
    """Compare the hypervolumes of two sets of soups that were judged on the same images.

    The ingredients belong to both sets, and the worst of them in each metric is the reference
    point. The interval is the central 95% of the differences on `RESAMPLES` draws of as many images
    with replacement; each draw is shared by all soups, so that what is hard for all of them cancels
    (Efron & Tibshirani 1993, chapter 13).

    Args:
        ours: reports on the first set of soups.
        theirs: reports on the second.
        ingredients: reports on the ingredients.
        metrics: two or more accuracies, such as ``clean`` and ``linf:8/255``.
        seed: seed for the draws.

    Raises:
        UsageError: there are fewer than two metrics, or a set is empty.
        InputError: the reports are on different images.
    """
    if len(metrics) < 2 or not (ours and theirs and ingredients):
        what = "a hypervolume needs two or more metrics, and soups and ingredients to compare"
        raise UsageError(what, where="hypervolume", fix="judge under at least one threat")
    reports = [*ingredients, *ours, *theirs]
    if any(essence(r.data) != essence(reports[0].data) for r in reports):
        raise InputError("cannot compare soups that were judged on different images")
    bits = np.array([[r.bits(m) for m in metrics] for r in reports], dtype=np.float64)
    k, n = len(ingredients), bits.shape[-1]
    sides = ([*range(k + len(ours))], [*range(k), *range(k + len(ours), len(reports))])

    def volumes(accuracies: Array) -> tuple[float, float]:
        reference = accuracies[:k].min(0)
        one, other = (hypervolume(accuracies[side], reference) for side in sides)
        return one, other

    generator, even = np.random.default_rng(seed), np.full(n, 1 / n)
    draws = (generator.multinomial(n, even) for _ in range(RESAMPLES))
    differences = [one - other for one, other in (volumes(bits @ draw / n) for draw in draws)]
    accuracies = bits.mean(-1)
    mine, other = volumes(accuracies)
    low, high = np.quantile(differences, (0.025, 0.975))
    return HypervolumeGap(
        tuple(metrics),
        tuple(accuracies[:k].min(0).tolist()),
        mine,
        other,
        Gap(mine - other, float(low), float(high)),
    )
