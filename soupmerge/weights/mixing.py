"""The formula θ_soup = Σ_k w_k · θ_k, for tensors in memory and for tensors in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from soupmerge.errors import InputError, NumericsError, enumerated
from soupmerge.weights import buffers
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe
from soupmerge.weights.tensors import Array, DType, TensorInfo, View, is_finite

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1 << 18
"""Numbers of a tensor that are mixed at a time: few enough for the processor's cache."""


def combine(weights: Tensor, stack: Tensor) -> Tensor:
    """Return Σ_k w_k · θ_k, differentiable, for *weights* ``(K,)`` and *stack* ``(K, …)``."""
    import torch

    return torch.einsum("k,k...->...", weights, stack)


def mix(ingredients: Ingredients, recipe: Recipe) -> dict[str, Tensor]:
    """Return the soup of *ingredients* by *recipe*: tensor name → tensor.

    θ_soup[g] = Σ_k W[g, k] · θ_k[g]. Sums are computed in float64 and rounded once, so a soup of
    copies of one float32 network equals it bit for bit. Counters and constants are copied from the
    base ingredient. With the policy ``recalibrate``, statistics are only averaged here.

    Raises:
        NumericsError: an ingredient holds NaN, Inf or a variance below 0, or the soup would
            overflow its dtype or have a negative variance.
        InputError: the recipe's groups or selection are not those of *ingredients*.

    Example:
        >>> import tempfile, torch, soupmerge as sm
        >>> paths = [f"{tempfile.mkdtemp()}/{name}.safetensors" for name in "ab"]
        >>> for k, path in enumerate(paths):
        ...     sm.save(path, {"weight": torch.tensor([k, 1.0])})
        >>> ingredients = sm.load(*paths)
        >>> sm.mix(ingredients, sm.Recipe.of(ingredients, [0.25, 0.75]))
        {'weight': tensor([0.7500, 1.0000])}
    """
    infos = soup_infos(ingredients, recipe)
    return {
        name: infos[name].tensor(np.concatenate(list(pieces)))
        for name, pieces in soup_tensors(ingredients, recipe, infos)
    }


def soup_tensors(
    ingredients: Ingredients, recipe: Recipe, infos: Mapping[str, TensorInfo]
) -> Iterator[tuple[str, Iterator[Array]]]:
    """Yield the names and pieces of the soup's tensors, in the order of *infos*."""
    if recipe.selection != ingredients.selection:
        fix = "load the checkpoints with its selection"
        raise InputError("the recipe copies or leaves out other tensors", fix=fix)
    if ingredients.variances_below_0:  # their average may not be
        ingredients.require_sound()
    rows, scratch = recipe.rows_by_tensor(ingredients), _Scratch()
    for name, info in infos.items():
        yield name, _pieces(ingredients, name, info, rows[name], scratch)


def soup_infos(ingredients: Ingredients, recipe: Recipe) -> dict[str, TensorInfo]:
    """Return name → dtype and shape of the soup of *ingredients* by *recipe*."""
    dtype = DType(recipe.dtype) if recipe.dtype else None
    return {
        name: TensorInfo(dtype, info.shape) if dtype and info.dtype.is_floating_point else info
        for name, info in ingredients.infos.items()
    }


def _pieces(
    ingredients: Ingredients, name: str, info: TensorInfo, row: Sequence[float], scratch: _Scratch
) -> Iterator[Array]:
    """Yield the soup's tensor *name*, flat, so much of it at a time that memory stays the same."""
    # Ingredients of coefficient 0 are read as well, so that a corrupt file is always reported.
    used = [k for k in range(len(ingredients)) if ingredients.selection.mixes(name) or row[k]]
    parts = [_Part(ingredients[k].views[name], row[k]) for k in used]
    for start in range(0, max(info.numel, 1), CHUNK):
        count = min(CHUNK, info.numel - start)
        with np.errstate(all="ignore"):  # non-finite numbers are found below
            try:
                piece = scratch.mix(parts, start, count, info.dtype)
            except OverflowError as error:
                what = f"has a value that does not fit {info.dtype}, as in {ingredients[0].ref}"
                fix = "put the ingredient with the wider dtype first"
                raise NumericsError(what, where=name, fix=fix) from error
        idle = (scratch.read(part, start, count) for part in parts if part.weight == 0)
        # NaN or Inf in an ingredient shows in the sum, unless its coefficient is 0.
        if not all(map(is_finite, (piece, *idle))):
            ingredients.require_sound()
            views = {ingredients[k].ref: ingredients[k].views[name] for k in used}
            raise _overflow(name, info.dtype, views)
        if buffers.is_variance(name) and (piece < 0).any():
            fix = "keep coefficients within [0, 1], or use --buffers base"
            raise NumericsError("the soup's variance would be negative", where=name, fix=fix)
        yield piece


class _Part:
    """One ingredient's tensor and its coefficient."""

    def __init__(self, view: View, weight: float) -> None:
        self.reader, self.dtype, self.weight = view.reader(), view.info.dtype, weight


class _Scratch:
    """Buffers for one piece of a tensor, reused because allocating them costs more than the sums.

    Every product and sum is rounded by itself, in order of k, so that the result is the same bit
    for bit with any number of threads; `combine` leaves the order to the linear algebra library.
    """

    def __init__(self) -> None:
        self.total, self.term = np.empty(CHUNK), np.empty(CHUNK)
        self.raw: dict[DType, Array] = {}

    def read(self, part: _Part, start: int, count: int) -> Array:
        """Return *count* numbers of one ingredient, valid until the next read."""
        if part.dtype not in self.raw:
            self.raw[part.dtype] = np.empty(CHUNK, part.dtype.numpy)
        return part.reader(start, self.raw[part.dtype][:count])

    def mix(self, parts: Sequence[_Part], start: int, count: int, dtype: DType) -> Array:
        """Return Σ_k w_k · θ_k of *count* numbers, as a new array."""
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
    """Return a copy of *numbers* in *dtype*, rounded once to the nearest value, ties to even.

    Raises:
        OverflowError: *dtype* is an integer dtype that cannot represent all of them.
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
    """Return *numbers* in float32, such that they round to bfloat16 as the float64 numbers would.

    ml_dtypes casts by way of float32, and so rounds twice. Where float32 is not exact, its last
    bit is made odd ("round to odd"), after which rounding to a type with at least two bits less
    gives the same result (Boldo & Melquiond 2008, theorem 1).
    """
    near = numbers.astype(np.float32)
    beyond = np.sign(numbers - near)
    even = near.view(np.uint32) & 1 == 0
    wrong = even & (beyond != 0)
    near[wrong] = np.nextafter(near[wrong], np.float32("inf") * beyond[wrong].astype(np.float32))
    return near


def _overflow(name: str, dtype: DType, views: Mapping[str, View]) -> NumericsError:
    top = max(float(abs(view.array().astype(np.float64)).max()) for view in views.values())
    what = f"{name} of the soup would overflow {dtype}: an ingredient has a value of {top:.6g}"
    fix = "put an ingredient with a wider dtype first, or give --dtype"
    return NumericsError(what, where=enumerated([*views]), fix=fix)
