"""By what learned soups are judged at the end, and beside which others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.cli.options.attack import Attack, attack
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import Whole
from soupmerge.cli.options.machine import Machine
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class JudgedAtTheEnd:
    """By what the learned soups are judged, and beside which others."""

    judge_split: str | None
    judge_limit: int | None
    beside: str | None
    attack: Attack

    def benchmark(self, data: Data, machine: Machine) -> sm.Benchmark | None:
        """Return what judges the soups, if anything does.

        Raises:
            UsageError: images are named without a threat, or the other way round.
        """
        if bool(self.judge_split) != bool(self.attack.threats):
            what, fix = "--judge-split and --threat go together", "give both, or neither"
            raise UsageError(what, fix=fix)
        if not self.judge_split:
            return None
        images = data.part(self.judge_split, self.judge_limit)
        return self.attack.benchmark(images, "test", machine)

    def others(self, loaded: sm.Ingredients, buffers: str) -> Mapping[str, sm.Recipe]:
        """Return name → recipe of the soups that are judged beside the learned ones.

        Raises:
            UsageError: they would not be judged, or the grid is not finished.
        """
        from soupmerge.storage.names import BEST
        from soupmerge.weights.recipe import read_recipe

        if self.beside is None:
            return {}
        if not self.judge_split:
            raise UsageError("would not be judged", where="--beside", fix="give --judge-split")
        metrics = ("clean", *map(str, self.attack.threats), "union")
        judged = [re.sub(r"[^\w.]+", "-", metric) for metric in metrics]
        paths = [Path(self.beside, BEST, f"{metric}.json") for metric in judged]
        found = {f"grid-{path.stem}": read_recipe(path) for path in paths if path.exists()}
        if not found:
            fix = "name the run folder of a grid that is finished, judged by the same threats"
            raise UsageError("holds no best soups", where=self.beside, fix=fix)
        recipes = {"uniform": sm.Recipe.uniform(loaded, buffers=buffers), **found}
        weights = [recipe.weights for recipe in recipes.values()]
        return {n: r for i, (n, r) in enumerate(recipes.items()) if r.weights not in weights[:i]}


def judged(command: F) -> F:
    """Add the options that say by what the learned soups are judged."""
    return grouped(
        "judged",
        JudgedAtTheEnd,
        click.option(
            "--judge-split", metavar="SPLIT", help="Judge the soups on this part of the data."
        ),
        click.option("--judge-limit", type=Whole(1), metavar="N", help="On N images of it."),
        click.option(
            "--beside",
            metavar="RUN",
            help="Judge the best soups of this grid, too, and the uniform one.",
        ),
        attack,
    )(command)
