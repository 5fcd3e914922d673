"""The path between two models (WiSE-FT), and its height above the chord."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.run import Run
from soupmerge.soups.judge.evaluator import evaluating
from soupmerge.soups.judge.metrics import Gap, interval
from soupmerge.soups.judge.trials import Trials
from soupmerge.soups.search.checks import metric_of, require_several
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.ingredients import Ingredients

POINTS = 11


@dataclass(frozen=True)
class Line:
    """The result of `path`: soups (1 − t) θ_0 + t θ_1 from the first model to the second.

    Attributes:
        t: the position of each soup; below 0 or above 1 if it is extrapolated.
        trials: the trial of each soup.
    """

    t: tuple[float, ...]
    trials: Trials

    def gain(self, i: int, metric: str) -> Gap:
        """Return the height of soup *i* above the chord: m(θ_t) − (1 − t) m(θ_0) − t m(θ_1).

        The interval compares soups image by image, as `metrics.paired` does.
        """
        first, last = (self.trials[self.t.index(t)].judged() for t in (0.0, 1.0))
        t, here = self.t[i], self.trials[i].judged()
        soup, start, end = (report.bits(metric).astype(float) for report in (here, first, last))
        return interval(soup - (1 - t) * start - t * end)

    def lift(self, i: int, x: str, y: str) -> float | None:
        """Return the height of soup *i* above the chord in the plane of the metrics *x* and *y*.

        The chord joins the two ends, as in the figures of WiSE-FT. None if *x* of the soup is not
        between those of the ends.
        """
        ends = [self.trials[self.t.index(t)].judged() for t in (0.0, 1.0)]
        (x0, y0), (x1, y1) = ((end.accuracy(x), end.accuracy(y)) for end in ends)
        report = self.trials[i].judged()
        here = report.accuracy(x)
        if x0 == x1 or not min(x0, x1) <= here <= max(x0, x1):
            return None
        return report.accuracy(y) - (y0 + (y1 - y0) * (here - x0) / (x1 - x0))

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield t, the gain by each metric and the lift of the last metric over clean, as JSON."""
        metrics = self.trials.metrics
        for i, t in enumerate(self.t):
            gains = {m: self.gain(i, m)._asdict() for m in metrics}
            yield {"t": t, "gain": gains, "lift": self.lift(i, metrics[0], metrics[-1])}


def path(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    points: int = POINTS,
    beyond: float = 0.0,
    metric: str | None = None,
    buffers: Buffers = Buffers(),
    run: Run = Run(),
) -> Line:
    """Judge the straight line between two models (Wortsman et al. 2022, arXiv 2109.01903).

    Args:
        net: the network of the ingredients.
        ingredients: two ingredients.
        benchmark: judges the soups. Its images choose the soup, so they must not judge it later.
        points: number of soups from end to end, both included.
        beyond: extrapolate by this much at both ends, in steps of the same length; the recipes
            are affine, with coefficients outside [0, 1].
        metric: the best soup in this metric is written: ``clean``, a threat, ``union``, or a sum
            such as ``0.5*clean+0.5*union``; by default ``union``, or ``clean`` without threats.
        buffers: where the buffers of every soup come from.
        run: run folder, which journals one line for each soup, and device.

    Raises:
        UsageError: not two ingredients, fewer than two points, or the run folder holds another
            run.
        NumericsError: a variance would be negative beyond the ends.

    Example:
        >>> line = sm.path(net, ingredients, val, points=3)
        >>> line.t
        (0.0, 0.5, 1.0)
        >>> line.gain(0, "clean").mean
        0.0
    """
    require_several(ingredients, "a path", exactly=2)
    metric = metric_of(benchmark, metric)
    steps = steps_of(points, beyond)
    settings = {"points": points, "beyond": beyond}
    with evaluating(
        net,
        ingredients,
        benchmark,
        "path",
        settings,
        buffers=buffers,
        run=run,
        affine=beyond > 0,
        soups=len(steps),
    ) as evaluator:
        for t in steps:
            evaluator.soup((1 - t, t))
        trials = evaluator.all()
        _, trials = evaluator.choose(trials.best(metric), trials)
    return Line(steps, trials)


def steps_of(points: int, beyond: float = 0.0) -> tuple[float, ...]:
    """Return the positions t of the soups, both ends included.

    Raises:
        UsageError: fewer than two points, too many, or *beyond* is out of range.

    Example:
        >>> steps_of(3, beyond=0.5)
        (-0.5, 0.0, 0.5, 1.0, 1.5)
    """
    if not 2 <= points <= 10_001 or not 0 <= beyond <= 10:
        what = f"a path cannot have {points} points and extend {beyond} beyond its ends"
        fix = "give 2 to 10001 points, and 0 to 10 to go beyond"
        raise UsageError(what, where="path", fix=fix)
    more = int(beyond * (points - 1) + 1e-9)
    return tuple(n / (points - 1) for n in range(-more, points + more))
