"""Distances and angles between ingredients: signs of a shared basin, but no verdict.

They all follow from the inner products ⟨θ_j, θ_k⟩ of each block, so every number is read only once
and memory does not grow with the network.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from soupmerge.weights.files import Checkpoint
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.tensors import Array, stacked_pieces

FAR = 3.0
"""An ingredient more than this many times as far from the reference as the median is an outlier."""

ALL = "all blocks"

SAMPLE = 1 << 12
"""Numbers per tensor from which similarity is estimated: few, so that mixing is not slowed down."""

ALIKE, UNRELATED = 0.9, 0.5
"""Cosines between matrices and convolutions. Those of fine-tunes of one base are above the first,
those of networks trained apart near 0; a warning is given below the second (docs/basins.md)."""


@dataclass(frozen=True)
class BlockGeometry:
    """Distances and cosines of one block of tensors across K ingredients.

    Attributes:
        block: its name, or `ALL`.
        distances: ``(K,)``: ‖θ_k − ref‖ / ‖ref‖, where ref is the origin or the ingredients' mean.
        alike: lowest and highest cosine between two ingredients' weights: near 1 for fine-tunes of
            one base, near 0 for networks trained apart.
        aligned: lowest and highest cosine between two ingredients' differences from ref.
        outliers: ingredients that are much farther from ref than the others.
    """

    block: str
    distances: tuple[float, ...]
    alike: tuple[float, float]
    aligned: tuple[float, float]
    outliers: tuple[str, ...]


@dataclass(frozen=True)
class Geometry:
    """The geometry of all blocks; *reference* is the origin's ref, or ``mean``."""

    names: tuple[str, ...]
    reference: str
    blocks: tuple[BlockGeometry, ...]

    def rows(self) -> Iterator[list[str]]:
        """Yield a table row for each block."""
        for block in self.blocks:
            yield [
                block.block,
                " ".join(f"{distance:.3g}" for distance in block.distances),
                _range(block.alike),
                _range(block.aligned),
                ", ".join(block.outliers) or "-",
            ]


def geometry_of(ingredients: Ingredients, origin: Checkpoint | None = None) -> Geometry:
    """Return distances and directions of *ingredients* from *origin*, or from their mean.

    Differences of K unrelated ingredients from their mean have cosines of −1/(K − 1), not 0.
    """
    checkpoints = [*ingredients, *([origin] if origin else [])]
    k = len(ingredients)
    whole = np.zeros((len(checkpoints),) * 2)
    blocks = []
    for block, names in ingredients.groups("block").items():
        gram = sum((_gram(checkpoints, name) for name in names), np.zeros_like(whole))
        whole += gram
        blocks.append(_block(block, gram, k, ingredients.names))
    reference = origin.ref if origin else "mean"
    total = _block(ALL, whole, k, ingredients.names)
    return Geometry(ingredients.names, reference, (total, *blocks))


def _gram(checkpoints: Sequence[Checkpoint], name: str) -> Array:
    """Return ⟨θ_j, θ_k⟩ of the tensor *name*, ``(K, K)``, in float64."""
    gram = np.zeros((len(checkpoints),) * 2)
    for stack in stacked_pieces([checkpoint.views[name] for checkpoint in checkpoints]):
        gram += stack @ stack.T
    return gram


def separation_warning(ingredients: Ingredients) -> str | None:
    """Return a warning if two of *ingredients* seem to have been trained apart, or None.

    Only some numbers of each matrix and convolution are compared. Scales and shifts of norms are
    left out, because they are positive or near 0 in any network.
    """
    names = [
        n
        for n in ingredients.mixed
        if len(ingredients.infos[n].shape) > 1 and ingredients.infos[n].numel
    ]
    gram = sum((_sampled(ingredients, name) for name in names), np.zeros((len(ingredients),) * 2))
    with np.errstate(all="ignore"):  # non-finite numbers are reported elsewhere
        scales = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    cosines = {
        (ingredients.names[i], ingredients.names[j]): float(gram[i, j] / scales[i, j])
        for i, j in combinations(range(len(ingredients)), 2)
        if scales[i, j] > 0
    }
    apart = {pair: cosine for pair, cosine in cosines.items() if cosine < UNRELATED}
    if not apart:
        return None
    (one, other), lowest = min(apart.items(), key=lambda item: item[1])
    shown = f"{round(lowest, 2) + 0.0:.2f}"  # not -0.00
    more = f", and {len(apart) - 1} other pairs are below {UNRELATED}" if len(apart) > 1 else ""
    return (
        f"the weights of {one} and {other} have a cosine of {shown}{more}; fine-tunes of one "
        f"network have more than {ALIKE}, so a soup of these is unlikely to work"
    )


def _sampled(ingredients: Ingredients, name: str) -> Array:
    """Return an estimate of ⟨θ_j, θ_k⟩ of the tensor *name* from a run of numbers in its middle."""
    views = [ingredient.views[name] for ingredient in ingredients]
    same_order = len({view.stride for view in views}) == 1
    numel = ingredients.infos[name].numel
    count = min(SAMPLE, numel)
    stack = np.empty((len(views), count))
    for row, view in zip(stack, views, strict=True):
        # In the file's order if that is the same for all; otherwise the tensor is read as a whole.
        read = view.stored() if same_order else view.reader()
        row[:] = read((numel - count) // 2, np.empty(count, view.info.dtype.numpy))
    with np.errstate(all="ignore"):
        gram: Array = stack @ stack.T * (numel / count)
    return gram


def _block(block: str, gram: Array, k: int, names: Sequence[str]) -> BlockGeometry:
    # The reference as a combination of the rows, of which the origin is the last.
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
    """Return the lowest and highest cosine between two vectors with the inner products *gram*."""
    norms = np.sqrt(np.maximum(np.diag(gram), 0.0))
    cosines = [
        float(gram[i, j] / (norms[i] * norms[j])) if norms[i] * norms[j] else 1.0
        for i, j in combinations(range(len(gram)), 2)
    ]
    return min(cosines, default=1.0), max(cosines, default=1.0)


def _range(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:.3f}" if f"{low:.3f}" == f"{high:.3f}" else f"{low:.3f} to {high:.3f}"
