"""The formula: θ_soup = Σ_k w_k · θ_k, written once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import NumericsError
from soupmerge.storage import commit
from soupmerge.types import State
from soupmerge.weights import formats
from soupmerge.weights.formats import TensorInfo
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import Recipe


def combine(weights: Tensor, stack: Tensor) -> Tensor:
    """Return Σ_k w_k · θ_k, differentiable, for *weights* ``(K,)`` and *stack* ``(K, …)``."""
    return torch.einsum("k,k...->...", weights, stack)


def mix(pots: Ingredients, recipe: Recipe) -> dict[str, Tensor]:
    """Return the soup of *pots* by *recipe*: tensor name → tensor, in the first one's dtypes.

    θ_soup[g] = Σ_k W[g, k] · θ_k[g]. Sums are taken in float64 and cast back once, so that a soup
    of copies is the copy, bit for bit. Counters and constants are copied from the base ingredient.

    Raises:
        NumericsError: an ingredient holds NaN or Inf, or the soup would overflow its dtype.
        InputError: the recipe's groups are not those of *pots*.
    """
    return dict(mixed(pots, recipe, pots.infos))


def mixed(
    pots: Ingredients, recipe: Recipe, infos: Mapping[str, TensorInfo]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the soup one by one, in the order of *infos*."""
    rows = recipe.rows_by_tensor(pots)
    for name, info in infos.items():
        tensors = [pot[name] for pot in pots]
        _require_finite(name, pots, tensors)
        tensor = _mix_tensor(tensors, rows[name], info.dtype)
        if not bool(torch.isfinite(tensor).all()):
            what = f"the soup would overflow {info.dtype}"
            raise NumericsError(what, where=name, fix="put an ingredient of a wider dtype first")
        yield name, tensor


def _require_finite(name: str, pots: Ingredients, tensors: Sequence[Tensor]) -> None:
    # Also those of coefficient 0: an ingredient that is broken is not meant to be one.
    bad = [p.ref for p, t in zip(pots, tensors, strict=True) if not bool(torch.isfinite(t).all())]
    if bad:
        raise NumericsError(f"{name} holds NaN or Inf", where=", ".join(bad), fix="leave it out")


def _mix_tensor(tensors: Sequence[Tensor], row: Sequence[float], dtype: torch.dtype) -> Tensor:
    used = [k for k, weight in enumerate(row) if weight != 0]
    if len(used) == 1 and row[used[0]] == 1:
        return tensors[used[0]].to(dtype, copy=True)
    stack = torch.stack([tensors[k].to(torch.float64) for k in used])
    weights = torch.tensor([row[k] for k in used], dtype=torch.float64)
    return combine(weights, stack).to(dtype)


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
    infos = formats.layout({n: TensorInfo(t.dtype, tuple(t.shape)) for n, t in state.items()})
    written = ((name, state[name]) for name in infos)
    formats.save(path, infos, written, notes=_notes(recipe, model, notes), force=force)


def mix_to_file(
    path: Path | str,
    pots: Ingredients,
    recipe: Recipe,
    *,
    model: str | None = None,
    force: bool = False,
) -> None:
    """Write the soup of *pots* by *recipe* to *path*, never holding more than one tensor of it.

    Raises:
        UsageError: *path* is one of the ingredients.
        OutputError: *path* exists (without *force*), or cannot be written.
        NumericsError: an ingredient holds NaN or Inf, or the soup would overflow its dtype.
    """
    commit.check_free(path, force=force, inputs=pots.files)
    infos = formats.layout(pots.infos)
    notes = _notes(recipe, model or pots.model, None)
    formats.save(path, infos, mixed(pots, recipe, infos), notes=notes, force=force)


def _notes(
    recipe: Recipe | None, model: str | None, notes: Mapping[str, Any] | None
) -> dict[str, Any]:
    given = {"model": model, "recipe": None if recipe is None else recipe.to_json()}
    return {**{k: v for k, v in given.items() if v is not None}, **(notes or {})}
