"""How far apart ingredients lie, and in which directions: signs of a shared basin, no verdict.

All of it follows from the inner products ⟨θ_j, θ_k⟩ of each block, so that every number is read
once and memory does not grow with the network.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from soupmerge.weights.files import Checkpoint
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.tensors import Array

CHUNK = 1 << 16
FAR = 3.0
"""An ingredient that lies so many times as far as the median is named as an outlier."""

ALL = "all blocks"

SAMPLE = 1 << 12
"""Numbers of a tensor that tell how alike ingredients are: few, so that mixing takes no longer."""

ALIKE, FOREIGN = 0.9, 0.5
"""Cosines of matrices and convolutions: those of fine-tunes of one base are above the first, those
of networks trained apart near 0, and what is below the second is warned of (docs/basins.md)."""


@dataclass(frozen=True)
class BlockGeometry:
    """What one block of tensors looks like across K ingredients.

    Attributes:
        block: its name, or `ALL`.
        distances: ``(K,)``: ‖θ_k − ref‖ / ‖ref‖, ref being the origin or the ingredients' mean.
        alike: lowest and highest cosine of two ingredients' weights: near 1 for fine-tunes of one
            base, near 0 for networks trained apart.
        aligned: lowest and highest cosine of two ingredients' differences from ref.
        outliers: ingredients that lie far from where the others do.
    """

    block: str
    distances: tuple[float, ...]
    alike: tuple[float, float]
    aligned: tuple[float, float]
    outliers: tuple[str, ...]


@dataclass(frozen=True)
class Geometry:
    """The signs of all blocks; *reference* is the origin's ref, or ``mean``."""

    names: tuple[str, ...]
    reference: str
    blocks: tuple[BlockGeometry, ...]

    def rows(self) -> Iterator[list[str]]:
        """Yield a row to draw for each block."""
        for sign in self.blocks:
            yield [
                sign.block,
                " ".join(f"{distance:.3g}" for distance in sign.distances),
                _range(sign.alike),
                _range(sign.aligned),
                ", ".join(sign.outliers) or "-",
            ]


def signs(ingredients: Ingredients, origin: Checkpoint | None = None) -> Geometry:
    """Return how far and in which directions *ingredients* lie from *origin*, or from their mean.

    Cosines of differences from the mean of K unrelated ingredients are −1/(K − 1), not 0.
    """
    checkpoints = [*ingredients, *([origin] if origin else [])]
    k = len(ingredients)
    whole = np.zeros((len(checkpoints),) * 2)
    blocks = []
    for block, names in ingredients.groups("block").items():
        gram = sum((_gram(checkpoints, name) for name in names), np.zeros_like(whole))
        whole += gram
        blocks.append(_sign(block, gram, k, ingredients.names))
    reference = origin.ref if origin else "mean"
    return Geometry(
        ingredients.names, reference, (_sign(ALL, whole, k, ingredients.names), *blocks)
    )


def _gram(checkpoints: Sequence[Checkpoint], name: str) -> Array:
    """Return ⟨θ_j, θ_k⟩ of the tensor *name*, ``(K, K)``, in float64."""
    readers = [checkpoint.views[name].reader() for checkpoint in checkpoints]
    buffers = [np.empty(CHUNK, checkpoint.infos[name].dtype.numpy) for checkpoint in checkpoints]
    numel = checkpoints[0].infos[name].numel
    gram = np.zeros((len(checkpoints),) * 2)
    for start in range(0, numel, CHUNK):
        rows = [r(start, b[: numel - start]) for r, b in zip(readers, buffers, strict=True)]
        stack = np.stack([row.astype(np.float64) for row in rows])
        gram += stack @ stack.T
    return gram


def foreign(ingredients: Ingredients) -> str | None:
    """Return a warning if two of *ingredients* look as if they were trained apart, or None.

    Looks at some numbers of each matrix and convolution. Scales and shifts of norms are left out:
    they are positive, or near 0, in any network.
    """
    names = [
        n
        for n in ingredients.mixed
        if len(ingredients.infos[n].shape) > 1 and ingredients.infos[n].numel
    ]
    gram = sum((_sampled(ingredients, name) for name in names), np.zeros((len(ingredients),) * 2))
    with np.errstate(all="ignore"):  # what is not finite is found by others
        scales = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    cosines = {
        (ingredients.names[i], ingredients.names[j]): float(gram[i, j] / scales[i, j])
        for i, j in combinations(range(len(ingredients)), 2)
        if scales[i, j] > 0
    }
    apart = {pair: cosine for pair, cosine in cosines.items() if cosine < FOREIGN}
    if not apart:
        return None
    (one, other), lowest = min(apart.items(), key=lambda item: item[1])
    shown = f"{round(lowest, 2) + 0.0:.2f}"  # not -0.00
    more = f", and {len(apart) - 1} other pairs are as far apart" if len(apart) > 1 else ""
    return (
        f"the weights of {one} and {other} have a cosine of {shown}{more}; fine-tunes of one "
        f"network have more than {ALIKE}, so a soup of them is unlikely to work"
    )


def _sampled(ingredients: Ingredients, name: str) -> Array:
    """Return an estimate of ⟨θ_j, θ_k⟩ of the tensor *name* from numbers in its middle."""
    views = [ingredient.views[name] for ingredient in ingredients]
    alike = len({view.stride for view in views}) == 1
    numel = ingredients.infos[name].numel
    count = min(SAMPLE, numel)
    stack = np.empty((len(views), count))
    for row, view in zip(stack, views, strict=True):
        # In the file's order where that is the same for all: others are read as a whole.
        read = view.stored() if alike else view.reader()
        row[:] = read((numel - count) // 2, np.empty(count, view.info.dtype.numpy))
    with np.errstate(all="ignore"):
        gram: Array = stack @ stack.T * (numel / count)
    return gram


def _sign(block: str, gram: Array, k: int, names: Sequence[str]) -> BlockGeometry:
    # The reference as a combination of the rows: the origin is the last of them.
    ref = np.full(k, 1 / k) if len(gram) == k else np.eye(len(gram))[-1]
    from_ref = np.eye(len(gram))[:k] - ref
    differences = from_ref @ gram @ from_ref.T
    size = np.sqrt(max(ref @ gram @ ref, 0.0))
    distances = np.sqrt(np.maximum(np.diag(differences), 0.0)) / (size or 1.0)
    median = statistics.median(distances.tolist())
    far = [n for n, d in zip(names, distances, strict=True) if k > 2 and d > FAR * median]
    return BlockGeometry(
        block,
        tuple(distances.tolist()),
        _cosines(gram[:k, :k]),
        _cosines(differences),
        tuple(far),
    )


def _cosines(gram: Array) -> tuple[float, float]:
    """Return the lowest and the highest cosine of two rows whose inner products are *gram*."""
    norms = np.sqrt(np.maximum(np.diag(gram), 0.0))
    found = [
        float(gram[i, j] / (norms[i] * norms[j])) if norms[i] * norms[j] else 1.0
        for i, j in combinations(range(len(gram)), 2)
    ]
    return min(found, default=1.0), max(found, default=1.0)


def _range(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:.3f}" if f"{low:.3f}" == f"{high:.3f}" else f"{low:.3f} to {high:.3f}"
