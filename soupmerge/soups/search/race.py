"""A race of soups: a soup that is almost surely beaten is judged on no further images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soupmerge.choices import RACE_GOALS
from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import CLEAN, Report
from soupmerge.run import Run
from soupmerge.schedule import order
from soupmerge.soups.judge import verdicts
from soupmerge.soups.judge.evaluator import Evaluator, evaluating
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.judge.subset import Subset
from soupmerge.soups.judge.trials import Trials, report_from
from soupmerge.soups.search.betting import BettingTest
from soupmerge.soups.search.checks import metric_of
from soupmerge.soups.search.grid import plan
from soupmerge.storage import commit
from soupmerge.storage.names import RACE, ROUNDS
from soupmerge.storage.replay import Replay, require_same
from soupmerge.weights.buffers import Buffers
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.tensors import Array

MOST_ROUNDS, FEWEST = 16, 32
"""The largest number of rounds, and the smallest number of images in one, to fill batches."""

ALPHA = 0.05
"""The probability that some soup is dropped by mistake."""

COMPARE = "compare"


@dataclass(frozen=True)
class Runner:
    """The fate of a soup in a race.

    Attributes:
        weights: its coefficients, ``(K,)``.
        images: the number of images it was judged on under attack.
        beaten_by: the index of the soup that beat it, or None.
    """

    weights: tuple[float, ...]
    images: int
    beaten_by: int | None


@dataclass(frozen=True)
class Race:
    """The result of a race.

    Attributes:
        trials: the soups that were not beaten, judged on all images.
        runners: the fate of every soup, in lattice order.
        goal: ``front`` or ``best``.
        metric: the metric in which soups were compared.
        cost: the cost of all verdicts, with the keys of `Report.cost`; those that a journal held
            already cost nothing.

    Example:
        >>> runners = (Runner((1.0, 0.0), 320, None), Runner((0.0, 1.0), 64, beaten_by=0))
        >>> Race(Trials(()), runners, "best", "union").to_json()["confidence"]
        0.95
    """

    trials: Trials
    runners: tuple[Runner, ...]
    goal: str
    metric: str
    cost: Mapping[str, float] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the race as JSON values."""
        return {
            "goal": self.goal,
            "metric": self.metric,
            "confidence": 1 - ALPHA,
            "soups": [asdict(runner) for runner in self.runners],
        }


def race(  # as many settings as `grid`, and what a race adds to them
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    step: float | str = 0.2,
    goal: str = "front",
    metric: str | None = None,
    seed: int = 0,
    buffers: Buffers = Buffers(),
    run: Run = Run(),
) -> Race:
    """Judge the soups of a lattice on more and more images, and drop those that are beaten.

    All soups are judged clean on all images. Then images come in random order. A soup is dropped
    as soon as another is better on all images of the benchmark, with 95% confidence for all pairs
    and all moments at once (`betting.BettingTest`), and, for the goal ``front``, no worse clean.
    The soups that remain are judged on all images.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        benchmark: judges the soups. Its images choose the soup, so they must not judge it later.
        step: as for `grid`.
        goal: ``front`` keeps every soup on the front of clean accuracy and *metric*; ``best`` keeps
            only those that may be best in *metric*, which takes far fewer images.
        metric: as for `grid`.
        seed: seed for the order of images.
        buffers: where the buffers of every soup come from.
        run: run folder, which journals one line for each soup, and device.

    Raises:
        UsageError: as `grid`, or there is no such *goal*.

    Example:
        >>> result = sm.race(net, ingredients, val, step=0.5, goal="best")
        >>> len(result.runners), result.metric
        (3, 'union')
    """
    size, rows = plan(ingredients, step)
    metric = metric_of(benchmark, metric)
    if goal not in RACE_GOALS:
        raise UsageError(f"unknown goal {goal!r}", where="race", fix=near_miss(goal, RACE_GOALS))
    settings = {"step": str(exact(str(step), "step")), "race": goal, "metric": metric, "seed": seed}
    with evaluating(
        net, ingredients, benchmark, "grid", settings, buffers=buffers, run=run, soups=size
    ) as evaluator:
        recipes = [evaluator.recipe(row) for row in rows]
        track = _Track(evaluator, recipes, goal, Metric.parse(metric))
        track.run(seed)
        for i in track.alive():
            evaluator.trial(track.recipes[i], track.report(i))
        trials = evaluator.all()
        result = Race(trials, track.runners(), goal, metric, evaluator.estimate.cost())
        if evaluator.folder:
            commit.write_json(evaluator.folder.file(RACE), result.to_json(), force=True)
        _, trials = evaluator.choose(trials.best(metric), trials)
    return replace(result, trials=trials)


class _Track:
    """The state of a race: the flags of each soup, on the images it has been judged on."""

    def __init__(
        self, evaluator: Evaluator, recipes: Sequence[Recipe], goal: str, metric: Metric
    ) -> None:
        self.evaluator, self.recipes, self.goal, self.metric = evaluator, recipes, goal, metric
        self.n = len(evaluator.benchmark.data)
        self.seen = [0] * len(recipes)
        self.beaten: list[int | None] = [None] * len(recipes)
        self.flags: list[dict[str, Tensor]] = [{} for _ in recipes]
        self.replay = Replay(evaluator.folder.journal(ROUNDS) if evaluator.folder else None)
        self.rounds = MOST_ROUNDS

    def alive(self) -> list[int]:
        """Return the soups that are not beaten."""
        return [i for i, by in enumerate(self.beaten) if by is None]

    def run(self, seed: int) -> None:
        """Judge all soups clean, then the remaining ones round by round on all images."""
        clean_only = replace(self.evaluator.benchmark, attacks=())
        for i in self.alive():
            self._judge(0, i, clean_only, torch.arange(self.n))
        clean = torch.stack([flags[CLEAN] for flags in self.flags])
        # An image that every soup gets wrong does not distinguish any two.
        relevant = clean.any(0)
        shuffled = order(self.n, seed, 0)
        shuffled = shuffled[relevant[shuffled]]
        pairs = self._pairs(clean.sum(1).tolist())
        test = BettingTest(len(pairs), len(shuffled))
        self.rounds = max(1, min(MOST_ROUNDS, len(shuffled) // FEWEST))
        for number, part in enumerate(torch.tensor_split(shuffled, self.rounds), start=1):
            if len(part):
                self._round(number, part)
                test.see(self._differences(pairs, part))
                self._drop(pairs, test.decided(ALPHA / max(len(pairs), 1)))
        for i in self.alive():  # an image that is wrong clean is wrong under every threat
            self.seen[i] += int((~relevant).sum())

    def _pairs(self, clean: Sequence[int]) -> list[tuple[int, int]]:
        """Return the pairs (a, b) in which soup a may beat soup b."""
        soups = range(len(self.recipes))
        free = self.goal == "best"
        return [(a, b) for a in soups for b in soups if a != b and (free or clean[a] >= clean[b])]

    def _round(self, number: int, part: Tensor) -> None:
        subset = Subset(self.evaluator.benchmark.data, part, COMPARE)
        judge = replace(self.evaluator.benchmark, data=subset)
        for i in self.alive():
            self._judge(number, i, judge, part)
            self.seen[i] += len(part)

    def _judge(self, number: int, i: int, judge: Benchmark, part: Tensor) -> None:
        identity, is_new = {"round": number, "soup": i}, not self.replay.is_known

        def make() -> Report:
            self._show_progress(number, i)
            ledger = self.evaluator.ledger(self.replay.asked)
            return self.evaluator.report(self.recipes[i], by=judge, ledger=ledger)

        def read(record: dict[str, Any]) -> Report:
            require_same(record, identity, "soup or round", ROUNDS)
            return report_from(record, judge.describe())

        report = self.replay.piece(
            make, read=read, write=lambda report: {**identity, **report.to_record()}
        )
        if is_new and self.evaluator.folder:
            verdicts.clear(self.evaluator.folder)
        for name, right in report.flags.items():
            blank = torch.zeros(self.n, dtype=torch.bool)
            self.flags[i].setdefault(name, blank)[part] = right

    def _show_progress(self, number: int, i: int) -> None:
        alive = self.alive()
        done, total = alive.index(i), len(alive)
        spent = self.evaluator.estimate.note(0)
        note = f"{total} soups left; {spent}" if spent else f"{total} soups left"
        self.evaluator.progress("rounds", number, self.rounds, note)
        self.evaluator.progress("soups of a round", done, total)

    def _differences(self, pairs: Sequence[tuple[int, int]], part: Tensor) -> Array:
        """Return ``(P, images)``: score of the first minus that of the second, in [−1, 1]."""
        scale = max(sum(abs(float(w)) for _, w in self.metric.terms), 1e-9)
        scores = np.zeros((len(self.recipes), len(part)))
        for i in range(len(self.recipes)):
            scores[i] = self.metric.per_image(self.report(i))[part.numpy()] / scale
        first, second = np.array(pairs).T
        differences: Array = scores[first] - scores[second]
        return differences

    def _drop(self, pairs: Sequence[tuple[int, int]], decided: Array) -> None:
        for (first, second), sure in zip(pairs, decided.tolist(), strict=True):
            # A dropped soup has no flags on later images, so its pairs decide nothing.
            if sure and self.beaten[first] is None and self.beaten[second] is None:
                self.beaten[second] = first

    def report(self, i: int) -> Report:
        """Return the report on soup *i*; images it was not judged on count as wrong."""
        attacks = self.evaluator.benchmark.describe()["attacks"]
        missing = [m for m in self.evaluator.benchmark.metrics if m not in self.flags[i]]
        blank = {m: torch.zeros(self.n, dtype=torch.bool) for m in missing if m in attacks}
        flags = {**self.flags[i], **blank}
        return Report(self.evaluator.benchmark.data.fingerprint(), flags, attacks)

    def runners(self) -> tuple[Runner, ...]:
        """Return the fate of each soup."""
        rows = zip(self.recipes, self.seen, self.beaten, strict=True)
        return tuple(Runner(recipe.weights[0], images, by) for recipe, images, by in rows)
