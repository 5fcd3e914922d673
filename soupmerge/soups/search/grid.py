"""Every soup of the simplex lattice, judged."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from soupmerge.errors import UsageError
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.run import Run
from soupmerge.soups.judge.evaluator import evaluating
from soupmerge.soups.judge.trials import Trials
from soupmerge.soups.lattice import lattice, lattice_size
from soupmerge.soups.search.checks import metric_of, require_several
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.ingredients import Ingredients

MOST_SOUPS = 100_000
"""More soups than anyone can judge: a larger lattice means a mistyped step."""


def parts_of(step: float | str) -> int:
    """Return 1 / *step*, the number of steps from 0 to 1.

    Raises:
        UsageError: *step* does not divide 1.

    Example:
        >>> parts_of(0.2), parts_of("1/3")
        (5, 3)
    """
    size = exact(str(step), "step")
    if not 0 < size <= 1 or (1 / size).denominator != 1:
        fix = "choose a step such as 0.5, 0.25, 0.2, 0.1 or 0.05"
        raise UsageError(f"{step} does not divide 1", where="step", fix=fix)
    return int(1 / size)


def grid(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    step: float | str = 0.2,
    metric: str | None = None,
    buffers: Buffers = Buffers(),
    run: Run = Run(),
) -> Trials:
    """Judge every soup whose coefficients are multiples of *step* (Huang 2023, section 4.1).

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges the soups. Its images choose the soup, so they must not judge it later.
        step: spacing of the coefficients; must divide 1. A step of 0.2 gives 6, 21, 56, 126 … soups
            for K = 2, 3, 4, 5 ….
        metric: the best soup in this metric is written: ``clean``, a threat, ``union``, or a sum
            such as ``0.5*clean+0.5*union``; by default ``union``, or ``clean`` without threats.
            The best recipe by every other metric is written to ``best/METRIC.json``.
        buffers: where the buffers of every soup come from.
        run: run folder, which journals one line for each soup, and device.

    Returns:
        All soups in lattice order, every ingredient among them.

    Raises:
        UsageError: K < 2, *step* does not divide 1, or the run folder holds another run.

    Example:
        >>> trials = sm.grid(net, ingredients, val, step=0.5)
        >>> [trial.recipe.mean_weights for trial in trials]
        [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
        >>> trials.best("union").judged().metrics
        ('clean', 'linf:0.1', 'union')
    """
    size, rows = plan(ingredients, step)
    metric = metric_of(benchmark, metric)
    settings = {"step": str(exact(str(step), "step"))}
    with evaluating(
        net, ingredients, benchmark, "grid", settings, buffers=buffers, run=run, soups=size
    ) as evaluator:
        for row in rows:
            evaluator.soup(row)
        trials = evaluator.all()
        _, trials = evaluator.choose(trials.best(metric), trials)
    return trials


def plan(ingredients: Ingredients, step: float | str) -> tuple[int, Iterator[tuple[float, ...]]]:
    """Return how many soups a grid judges, and their coefficients.

    Raises:
        UsageError: K < 2, *step* does not divide 1, or there are too many soups.
    """
    parts = parts_of(step)
    require_several(ingredients, "a grid")
    size = lattice_size(len(ingredients), parts)
    if size > MOST_SOUPS:
        fix = "choose a larger step, or use soupmerge search"
        raise UsageError(f"{size:,} soups are too many to judge", where="step", fix=fix)
    return size, lattice(len(ingredients), parts)
