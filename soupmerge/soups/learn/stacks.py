"""The K versions of a tensor: mix them, or multiply them by a gradient, wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from soupmerge.choices import PLACES, STORES
from soupmerge.errors import UsageError, near_miss
from soupmerge.weights.ingredients import Ingredients

CHUNK = 1 << 16
"""Columns of bfloat16 to convert at a time: few enough to stay in a processor's cache."""


class Stack(Protocol):
    """K versions θ_k of one tensor."""

    def mix(self, row: Tensor) -> Tensor:
        """Return Σ_k row_k · θ_k without gradient, for *row* ``(K,)``."""

    def dots(self, grad: Tensor) -> Tensor:
        """Return the inner products ⟨grad, θ_k⟩, ``(K,)``."""

    def whole(self) -> Tensor:
        """Return all versions, ``(K, …)``."""


def stack_of(
    ingredients: Ingredients,
    name: str,
    dtype: torch.dtype,
    *,
    device: torch.device | str = "cpu",
    place: str = "device",
    store: str = "fp32",
    base: int = 0,
) -> Stack:
    """Return the versions of the tensor *name* in *dtype*, kept at *place* in the form *store*.

    Results are on *device*. They do not depend on the place, but bfloat16 differences are rounded.
    """
    shape = ingredients.infos[name].shape

    def read() -> Tensor:
        rows = torch.empty(len(ingredients), ingredients.infos[name].numel, dtype=dtype)
        for k, ingredient in enumerate(ingredients):
            rows[k].copy_(flatten(ingredient[name]))
        return rows

    if place == "files":
        return Versions(shape, torch.device(device), read)
    home = torch.device(device if place == "device" else "cpu")
    if store == "bf16":
        origin = flatten(ingredients[base][name]).to(dtype)
        deltas = torch.stack(
            [(flatten(one[name]).to(dtype) - origin).bfloat16() for one in ingredients]
        )
        return Differences(shape, torch.device(device), origin.to(home), deltas.to(home))
    rows = read().to(home)
    return Versions(shape, torch.device(device), lambda: rows)


@dataclass(frozen=True)
class Versions:
    """Versions in memory, or read from files on demand.

    Attributes:
        shape: shape of the tensor.
        device: device of the results.
        read: returns all versions, flattened, ``(K, n)``.
    """

    shape: tuple[int, ...]
    device: torch.device
    read: Callable[[], Tensor]

    def mix(self, row: Tensor) -> Tensor:
        """Return Σ_k row_k · θ_k."""
        return unflatten(row @ self.read().to(self.device), self.shape)

    def dots(self, grad: Tensor) -> Tensor:
        """Return the inner products ⟨grad, θ_k⟩."""
        return self.read().to(self.device) @ flatten(grad)

    def whole(self) -> Tensor:
        """Return all versions."""
        return torch.stack([unflatten(row, self.shape) for row in self.read().to(self.device)])


@dataclass(frozen=True)
class Differences:
    """θ_k = θ_base + δ_k with δ_k in bfloat16: half the memory, errors of 0.4% of a difference.

    Attributes:
        shape: shape of the tensor.
        device: device of the results.
        base: θ_base, flattened, ``(n,)``.
        deltas: δ, ``(K, n)`` bfloat16.
    """

    shape: tuple[int, ...]
    device: torch.device
    base: Tensor
    deltas: Tensor

    def mix(self, row: Tensor) -> Tensor:
        """Return θ_base + Σ_k row_k · δ_k, which is the mix because the row sums to 1."""
        mixed = self.base.to(self.device, copy=True)
        for part, columns in self._chunks():
            mixed[part] += row @ columns
        return unflatten(mixed, self.shape)

    def dots(self, grad: Tensor) -> Tensor:
        """Return the inner products ⟨grad, θ_k⟩."""
        flat = flatten(grad)
        total = (self.base.to(self.device) @ flat).expand(len(self.deltas)).clone()
        for part, columns in self._chunks():
            total += columns @ flat[part]
        return total

    def whole(self) -> Tensor:
        """Return all versions."""
        rows = (self.base + row.to(self.base.dtype) for row in self.deltas)
        return torch.stack([unflatten(row, self.shape) for row in rows]).to(self.device)

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of columns, and these columns of δ in the dtype of θ_base."""
        for start in range(0, self.deltas.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self.deltas[:, part].to(self.device, self.base.dtype)


def flatten(tensor: Tensor) -> Tensor:
    """Return *tensor* as ``(n,)``; convolutions channels-last, the fastest order to compute in."""
    return (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1)


def unflatten(numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of *shape* from which `flatten` made *numbers*."""
    if len(shape) != 4:
        return numbers.view(shape)
    out, into, height, width = shape
    return numbers.view(out, height, width, into).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Plan:
    """Where ingredients are kept, and the memory that learning takes besides the activations.

    Attributes:
        place: one of `PLACES`.
        store: one of `STORES`.
        ingredients: bytes of the ingredients, or of the largest stack if they stay in their files.
        models: bytes of three models: the caller's network, the mix, and its gradient.
    """

    place: str
    store: str
    ingredients: int
    models: int

    def describe(self) -> str:
        """Return the plan in words."""
        where = {"device": "on the device", "host": "in memory", "files": "left in their files"}
        form = "bfloat16 differences" if self.store == "bf16" else "whole"
        total = self.ingredients + self.models
        sizes = f"{_mib(self.ingredients)} and three models of {_mib(self.models // 3)}"
        return f"ingredients {where[self.place]}, {form}: {_mib(total)} ({sizes}), and activations"


def plan(
    ingredients: Ingredients,
    *,
    place: str = "auto",
    store: str = "fp32",
    device: torch.device | str = "cpu",
    item: int = 4,
) -> Plan:
    """Return where to keep *ingredients*: at *place*, or at the first place with enough memory.

    Args:
        ingredients: the ingredients.
        place: one of `PLACES`, or ``auto``, which leaves a third of free memory to activations.
        store: one of `STORES`.
        device: device of torch that learns.
        item: bytes per number of the network.

    Raises:
        UsageError: an unknown place or store, or differences that are left in files.
    """
    if place not in ("auto", *PLACES):
        fix = near_miss(place, ("auto", *PLACES))
        raise UsageError(f"unknown place {place!r}", where="ingredients", fix=fix)
    if store not in STORES:
        raise UsageError(f"unknown form {store!r}", where="store", fix=near_miss(store, STORES))
    if place == "files" and store != "fp32":
        what = "ingredients that stay in their files cannot be stored as differences"
        raise UsageError(what, where="store bf16", fix="keep them on the host, or as fp32")
    sizes = [i.numel for i in ingredients.infos.values() if i.dtype.is_floating_point]
    numbers, largest, k = sum(sizes), max(sizes, default=0), len(ingredients)
    size = numbers * (k * item if store == "fp32" else 2 * k + item)
    models = 3 * numbers * item
    if place == "auto":
        place = _first_with_room(size + models, torch.device(device))
        store = store if place != "files" else "fp32"
    return Plan(place, store, size if place != "files" else k * largest * item, models)


def _first_with_room(size: int, device: torch.device) -> str:
    """Return the first place with room for *size* bytes."""
    if device.type == "cuda" and size < 2 / 3 * torch.cuda.mem_get_info(device)[0]:
        return "device"
    if size < 2 / 3 * _available():
        return "device" if device.type == "cpu" else "host"
    return "files"


def _available() -> int:
    """Return the bytes of memory that are available."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return 1 << 62


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
