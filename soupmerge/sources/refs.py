"""References to checkpoints → `Checkpoint` and `Ingredients`."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soupmerge.errors import InputError, UsageError
from soupmerge.weights.classes import disagreements
from soupmerge.weights.files import Checkpoint, open_checkpoint
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.lineage import trained_apart
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.recipe_files import is_recipe, read_recipe, split
from soupmerge.weights.saving import mixed
from soupmerge.weights.selection import select

SITES = {
    "hf-hub:": "soupmerge.sources.hub",
    "timm:": "soupmerge.sources.timm_weights",
    "rb:": "soupmerge.sources.robustbench.checkpoints",
}
"""Prefix of a reference → the module whose ``opened(ref, weights_key=…, foreign=…)`` opens it."""


def is_remote(ref: str | Path) -> bool:
    """Return whether *ref* names something at a site, and not a file."""
    return str(ref).startswith(tuple(SITES))


def opened(ref: str | Path, *, weights_key: str | None = None, foreign: bool = False) -> Checkpoint:
    """Return the checkpoint at *ref*: a file, a folder, or a reference to a site.

    A recipe, or a point of a front such as ``front.json@0.6``, is mixed in memory.

    Args:
        weights_key: which state dict to take from a file that wraps several.
        foreign: read a torch file although it names code, without running any of it.

    Raises:
        UsageError: *ref* is malformed, or names nothing at its site.
        NetworkError: the site cannot be reached, or its answer is wrong.
        InputError, UnsafeError: see `soupmerge.weights.files.open_checkpoint`.
    """
    if not isinstance(ref, (str, os.PathLike)):
        what = f"expected a path or a reference, found a {type(ref).__name__}"
        fix = "give each as an argument: load(*refs)" if isinstance(ref, (list, tuple)) else None
        raise UsageError(what, where="REF", fix=fix)
    for prefix, module in SITES.items():
        if str(ref).startswith(prefix):
            site: Any = importlib.import_module(module)  # only now: clients are slow to import
            found: Checkpoint = site.opened(str(ref), weights_key=weights_key, foreign=foreign)
            return found
    if is_recipe(ref):
        recipe = read_recipe(ref)
        home = Path(split(ref)[0]).parent
        return mixed(str(ref), of_recipe(recipe, home, weights_key=weights_key, where=ref), recipe)
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

    Tensors are read when they are used, not now.

    Args:
        refs: files, folders or references to sites (``hf-hub:``, ``timm:``, ``rb:``). All must
            have the names and shapes of the first.
        weights_key: which state dict to take from files that wrap several.
        exclude: patterns of tensors to copy from the *base* ingredient instead of mixing them.
        only: patterns of the tensors to mix; all others are copied from *base*.
        head: where the classifier comes from: ``base``, ``first`` or ``skip``; None mixes it.
        base: index of the base ingredient.

    Raises:
        UsageError: no reference is given, or a pattern matches nothing.
        InputError: a checkpoint cannot be read, or they do not fit; all misfits are listed.
        NetworkError: a site cannot be reached, or its answer is wrong.
        UnsafeError: reading one would run code.

    Warns:
        UserWarning: the checkpoints disagree about the classes, or come from separate trainings.

    Example:
        >>> import soupmerge as sm, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for seed in (1, 2):
        ...     net = sm.model("digits-cnn?width=4", seed=seed)
        ...     sm.save(f"{folder}/{seed}.safetensors", net.state_dict())
        >>> ingredients = load(f"{folder}/1.safetensors", f"{folder}/2.safetensors")
        >>> len(ingredients), ingredients[0]["head.weight"].shape
        (2, torch.Size([10, 16]))
    """
    if not refs:
        raise UsageError(
            "no checkpoint is given", where="REF", fix="name files or folders of weights"
        )
    checkpoints = opened_all(refs, weights_key=weights_key)
    if not 0 <= base < len(checkpoints):
        what = f"{base} is not the index of one of {len(checkpoints)} ingredients"
        raise UsageError(what, where="base")
    selection = select(checkpoints, exclude=exclude, only=only, head=head, base=base)
    ingredients = Ingredients(checkpoints, selection)
    for difference in disagreements(checkpoints):
        warnings.warn(f"{difference}: their outputs stand for different classes", stacklevel=2)
    for reason in trained_apart(checkpoints):
        what = f"{reason}: their average is unlikely to work (soupmerge check measures it)"
        warnings.warn(what, stacklevel=2)
    return ingredients


def opened_all(
    refs: Sequence[str | Path], *, weights_key: str | None = None
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints at *refs*, whether they fit together or not.

    Raises:
        InputError: some cannot be read; all of them are listed.
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
    """Return the ingredients that *recipe* names, after comparing their hashes.

    Args:
        recipe: names paths and hashes.
        home: the folder of the recipe. Files that are no longer at their paths are looked for in
            it and in the two folders above.
        refs: where the ingredients are instead.
        weights_key: which state dict to take from files that wrap several.
        where: the file that holds the recipe, for errors.

    Raises:
        UsageError: there are more or fewer *refs* than ingredients.
        InputError: a file is missing, or is not the one that the recipe was made with.
    """
    paths = refs or tuple(_located(source.ref, Path(home)) for source in recipe.sources)
    if missing := [str(ref) for ref in paths if not is_remote(ref) and not Path(ref).exists()]:
        fix = "give a REF for each ingredient"
        raise InputError("there are no such files", problems=missing, where=home, fix=fix)
    checkpoints = opened_all(paths, weights_key=weights_key)
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
