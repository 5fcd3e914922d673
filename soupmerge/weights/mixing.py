"""The formula: θ_soup = Σ_k w_k · θ_k, for tensors at hand and for tensors in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soupmerge.errors import InputError, NumericsError, UsageError, enumerated
from soupmerge.storage import commit
from soupmerge.weights import buffers, ledger, lineage, writing
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.tensors import Array, DType, TensorInfo, View, is_finite

if TYPE_CHECKING:
    from torch import Tensor

    from soupmerge.types import State

CHUNK = 1 << 18
"""Numbers of a tensor that are mixed at a time: few enough to stay in a processor's cache."""

OVERHEAD = 64 << 20
"""Bytes of memory that mixing takes beside the tensors it holds whole."""


def combine(weights: Tensor, stack: Tensor) -> Tensor:
    """Return Σ_k w_k · θ_k, differentiable, for *weights* ``(K,)`` and *stack* ``(K, …)``."""
    import torch

    return torch.einsum("k,k...->...", weights, stack)


def mix(ingredients: Ingredients, recipe: Recipe) -> dict[str, Tensor]:
    """Return the soup of *ingredients* by *recipe*: tensor name → tensor.

    θ_soup[g] = Σ_k W[g, k] · θ_k[g]. Sums are taken in float64 and cast back once, so that a soup
    of float32 copies is the copy, bit for bit. Counters and constants are copied from the base
    ingredient. Of the policy ``recalibrate`` this is the first half: statistics are averaged.

    Raises:
        NumericsError: an ingredient holds NaN, Inf or a variance below 0, or the soup would
            overflow its dtype, or have a negative variance.
        InputError: the recipe's groups are not those of *ingredients*.
    """
    infos = soup_infos(ingredients, recipe)
    return {
        name: infos[name].tensor(np.concatenate(list(pieces)))
        for name, pieces in mixed(ingredients, recipe, infos)
    }


def mixed(
    ingredients: Ingredients, recipe: Recipe, infos: Mapping[str, TensorInfo]
) -> Iterator[tuple[str, Iterator[Array]]]:
    """Yield the tensors of the soup one by one, in the order of *infos*, each piece by piece."""
    if recipe.selection != ingredients.selection:
        fix = "load the checkpoints with its selection"
        raise InputError("the recipe copies or leaves out other tensors", fix=fix)
    if ingredients.variances_below_0:  # their average may be above
        ingredients.require_sound()
    rows, scratch = recipe.rows_by_tensor(ingredients), _Scratch()
    for name, info in infos.items():
        yield name, _pieces(ingredients, name, info, rows[name], scratch)


def _pieces(
    ingredients: Ingredients, name: str, info: TensorInfo, row: Sequence[float], scratch: _Scratch
) -> Iterator[Array]:
    """Yield the soup's tensor *name*, flat, so much of it at a time that memory stays the same."""
    # Also ingredients of coefficient 0 are read: one that is broken is not meant to be one.
    kept = [k for k in range(len(ingredients)) if ingredients.selection.leaves(name) or row[k]]
    parts = [_Part(ingredients[k].views[name], row[k]) for k in kept]
    for start in range(0, max(info.numel, 1), CHUNK):
        count = min(CHUNK, info.numel - start)
        with np.errstate(all="ignore"):  # what is not finite is found below
            try:
                piece = scratch.mix(parts, start, count, info.dtype)
            except OverflowError as error:
                what = f"holds a number that {info.dtype} of {ingredients[0].ref} cannot hold"
                raise NumericsError(what, where=name, fix="put the wider one first") from error
        idle = (scratch.read(part, start, count) for part in parts if part.weight == 0)
        # What is not finite in an ingredient is not finite in the sum, unless its coefficient is 0.
        if not all(map(is_finite, (piece, *idle))):
            ingredients.require_sound()
            raise _overflow(
                name, info.dtype, {ingredients[k].ref: ingredients[k].views[name] for k in kept}
            )
        if buffers.is_variance(name) and (piece < 0).any():
            fix = "keep coefficients within [0, 1], or take --buffers base"
            raise NumericsError("the soup's variance would be negative", where=name, fix=fix)
        yield piece


class _Part:
    """One ingredient's share of a tensor."""

    def __init__(self, view: View, weight: float) -> None:
        self.reader, self.dtype, self.weight = view.reader(), view.info.dtype, weight


class _Scratch:
    """Memory for one piece of a tensor, used again for each: to get it anew costs more than sums.

    Every product and every sum is rounded by itself, in order of k, so that the bits are the same
    for any number of threads; `combine` leaves that to the linear algebra library.
    """

    def __init__(self) -> None:
        self.total, self.term = np.empty(CHUNK), np.empty(CHUNK)
        self.raw: dict[DType, Array] = {}

    def read(self, part: _Part, start: int, count: int) -> Array:
        """Return some numbers of one ingredient, valid until the next are read."""
        if part.dtype not in self.raw:
            self.raw[part.dtype] = np.empty(CHUNK, part.dtype.numpy)
        return part.reader(start, self.raw[part.dtype][:count])

    def mix(self, parts: Sequence[_Part], start: int, count: int, dtype: DType) -> Array:
        """Return Σ_k w_k · θ_k of some numbers, in memory of its own."""
        used = [part for part in parts if part.weight != 0]
        if [part.weight for part in used] == [1]:
            return rounded(self.read(used[0], start, count), dtype)
        total, term = self.total[:count], self.term[:count]
        for part in used:
            into = total if part is used[0] else term
            into[:] = self.read(part, start, count)
            into *= part.weight
            if into is term:
                total += term
        return rounded(total, dtype)


def rounded(numbers: Array, dtype: DType) -> Array:
    """Return *numbers* in *dtype*, in memory of its own, rounded once to the nearest, ties to even.

    Raises:
        OverflowError: *dtype* is one of whole numbers, and cannot hold all of them.
    """
    if not dtype.is_floating_point:
        cast = numbers.astype(dtype.numpy)
        if not np.array_equal(cast, numbers):
            raise OverflowError
        return cast
    if dtype.name == "bfloat16" and numbers.dtype == np.float64:
        numbers = _to_odd(numbers)
    return numbers.astype(dtype.numpy)


def _to_odd(numbers: Array) -> Array:
    """Return float64 *numbers* as float32 that round to bfloat16 as the float64 would.

    ml_dtypes casts by way of float32, and so rounds twice. Where float32 is not exact, its last
    bit is made odd ("round to odd"): then what is nearest in a type with two bits less is the same
    (Boldo & Melquiond 2008, theorem 1).
    """
    near = numbers.astype(np.float32)
    beyond = np.sign(numbers - near)
    even = near.view(np.uint32) & 1 == 0
    wrong = even & (beyond != 0)
    near[wrong] = np.nextafter(near[wrong], np.float32("inf") * beyond[wrong].astype(np.float32))
    return near


def _overflow(name: str, dtype: DType, views: Mapping[str, View]) -> NumericsError:
    top = max(float(abs(view.array().astype(np.float64)).max()) for view in views.values())
    what = f"{name} of the soup would overflow {dtype}: an ingredient has {top:.6g}"
    fix = "put an ingredient of a wider dtype first, or give --dtype"
    return NumericsError(what, where=enumerated([*views]), fix=fix)


def save(
    path: Path | str,
    state: State,
    *,
    recipe: Recipe | None = None,
    model: str | None = None,
    notes: Mapping[str, Any] | None = None,
    force: bool = False,
) -> None:
    """Write *state* to the safetensors file *path*, with where it came from inside.

    Args:
        recipe: how the soup was made; it travels in the file's metadata.
        model: the network's written form, so that the file needs no ``--model``.
        notes: anything else to note.

    Raises:
        OutputError: *path* exists (without *force*), or cannot be written.
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
        model: the network's written form; default what the ingredients name.
        shard_bytes: write a folder of shards, each with so many bytes of tensors at most.

    Returns:
        The sha256 of what was written, as `Checkpoint.sha256` gives it.

    Raises:
        UsageError: *path* is one of the ingredients.
        OutputError: *path* exists (without *force*), or cannot be written.
        NumericsError: an ingredient holds NaN or Inf, or the soup would overflow its dtype.
        InputError: an ingredient changed while it was read.
    """
    if recipe.buffers == "recalibrate":
        fix = "mix() it, recalibrate() that, and save_soup() the result"
        raise UsageError("its statistics need images", where="recalibrate", fix=fix)
    if shard_bytes is None:
        commit.check_free(path, force=force, inputs=ingredients.files)
    infos = writing.layout(soup_infos(ingredients, recipe))
    notes = _soup_notes(ingredients, recipe, model)
    tensors = mixed(ingredients, recipe, infos)
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
    """Write *state*, the soup of *ingredients* by *recipe*, as `mix_to_file` would; its sha256.

    Raises:
        UsageError, OutputError: as `mix_to_file`.
    """
    commit.check_free(path, force=force, inputs=ingredients.files)
    return _save(path, state, _soup_notes(ingredients, recipe, model), force)


def soup_infos(ingredients: Ingredients, recipe: Recipe) -> dict[str, TensorInfo]:
    """Return name → dtype and shape of the soup of *ingredients* by *recipe*."""
    dtype = DType(recipe.dtype) if recipe.dtype else None
    return {
        name: TensorInfo(dtype, info.shape) if dtype and info.dtype.is_floating_point else info
        for name, info in ingredients.infos.items()
    }


def memory_of(ingredients: Ingredients) -> int:
    """Return an estimate of the bytes of memory that writing a soup of *ingredients* takes.

    Tensors that lie in their file in another order than theirs are held whole, one at a time.
    """
    scattered = [
        sum(view.info.bytes for c in ingredients if (view := c.views.get(name)) and view.stride)
        for name in ingredients.infos
    ]
    return OVERHEAD + 2 * max(scattered, default=0)


def _soup_notes(ingredients: Ingredients, recipe: Recipe, model: str | None) -> dict[str, Any]:
    more = {
        "family": [lineage.node_of(ingredient) for ingredient in ingredients],
        ledger.SEEN: ledger.merged(ingredients),
    }
    return _notes(recipe, model or ingredients.model, {k: v for k, v in more.items() if v})


def _notes(
    recipe: Recipe | None, model: str | None, notes: Mapping[str, Any] | None
) -> dict[str, Any]:
    given = {"model": model, "recipe": None if recipe is None else recipe.portable().to_json()}
    return {**{k: v for k, v in given.items() if v is not None}, **(notes or {})}
