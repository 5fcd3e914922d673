"""Options: the evaluation of learned soups, and the soups they are compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.cli.options.attack import Attack, attack
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import Whole
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class FinalEvaluation:
    """The evaluation of learned soups, and the soups they are compared with.

    Raises:
        UsageError: images are given without a threat or the other way round, or there is something
            to compare with and no evaluation.
    """

    judge_split: str | None
    judge_limit: int | None
    beside: str | None
    attack: Attack

    def __post_init__(self) -> None:
        if bool(self.judge_split) != bool(self.attack.threats):
            what, fix = "--judge-split and --threat go together", "give both, or neither"
            raise UsageError(what, fix=fix)
        if self.beside is not None and not self.judge_split:
            raise UsageError("nothing is judged", where="--beside", fix="give --judge-split")

    def benchmark(self, data: Data, machine: Machine) -> sm.Benchmark | None:
        """Return the benchmark that judges the soups, if there is one."""
        if not self.judge_split:
            return None
        images = data.part(self.judge_split, self.judge_limit)
        return self.attack.benchmark(images, "test", machine)

    def compared(self, loaded: sm.Ingredients, buffers: str) -> Mapping[str, sm.Recipe]:
        """Return name → recipe of the soups that are judged beside the learned ones.

        These are the best soups of a grid and the uniform soup, each once.

        Raises:
            UsageError: the grid is not finished, or was judged under other threats.
        """
        from soupmerge.storage.names import BEST
        from soupmerge.weights.recipe_files import read_recipe

        if self.beside is None:
            return {}
        metrics = ("clean", *map(str, self.attack.threats), "union")
        stems = [re.sub(r"[^\w.]+", "-", metric) for metric in metrics]
        paths = [Path(self.beside, BEST, f"{stem}.json") for stem in stems]
        best = {f"grid-{path.stem}": read_recipe(path) for path in paths if path.exists()}
        if not best:
            fix = "give the run folder of a finished grid, judged under the same threats"
            raise UsageError("holds no best soups", where=self.beside, fix=fix)
        recipes = {"uniform": sm.Recipe.uniform(loaded, buffers=buffers), **best}
        weights = [recipe.weights for recipe in recipes.values()]
        return {n: r for i, (n, r) in enumerate(recipes.items()) if r.weights not in weights[:i]}


def final_evaluation(command: F) -> F:
    """Add the options of the evaluation of learned soups."""
    return grouped(
        "final_evaluation",
        FinalEvaluation,
        click.option(
            "--judge-split",
            metavar="SPLIT",
            help="Judge the learned soups on this part of the data, under --threat.",
        ),
        click.option("--judge-limit", type=Whole(1), metavar="N", help="Judge on N images only."),
        click.option(
            "--beside",
            metavar="RUN",
            help="Also judge the best soups of this grid, and the uniform soup.",
        ),
        attack,
    )(command)
