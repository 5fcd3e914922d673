"""The plane through three checkpoints, in weight distance (Garipov et al. 2018, arXiv 1802.10026).

θ(x, y) = θ_1 + x u + y v, where u is θ_2 − θ_1, v is the part of θ_3 − θ_1 that is orthogonal to u,
and both are divided by their lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from soupmerge.errors import InputError, UsageError
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.tensors import Array, stacked_pieces

FLATTEST = 1e-3
"""Smallest height of the triangle of checkpoints relative to its longest side: the height of a
flatter one is mostly rounding errors of the weights."""


@dataclass(frozen=True)
class Plane:
    """Positions of three checkpoints: θ_1 at (0, 0), θ_2 at (*d*, 0), θ_3 at (*p*, *q*), *q* > 0.

    Lengths are Euclidean, over all mixed tensors.
    """

    d: float
    p: float
    q: float

    @property
    def places(self) -> tuple[tuple[float, float], ...]:
        """The three positions."""
        return (0.0, 0.0), (self.d, 0.0), (self.p, self.q)

    def coefficients(self, x: float, y: float) -> tuple[float, float, float]:
        """Return w with θ(x, y) = Σ_k w_k θ_k and Σ_k w_k = 1; one-hot at a checkpoint.

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
        UsageError: *ingredients* are not three.
        InputError: two of them are equal, or all three lie on a line.
    """
    if len(ingredients) != 3:
        what = f"a plane needs three checkpoints, not {len(ingredients)}"
        raise UsageError(what, where="REF", fix="give three")
    gram = sum((_differences(ingredients, name) for name in ingredients.mixed), np.zeros((2, 2)))
    between = gram[0, 0] - 2 * gram[0, 1] + gram[1, 1]
    sides = [math.sqrt(max(square, 0.0)) for square in (gram[0, 0], gram[1, 1], between)]
    for (i, j), side in zip(combinations(range(3), 2), sides, strict=True):
        if side <= FLATTEST * max(sides):
            where = f"{ingredients[i].ref} and {ingredients[j].ref}"
            fix = "give three different checkpoints"
            raise InputError("are the same weights, or nearly so", where=where, fix=fix)
    d = sides[0]
    p = float(gram[0, 1]) / d
    q = math.sqrt(max(float(gram[1, 1]) - p * p, 0.0))
    if d * q <= FLATTEST * max(sides) ** 2:
        where = ", ".join(ingredient.ref for ingredient in ingredients)
        fix = "replace one by a checkpoint that is not in line with the others"
        raise InputError("lie on one line and span no plane", where=where, fix=fix)
    return Plane(d, p, q)


def _differences(ingredients: Ingredients, name: str) -> Array:
    """Return ⟨θ_j − θ_1, θ_k − θ_1⟩ of the tensor *name*, ``(2, 2)``, in float64."""
    gram = np.zeros((2, 2))
    for first, second, third in stacked_pieces([c.views[name] for c in ingredients]):
        differences = (second - first, third - first)
        # Not a matrix product, whose last bits depend on the number of threads.
        gram += [[float((a * b).sum()) for b in differences] for a in differences]
    return gram
