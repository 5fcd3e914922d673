"""Searches of the simplex for many ingredients, whose lattice nobody could judge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.schedule import stream
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.judge.trials import Trials
from soupmerge.soups.search.evaluator import Evaluator, evaluating, metric_of, require_several
from soupmerge.soups.search.grid import MOST_SOUPS
from soupmerge.types import Progress, quiet
from soupmerge.weights.ingredients import Ingredients

METHODS = ("random", "cma")
Row = tuple[float, ...]


def search(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    method: str = "random",
    n: int = 100,
    metric: str | None = None,
    buffers: str = "average",
    base: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> Trials:
    """Judge the ingredients, their uniform soup, and *n* soups that *method* asks for.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges; its data choose the soup, so they must not judge it.
        method: ``random``: drawn uniformly from the simplex. ``cma``: the covariance matrix
            adaptation evolution strategy (Hansen 2016, arXiv 1604.00772), which searches logits
            a ``(K,)``, the coefficients being softmax(a), for the highest *metric*.
        n: soups beside the ingredients and the uniform soup.
        metric: what ``cma`` raises and whose best soup is written; a sum such as
            ``0.5*clean+0.5*union`` too. Default ``union``, or ``clean`` without threats.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters (and ``base`` statistics) come from.
        seed: of what is drawn.
        device: where to judge.
        out: run folder; journals one line a soup, resumes, and receives the chosen soup.
        force: start over if *out* holds another run.
        progress: is told of soups.

    Raises:
        UsageError: K < 2, no such method, or *out* holds a run with other settings.
    """
    require_several(ingredients, "a search")
    chosen = metric_of(benchmark, metric, "metric")
    check(method, n)
    settings = {"method": method, "n": n, "seed": seed}
    settings |= {"metric": chosen} if method == "cma" else {}
    how = {"buffers": buffers, "base": base, "origin": "search"}
    k = len(ingredients)
    opened = evaluating(
        net,
        ingredients,
        benchmark,
        "search",
        settings,
        how,
        soups=k + 1 + n,
        device=device,
        out=out,
        force=force,
        progress=progress,
    )
    with opened as evaluator:
        for known in [*np.eye(k).tolist(), [1 / k] * k]:
            evaluator.trial(evaluator.recipe(known))
        if method == "cma":
            _evolve(evaluator, k, n, Metric.parse(chosen), seed)
        else:
            for row in drawn(k, n, seed):
                evaluator.trial(evaluator.recipe(row))
        trials = evaluator.all()
        _, trials = evaluator.choose(trials.best(chosen), trials)
    return trials


def check(method: str, n: int) -> None:
    """Refuse a search that cannot be meant.

    Raises:
        UsageError: there is no such method, or so many soups are none.
    """
    if method not in METHODS:
        raise UsageError(f"no method {method!r}", where="method", fix=near_miss(method, METHODS))
    if not 1 <= n <= MOST_SOUPS:
        fix = f"give 1 to {MOST_SOUPS:,}"
        raise UsageError(f"{n:,} soups are not a number to judge", where="-n", fix=fix)


def drawn(k: int, n: int, seed: int) -> Iterator[Row]:
    """Yield *n* points of the simplex, uniformly: exponentials over their sum."""
    for i in range(n):
        draw = torch.empty(k, dtype=torch.float64)
        draw.exponential_(generator=stream("simplex", seed, i))
        yield tuple((draw / draw.sum()).tolist())


def _evolve(evaluator: Evaluator, k: int, n: int, metric: Metric, seed: int) -> None:
    """Judge *n* soups that CMA-ES asks for; the same every time, since the same is answered."""
    import cma

    noise = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "seed": math.nan,  # it would seed, and draw from, numpy's generator for everyone
        "randn": lambda *shape: noise.standard_normal(shape),
        "verbose": -9,
    }
    strategy, left = cma.CMAEvolutionStrategy([0.0] * k, 1.0, options), n
    while left > 0:
        points = strategy.ask()
        rows = [softmax(point) for point in points[:left]]
        losses = [
            -float(metric.value(evaluator.trial(evaluator.recipe(row)).judged())) for row in rows
        ]
        left -= len(rows)
        if len(losses) == len(points):
            strategy.tell(points, losses)


def softmax(logits: Any) -> Row:
    """Return exp(a) / Σ exp(a)."""
    powers = np.exp(np.asarray(logits) - max(logits))
    return tuple((powers / powers.sum()).tolist())
