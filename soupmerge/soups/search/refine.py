"""Points of a front that meet a condition, found by bisection of the preference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from torch import nn

from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.run import Run
from soupmerge.soups.judge.evaluator import Evaluator, evaluating
from soupmerge.soups.judge.metrics import Condition, Metric, paired
from soupmerge.soups.judge.trials import Trial, Trials
from soupmerge.soups.search.checks import metric_of
from soupmerge.storage.names import TRIALS
from soupmerge.weights import ledger
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.front import Front
from soupmerge.weights.ingredients import Ingredients

FINEST = Fraction(1, 64)
"""Preferences closer than this are not told apart."""


class Points:
    """Judged points of a front of two objectives, by the share of the second.

    A search may only decide by the points that it has asked for. Others may lie in the run folder:
    those of earlier searches, and its own if it was killed. If it took notice of them, it would go
    on from a kill in another way than it would have without one.

    Attributes:
        asked: share → trial, of the points that this search has asked for.
    """

    def __init__(self, front: Front, evaluator: Evaluator) -> None:
        self.front, self.evaluator = front, evaluator
        self.asked: dict[Fraction, Trial] = {}
        folder = evaluator.folder
        records = folder.journal(TRIALS).records if folder else ()
        shares = [list(record["recipe"]["front"]["at"].values())[1] for record in records]
        self._before = {Fraction(share): self._judged(Fraction(share)) for share in shares}

    def _judged(self, share: Fraction) -> Trial:
        recipe = self.front.at(float(share))
        return replace(self.evaluator.trial(recipe), recipe=recipe)

    def at(self, share: Fraction) -> Trial:
        """Return the soup at *share*, judged now or before."""
        if share not in self.asked:
            self.asked[share] = self._judged(share)
        return self.asked[share]

    def in_order(self) -> list[tuple[Fraction, Trial]]:
        """Return the points that this search has asked for, by rising share."""
        return sorted(self.asked.items(), key=lambda point: point[0])

    def all(self) -> Trials:
        """Return all points that are judged, by rising share."""
        judged = {**self._before, **self.asked}
        return Trials(tuple(judged[share] for share in sorted(judged)))


def refine(
    net: nn.Module,
    ingredients: Ingredients,
    front: Front,
    benchmark: Benchmark,
    *,
    metric: str | None = None,
    conditions: Sequence[str] = (),
    knee: tuple[str, str] | None = None,
    run: Run = Run(),
) -> Trials:
    """Judge the points of *front* near the best one in a metric under conditions, or near its knee.

    Along a front of two objectives, one accuracy rises and the other falls. So the point that is
    best in *metric* among those that meet the *conditions* is an end of the front, or where the
    conditions begin to hold, which is found by bisection. A knee is found by halving the steps
    around the best point so far, and so is a point that meets conditions which no end meets.

    Args:
        net: the network of the ingredients.
        ingredients: those of the front.
        front: a front of two objectives.
        benchmark: judges the points. Its images choose, so they must not judge the soup later.
        metric: the metric to maximise; default the last that is judged.
        conditions: comparisons such as ``clean>=0.72``.
        knee: two metrics, to look for the knee of the front between them instead.
        run: run folder, which keeps every judged point for later conditions, and device.

    Returns:
        All judged points, by the share of the second objective; `Trials.where` and `Trials.best`
        choose among them.

    Raises:
        UsageError: the front has other than two objectives, or a metric is not judged.
        InputError: the ingredients are not those of the front.

    Warns:
        UserWarning: the images have taught the front or an ingredient; or an accuracy turns along
            the front by more than noise, so that another stretch may meet the conditions as well.

    Example:
        >>> settings = sm.Settings(by="model", batch_size=20, epochs=1)
        >>> goals = [sm.clean(), sm.against(sm.Linf(0.1))]
        >>> learned = sm.front(net, ingredients, train, goals, settings=settings)
        >>> points = sm.refine(net, ingredients, learned.front, val, conditions=["clean>=0"])
        >>> [trial.recipe.front["at"]["linf:0.1"] for trial in points]
        [0.0, 1.0]
    """
    if len(front.objectives) != 2:
        what = f"a front of {len(front.objectives)} objectives has no single direction to search"
        raise UsageError(what, where="--where", fix="choose among its judged points")
    front.recipe.require_made_of(ingredients)
    goal = Metric.parse(metric_of(benchmark, metric))
    tests = [Condition.parse(text) for text in conditions]
    for each in [*(test.metric for test in tests), *map(Metric.parse, knee or ())]:
        each.require(benchmark.metrics, "--where, --x, --y")
    taught = [("this front", front.recipe.seen)]
    ledger.warn_of_leaks(taught, benchmark.data, ledger.CHOSEN, stacklevel=3)
    buffers = Buffers(front.recipe.buffers, front.recipe.base)
    settings = {"front": front.sha256}
    with evaluating(
        net, ingredients, benchmark, "front", settings, buffers=buffers, run=run
    ) as evaluator:
        points = Points(front, evaluator)
        for share in (Fraction(0), Fraction(1)):
            points.at(share)
        if knee:
            _halve_around(points, lambda trials: trials.knee(*knee))
        else:
            _bisect(points, goal, tests)
        evaluator.all()
    trials = points.all()
    _warn_of_turns(trials, [goal, *(test.metric for test in tests)])
    return trials


def _bisect(points: Points, goal: Metric, tests: Sequence[Condition]) -> None:
    """Judge points until the best that meets all *tests* is known up to `FINEST`."""

    def meets(share: Fraction) -> bool:
        return all(test.met(points.at(share).judged()) for test in tests)

    def margin(trial: Trial) -> Fraction:
        return min(test.margin(trial.judged()) for test in tests)

    ends = [Fraction(0), Fraction(1)]
    best, other = sorted(ends, key=lambda end: goal.value(points.at(end).judged()), reverse=True)
    if meets(best):
        return
    inside, outside = other, best
    if not meets(other):  # conditions on both accuracies may still hold between the ends
        _halve_around(points, lambda trials: max(trials, key=margin))
        inside, _ = max(points.in_order(), key=lambda point: margin(point[1]))
        if not meets(inside):
            return
    while abs(outside - inside) > FINEST:
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if meets(middle) else (inside, middle)


def _halve_around(points: Points, choose: Callable[[Trials], Trial]) -> None:
    """Judge the points between the chosen one and its neighbours, until these are `FINEST` away."""
    points.at(Fraction(1, 2))
    while True:
        known = points.in_order()
        trials = Trials(tuple(trial for _, trial in known))
        place = trials.trials.index(choose(trials))
        shares = [share for share, _ in known]
        around = zip(shares[max(place - 1, 0) : place + 1], shares[place : place + 2], strict=False)
        gaps = [(a, b) for a, b in around if abs(b - a) >= 2 * FINEST]
        if not gaps:
            return
        for a, b in gaps:
            points.at((a + b) / 2)


def _warn_of_turns(trials: Trials, metrics: Sequence[Metric]) -> None:
    """Warn of accuracies that both rise and fall along the front, by more than noise."""
    reports = [trial.judged() for trial in trials]
    for metric in {metric.terms: metric for metric in metrics}.values():
        steps = [paired(b, a, metric) for a, b in zip(reports, reports[1:], strict=False)]
        if any(step.low > 0 for step in steps) and any(step.high < 0 for step in steps):
            name = " + ".join(metric.names)
            what = f"{name} rises and falls along the front: it may meet the condition elsewhere"
            warnings.warn(f"{what}; judge more points with soupmerge eval --at", stacklevel=3)
