"""Checks of arguments that all searches share."""

from __future__ import annotations

from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.soups.judge.metrics import Metric
from soupmerge.weights.ingredients import Ingredients


def require_several(ingredients: Ingredients, what: str, *, exactly: int | None = None) -> None:
    """Refuse fewer than two ingredients or, if *exactly* is given, any other number.

    Raises:
        UsageError: the number is wrong; *what* names the search in the message.
    """
    k = len(ingredients)
    if exactly is not None and k != exactly:
        problem = f"{what} needs exactly {exactly} ingredients, not {k}"
        raise UsageError(problem, where="REF", fix=f"name {exactly} checkpoints")
    if k < 2:
        problem = f"{what} needs two or more ingredients, not {k}"
        raise UsageError(problem, where="REF", fix="name more checkpoints")


def metric_of(benchmark: Benchmark, metric: str | None) -> str:
    """Return *metric*, or the default: ``union``, or ``clean`` for a benchmark without threats.

    Raises:
        UsageError: *benchmark* does not measure it.
    """
    text = metric or benchmark.metrics[-1]
    Metric.parse(text).require(benchmark.metrics, "metric")
    return text
