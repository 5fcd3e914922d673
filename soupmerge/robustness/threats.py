"""Threat models: a norm and a radius. A norm is a value, not a subclass.

``eps`` is always in units of images in ``[0, 1]``, and every set is the ball intersected with the
pixel box ``[0, 1]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import exact
from soupmerge.types import Generators

NORMS = ("linf", "l2", "l1")
MOST_EPS = 1e6
"""Beyond any distance between two images."""
LEAST_EPS = float(torch.finfo(torch.float32).tiny)
"""Below it, a number is 0 in float32, or may be taken for 0."""


@dataclass(frozen=True)
class Threat:
    """All images within *eps* of an image in *norm*, and within the pixel box.

    Raises:
        UsageError: the norm is unknown, or eps is negative, not finite, positive but 0 in float32,
            or above 1 for linf.

    Example:
        >>> str(Linf(8 / 255)), str(L2(0.5)), str(L1(12))
        ('linf:8/255', 'l2:0.5', 'l1:12')
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            fix = near_miss(self.norm, NORMS)
            raise UsageError(f"no norm {self.norm!r}", where="threat", fix=fix)
        if not 0 <= self.eps <= MOST_EPS:
            what = f"eps {self.eps} is not in 0…{MOST_EPS:g}"
            raise UsageError(what, where="threat", fix="images are in [0, 1]; see soupmerge -h")
        if 0 < self.eps < LEAST_EPS:
            what = f"eps {self.eps:g} is too small: it is 0 for images, which are float32"
            raise UsageError(what, where="threat", fix="give 0 if no attack is meant")
        if self.norm == "linf" and self.eps > 1:
            raise UsageError(
                f"eps {self.eps:g} is above 1, the width of the pixel box",
                where="threat",
                fix=f"did you mean linf:{self.eps:g}/255?",
            )

    @classmethod
    def parse(cls, text: str) -> Threat:
        """Return the threat written as ``norm:eps``, such as ``linf:8/255``; fractions are exact.

        Raises:
            UsageError: the form, the norm or eps cannot be meant.
        """
        norm, colon, eps = text.strip().partition(":")
        if not colon:
            fix = "write norm:eps, such as linf:8/255, l2:0.5 or l1:12"
            raise UsageError(f"{text!r} is not a threat", where="threat", fix=fix)
        return cls(norm.lower(), parse_eps(eps))

    def __str__(self) -> str:
        return f"{self.norm}:{_written(self.eps)}"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return *x_adv* brought back into the set around *x*.

        Linf and L1 give the nearest point of the set. L2 gives the nearest point of the ball,
        then of the box, which stays in the ball because *x* is in the box. Shapes ``(B, …)``.
        """
        if self.norm == "linf":
            near = torch.min(torch.max(x_adv, x - self.eps), x + self.eps)
            return near.clamp(0.0, 1.0)
        if self.norm == "l2":
            delta = x_adv - x
            return torch.clamp(x + unit_l2(delta) * norm_l2(delta).clamp(max=self.eps), 0.0, 1.0)
        return x + _onto_l1_and_box(x_adv - x, x, self.eps)

    def sample(self, x: Tensor, generator: Generators) -> Tensor:
        """Return a random start in the set around *x*, as AutoAttack draws it."""
        if self.norm == "linf":
            noise = 2 * _draw(torch.rand, x, generator) - 1
            reach = noise.abs().flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1))
            return (x + self.eps * noise / (reach + 1e-12)).clamp(0.0, 1.0)
        noise = _draw(torch.randn, x, generator)
        if self.norm == "l2":
            return (x + self.eps * unit_l2(noise)).clamp(0.0, 1.0)
        return self.project(x + noise, x)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return ``(B,)`` float64: how far *x_adv* is from *x* in this norm."""
        order = {"linf": math.inf, "l2": 2, "l1": 1}[self.norm]
        delta = (x_adv.double() - x.double()).flatten(1)
        length: Tensor = torch.linalg.vector_norm(delta, ord=order, dim=1)
        return length

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return ``(B,)`` bool: is each image of *x_adv* in the set, but for float32 rounding?"""
        slack = 1e-6 if self.norm == "linf" else 1e-6 + 2e-5 * self.eps
        pixels = x_adv.flatten(1)
        in_box = (pixels.amin(1) >= 0) & (pixels.amax(1) <= 1)
        near: Tensor = self.distance(x_adv, x) <= self.eps + slack
        return near & in_box & torch.isfinite(pixels).all(1)

    def steepest(self, grad: Tensor, density: Tensor | None = None) -> Tensor:
        """Return the direction of length 1 in which the loss rises fastest.

        Linf: the sign; L2: the gradient itself; L1: the signs of its largest entries, a fraction
        *density* ``(B,)`` of all (Croce & Hein 2021, "Mind the box", section 4).
        """
        if self.norm == "linf":
            return grad.sign()
        if self.norm == "l2":
            return unit_l2(grad)
        if density is None:
            density = grad.new_full((len(grad),), 0.05)
        return _sparse_signs(grad, density)


def Linf(eps: float | str) -> Threat:  # noqa: N802 - the field writes norms with capitals
    """Return the threat of changing every pixel by at most *eps*, a number or text: "8/255"."""
    return Threat("linf", _radius(eps))


def L2(eps: float | str) -> Threat:  # noqa: N802
    """Return the threat of a change of Euclidean length at most *eps*."""
    return Threat("l2", _radius(eps))


def L1(eps: float | str) -> Threat:  # noqa: N802
    """Return the threat of changes that sum to at most *eps*."""
    return Threat("l1", _radius(eps))


def parse_eps(text: str) -> float:
    """Return the radius written as a decimal or an exact fraction.

    Raises:
        UsageError: it is no number.
    """
    return float(exact(text, "eps"))


def _radius(eps: float | str) -> float:
    return parse_eps(eps) if isinstance(eps, str) else float(eps)


def norm_l2(delta: Tensor) -> Tensor:
    """Return the Euclidean length of each example, ``(B, 1, …)``."""
    return (delta**2).flatten(1).sum(1).sqrt().view(-1, *[1] * (delta.ndim - 1))


def unit_l2(delta: Tensor) -> Tensor:
    """Return each example scaled to length 1; zero stays zero."""
    return delta / (norm_l2(delta) + 1e-12)


def _written(eps: float) -> str:
    """Return *eps* as people write it: k/255 if it is one, else the shortest exact decimal."""
    k = round(eps * 255)
    if 0 < k < 255 and eps == k / 255 and len(repr(eps)) > 6:
        return f"{k}/255"
    return repr(eps).removesuffix(".0")


def _draw(kind: Any, x: Tensor, generator: Generators) -> Tensor:
    """Return noise of the shape of *x*, drawn on the CPU: the same on every device."""
    if isinstance(generator, torch.Generator):
        noise = kind(x.shape, generator=generator)
    else:
        noise = torch.stack([kind(x.shape[1:], generator=g) for g in _as_many(generator, x)])
    return noise.to(x)  # type: ignore[no-any-return]


def _as_many(generators: Sequence[torch.Generator], x: Tensor) -> Sequence[torch.Generator]:
    if len(generators) != len(x):
        raise ValueError(f"{len(generators)} generators for {len(x)} examples")
    return generators


def _sparse_signs(grad: Tensor, density: Tensor) -> Tensor:
    size = grad[0].numel()
    kept = size - ((1 - density) * size).clamp(0, size - 1).long()
    largest = grad.abs().flatten(1).topk(int(kept.max()), 1).values
    least = largest.gather(1, kept[:, None] - 1).view(-1, *[1] * (grad.ndim - 1))
    signs = grad.sign() * (grad.abs() >= least)
    count = signs.abs().flatten(1).sum(1).view(-1, *[1] * (grad.ndim - 1))
    return signs / (count + 1e-10)


def _onto_l1_and_box(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """Return the nearest δ' to *delta* with ‖δ'‖₁ ≤ eps and x + δ' in the box.

    δ'_i = sign(δ_i) · clip(|δ_i| − λ, 0, c_i), where c_i is the room to the box in the direction
    of δ_i and λ ≥ 0 is the least for which the sum is at most eps (Croce & Hein 2021, "Mind the
    box", proposition 3). The sum falls piecewise linearly in λ, with a kink wherever a coordinate
    leaves the box's face (λ = |δ_i| − c_i) or reaches zero (λ = |δ_i|); sorting the kinks gives λ.
    """
    shape = delta.shape
    d, sign = delta.flatten(1).abs(), delta.flatten(1).sign()
    room = torch.where(sign > 0, 1 - x.flatten(1), x.flatten(1))
    kinks, which = torch.cat([(d - room).clamp(min=0), d], 1).sort(1)
    # Left of its first kink a coordinate is constant, between its kinks it falls with slope -1.
    slope = torch.where(which < d.shape[1], -1.0, 1.0).to(d).cumsum(1)
    total = torch.minimum(d, room).sum(1, keepdim=True)
    steps = slope[:, :-1] * kinks.diff(dim=1)
    at_kink = total + torch.cat([torch.zeros_like(total), steps.cumsum(1)], 1)
    last = (at_kink > eps).sum(1, keepdim=True).sub(1).clamp(min=0)
    excess = at_kink.gather(1, last) - eps
    fall = slope.gather(1, last).neg().clamp(min=1)
    lam = torch.where(total > eps, kinks.gather(1, last) + excess / fall, torch.zeros_like(total))
    shrunk = torch.minimum((d - lam).clamp(min=0), room)
    return (sign * shrunk).view(shape)
