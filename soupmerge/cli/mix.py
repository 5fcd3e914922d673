"""``soupmerge mix``: write one soup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import options, show
from soupmerge.errors import InputError, UsageError


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF...]")
@click.option(
    "-w",
    "--weights",
    metavar="W,W,...",
    help="Coefficients: 0.5,0.3,0.2 or 1/3,1/3,1/3 or uniform.",
)
@click.option("--recipe", "recipe_file", metavar="FILE", help="A recipe.json to make again.")
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file.")
@options.buffers
@options.weights_key
@options.force
@options.dry_run
@options.debug
def command(refs: tuple[str, ...], out: str, dry_run: bool, force: bool, **given: Any) -> None:
    """Write one soup: by coefficients, one for each REF, or by a recipe.

    A recipe names its ingredients and their hashes; give REFs with it if they have moved.
    """
    from soupmerge.weights.mixing import mix_to_file

    if not out.endswith(".safetensors"):
        raise UsageError(
            f"cannot write {Path(out).suffix!r} files", where=out, fix="name a .safetensors file"
        )
    if (given["weights"] is None) == (given["recipe_file"] is None):
        raise UsageError("give one of the two", where="-w and --recipe")
    if given["recipe_file"]:
        pots, recipe = _by_recipe(refs, given)
    else:
        pots, recipe = _by_weights(refs, given)
    options.tell(pots, given)
    size = sum(info.bytes for info in pots.infos.values())
    if dry_run:
        weights = [f"{w:.6g}" for w in recipe.mean_weights]
        show.table(["ingredient", "coefficient"], list(zip(pots.names, weights, strict=True)))
        show.note(f"would write {len(pots.infos)} tensors, {size:,} bytes, to {out}")
        return
    mix_to_file(out, pots, recipe, force=force)
    written = sm.load(out)[0]
    show.table(["soup", "tensors", "bytes", "sha256"], [[out, len(written), size, written.sha256]])


def _by_weights(refs: tuple[str, ...], given: dict[str, Any]) -> tuple[sm.Ingredients, sm.Recipe]:
    from soupmerge.weights.recipe import parse_weights

    pots = sm.load(*refs, weights_key=given["weights_key"])
    how = {"buffers": given["buffers"], "base": options.ingredient(given, pots)}
    if given["weights"] == "uniform":
        return pots, sm.Recipe.uniform(pots, **how)
    return pots, sm.Recipe.of(pots, parse_weights(given["weights"]), **how)


def _by_recipe(refs: tuple[str, ...], given: dict[str, Any]) -> tuple[sm.Ingredients, sm.Recipe]:
    from soupmerge.weights.recipe import read_recipe

    recipe = read_recipe(given["recipe_file"])
    home = Path(given["recipe_file"]).parent
    found = refs or tuple(_located(source.ref, home) for source in recipe.sources)
    pots = sm.load(*found, weights_key=given["weights_key"])
    if len(pots) != len(recipe.sources):
        what = f"has {len(recipe.sources)} ingredients, not {len(pots)}"
        raise UsageError(what, where=given["recipe_file"], fix="give a REF for each")
    for pot, source in zip(pots, recipe.sources, strict=True):
        if pot.sha256 != source.sha256:
            raise InputError(
                f"has sha256 {pot.sha256[:16]}…, the recipe wants {source.sha256[:16]}…",
                where=pot.ref,
                fix="name the file it was made from",
            )
    return pots, recipe


def _located(ref: str, home: Path) -> str:
    """Return where the ingredient *ref* is: as written, or beside the recipe or its run folder."""
    name = Path(ref).name
    places = [Path(ref), home / ref, home / name, home.parent / name, home.parent.parent / name]
    return str(next((place for place in places if place.exists()), ref))
