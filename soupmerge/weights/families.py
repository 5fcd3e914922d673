"""Families of coefficients: W as a function of a preference between objectives.

A preference λ lies on the simplex of T objectives. Every family has rows of its own at each corner
of the simplex, ``(T, G, K)``, and says what lies between them. The functions are written once for
numpy, which writes soups, and for torch, which learns the parameters: *xp* is the module whose
arrays they get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from soupmerge.weights.tensors import Array

Parameters = Mapping[str, Any]
"""Name → array, of numpy or of torch."""


class Family(Protocol):
    """A form of W(λ)."""

    affine: bool
    """Whether coefficients may leave [0, 1]; otherwise they are the softmax of the rows."""

    def start(self, logits: Array) -> dict[str, Array]:
        """Return the parameters whose soup at corner t is softmax(*logits* ``(T, G, K)``[t])."""

    def rows(self, parameters: Parameters, at: Sequence[float], xp: Any) -> Any:
        """Return the logits or, in an affine family, the coefficients ``(G, K)`` at *at* ``(T,)``.

        Args:
            parameters: name → array, as from `start`.
            at: the preference: T shares that sum to 1.
            xp: numpy or torch.
        """


class SoftmaxLinear:
    """W(λ) = softmax(Σ_t λ_t · A_t): between the corners, logits change linearly."""

    affine = False

    def start(self, logits: Array) -> dict[str, Array]:
        """Return A = *logits*."""
        return {"logits": logits}

    def rows(self, parameters: Parameters, at: Sequence[float], xp: Any) -> Any:
        """Return Σ_t λ_t · A_t."""
        return _between(at, parameters["logits"])


class SoftmaxCurved:
    """W(λ) = softmax(Σ_t c_t · A_t), c_t ∝ λ_t ** exp(b_t): a monotone curve for every group.

    The shares c are λ itself at b = 0, and at the corners for any b. In between, a group with a
    small b_t turns to corner t early, and one with a large b_t late.
    """

    affine = False

    def start(self, logits: Array) -> dict[str, Array]:
        """Return A = *logits* and b = 0, ``(T, G)``."""
        return {"logits": logits, "bends": np.zeros_like(logits[..., 0])}

    def rows(self, parameters: Parameters, at: Sequence[float], xp: Any) -> Any:
        """Return Σ_t c_t · A_t."""
        logits, bends = parameters["logits"], parameters["bends"]
        used = [t for t, share in enumerate(at) if share > 0]  # 0 ** x has no gradient in x
        powers = [at[t] ** xp.exp(bends[t]) for t in used]
        total = sum(powers)
        return sum((p / total)[:, None] * logits[t] for p, t in zip(powers, used, strict=True))


class Affine:
    """W(λ) = Σ_t λ_t · R_t, rows that sum to 1 but may leave [0, 1]: soups beyond the simplex."""

    affine = True

    def start(self, logits: Array) -> dict[str, Array]:
        """Return R = softmax(*logits*)."""
        return {"rows": _softmax(logits, np)}

    def rows(self, parameters: Parameters, at: Sequence[float], xp: Any) -> Any:
        """Return Σ_t λ_t · R_t, with every row moved along (1, …, 1) until it sums to 1."""
        rows = _between(at, parameters["rows"])
        return rows + (1 - rows.sum(-1)[..., None]) / rows.shape[-1]


def coefficients(family: Family, rows: Any, xp: Any) -> Any:
    """Return W ``(G, K)`` for the *rows* of *family*; every row of W sums to 1."""
    return rows if family.affine else _softmax(rows, xp)


def _between(at: Sequence[float], corners: Any) -> Any:
    """Return Σ_t λ_t · corners[t]; a corner is returned as it is, bit for bit."""
    return sum(share * corner for share, corner in zip(at, corners, strict=True) if share)


def _softmax(logits: Any, xp: Any) -> Any:
    powers = xp.exp(logits - xp.amax(logits, -1)[..., None])
    return powers / powers.sum(-1)[..., None]
