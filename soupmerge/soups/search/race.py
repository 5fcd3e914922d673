"""A race of soups: those that are surely beaten are dropped, and not asked about further images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import CLEAN, Report
from soupmerge.schedule import order
from soupmerge.soups.judge import verdicts
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.judge.subset import Subset
from soupmerge.soups.judge.trials import Trials, recorded
from soupmerge.soups.search.betting import BettingTest
from soupmerge.soups.search.evaluator import Evaluator, evaluating, metric_of
from soupmerge.soups.search.grid import plan
from soupmerge.storage import commit
from soupmerge.storage.replay import Replay, require_same
from soupmerge.types import Progress, quiet
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.tensors import Array

GOALS = ("front", "best")
ROUNDS, FEWEST = 16, 32
"""Rounds at most, and images in each at least: fewer would leave batches empty."""

ALPHA = 0.05
"""The probability that any soup is dropped that should not have been."""

COMPARE = "compare"
RECORD = "race.json"


@dataclass(frozen=True)
class Runner:
    """What became of a soup: how many *images* it was judged on, and which soup beat it, if any."""

    weights: tuple[float, ...]
    images: int
    beaten_by: int | None


@dataclass(frozen=True)
class Race:
    """What a race decided.

    Attributes:
        trials: the soups that were not beaten, judged on all images.
        runners: all soups, in lattice order.
        goal: ``front`` or ``best``.
        metric: in which soups were compared on images.
    """

    trials: Trials
    runners: tuple[Runner, ...]
    goal: str
    metric: str

    def to_json(self) -> dict[str, Any]:
        """Return the race as JSON values."""
        told = {"goal": self.goal, "metric": self.metric, "confidence": 1 - ALPHA}
        return {**told, "soups": [asdict(runner) for runner in self.runners]}


def race(
    net: nn.Module,
    ingredients: Ingredients,
    benchmark: Benchmark,
    *,
    step: float | str = 0.2,
    goal: str = "front",
    choose: str | None = None,
    buffers: str = "average",
    base: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    out: Path | str | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> Race:
    """Judge the soups of a lattice on more and more images, and drop those that are beaten.

    All soups are judged clean on all images. Then images come in random order; a soup is dropped
    once another is, with 95% confidence for all pairs at once and at whatever moment, better on
    all images of the benchmark (`betting.BettingTest`), and, for the goal ``front``, no worse
    clean. What is left is judged on all images.

    Args:
        net, ingredients, benchmark, step, buffers, base, device, out, force, progress: as for
            `grid`.
        goal: ``front`` keeps every soup that is on the front of clean accuracy and *choose*;
            ``best`` only what may be best in *choose*, which takes far fewer images.
        choose: metric whose best soup is written; default ``union``, or ``clean`` without threats.
        seed: of the order of images.

    Raises:
        UsageError: as `grid`, or there is no such *goal*.
    """
    size, rows = plan(ingredients, step)
    chosen = metric_of(benchmark, choose)
    if goal not in GOALS:
        raise UsageError(f"no goal {goal!r}", where="race", fix=near_miss(goal, GOALS))
    settings = {"step": str(exact(str(step), "step")), "race": goal, "metric": chosen, "seed": seed}
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
        track = _Track(
            evaluator, [evaluator.recipe(row) for row in rows], goal, Metric.parse(chosen)
        )
        track.run(seed)
        for i in track.alive():
            evaluator.trial(track.recipes[i], track.report(i))
        trials = evaluator.all()
        result = Race(trials, track.runners(), goal, chosen)
        if evaluator.folder:
            told = result.to_json()
            commit.write_json(evaluator.folder.file(RECORD), told, force=True)
        _, trials = evaluator.choose(trials.best(chosen), trials)
    return replace(result, trials=trials)


class _Track:
    """The soups on their way: the flags of each, on the images that it was asked about."""

    def __init__(
        self, evaluator: Evaluator, recipes: Sequence[Recipe], goal: str, metric: Metric
    ) -> None:
        self.evaluator, self.recipes, self.goal, self.metric = evaluator, recipes, goal, metric
        self.n = len(evaluator.benchmark.data)
        self.seen = [0] * len(recipes)
        self.beaten: list[int | None] = [None] * len(recipes)
        self.flags: list[dict[str, Tensor]] = [{} for _ in recipes]
        self.replay = Replay(evaluator.folder.journal("rounds") if evaluator.folder else None)
        self.rounds = ROUNDS

    def alive(self) -> list[int]:
        """Return the soups that are not beaten."""
        return [i for i, by in enumerate(self.beaten) if by is None]

    def run(self, seed: int) -> None:
        """Judge clean, then round by round, until all images are seen."""
        bare = replace(self.evaluator.benchmark, attacks=())
        for i in self.alive():
            self._judge(0, i, bare, torch.arange(self.n))
        clean = torch.stack([flags[CLEAN] for flags in self.flags])
        # An image that every soup gets wrong makes no difference between any two.
        telling = clean.any(0)
        shuffled = order(self.n, seed, 0)
        open_ = shuffled[telling[shuffled]]
        pairs = self._pairs(clean.sum(1).tolist())
        capitals = BettingTest(len(pairs), len(open_))
        self.rounds = max(1, min(ROUNDS, len(open_) // FEWEST))
        for number, part in enumerate(torch.tensor_split(open_, self.rounds), start=1):
            if len(part):
                self._round(number, part)
                capitals.see(self._differences(pairs, part))
                self._drop(pairs, capitals.decided(ALPHA / max(len(pairs), 1)))
        for i in self.alive():  # what is wrong clean is wrong under every threat
            self.seen[i] += int((~telling).sum())

    def _pairs(self, clean: Sequence[int]) -> list[tuple[int, int]]:
        """Return who may beat whom."""
        each = range(len(self.recipes))
        free = self.goal == "best"
        return [(a, b) for a in each for b in each if a != b and (free or clean[a] >= clean[b])]

    def _round(self, number: int, part: Tensor) -> None:
        some = Subset(self.evaluator.benchmark.data, part, COMPARE)
        judge = replace(self.evaluator.benchmark, data=some)
        for i in self.alive():
            self._judge(number, i, judge, part)
            self.seen[i] += len(part)

    def _judge(self, number: int, i: int, judge: Benchmark, part: Tensor) -> None:
        place, made = {"round": number, "soup": i}, not self.replay.is_known

        def judged() -> Report:
            self._tell(number, i)
            ledger = self.evaluator.ledger(self.replay.asked)
            return self.evaluator.report(self.recipes[i], by=judge, ledger=ledger)

        def read(record: dict[str, Any]) -> Report:
            require_same(record, place, "soup or round", "rounds.jsonl")
            return recorded(record, judge.describe())

        report = self.replay.piece(
            judged, read=read, write=lambda report: {**place, **report.to_record()}
        )
        if made and self.evaluator.folder:
            verdicts.forget(self.evaluator.folder)
        for name, right in report.flags.items():
            blank = torch.zeros(self.n, dtype=torch.bool)
            self.flags[i].setdefault(name, blank)[part] = right

    def _tell(self, number: int, i: int) -> None:
        alive = self.alive()
        done, total = alive.index(i), len(alive)
        spent = self.evaluator.estimate.note(0)
        note = f"{total} soups left; {spent}" if spent else f"{total} soups left"
        self.evaluator.progress("rounds", number, self.rounds, note)
        self.evaluator.progress("soups of a round", done, total)

    def _differences(self, pairs: Sequence[tuple[int, int]], part: Tensor) -> Array:
        """Return ``(P, images)``: what firsts score more than seconds, in [−1, 1]."""
        reach = max(sum(abs(float(w)) for _, w in self.metric.terms), 1e-9)
        scores = np.zeros((len(self.recipes), len(part)))
        for i in range(len(self.recipes)):
            scores[i] = self.metric.per_image(self.report(i))[part.numpy()] / reach
        first, second = np.array(pairs).T
        differences: Array = scores[first] - scores[second]
        return differences

    def _drop(self, pairs: Sequence[tuple[int, int]], decided: Array) -> None:
        for (first, second), sure in zip(pairs, decided.tolist(), strict=True):
            # Flags of those that were dropped are no longer seen; their pairs decide nothing.
            if sure and self.beaten[first] is None and self.beaten[second] is None:
                self.beaten[second] = first

    def report(self, i: int) -> Report:
        """Return the report on soup *i*; what it was not asked about counts as wrong."""
        attacks = self.evaluator.benchmark.describe()["attacks"]
        lacking = [m for m in self.evaluator.benchmark.metrics if m not in self.flags[i]]
        blank = {m: torch.zeros(self.n, dtype=torch.bool) for m in lacking if m in attacks}
        flags = {**self.flags[i], **blank}
        return Report(self.evaluator.benchmark.data.fingerprint(), flags, attacks)

    def runners(self) -> tuple[Runner, ...]:
        """Return what became of each soup."""
        rows = zip(self.recipes, self.seen, self.beaten, strict=True)
        return tuple(Runner(recipe.weights[0], images, by) for recipe, images, by in rows)
