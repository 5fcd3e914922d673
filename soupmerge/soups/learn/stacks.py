"""The K versions of a tensor: mixed, and multiplied with a gradient, wherever they are kept."""

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
"""Columns of bfloat16 that are widened at a time: few enough to stay in a processor's cache."""


class Stack(Protocol):
    """K versions θ_k of one tensor."""

    def mix(self, row: Tensor) -> Tensor:
        """Return Σ_k row_k · θ_k, without gradient, for *row* ``(K,)``."""

    def dots(self, grad: Tensor) -> Tensor:
        """Return ⟨grad, θ_k⟩ for all k, ``(K,)``."""

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
    """Return the versions of the tensor *name* in *dtype*, kept at *place* as *store* says.

    What they give is on *device*. The place changes no number; bfloat16 differences do.
    """
    shape = ingredients.infos[name].shape

    def read() -> Tensor:
        rows = torch.empty(len(ingredients), ingredients.infos[name].numel, dtype=dtype)
        for k, ingredient in enumerate(ingredients):
            rows[k].copy_(flat(ingredient[name]))
        return rows

    if place == "files":
        return Versions(shape, torch.device(device), read)
    where = torch.device(device if place == "device" else "cpu")
    if store == "bf16":
        first = flat(ingredients[base][name]).to(dtype)
        apart = torch.stack(
            [(flat(ingredient[name]).to(dtype) - first).bfloat16() for ingredient in ingredients]
        )
        return Differences(shape, torch.device(device), first.to(where), apart.to(where))
    rows = read().to(where)
    return Versions(shape, torch.device(device), lambda: rows)


@dataclass(frozen=True)
class Versions:
    """Versions at hand, or read when they are asked for.

    Attributes:
        shape: of the tensor.
        device: where results go.
        read: gives all versions, flat, ``(K, n)``.
    """

    shape: tuple[int, ...]
    device: torch.device
    read: Callable[[], Tensor]

    def mix(self, row: Tensor) -> Tensor:
        """Return Σ_k row_k · θ_k."""
        return shaped(row @ self.read().to(self.device), self.shape)

    def dots(self, grad: Tensor) -> Tensor:
        """Return ⟨grad, θ_k⟩ for all k."""
        return self.read().to(self.device) @ flat(grad)

    def whole(self) -> Tensor:
        """Return all versions."""
        return torch.stack([shaped(row, self.shape) for row in self.read().to(self.device)])


@dataclass(frozen=True)
class Differences:
    """θ_k = θ_base + δ_k, with δ_k in bfloat16: half the memory, an error of 0.4% of a difference.

    Attributes:
        shape: of the tensor.
        device: where results go.
        base: θ_base, flat.
        apart: δ, ``(K, n)`` bfloat16.
    """

    shape: tuple[int, ...]
    device: torch.device
    base: Tensor
    apart: Tensor

    def mix(self, row: Tensor) -> Tensor:
        """Return θ_base + Σ_k row_k · δ_k, which is the mix as the row sums to 1."""
        mixed = self.base.to(self.device, copy=True)
        for part, columns in self._widened():
            mixed[part] += row @ columns
        return shaped(mixed, self.shape)

    def dots(self, grad: Tensor) -> Tensor:
        """Return ⟨grad, θ_k⟩ for all k."""
        along = flat(grad)
        total = (self.base.to(self.device) @ along).expand(len(self.apart)).clone()
        for part, columns in self._widened():
            total += columns @ along[part]
        return total

    def whole(self) -> Tensor:
        """Return all versions."""
        rows = (self.base + row.to(self.base.dtype) for row in self.apart)
        return torch.stack([shaped(row, self.shape) for row in rows]).to(self.device)

    def _widened(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.apart.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self.apart[:, part].to(self.device, self.base.dtype)


def flat(tensor: Tensor) -> Tensor:
    """Return *tensor* as ``(n,)``; convolutions channels-last, in which they compute fastest."""
    return (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1)


def shaped(numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of *shape* whose numbers `flat` gave."""
    if len(shape) != 4:
        return numbers.view(shape)
    out, into, height, width = shape
    return numbers.view(out, height, width, into).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Plan:
    """Where the ingredients go, and how much memory learning takes beside the activations.

    Attributes:
        place: one of `PLACES`; store: one of `STORES`.
        ingredients: bytes of the ingredients; of the largest stack, if they stay in their files.
        models: bytes of three models: the caller's network, the mix, and its gradient.
    """

    place: str
    store: str
    ingredients: int
    models: int

    def describe(self) -> str:
        """Return the plan in words."""
        where = {"device": "on the device", "host": "in memory", "files": "left in their files"}
        kept = "bfloat16 differences" if self.store == "bf16" else "whole"
        total = self.ingredients + self.models
        sizes = f"{_mib(self.ingredients)} and three models of {_mib(self.models // 3)}"
        return f"ingredients {where[self.place]}, {kept}: {_mib(total)} ({sizes}), and activations"


def plan(
    ingredients: Ingredients,
    *,
    place: str = "auto",
    store: str = "fp32",
    device: torch.device | str = "cpu",
    item: int = 4,
) -> Plan:
    """Return where *ingredients* are kept: at *place*, or at the first that has room for them.

    Args:
        ingredients: the ingredients.
        place: one of `PLACES`, or ``auto``, which leaves a third of what is free to activations.
        store: one of `STORES`.
        device: where to learn.
        item: bytes of a number of the network.

    Raises:
        UsageError: there is no such place or store, or files are to be kept as differences.
    """
    if place not in ("auto", *PLACES):
        fix = near_miss(place, ("auto", *PLACES))
        raise UsageError(f"no place {place!r}", where="ingredients", fix=fix)
    if store not in STORES:
        raise UsageError(f"no form {store!r}", where="store", fix=near_miss(store, STORES))
    if place == "files" and store != "fp32":
        fix = "keep them on the host, or whole"
        raise UsageError("what stays in its file stays as it is", where="store bf16", fix=fix)
    sizes = [i.numel for i in ingredients.infos.values() if i.dtype.is_floating_point]
    numbers, largest, k = sum(sizes), max(sizes, default=0), len(ingredients)
    kept = numbers * (k * item if store == "fp32" else 2 * k + item)
    models = 3 * numbers * item
    if place == "auto":
        place = _roomy(kept + models, torch.device(device))
        store = store if place != "files" else "fp32"
    return Plan(place, store, kept if place != "files" else k * largest * item, models)


def _roomy(wanted: int, device: torch.device) -> str:
    """Return the first place with room for *wanted* bytes."""
    if device.type == "cuda" and wanted < 2 / 3 * torch.cuda.mem_get_info(device)[0]:
        return "device"
    if wanted < 2 / 3 * _available():
        return "device" if device.type == "cpu" else "host"
    return "files"


def _available() -> int:
    """Return how many bytes of memory are free for the taking."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # another system than Linux
        return 1 << 62


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
