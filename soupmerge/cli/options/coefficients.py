"""Options: checkpoints and coefficients, or the recipe that holds both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.choices import BUFFER_POLICIES, FLOATS
from soupmerge.cli.options import ingredients, points
from soupmerge.cli.options.ingredients import TensorSelection
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import InputError, UsageError

IN_RECIPE = ("exclude", "only", "head", "buffers", "groups", "affine", "normalize", "base", "dtype")
"""Options whose values a recipe already holds."""


@dataclass(frozen=True)
class Coefficients:
    """What a soup is made of: checkpoints and coefficients, or a recipe that holds both.

    Raises:
        UsageError: neither coefficients nor a recipe are given, or both.
        InputError: the recipe is a YAML file.
    """

    refs: tuple[str, ...]
    weights: tuple[str, ...]
    recipe: str | None
    at: str | None
    groups: str
    normalize: bool
    affine: bool
    selection: TensorSelection
    buffers: str | None
    base: int
    dtype: str | None
    weights_key: str | None

    def __post_init__(self) -> None:
        if bool(self.weights) == bool(self.recipe):
            fix = "give -w uniform for the uniform soup"
            raise UsageError("give one of the two", where="-w and --recipe", fix=fix)
        if self.at is not None and not self.recipe:
            raise UsageError("needs a front", where="--at", fix="give --recipe RUN/front.json")
        if self.recipe and self.recipe.lower().endswith((".yaml", ".yml")):
            fix = "give the recipe.json of a run, or a soup"
            raise InputError("is a YAML file; recipes are JSON", where=self.recipe, fix=fix)

    def load(self) -> tuple[sm.Ingredients, sm.Recipe]:
        """Return the ingredients and the recipe."""
        if self.recipe is None:
            return self._by_weights()
        return self._by_recipe(points.point(self.recipe, self.at))

    def _by_weights(self) -> tuple[sm.Ingredients, sm.Recipe]:
        from soupmerge.weights.coefficients import parse_rows

        loaded = self.selection.load(self.refs, self.weights_key, self.base)
        groups = tuple(loaded.groups(self.groups))
        rows = parse_rows(self.weights, groups, len(loaded), normalize=self.normalize)
        _require_sums(rows)
        recipe = sm.Recipe.of(
            loaded,
            rows,
            by=self.groups,
            buffers=self.buffers or "average",
            base=ingredients.index_of_base(self.base, len(loaded)),
            affine=self.affine,
            dtype=self.dtype,
        )
        return loaded, recipe

    def _by_recipe(self, file: str) -> tuple[sm.Ingredients, sm.Recipe]:
        from soupmerge.sources.refs import of_recipe
        from soupmerge.weights.recipe_files import read_recipe, split

        source = click.get_current_context().get_parameter_source
        typed = [f"--{k}" for k in IN_RECIPE if source(k) is not click.core.ParameterSource.DEFAULT]
        if typed:
            what, fix = "the recipe determines this", "leave it out"
            raise UsageError(what, where=", ".join(typed), fix=fix)
        recipe = read_recipe(file)
        home, refs, key = Path(split(file)[0]).parent, self.refs, self.weights_key
        loaded = of_recipe(recipe, home, refs=refs, weights_key=key, where=file)
        ingredients.print_notes(loaded)
        return loaded, recipe


def _require_sums(rows: Sequence[Sequence[float]]) -> None:
    """Reject rows whose sums are far from 1, as those of percentages are.

    Raises:
        UsageError: there is one. Small errors of rounding are left to `Recipe`.
    """
    for row in rows:
        if abs(sum(row) - 1) > 0.01:
            what = f"{', '.join(f'{w:g}' for w in row)} sum to {sum(row):g}, not 1"
            raise UsageError(
                what, where="coefficients", fix="give --normalize to divide by the sum"
            )


def coefficients(command: F) -> F:
    """Add the options that say what a soup is made of."""
    return grouped(
        "coefficients",
        Coefficients,
        click.argument("refs", nargs=-1, metavar="[REF...]"),
        click.option(
            "-w",
            "--weights",
            multiple=True,
            metavar="W,W,...",
            help="Coefficients: 0.5,0.3,0.2 or 1/3,1/3,1/3 or uniform; GROUP=0.5,0.5 for one "
            "group.",
        ),
        click.option(
            "--recipe", metavar="FILE", help="A recipe.json, a soup to rebuild, or a front.json."
        ),
        points.at,
        click.option(
            "--groups",
            default="model",
            show_default=True,
            metavar="model|block|module|tensor|glob=A,B",
            help="Groups of tensors that share coefficients.",
        ),
        click.option("--normalize", is_flag=True, help="Divide the coefficients by their sum."),
        click.option("--affine", is_flag=True, help="Allow coefficients outside [0, 1]."),
        ingredients.selection,
        click.option(
            "--buffers",
            type=click.Choice(BUFFER_POLICIES),
            help="Batch-norm statistics: averaged (the default), copied from the base ingredient, "
            "or re-estimated on --data, clean or under --threat.",
        ),
        ingredients.base,
        click.option(
            "--dtype",
            type=click.Choice(FLOATS),
            help="Floating-point type of the soup [default: that of the first ingredient].",
        ),
        ingredients.weights_key,
    )(command)
