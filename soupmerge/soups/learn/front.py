"""Fronts: a soup for every preference between objectives, learned in one run and judged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from soupmerge.binding import ref_of
from soupmerge.errors import UsageError
from soupmerge.robustness.benchmark import Benchmark
from soupmerge.robustness.objectives import Adversarial
from soupmerge.robustness.report import UNION, Report
from soupmerge.run import Run
from soupmerge.soups.judge.evaluator import Evaluator
from soupmerge.soups.judge.hypervolume import HypervolumeGap, compare_hypervolumes
from soupmerge.soups.judge.trials import Trial, Trials, identity
from soupmerge.soups.lattice import spread
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.preparation import checked, manifest_of
from soupmerge.soups.learn.settings import Settings
from soupmerge.storage import commit
from soupmerge.storage.names import FRONT, PLAN, STATE
from soupmerge.storage.run_folder import RunFolder
from soupmerge.storage.snapshot import Snapshot
from soupmerge.types import Augment, Examples, Objective
from soupmerge.weights import ledger
from soupmerge.weights.front import Front
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.recipe_files import read_front

POINTS = 11
"""How many points of a front are judged."""


@dataclass(frozen=True)
class LearnedFront:
    """A front, and the evaluation of some of its points.

    Attributes:
        front: a recipe for every preference between the objectives.
        points: soups at evenly spaced preferences, judged; empty without a benchmark.
        beside: name → another soup that was judged on the same images: each ingredient, the
            uniform soup, and those that were given.
    """

    front: Front
    points: Trials
    beside: Mapping[str, Trial]

    def hypervolume(self, others: Sequence[str], metrics: Sequence[str] = ()) -> HypervolumeGap:
        """Compare the points with *others*, names of soups in `beside`, by their hypervolume.

        Args:
            others: such as the soups that a grid found; the ingredients are part of both sides.
            metrics: the accuracies that span the space; default those of the objectives, or, if
                some of these were not judged, clean accuracy and that under every judged threat.

        Raises:
            UsageError: one of *others* was not judged.
        """
        if unknown := [name for name in others if name not in self.beside]:
            what, fix = (
                f"{', '.join(unknown)} was not judged",
                "choose from " + ", ".join(self.beside),
            )
            raise UsageError(what, where="hypervolume", fix=fix)
        ingredients = list(self.beside)[: len(self.front.recipe.sources)]
        return compare_hypervolumes(
            _reports(self.points),
            _reports(self.beside[name] for name in others),
            _reports(self.beside[name] for name in ingredients),
            metrics or self._metrics(),
        )

    def _metrics(self) -> tuple[str, ...]:
        judged = tuple(metric for metric in self.points.metrics if metric != UNION)
        objectives = self.front.objectives
        return objectives if {*objectives} <= {*judged} else judged

    def summary(self) -> dict[str, Any]:
        """Return the judged points, the soups beside them and the hypervolumes as JSON values."""
        summary = self.points.summary()
        for record, trial in zip(summary["trials"], self.points, strict=True):
            record["at"] = dict((trial.recipe.front or {})["at"])
        summary["baselines"] = {
            name: {"metrics": trial.judged().to_metrics()} for name, trial in self.beside.items()
        }
        return {**summary, "objectives": list(self.front.objectives), "sha256": self.front.sha256}


def _reports(trials: Any) -> list[Report]:
    return [trial.judged() for trial in trials]


def front(  # what is learned and from what, and what is judged beside it
    net: nn.Module,
    ingredients: Ingredients,
    data: Examples,
    objectives: Sequence[Adversarial] | Mapping[str, Objective],
    *,
    settings: Settings = Settings(),
    augment: Augment | None = None,
    benchmark: Benchmark | None = None,
    points: int = POINTS,
    beside: Mapping[str, Recipe] | None = None,
    seed: int = 0,
    run: Run = Run(),
) -> LearnedFront:
    """Learn a soup for every preference λ between T ≥ 2 objectives, in one run.

    minimise over the parameters of a family W(λ):  E_λ E_(x, y)  Σ_t λ_t · L_t(θ(W(λ)); x, y),
    with λ drawn anew for each step: from a corner of the simplex with the probability
    ``settings.corners``, and otherwise uniformly.

    Args:
        net: the network of the ingredients.
        ingredients: K ≥ 2 ingredients.
        data: examples to learn from, which must not judge the soups.
        objectives: the losses between which the front trades off, by name if they have none.
        settings: family, optimiser, groups, length, start and buffers.
        augment: changes images before they are attacked; None leaves them unchanged.
        benchmark: judges points of the front, and what is beside it.
        points: how many points are judged, at most: those of the finest lattice on the simplex.
        beside: name → recipe of another soup of *ingredients*, to be judged as well. The
            ingredients and the uniform soup always are.
        seed: seed for the start, order, preferences, augmentation and attacks.
        run: run folder, which receives ``front.json`` and journals epochs and judged soups, and
            device. A resumed run gives the same bits.

    Raises:
        UsageError: there are fewer than two ingredients or objectives, a setting is invalid, the
            run folder holds another run, or images both teach and judge.
        NumericsError: the loss is not finite; the last good state stays in the run folder.
        InputError: a recipe is of other ingredients.

    Warns:
        UserWarning: the images that judge have trained, stopped or chosen an ingredient, or a soup
            in *beside*.

    Example:
        >>> goals = [sm.clean(), sm.against(sm.Linf(0.1))]
        >>> settings = sm.Settings(by="model", batch_size=20, epochs=1)
        >>> learned = sm.front(net, ingredients, train, goals, settings=settings)
        >>> learned.front.at(0.6).front["at"]
        {'clean': 0.4, 'linf:0.1': 0.6}
    """
    named = _named(objectives)
    settings = checked(ingredients, settings, data=data, benchmark=benchmark)
    _require_room_for_corners(points, len(named), benchmark)
    others = dict(beside or {})
    for name, recipe in others.items():
        recipe.require_made_of(ingredients, where=name)
    if benchmark is not None:
        behind = ((name, recipe.seen) for name, recipe in others.items())
        ledger.warn_of_leaks(behind, benchmark.data, ledger.JUDGED, stacklevel=3)
    learner = Learner(
        net, ingredients, data, named, settings, augment=augment, seed=seed, device=run.device
    )
    manifest = {
        "command": "front",
        **manifest_of(learner, ref_of(net)),
        "objectives": [{"name": n, **objective.describe()} for n, objective in named.items()],
        "points": points,
        "beside": {name: recipe.to_json()["weights"] for name, recipe in others.items()},
        "benchmark": None if benchmark is None else benchmark.describe(),
    }
    with run.opened(manifest, inputs=ingredients.files, images=data) as folder:
        learned = _learned(learner, folder, run)
        del learner  # frees the ingredients in memory
        if benchmark is None:
            return LearnedFront(learned, Trials(()), {})
        return _judge(net, ingredients, learned, others, benchmark, points, folder, run)


def expected_seconds(
    net: nn.Module,
    ingredients: Ingredients,
    data: Examples,
    objectives: Sequence[Adversarial] | Mapping[str, Objective],
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
) -> float:
    """Return about how many seconds the steps of `front` will take, from three that are taken here.

    These compute all objectives, so that the steps at the ends of the front, which compute one, are
    counted as too slow.
    """
    trial = replace(settings, init="uniform", scalarisation="sum", corners=0.0)
    learner = Learner(net, ingredients, data, _named(objectives), trial, device=device)
    batch = torch.arange(min(settings.batch_size, len(data)))
    learner.step(batch)  # the first step is slower
    began = time.perf_counter()
    for _ in range(2):
        learner.step(batch)
    learner.alpha([1 / len(learner.objectives)] * len(learner.objectives)).cpu()  # waits for a GPU
    each = (time.perf_counter() - began) / 2
    return each * learner.steps * learner.epochs


def _named(objectives: Sequence[Adversarial] | Mapping[str, Objective]) -> dict[str, Objective]:
    pairs = (
        [*objectives.items()]
        if isinstance(objectives, Mapping)
        else [(objective.name, objective) for objective in objectives]
    )
    names = [name for name, _ in pairs]
    if len(names) < 2 or len(set(names)) < len(names):
        what = f"a front needs two or more distinct objectives, not {', '.join(names) or 'none'}"
        raise UsageError(what, where="--objective", fix="give --objective clean and a threat")
    return dict(pairs)


def _require_room_for_corners(points: int, count: int, benchmark: Benchmark | None) -> None:
    if benchmark is not None and points < count:
        what = f"{points} points cannot hold the ends of a front of {count} objectives"
        raise UsageError(what, where="--points", fix=f"judge {count} points or more")


def _learned(learner: Learner, folder: RunFolder | None, run: Run) -> Front:
    """Return the front that *learner* learns, from the run folder if it is already there."""
    if folder and folder.file(FRONT).exists():
        Snapshot(folder.file(STATE)).clear()  # a kill may have left it
        return read_front(folder.file(FRONT))
    parameters = learner.learn(folder, run.progress)
    seen = (ledger.entry("front", learner.data, ledger.TRAINED),)
    recipe = replace(learner.soup.recipe(), origin="front", seen=seen)
    learned = Front(tuple(learner.objectives), learner.settings.family, parameters, recipe)
    if folder:
        commit.write_json(folder.file(FRONT), learned.to_json(), force=True)
        Snapshot(folder.file(STATE)).clear()
    return learned


def _judge(
    net: nn.Module,
    ingredients: Ingredients,
    learned: Front,
    others: Mapping[str, Recipe],
    benchmark: Benchmark,
    points: int,
    folder: RunFolder | None,
    run: Run,
) -> LearnedFront:
    """Judge points of the front, and then the ingredients, the uniform soup and *others*."""
    recipes = [learned.at(shares) for shares in spread(len(learned.objectives), points)]
    policy: dict[str, Any] = {"buffers": learned.recipe.buffers, "base": learned.recipe.base}
    rows = torch.eye(len(ingredients)).tolist()
    own = {**policy, "buffers": "average"}  # so that each has its own statistics
    beside = {
        name: Recipe.of(ingredients, row, **own)
        for name, row in zip(ingredients.names, rows, strict=True)
    }
    beside |= {"uniform": Recipe.uniform(ingredients, **policy), **others}
    seen = ledger.entry("front", benchmark.data, ledger.CHOSEN)
    soups = len({identity(recipe) for recipe in [*recipes, *beside.values()]})
    if folder:
        plan = {"soups": soups, ledger.SEEN: [seen]}
        commit.write_json(folder.file(PLAN), plan, force=True)
    evaluator = Evaluator(
        net,
        ingredients,
        benchmark,
        lambda row: Recipe.of(ingredients, row, **policy),
        folder,
        seen,
        soups,
        run,
    )
    judged = (replace(evaluator.trial(recipe), recipe=recipe) for recipe in recipes)
    trials = Trials(tuple(judged))
    named = {name: evaluator.trial(recipe) for name, recipe in beside.items()}
    evaluator.all()
    return LearnedFront(learned, trials, named)
