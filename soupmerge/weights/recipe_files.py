"""Recipes in files: a recipe by itself, the recipe of a soup, and the points of a front."""

from __future__ import annotations

from pathlib import Path

from soupmerge.errors import InputError
from soupmerge.storage.reading import read_json
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.front import FORMAT, Front
from soupmerge.weights.places import INDEX
from soupmerge.weights.recipe import Recipe

AT = "@"
"""Between the file of a front and a preference: ``front.json@0.6``."""


def is_recipe(ref: Path | str) -> bool:
    """Return whether *ref* names a file of a recipe or a point of a front.

    Example:
        >>> [is_recipe(r) for r in ("recipe.json", "run/front.json@0.6", "a@b.safetensors")]
        [True, True, False]
    """
    path, _ = split(ref)
    return Path(path).suffix == ".json" and not path.endswith(INDEX)


def split(ref: Path | str) -> tuple[str, str]:
    """Return the file in *ref*, and the preference after it; empty if there is none.

    Example:
        >>> split("run/front.json@0.6")
        ('run/front.json', '0.6')
    """
    path, at, point = str(ref).rpartition(AT)
    return (path, point) if at and path.endswith(".json") else (str(ref), "")


def read_recipe(ref: Path | str) -> Recipe:
    """Return the recipe in a JSON file, in the notes of a soup, or at a point of a front.

    Args:
        ref: ``recipe.json``, a soup, or a front and a preference: ``front.json@0.6``, or
            ``front.json@0.2,0.3,0.5`` for three objectives.

    Raises:
        InputError: the file is missing or holds no recipe.
        UsageError: a preference is missing, or is none of the front.
    """
    if not is_recipe(ref):
        notes = open_checkpoint(ref).notes_of_soupmerge
        return Recipe.from_json(notes.get("recipe"), where=ref)
    path, point = split(ref)
    value = read_json(path)
    if isinstance(value, dict) and value.get("format") == FORMAT:
        return Front.from_json(value, where=path).at(point)
    if point:
        what = f"is not a front, so it has no point {point!r}"
        raise InputError(what, where=path, fix="give the front.json of a run of soupmerge front")
    return Recipe.from_json(value, where=path)


def read_front(path: Path | str) -> Front:
    """Return the front in the JSON file *path*, or in the run folder *path*.

    Raises:
        InputError: the file is missing or holds no front.
    """
    from soupmerge.storage.names import FRONT

    file = Path(path, FRONT) if Path(path).is_dir() else Path(path)
    return Front.from_json(read_json(file), where=file)
