"""Searches of the simplex for many ingredients, whose lattice would be too large."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from soupmerge.choices import SEARCH_METHODS, implementation
from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import CLEAN
from soupmerge.run import Run
from soupmerge.schedule import stream
from soupmerge.soups.judge.evaluator import Evaluator, evaluating
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.judge.trials import Trials
from soupmerge.soups.search.checks import metric_of, require_several
from soupmerge.soups.search.grid import MOST_SOUPS
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.ingredients import Ingredients

Row = tuple[float, ...]
Method = Callable[[Evaluator, int, Sequence[Metric], int], None]
"""Has an evaluator judge so many soups, for high values of all metrics, from a seed."""


def search(  # as many settings as `grid`, and what a search adds to them
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    method: str = "random",
    n: int = 100,
    metric: str | None = None,
    seed: int = 0,
    buffers: Buffers = Buffers(),
    run: Run = Run(),
) -> Trials:
    """Judge the ingredients, their uniform soup, and *n* soups that *method* proposes.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges the soups. Its images choose the soup, so they must not judge it later.
        method: ``random`` draws uniformly from the simplex. ``cma``, the covariance matrix
            adaptation evolution strategy (Hansen 2016, arXiv 1604.00772), searches logits
            a ``(K,)``, the coefficients being softmax(a), for the highest *metric*. ``surrogate``
            fits a model of accuracy to the soups judged so far, and proposes those that it
            predicts to be best in *metric* or, by default, on the front of ``clean`` and the last
            metric; see `soups.search.surrogate`.
        n: number of soups besides the ingredients and the uniform soup.
        metric: what ``cma`` and ``surrogate`` maximise and the written soup is best in: ``clean``,
            a threat, ``union``, or a sum such as ``0.5*clean+0.5*union``; by default ``union``, or
            ``clean`` without threats.
        seed: seed for all draws.
        buffers: where the buffers of every soup come from.
        run: run folder, which journals one line for each soup, and device.

    Raises:
        UsageError: K < 2, an unknown method, or the run folder holds another run.

    Example:
        >>> trials = sm.search(net, ingredients, val, n=2, seed=1)
        >>> [trial.recipe.mean_weights for trial in trials[:3]]
        [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    """
    require_several(ingredients, "a search")
    propose = check(method, n)
    goals = goals_of(method, benchmark, metric)
    metric = metric_of(benchmark, metric)
    settings = {"method": method, "n": n, "seed": seed}
    settings |= {"metric": ", ".join(goals)} if goals else {}
    k = len(ingredients)
    with evaluating(
        net,
        ingredients,
        benchmark,
        "search",
        settings,
        buffers=buffers,
        run=run,
        soups=k + 1 + n,
    ) as evaluator:
        for corner in [*np.eye(k).tolist(), [1 / k] * k]:
            evaluator.soup(corner)
        propose(evaluator, n, [Metric.parse(goal) for goal in goals], seed)
        trials = evaluator.all()
        _, trials = evaluator.choose(trials.best(metric), trials)
    return trials


def check(method: str, n: int) -> Method:
    """Return the search method, and reject invalid settings.

    Raises:
        UsageError: an unknown method, or *n* is out of range.
    """
    propose: Method = implementation(SEARCH_METHODS, method, "method")
    if not 1 <= n <= MOST_SOUPS:
        fix = f"give 1 to {MOST_SOUPS:,}"
        raise UsageError(f"cannot judge {n:,} soups", where="-n", fix=fix)
    return propose


def goals_of(method: str, benchmark: Benchmark, metric: str | None) -> tuple[str, ...]:
    """Return the metrics that *method* maximises, if it maximises any.

    Raises:
        UsageError: *benchmark* does not measure *metric*.
    """
    aim, chosen = SEARCH_METHODS[method].aim, metric_of(benchmark, metric)
    if aim == "front" and metric is None:
        return tuple(dict.fromkeys((CLEAN, chosen)))
    return () if aim == "none" else (chosen,)


def at_random(evaluator: Evaluator, n: int, goals: Sequence[Metric], seed: int) -> None:
    """Judge *n* soups drawn uniformly from the simplex, whatever the *goals*."""
    for row in draws(len(evaluator.ingredients), n, seed):
        evaluator.soup(row)


def draws(k: int, n: int, seed: int) -> Iterator[Row]:
    """Yield *n* uniform points of the simplex: *k* exponential variables over their sum."""
    for i in range(n):
        draw = torch.empty(k, dtype=torch.float64)
        draw.exponential_(generator=stream("simplex", seed, i))
        yield tuple((draw / draw.sum()).tolist())


def by_cma(evaluator: Evaluator, n: int, goals: Sequence[Metric], seed: int) -> None:
    """Judge *n* soups that CMA-ES proposes; a resumed search sees the same values and soups."""
    import cma

    (metric,) = goals
    noise = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "seed": math.nan,  # any other value would seed numpy's global generator
        "randn": lambda *shape: noise.standard_normal(shape),
        "verbose": -9,
    }
    strategy, left = cma.CMAEvolutionStrategy([0.0] * len(evaluator.ingredients), 1.0, options), n
    while left > 0:
        points = strategy.ask()
        rows = [softmax(point) for point in points[:left]]
        losses = [-float(metric.value(evaluator.soup(row).judged())) for row in rows]
        left -= len(rows)
        if len(losses) == len(points):
            strategy.tell(points, losses)


def softmax(logits: Any) -> Row:
    """Return exp(a) / Σ exp(a)."""
    powers = np.exp(np.asarray(logits) - max(logits))
    return tuple((powers / powers.sum()).tolist())
