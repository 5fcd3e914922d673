"""Several learned soups in one run, one for each objective and seed, and their comparison.

The eps that a soup is learned under controls the trade-off between clean and robust accuracy
(Huang 2023, figure 5); so does the weight of the clean loss (figure 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from soupmerge.binding import ref_of
from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import Report
from soupmerge.run import Run
from soupmerge.soups.judge.comparison import compare
from soupmerge.soups.judge.entries import Entry
from soupmerge.soups.judge.trials import Trial, Trials
from soupmerge.soups.learn.run import learn
from soupmerge.storage import commit
from soupmerge.storage.names import SOUP
from soupmerge.types import Examples, Objective
from soupmerge.weights import saving
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe

SOUPS, BESIDE, JUDGED = "soups", "beside", "judged"
"""Folders in the run folder: one run of `learn` each; soups to compare with; the comparison."""


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        objectives: names of the objectives.
        seeds: the seeds; each objective is learned with each of them.
        trials: a learned soup for each objective and seed, with seeds varying fastest.
        beside: name → report, for the ingredients and other soups; empty without a benchmark.
    """

    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: Trials
    beside: Mapping[str, Report]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each trial."""
        return tuple(name_of(o, s, self.seeds) for o in self.objectives for s in self.seeds)

    def spread(self, metric: str) -> dict[str, tuple[float, float, float]]:
        """Return objective → mean, lowest and highest accuracy over its seeds, from 0 to 1."""
        width, spread = len(self.seeds), {}
        for i, name in enumerate(self.objectives):
            trials = self.trials[i * width : (i + 1) * width]
            values = [trial.judged().accuracy(metric) for trial in trials]
            spread[name] = (sum(values) / width, min(values), max(values))
        return spread

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        summary = self.trials.summary()
        for trial, name in zip(summary["trials"], self.names, strict=True):
            trial["name"] = name
        if self.beside:
            baselines = ((name, report.to_metrics()) for name, report in self.beside.items())
            summary["baselines"] = {name: {"metrics": metrics} for name, metrics in baselines}
            summary["spread"] = {m: self.spread(m) for m in self.trials.metrics}
        return summary


def name_of(objective: str, seed: int, seeds: Sequence[int]) -> str:
    """Return the name of the soup of *objective* and *seed*; a single seed is not mentioned."""
    return objective if len(seeds) == 1 else f"{objective}-seed{seed}"


def sweep(  # what is learned and from what, and what is judged beside it
    net: nn.Module,
    ingredients: Ingredients,
    data: Examples,
    objectives: Mapping[str, Objective],
    *,
    run: Run,
    seeds: Sequence[int] = (0,),
    benchmark: Benchmark | None = None,
    beside: Mapping[str, Recipe] | None = None,
    **learning: Any,
) -> Sweep:
    """Learn a soup for each of *objectives* and *seeds*, and judge all of them together.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        data: examples to learn from.
        objectives: name → loss to minimise; the names become folders.
        run: run folder, which is required, and device. Each soup is a run in ``soups/NAME`` and the
            comparison one in ``judged``, so that finished parts are not repeated.
        seeds: each objective is learned with each seed, to show the effect of chance.
        benchmark: judges the learned soups, the ingredients and *beside*; None judges nothing.
        beside: name → recipe of another soup of *ingredients*, such as the best of a grid.
        learning: other arguments of `learn`.

    Raises:
        UsageError: as `learn`; or there is no run folder, or it holds another run.
        NumericsError: as `learn`.
        InputError: a recipe is of other ingredients.

    Example:
        >>> goals = {"clean": sm.against(None), "linf": sm.against(sm.Linf(0.1))}
        >>> settings = sm.Settings(by="model", batch_size=20)
        >>> soups = sm.sweep(
        ...     net, ingredients, train, goals, run=sm.Run(out), epochs=1, settings=settings
        ... )
        >>> soups.names
        ('clean', 'linf')
    """
    if run.out is None:
        raise UsageError("a sweep needs a run folder", where="run", fix="give run=Run(out)")
    out, others = Path(run.out), dict(beside or {})
    for name, recipe in others.items():
        recipe.require_made_of(ingredients, where=name)
    names = {name_of(o, s, seeds): (goal, s) for o, goal in objectives.items() for s in seeds}
    manifest = {
        "command": "sweep",
        "model": ref_of(net),
        "inputs": ingredients.fingerprint(),
        **ingredients.selection.noted(),
        "data": data.fingerprint(),
        "objectives": {name: goal.describe() for name, goal in objectives.items()},
        "seeds": list(seeds),
        "beside": {name: recipe.to_json()["weights"] for name, recipe in others.items()},
        "benchmark": None if benchmark is None else benchmark.describe(),
    }
    soups = [out / SOUPS / name / SOUP for name in names]
    due = len(others) + sum(run.force or not soup.exists() for soup in soups)
    with run.opened(manifest, inputs=ingredients.files, room=due * ingredients.bytes):
        learned = []
        for i, (name, (goal, seed)) in enumerate(names.items()):
            run.progress("soups", i, len(names), name)
            inner = replace(run, out=out / SOUPS / name)
            learned.append(learn(net, ingredients, data, goal, seed=seed, run=inner, **learning))
        run.progress("soups", len(names), len(names))
        if benchmark is None:
            return Sweep(tuple(objectives), tuple(seeds), Trials(tuple(learned)), {})
        reports = _judge(net, ingredients, list(names), others, benchmark, run)
    trials = (Trial(t.recipe, r) for t, r in zip(learned, reports.values(), strict=False))
    rest = dict(list(reports.items())[len(names) :])
    return Sweep(tuple(objectives), tuple(seeds), Trials(tuple(trials)), rest)


def _judge(
    net: nn.Module,
    ingredients: Ingredients,
    names: Sequence[str],
    others: Mapping[str, Recipe],
    benchmark: Benchmark,
    run: Run,
) -> dict[str, Report]:
    """Return name → report, for the learned soups, the *others*, and the ingredients."""
    out = Path(str(run.out))
    folder = out / BESIDE
    if others:
        with commit.writing(folder):
            folder.mkdir(exist_ok=True)
    checkpoints = {name: open_checkpoint(out / SOUPS / name / SOUP) for name in names}
    for name, recipe in others.items():
        path = folder / f"{name}.safetensors"
        saving.mix_to_file(path, ingredients, recipe, model=ref_of(net), force=True)
        checkpoints[name] = open_checkpoint(path)
    checkpoints |= dict(zip(ingredients.names, ingredients, strict=True))
    entries = [Entry(checkpoint, net) for checkpoint in checkpoints.values()]
    reports = compare(entries, benchmark, run=replace(run, out=out / JUDGED))
    return dict(zip(checkpoints, reports, strict=True))
