"""Several learned soups in one run: a soup per objective and seed, judged beside others.

The radius that a soup is learned under is the knob of the trade-off (Huang 2023, figure 5); the
weight of the clean loss is another (figure 6).
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
"""Folders in that of a sweep: a run of learning each; soups to compare with; the comparison."""


@dataclass(frozen=True)
class Sweep:
    """What came of it.

    Attributes:
        objectives: names of the objectives.
        seeds: the seeds; each objective is learned with each.
        trials: a learned soup for each objective and seed, seeds changing fastest.
        beside: name → report of what was judged beside them.
    """

    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: Trials
    beside: Mapping[str, Report]

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each trial."""
        return tuple(name_of(o, s, self.seeds) for o in self.objectives for s in self.seeds)

    def spread(self, metric: str) -> dict[str, tuple[float, float, float]]:
        """Return objective → mean, lowest and highest accuracy over its seeds."""
        width, found = len(self.seeds), {}
        for i, name in enumerate(self.objectives):
            part = self.trials[i * width : (i + 1) * width]
            values = [trial.judged().accuracy(metric) for trial in part]
            found[name] = (sum(values) / width, min(values), max(values))
        return found

    def summary(self) -> dict[str, Any]:
        """Return what was found, as JSON values."""
        summary = self.trials.summary()
        for trial, name in zip(summary["trials"], self.names, strict=True):
            trial["name"] = name
        if self.beside:
            records = {name: report.to_record() for name, report in self.beside.items()}
            summary["baselines"] = {n: {"metrics": r["metrics"]} for n, r in records.items()}
            summary["spread"] = {m: self.spread(m) for m in self.trials.metrics}
        return summary


def name_of(objective: str, seed: int, seeds: Sequence[int]) -> str:
    """Return the name of the soup of *objective* and *seed*, of several *seeds* or just one."""
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
    """Learn a soup for each of *objectives* and *seeds*, and judge all of them in one table.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        data: examples to learn from.
        objectives: name → what to minimise; names become folders.
        run: run folder, which is needed, and device. Each soup is a run of its own in
            ``soups/NAME``, and the table is one in ``judged``; what is finished is not repeated.
        seeds: each objective is learned with each, to tell what is luck.
        benchmark: judges the soups, the ingredients and what is *beside* them.
        beside: name → recipe of another soup of *ingredients*: the best of a grid, say.
        learning: everything else that `learn` takes.

    Raises:
        UsageError: as `learn`; or there is no run folder, or it holds another run.
        NumericsError: as `learn`.
        InputError: a recipe is of other ingredients.
    """
    if run.out is None:
        fix = "give run=Run(out)"
        raise UsageError("a sweep needs a run folder", where="run", fix=fix)
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
        found = []
        for i, (name, (goal, seed)) in enumerate(names.items()):
            run.progress("soups", i, len(names), name)
            own = replace(run, out=out / SOUPS / name)
            found.append(learn(net, ingredients, data, goal, seed=seed, run=own, **learning))
        run.progress("soups", len(names), len(names))
        if benchmark is None:
            return Sweep(tuple(objectives), tuple(seeds), Trials(tuple(found)), {})
        reports = _judged(net, ingredients, list(names), others, benchmark, run)
    trials = (Trial(t.recipe, r) for t, r in zip(found, reports.values(), strict=False))
    rest = dict(list(reports.items())[len(names) :])
    return Sweep(tuple(objectives), tuple(seeds), Trials(tuple(trials)), rest)


def _judged(
    net: nn.Module,
    ingredients: Ingredients,
    names: Sequence[str],
    others: Mapping[str, Recipe],
    benchmark: Benchmark,
    run: Run,
) -> dict[str, Report]:
    """Return name → report: of the learned soups, the *others*, and the ingredients."""
    out = Path(str(run.out))
    folder = out / BESIDE
    if others:
        with commit.writing(folder):
            folder.mkdir(exist_ok=True)
    entries = {n: open_checkpoint(out / SOUPS / n / SOUP) for n in names}
    for name, recipe in others.items():
        path = folder / f"{name}.safetensors"
        saving.mix_to_file(path, ingredients, recipe, model=ref_of(net), force=True)
        entries[name] = open_checkpoint(path)
    entries |= dict(zip(ingredients.names, ingredients, strict=True))
    judged = [Entry(checkpoint, net) for checkpoint in entries.values()]
    reports = compare(judged, benchmark, run=replace(run, out=out / JUDGED))
    return dict(zip(entries, reports, strict=True))
