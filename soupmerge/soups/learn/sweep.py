"""Several learned soups in one run: a soup per objective and seed, judged beside others.

The radius that a soup is learned under is the knob of the trade-off (Huang 2023, figure 5); the
weight of the clean loss is another (figure 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from soupmerge.binding import ref_of
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.report import Report
from soupmerge.soups.judge.comparison import compare
from soupmerge.soups.judge.entries import Entry
from soupmerge.soups.judge.trials import Trial, Trials
from soupmerge.soups.learn.run import learn
from soupmerge.storage import commit, run
from soupmerge.types import Examples, Objective, Progress, quiet
from soupmerge.weights import mixing
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
        told = self.trials.summary()
        for trial, name in zip(told["trials"], self.names, strict=True):
            trial["name"] = name
        if self.beside:
            kept = {name: report.to_record() for name, report in self.beside.items()}
            told["baselines"] = {n: {"metrics": r["metrics"]} for n, r in kept.items()}
            metrics = self.trials.metrics
            told["spread"] = {m: self.spread(m) for m in metrics}
        return told


def name_of(objective: str, seed: int, seeds: Sequence[int]) -> str:
    """Return the name of the soup of *objective* and *seed*, of several *seeds* or just one."""
    return objective if len(seeds) == 1 else f"{objective}-seed{seed}"


def sweep(
    net: nn.Module,
    ingredients: Ingredients,
    data: Examples,
    objectives: Mapping[str, Objective],
    *,
    out: Path | str,
    seeds: Sequence[int] = (0,),
    benchmark: Benchmark | None = None,
    beside: Mapping[str, Recipe] | None = None,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Progress = quiet,
    **how: Any,
) -> Sweep:
    """Learn a soup for each of *objectives* and *seeds*, and judge all of them in one table.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        data: examples to learn from.
        objectives: name → what to minimise; names become folders.
        out: run folder: each soup is a run of its own in ``soups/NAME``, the table is one in
            ``judged``. What is finished is not done again.
        seeds: each objective is learned with each, to tell what is luck.
        benchmark: judges the soups, the ingredients and what is *beside* them.
        beside: name → recipe of another soup of *ingredients*: the best of a grid, say.
        device: where to compute.
        force: start over if *out* holds another run.
        progress: is told of soups.
        how: whatever else `learn` takes.

    Raises:
        UsageError, NumericsError: as `learn`; *out* holds a run with other settings.
        InputError: a recipe is of other ingredients.
    """
    out, others = Path(out), dict(beside or {})
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
    soups = [out / SOUPS / name / "soup.safetensors" for name in names]
    due = len(others) + sum(force or not soup.exists() for soup in soups)
    with run.opened(
        out, manifest, inputs=ingredients.files, force=force, room=due * ingredients.bytes
    ):
        found = []
        for i, (name, (goal, seed)) in enumerate(names.items()):
            progress("soups", i, len(names), name)
            where: dict[str, Any] = {"out": out / SOUPS / name, "force": force, "device": device}
            found.append(
                learn(net, ingredients, data, goal, seed=seed, progress=progress, **where, **how)
            )
        progress("soups", len(names), len(names))
        if benchmark is None:
            return Sweep(tuple(objectives), tuple(seeds), Trials(tuple(found)), {})
        reports = _judged(
            net, ingredients, out, list(names), others, benchmark, device, force, progress
        )
    trials = (Trial(t.recipe, r) for t, r in zip(found, reports.values(), strict=False))
    rest = dict(list(reports.items())[len(names) :])
    return Sweep(tuple(objectives), tuple(seeds), Trials(tuple(trials)), rest)


def _judged(
    net: nn.Module,
    ingredients: Ingredients,
    out: Path,
    names: Sequence[str],
    others: Mapping[str, Recipe],
    benchmark: Benchmark,
    device: torch.device | str,
    force: bool,
    progress: Progress,
) -> dict[str, Report]:
    """Return name → report: of the learned soups, the *others*, and the ingredients."""
    folder = out / BESIDE
    if others:
        with commit.writing(folder):
            folder.mkdir(exist_ok=True)
    entries = {n: open_checkpoint(out / SOUPS / n / "soup.safetensors") for n in names}
    for name, recipe in others.items():
        path = folder / f"{name}.safetensors"
        mixing.mix_to_file(path, ingredients, recipe, model=ref_of(net), force=True)
        entries[name] = open_checkpoint(path)
    entries |= dict(zip(ingredients.names, ingredients, strict=True))
    judged = [Entry(checkpoint, net) for checkpoint in entries.values()]
    where: dict[str, Any] = {"device": device, "out": out / JUDGED, "force": force}
    reports = compare(judged, benchmark, progress=progress, **where)
    return dict(zip(entries, reports, strict=True))
