"""The plane through three checkpoints, in weight distance (Garipov et al. 2018, arXiv 1802.10026).

θ(x, y) = θ_1 + x u + y v: u is θ_2 − θ_1, and v what of θ_3 − θ_1 is at right angles to it, each
divided by its length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from soupmerge.errors import InputError, UsageError
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.tensors import Array

CHUNK = 1 << 16
FLATTEST = 1e-3
"""Least height of the triangle of checkpoints, in parts of its longest side: a flatter one is a
line, whose height is made of rounded weights."""


@dataclass(frozen=True)
class Plane:
    """Where three checkpoints lie: θ_1 at (0, 0), θ_2 at (*d*, 0), θ_3 at (*p*, *q*), *q* > 0.

    Lengths are Euclidean, over all tensors that are mixed.
    """

    d: float
    p: float
    q: float

    @property
    def places(self) -> tuple[tuple[float, float], ...]:
        """The three places."""
        return (0.0, 0.0), (self.d, 0.0), (self.p, self.q)

    def coefficients(self, x: float, y: float) -> tuple[float, float, float]:
        """Return w with θ(x, y) = Σ_k w_k θ_k and Σ_k w_k = 1; at a checkpoint's place, one-hot.

        Example:
            >>> Plane(d=2.0, p=1.0, q=3.0).coefficients(1.0, 0.0)
            (0.5, 0.5, 0.0)
        """
        third = y / self.q
        second = (x - third * self.p) / self.d
        return 1 - second - third, second, third


def plane_through(ingredients: Ingredients) -> Plane:
    """Return the plane through three ingredients.

    Raises:
        UsageError: there are not three.
        InputError: two of them are the same, or all lie on a line.
    """
    if len(ingredients) != 3:
        what = f"a plane goes through three checkpoints, not {len(ingredients)}"
        raise UsageError(what, where="REF", fix="name three")
    gram = sum((_differences(ingredients, name) for name in ingredients.mixed), np.zeros((2, 2)))
    between = gram[0, 0] - 2 * gram[0, 1] + gram[1, 1]
    sides = [math.sqrt(max(square, 0.0)) for square in (gram[0, 0], gram[1, 1], between)]
    for (i, j), side in zip(combinations(range(3), 2), sides, strict=True):
        if side <= FLATTEST * max(sides):
            where = f"{ingredients[i].ref} and {ingredients[j].ref}"
            fix = "name three different checkpoints"
            raise InputError("are the same weights, or nearly", where=where, fix=fix)
    d = sides[0]
    p = float(gram[0, 1]) / d
    q = math.sqrt(max(float(gram[1, 1]) - p * p, 0.0))
    if d * q <= FLATTEST * max(sides) ** 2:
        where = ", ".join(ingredient.ref for ingredient in ingredients)
        fix = "replace one by a checkpoint that is not between or beyond the others"
        raise InputError("lie on one line, which spans no plane", where=where, fix=fix)
    return Plane(d, p, q)


def _differences(ingredients: Ingredients, name: str) -> Array:
    """Return ⟨θ_j − θ_1, θ_k − θ_1⟩ of the tensor *name*, ``(2, 2)``, in float64."""
    readers = [ingredient.views[name].reader() for ingredient in ingredients]
    buffers = [np.empty(CHUNK, ingredient.infos[name].dtype.numpy) for ingredient in ingredients]
    numel = ingredients.infos[name].numel
    gram = np.zeros((2, 2))
    for start in range(0, numel, CHUNK):
        rows = [r(start, b[: numel - start]) for r, b in zip(readers, buffers, strict=True)]
        first, second, third = (row.astype(np.float64) for row in rows)
        there = (second - first, third - first)
        # Not a product of matrices: its last bits depend on the number of threads.
        gram += [[float((a * b).sum()) for b in there] for a in there]
    return gram
