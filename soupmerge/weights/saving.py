"""Saving networks and soups: weights, and the notes in the file that record their origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soupmerge.errors import UsageError
from soupmerge.storage import commit
from soupmerge.weights import ledger, lineage, mixing, writing
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.in_memory import InMemoryView
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.tensors import TensorInfo

if TYPE_CHECKING:
    from soupmerge.types import State

OVERHEAD = 64 << 20
"""Bytes of memory that mixing takes besides the tensors it must read as a whole."""


def save(
    path: Path | str,
    state: State,
    *,
    recipe: Recipe | None = None,
    model: str | None = None,
    notes: Mapping[str, Any] | None = None,
    force: bool = False,
) -> None:
    """Write *state* to the safetensors file *path*, with its origin in the metadata.

    Args:
        recipe: how the soup was made.
        model: reference of the network, so that the file needs no ``--model``.
        notes: anything else to record.

    Raises:
        OutputError: *path* exists (without *force*), or cannot be written.

    Example:
        >>> import tempfile, torch, soupmerge as sm
        >>> path = f"{tempfile.mkdtemp()}/net.safetensors"
        >>> sm.save(path, {"weight": torch.ones(2)}, model="digits-cnn")
        >>> sm.load(path)[0].model, sm.load(path)[0]["weight"]
        ('digits-cnn', tensor([1., 1.]))
    """
    _save(path, state, _notes(recipe, model, notes), force)


def _save(path: Path | str, state: State, notes: Mapping[str, Any], force: bool) -> str:
    infos = writing.layout({n: TensorInfo.of(t) for n, t in state.items()})
    return writing.save(path, infos, writing.whole(state, infos), notes=notes, force=force)


def mix_to_file(
    path: Path | str,
    ingredients: Ingredients,
    recipe: Recipe,
    *,
    model: str | None = None,
    shard_bytes: int | None = None,
    force: bool = False,
) -> str:
    """Write the soup of *ingredients* by *recipe* to *path*, a few megabytes at a time.

    Args:
        model: reference of the network; default what the ingredients name.
        shard_bytes: write a folder of shards, each with at most this many bytes of tensors.

    Returns:
        The sha256 of the written weights, as in `Checkpoint.sha256`.

    Raises:
        UsageError: *path* is one of the ingredients.
        OutputError: *path* exists (without *force*), or cannot be written.
        NumericsError: an ingredient holds NaN or Inf, or the soup would overflow its dtype.
        InputError: an ingredient changed while it was being read.
    """
    _require_mixable(recipe)
    if shard_bytes is None:
        commit.check_free(path, force=force, inputs=ingredients.files)
    infos = writing.layout(mixing.soup_infos(ingredients, recipe))
    notes = _soup_notes(ingredients, recipe, model)
    tensors = mixing.soup_tensors(ingredients, recipe, infos)
    return writing.save(path, infos, tensors, notes=notes, shard_bytes=shard_bytes, force=force)


def save_soup(
    path: Path | str,
    state: State,
    ingredients: Ingredients,
    recipe: Recipe,
    *,
    model: str | None = None,
    force: bool = False,
) -> str:
    """Write *state*, the soup of *ingredients* by *recipe*, like `mix_to_file`; return its sha256.

    Raises:
        UsageError, OutputError: as `mix_to_file`.
    """
    commit.check_free(path, force=force, inputs=ingredients.files)
    return _save(path, state, _soup_notes(ingredients, recipe, model), force)


def mixed(ref: str, ingredients: Ingredients, recipe: Recipe) -> Checkpoint:
    """Return the soup of *ingredients* by *recipe* in memory, as if it had been written and read.

    Its hash is that of the file that `mix_to_file` writes.

    Args:
        ref: how to refer to it.

    Raises:
        UsageError, NumericsError, InputError: as `mix_to_file`.
    """
    _require_mixable(recipe)
    infos = writing.layout(mixing.soup_infos(ingredients, recipe))
    tensors = mixing.soup_tensors(ingredients, recipe, infos)
    numbers = {name: np.concatenate(list(pieces)) for name, pieces in tensors}
    notes = _soup_notes(ingredients, recipe, None)
    digest = writing.digest_of(infos, ((n, [flat]) for n, flat in numbers.items()), notes)
    sources = tuple(source for ingredient in ingredients for source in ingredient.sources)
    views = {
        name: InMemoryView(infos[name], sources[0], 0, None, numbers=numbers[name])
        for name in sorted(numbers)
    }
    return Checkpoint(ref, sources, views, writing.metadata_of(notes), digest=digest)


def _require_mixable(recipe: Recipe) -> None:
    if recipe.buffers == "recalibrate":
        fix = "call mix(), then recalibrate(), then save_soup()"
        raise UsageError("re-estimating statistics needs images", where="recalibrate", fix=fix)


def memory_of(ingredients: Ingredients) -> int:
    """Return an estimate of the bytes of memory needed to write a soup of *ingredients*.

    Non-contiguous tensors are read as a whole, one at a time.
    """
    sizes = [
        sum(view.info.bytes for c in ingredients if (view := c.views.get(name)) and view.stride)
        for name in ingredients.infos
    ]
    return OVERHEAD + 2 * max(sizes, default=0)


def _soup_notes(ingredients: Ingredients, recipe: Recipe, model: str | None) -> dict[str, Any]:
    notes = {
        "family": [lineage.node_of(ingredient) for ingredient in ingredients],
        ledger.SEEN: ledger.merge(ingredients),
    }
    return _notes(recipe, model or ingredients.model, {k: v for k, v in notes.items() if v})


def _notes(
    recipe: Recipe | None, model: str | None, notes: Mapping[str, Any] | None
) -> dict[str, Any]:
    given = {"model": model, "recipe": None if recipe is None else recipe.portable().to_json()}
    return {**{k: v for k, v in given.items() if v is not None}, **(notes or {})}
