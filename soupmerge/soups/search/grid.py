"""Every soup of the simplex lattice, judged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from soupmerge.errors import UsageError
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.soups.judge.trials import Trials
from soupmerge.soups.search.evaluator import evaluating, metric_of, require_several
from soupmerge.types import Progress, quiet
from soupmerge.weights.ingredients import Ingredients

MOST_SOUPS = 100_000
"""More than anyone can judge; a larger lattice is a mistyped step."""


def parts_of(step: float | str) -> int:
    """Return how many steps make 1.

    Raises:
        UsageError: *step* does not divide 1.

    Example:
        >>> parts_of(0.2), parts_of("1/3")
        (5, 3)
    """
    size = exact(str(step), "step")
    if not 0 < size <= 1 or (1 / size).denominator != 1:
        fix = "take 0.5, 0.25, 0.2, 0.1 or 0.05, say"
        raise UsageError(f"{step} does not divide 1", where="step", fix=fix)
    return int(1 / size)


def lattice_size(k: int, parts: int) -> int:
    """Return the number of soups, C(parts + K − 1, K − 1): 6, 21, 56, … at step 0.2."""
    return math.comb(parts + k - 1, k - 1)


def lattice(k: int, parts: int) -> Iterator[tuple[float, ...]]:
    """Yield all (w_1, …, w_K) with w_k in {0, 1/parts, …, 1} and Σ w_k = 1.

    Example:
        >>> list(lattice(2, 2))
        [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    """
    return (tuple(n / parts for n in numbers) for numbers in _compositions(k, parts))


def _compositions(k: int, total: int) -> Iterator[tuple[int, ...]]:
    if k == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(k - 1, total - first):
            yield (first, *rest)


def grid(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    step: float | str = 0.2,
    choose: str | None = None,
    buffers: str = "average",
    base: int = 0,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> Trials:
    """Judge every soup whose coefficients are multiples of *step* (Huang 2023, section 4.1).

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges; its data choose the soup, so they must not judge it.
        step: 0.2 gives 6, 21, 56, 126 … soups for K = 2, 3, 4, 5 ….
        choose: metric whose best soup is written; default ``union``, or ``clean`` without threats.
            The best recipe of every metric is written too, to ``best/METRIC.json``.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters (and ``base`` statistics) come from.
        device: where to judge.
        out: run folder; journals one line a soup, resumes, and receives the chosen soup.
        force: start over if *out* holds another run.
        progress: is told of soups.

    Returns:
        All soups in lattice order, every ingredient among them.

    Raises:
        UsageError: K < 2, *step* does not divide 1, or *out* holds a run with other settings.
    """
    size, rows = plan(ingredients, step)
    choose = metric_of(benchmark, choose)
    settings = {"step": str(exact(str(step), "step"))}
    how = {"buffers": buffers, "base": base, "origin": "grid"}
    opened = evaluating(
        net,
        ingredients,
        benchmark,
        "grid",
        settings,
        how,
        soups=size,
        device=device,
        out=out,
        force=force,
        progress=progress,
    )
    with opened as evaluator:
        for row in rows:
            evaluator.trial(evaluator.recipe(row))
        trials = evaluator.all()
        _, trials = evaluator.choose(trials.best(choose), trials)
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
        fix = "take a larger step, or soupmerge search"
        raise UsageError(f"{size:,} soups are too many to judge", where="step", fix=fix)
    return size, lattice(len(ingredients), parts)
