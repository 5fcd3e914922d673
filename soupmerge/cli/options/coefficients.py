"""By which coefficients checkpoints are mixed, as options or as the recipe that stands for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.ingredients import Selection
from soupmerge.errors import UsageError

SAID = ("exclude", "only", "head", "buffers", "groups", "affine", "normalize", "base", "dtype")
"""Options that a recipe stands for."""


@dataclass(frozen=True)
class Coefficients:
    """What a soup is made of: checkpoints and coefficients, or a recipe that names both."""

    refs: tuple[str, ...]
    weights: tuple[str, ...]
    recipe: str | None
    groups: str
    normalize: bool
    affine: bool
    selection: Selection
    buffers: str | None
    base: int
    dtype: str | None
    weights_key: str | None

    def load(self) -> tuple[sm.Ingredients, sm.Recipe]:
        """Return the ingredients and the recipe.

        Raises:
            UsageError: neither coefficients nor a recipe are given, or both.
        """
        if bool(self.weights) == bool(self.recipe):
            fix = "give -w uniform for the uniform soup"
            raise UsageError("give one of the two", where="-w and --recipe", fix=fix)
        return self._by_recipe(self.recipe) if self.recipe else self._by_weights()

    def _by_weights(self) -> tuple[sm.Ingredients, sm.Recipe]:
        from soupmerge.weights.coefficients import parse_rows

        loaded = self.selection.load(self.refs, self.weights_key, self.base)
        groups = tuple(loaded.groups(self.groups))
        rows = parse_rows(self.weights, groups, len(loaded), normalize=self.normalize)
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
        from soupmerge.weights.recipe import read_recipe

        source = click.get_current_context().get_parameter_source
        fixed = [f"--{k}" for k in SAID if source(k) is not click.core.ParameterSource.DEFAULT]
        if fixed:
            what, fix = "the recipe says it already", "leave it out"
            raise UsageError(what, where=", ".join(fixed), fix=fix)
        recipe = read_recipe(file)
        home, refs, key = Path(file).parent, self.refs, self.weights_key
        loaded = of_recipe(recipe, home, refs=refs, weights_key=key, where=file)
        ingredients.tell(loaded)
        return loaded, recipe


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
        click.option("--recipe", metavar="FILE", help="A recipe.json or soup to make again."),
        click.option(
            "--groups",
            default="model",
            show_default=True,
            metavar="model|block|module|tensor|glob=A,B",
            help="What has coefficients of its own.",
        ),
        click.option("--normalize", is_flag=True, help="Divide the coefficients by their sum."),
        click.option("--affine", is_flag=True, help="Allow coefficients outside of [0, 1]."),
        ingredients.selection,
        click.option(
            "--buffers",
            type=click.Choice(["average", "base", "recalibrate"]),
            help="Batch-norm statistics: averaged (the default), taken from one ingredient, or "
            "estimated anew on --data, clean or under --threat.",
        ),
        ingredients.base,
        click.option(
            "--dtype",
            type=click.Choice(["float64", "float32", "float16", "bfloat16"]),
            help="Of the soup [default: that of the first ingredient].",
        ),
        ingredients.weights_key,
    )(command)
