"""Written forms of checkpoints → `Ingredients`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path

from soupmerge.errors import InputError, UsageError
from soupmerge.weights.classes import disagreements
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.lineage import trained_apart
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.selection import select

SITES = {
    "hf-hub:": "soupmerge.sources.hub",
    "timm:": "soupmerge.sources.timm_weights",
    "rb:": "soupmerge.sources.robustbench.checkpoints",
}
"""Prefix of a reference → the module whose ``opened(ref, weights_key=…)`` gives its checkpoint."""


def is_remote(ref: str | Path) -> bool:
    """Return whether *ref* names a site, and not a file."""
    return str(ref).startswith(tuple(SITES))


def opened(ref: str | Path, *, weights_key: str | None = None, foreign: bool = False) -> Checkpoint:
    """Return the checkpoint at *ref*: a file, a folder, or what a site has.

    Args:
        weights_key: which state dict to take from a file that wraps several.
        foreign: read a torch file though it names code; nothing of it is run.

    Raises:
        UsageError: a site's reference is not of its form, or names nothing there.
        NetworkError: the site cannot be reached, or does not answer as it should.
        InputError, UnsafeError: see `soupmerge.weights.files.open_checkpoint`.
    """
    for prefix, home in SITES.items():
        if str(ref).startswith(prefix):
            site = importlib.import_module(home)  # not before: clients of sites are slow to import
            how = {"weights_key": weights_key, **({"foreign": True} if foreign else {})}
            found: Checkpoint = site.opened(str(ref), **how)
            return found
    return open_checkpoint(ref, weights_key=weights_key, foreign=foreign)


def load(
    *refs: str | Path,
    weights_key: str | None = None,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    head: str | None = None,
    base: int = 0,
) -> Ingredients:
    """Return the checkpoints at *refs* as ingredients, checked to fit together.

    Args:
        refs: files, folders or sites' names of weights; the first sets names, shapes and dtypes.
        weights_key: which state dict to take from files that wrap several.
        exclude: patterns of tensors to copy from the *base* ingredient instead of mixing them.
        only: patterns of tensors to mix; all others are copied from it.
        head: where the classifier comes from: ``base``, ``first`` or ``skip``; None mixes it.
        base: index of the base ingredient.

    Raises:
        UsageError: no ref is given, or a pattern matches nothing.
        InputError: one cannot be read, or they do not fit; all misfits are listed.
        UnsafeError: reading one would run code.
    """
    if not refs:
        raise UsageError(
            "no checkpoint is given", where="REF", fix="name files or folders of weights"
        )
    checkpoints = opened_all(refs, weights_key=weights_key)
    if not 0 <= base < len(checkpoints):
        what = f"{base} is not the index of one of {len(checkpoints)} ingredients"
        raise UsageError(what, where="base")
    chosen = select(checkpoints, exclude=exclude, only=only, head=head, base=base)
    ingredients = Ingredients(checkpoints, chosen)
    for odd in disagreements(checkpoints):
        warnings.warn(f"{odd}: their outputs stand for different classes", stacklevel=2)
    for apart in trained_apart(checkpoints):
        what = f"{apart}: what lies between them is hardly a network (soupmerge check measures it)"
        warnings.warn(what, stacklevel=2)
    return ingredients


def opened_all(
    refs: Sequence[str | Path], *, weights_key: str | None = None
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints at *refs*, whether they fit together or not.

    Raises:
        InputError: some cannot be read; all are listed.
    """
    checkpoints, problems = [], []
    for ref in refs:
        try:
            checkpoints.append(opened(ref, weights_key=weights_key))
        except InputError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InputError("cannot read the checkpoints", problems=[str(p) for p in problems])
    return tuple(checkpoints)


def of_recipe(
    recipe: Recipe,
    home: Path | str,
    *,
    refs: Sequence[str | Path] = (),
    weights_key: str | None = None,
    where: object = None,
) -> Ingredients:
    """Return the ingredients of *recipe*, found by their paths, and held to their hashes.

    Args:
        recipe: names them.
        home: the folder of the recipe: files that have moved are looked for there and above.
        refs: where they are, if elsewhere.
        weights_key: which state dict to take from files that wrap several.
        where: what holds the recipe, for errors.

    Raises:
        UsageError: there are more or fewer *refs* than ingredients.
        InputError: a file is missing, or is not what the recipe was made with.
    """
    found = refs or tuple(_located(source.ref, Path(home)) for source in recipe.sources)
    if missing := [str(ref) for ref in found if not is_remote(ref) and not Path(ref).exists()]:
        fix = "give a REF for each ingredient"
        raise InputError("there are no such files", problems=missing, where=home, fix=fix)
    checkpoints = opened_all(found, weights_key=weights_key)
    if len(checkpoints) != len(recipe.sources):
        what = f"has {len(recipe.sources)} ingredients, not {len(checkpoints)}"
        raise UsageError(what, where=where, fix="give a REF for each")
    ingredients = Ingredients(checkpoints, recipe.selection)
    recipe.require_made_of(ingredients, where=where)
    return ingredients


def _located(ref: str, home: Path) -> str:
    """Return where the ingredient *ref* is: as written, or beside the recipe or its run folder."""
    name = Path(ref).name
    places = [Path(ref), home / ref, home / name, home.parent / name, home.parent.parent / name]
    return str(next((place for place in places if place.exists()), ref))
