"""Options: the objectives of a front, its form, and which of its points are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.choices import FAMILIES, SCALARISATIONS
from soupmerge.cli.options.attack import Attack, attack
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import Real, ThreatType, Whole
from soupmerge.cli.options.training import attack_steps, label_smoothing
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class FrontOptions:
    """The objectives of a front, and how coefficients depend on the preference between them.

    Raises:
        UsageError: there are fewer than two objectives, or one is repeated.
    """

    objectives: tuple[sm.Threat | None, ...]
    family: str
    scalarisation: str
    corners: float
    preferences: int
    attack_steps: int
    label_smoothing: float

    def __post_init__(self) -> None:
        if len(self.objectives) < 2 or len(set(self.objectives)) < len(self.objectives):
            what, fix = "give two or more, each once", "such as clean and linf:8/255"
            raise UsageError(what, where="--objective", fix=fix)

    @property
    def threats(self) -> tuple[sm.Threat, ...]:
        """The threat models among the objectives."""
        return tuple(threat for threat in self.objectives if threat is not None)

    def added_to(self, settings: sm.Settings) -> sm.Settings:
        """Return *settings* with those that only a front has."""
        return replace(
            settings,
            family=self.family,
            scalarisation=self.scalarisation,
            corners=self.corners,
            preferences=self.preferences,
        )

    def losses(self) -> list[sm.Adversarial]:
        """Return the objectives as the library takes them."""
        steps, smoothing = self.attack_steps, self.label_smoothing
        return [sm.against(t, steps=steps, smoothing=smoothing) for t in self.objectives]


@dataclass(frozen=True)
class PointEvaluation:
    """Which points of a front are judged, on what, and beside which other soups.

    Raises:
        UsageError: something is to be judged, but there are no images.
    """

    points: int
    judge_split: str | None
    judge_limit: int | None
    beside: tuple[str, ...]
    attack: Attack

    def __post_init__(self) -> None:
        if not self.judge_split and (self.beside or self.attack.threats):
            where = "--beside" if self.beside else "--threat"
            raise UsageError("nothing is judged", where=where, fix="give --judge-split")

    def benchmark(
        self, data: Data, threats: tuple[sm.Threat, ...], machine: Machine
    ) -> sm.Benchmark | None:
        """Return the benchmark, under *threats* if no others are given; None without images."""
        if not self.judge_split:
            return None
        images = data.part(self.judge_split, self.judge_limit)
        judging = self.attack.under(self.attack.threats or threats)
        return judging.benchmark(images, "test", machine)

    def compared(self) -> Mapping[str, sm.Recipe]:
        """Return name → recipe of the soups of other runs that are judged beside the front.

        Of a search, these are the soups on the Pareto front of clean accuracy and each other
        metric; of learning, it is the learned soup.

        Raises:
            InputError: a run is unfinished or holds no soup.
        """
        recipes: dict[str, sm.Recipe] = {}
        for run in self.beside:
            for recipe in _soups_of(Path(run)):
                weights = " ".join(f"{w:.3g}" for w in recipe.mean_weights)
                recipes.setdefault(f"{Path(run).name} {weights}", recipe)
        return recipes


def _soups_of(run: Path) -> list[sm.Recipe]:
    from soupmerge.soups.search.choice import tried
    from soupmerge.storage import journal
    from soupmerge.storage.names import PLAN, RECIPE, TRIALS
    from soupmerge.weights.recipe_files import read_recipe

    if not (run / PLAN).exists() or not journal.read(run / TRIALS):
        return [read_recipe(run / RECIPE)]
    found = tried([run])
    trials = found.trials
    robust = [metric for metric in trials.metrics if metric != "clean"] or ["clean"]
    best = {i for metric in robust for i in trials.front("clean", metric)}
    return [found.recipe(trials[i]) for i in sorted(best)]


def front(command: F) -> F:
    """Add the options that say what front is learned."""
    return grouped(
        "front",
        FrontOptions,
        click.option(
            "--objective",
            "objectives",
            required=True,
            multiple=True,
            type=ThreatType(clean=True),
            metavar="NORM:EPS|clean",
            help="An end of the front: accuracy under a threat model such as linf:8/255, or "
            "clean; give two or more.",
        ),
        click.option(
            "--family",
            type=click.Choice(list(FAMILIES)),
            default="softmax-linear",
            show_default=True,
            help="How coefficients depend on the preference between objectives.",
        ),
        click.option(
            "--scalarisation",
            type=click.Choice(list(SCALARISATIONS)),
            default="sum",
            show_default=True,
            help="How a step weighs the losses: by their weighted sum, or by a smooth maximum, "
            "which reaches concave parts of the front.",
        ),
        click.option(
            "--corners",
            type=Real(),
            default=0.3,
            show_default=True,
            help="Share of the steps that learn a single objective, an end of the front.",
        ),
        click.option(
            "--preferences",
            type=Whole(1, 1000),
            default=1,
            show_default=True,
            metavar="N",
            help="Preferences that share the images of a step.",
        ),
        attack_steps,
        label_smoothing,
    )(command)


def point_evaluation(command: F) -> F:
    """Add the options of the evaluation of a front."""
    return grouped(
        "point_evaluation",
        PointEvaluation,
        click.option(
            "--points",
            type=Whole(2, 10_000),
            default=11,
            show_default=True,
            help="How many points of the front are judged, at most.",
        ),
        click.option(
            "--judge-split",
            metavar="SPLIT",
            help="Judge points of the front, the ingredients and the uniform soup on this part "
            "of the data.",
        ),
        click.option("--judge-limit", type=Whole(1), metavar="N", help="Judge on N images only."),
        click.option(
            "--beside",
            multiple=True,
            metavar="RUN",
            help="Also judge the best soups of this run of grid, search or learn, and compare "
            "the hypervolume; may be repeated.",
        ),
        attack,
    )(command)
