"""Threat models: balls of a norm and a radius, intersected with the pixel box ``[0, 1]``.

The radius, ``eps``, is always in the units of images in ``[0, 1]``. Threats can be read without
torch, which is imported where tensors are at hand: command lines are checked before it is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soupmerge.choices import NORMS
from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import exact

if TYPE_CHECKING:
    from torch import Tensor

    from soupmerge.types import Generators

ORDERS = {"linf": math.inf, "l2": 2, "l1": 1}
"""Norm → p of the p-norm."""
MOST_EPS = 1e6
"""More than the distance between any two images."""
LEAST_EPS = 2.0**-126
"""The smallest normal float32: smaller numbers are 0, or count as 0 on some devices."""


@dataclass(frozen=True)
class Threat:
    """All images within *eps* of an image in *norm*, and within the pixel box.

    Attributes:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: the radius, in the units of images in ``[0, 1]``.

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
            raise UsageError(f"unknown norm {self.norm!r}", where="threat", fix=fix)
        if not 0 <= self.eps <= MOST_EPS:
            what = f"eps {self.eps} is not between 0 and {MOST_EPS:g}"
            raise UsageError(what, where="threat", fix="eps is in the units of images in [0, 1]")
        if 0 < self.eps < LEAST_EPS:
            what = f"eps {self.eps:g} is too small: in float32, the type of images, it is 0"
            raise UsageError(what, where="threat", fix="give 0 for no attack")
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
            UsageError: the text has another form, or as for `Threat`.
        """
        norm, colon, eps = text.strip().partition(":")
        if not colon:
            fix = "write norm:eps, such as linf:8/255, l2:0.5 or l1:12"
            raise UsageError(f"{text!r} is not a threat", where="threat", fix=fix)
        return cls(norm.lower(), parse_eps(eps))

    def __str__(self) -> str:
        return f"{self.norm}:{_written(self.eps)}"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return *x_adv* ``(B, …)`` projected onto the set around *x*.

        Linf and L1 give the nearest point of the set. L2 gives the nearest point of the ball and
        then of the box, which stays in the ball because *x* is in the box.
        """
        if self.norm == "linf":
            return x_adv.maximum(x - self.eps).minimum(x + self.eps).clamp(0.0, 1.0)
        if self.norm == "l2":
            delta = x_adv - x
            near = x + unit_l2(delta) * norm_l2(delta).clamp(max=self.eps)
            return near.clamp(0.0, 1.0)
        return x + _onto_l1_and_box(x_adv - x, x, self.eps)

    def sample(self, x: Tensor, generator: Generators) -> Tensor:
        """Return a random starting point in the set around *x*, drawn as AutoAttack does."""
        if self.norm == "linf":
            noise = 2 * _draw("rand", x, generator) - 1
            largest = over_images(noise.abs().flatten(1).amax(1), x)
            return (x + self.eps * noise / (largest + 1e-12)).clamp(0.0, 1.0)
        noise = _draw("randn", x, generator)
        if self.norm == "l2":
            return (x + self.eps * unit_l2(noise)).clamp(0.0, 1.0)
        return self.project(x + noise, x)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return ``(B,)`` float64: how far *x_adv* is from *x* in this norm."""
        import torch

        delta = (x_adv.double() - x.double()).flatten(1)
        length: Tensor = torch.linalg.vector_norm(delta, ord=ORDERS[self.norm], dim=1)
        return length

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return ``(B,)`` bool: whether *x_adv* is in the set, up to float32 rounding."""
        slack = 1e-6 if self.norm == "linf" else 1e-6 + 2e-5 * self.eps
        pixels = x_adv.flatten(1)
        in_box = (pixels.amin(1) >= 0) & (pixels.amax(1) <= 1)
        near: Tensor = self.distance(x_adv, x) <= self.eps + slack
        return near & in_box & pixels.isfinite().all(1)

    def steepest(self, grad: Tensor, density: Tensor | None = None) -> Tensor:
        """Return the direction of length 1 in which the loss rises fastest.

        Linf: the signs of the gradient; L2: the gradient, scaled; L1: the signs of its largest
        entries, a fraction *density* ``(B,)`` of all (Croce & Hein 2021, "Mind the box",
        section 4), by default 0.05.
        """
        if self.norm == "linf":
            return grad.sign()
        if self.norm == "l2":
            return unit_l2(grad)
        if density is None:
            density = grad.new_full((len(grad),), 0.05)
        return _sparse_signs(grad, density)


def Linf(eps: float | str) -> Threat:  # noqa: N802 - the field writes norms with capitals
    """Return the threat of changing every pixel by at most *eps*: a number, or text like "8/255".

    Raises:
        UsageError: as for `Threat`, or the text is not a number.

    Example:
        >>> Linf("8/255")
        Threat(norm='linf', eps=0.03137254901960784)
    """
    return Threat("linf", _radius(eps))


def L2(eps: float | str) -> Threat:  # noqa: N802
    """Return the threat of a change of Euclidean length at most *eps*; see `Linf`.

    Example:
        >>> L2("1/2")
        Threat(norm='l2', eps=0.5)
    """
    return Threat("l2", _radius(eps))


def L1(eps: float | str) -> Threat:  # noqa: N802
    """Return the threat of changes whose absolute values sum to at most *eps*; see `Linf`.

    Example:
        >>> L1(12)
        Threat(norm='l1', eps=12.0)
    """
    return Threat("l1", _radius(eps))


def parse_eps(text: str) -> float:
    """Return the radius written as a decimal or an exact fraction.

    Raises:
        UsageError: the text is not a number.
    """
    return float(exact(text, "eps"))


def _radius(eps: float | str) -> float:
    return parse_eps(eps) if isinstance(eps, str) else float(eps)


def over_images(values: Tensor, images: Tensor) -> Tensor:
    """Return *values* ``(B,)`` in a shape ``(B, 1, …)`` that broadcasts over *images*."""
    return values.view(-1, *[1] * (images.ndim - 1))


def norm_l2(delta: Tensor) -> Tensor:
    """Return the Euclidean length of each example, ``(B, 1, …)``."""
    return over_images((delta**2).flatten(1).sum(1).sqrt(), delta)


def unit_l2(delta: Tensor) -> Tensor:
    """Return each example scaled to length 1; zero stays zero."""
    return delta / (norm_l2(delta) + 1e-12)


def _written(eps: float) -> str:
    """Return *eps* as k/255 if it is one, else as the shortest exact decimal."""
    k = round(eps * 255)
    if 0 < k < 255 and eps == k / 255 and len(repr(eps)) > 6:
        return f"{k}/255"
    return repr(eps).removesuffix(".0")


def _draw(kind: str, x: Tensor, generator: Generators) -> Tensor:
    """Return noise of the shape of *x*, drawn on the CPU so that it is the same on every device."""
    import torch

    draw: Any = getattr(torch, kind)
    if isinstance(generator, torch.Generator):
        noise = draw(x.shape, generator=generator)
    else:
        if len(generator) != len(x):
            raise ValueError(f"{len(generator)} generators for {len(x)} examples")
        noise = torch.stack([draw(x.shape[1:], generator=own) for own in generator])
    return noise.to(x)  # type: ignore[no-any-return]


def _sparse_signs(grad: Tensor, density: Tensor) -> Tensor:
    size = grad[0].numel()
    count = size - ((1 - density) * size).clamp(0, size - 1).long()
    largest = grad.abs().flatten(1).topk(int(count.max()), 1).values
    least = largest.gather(1, count[:, None] - 1).squeeze(1)
    signs = grad.sign() * (grad.abs() >= over_images(least, grad))
    return signs / (over_images(signs.abs().flatten(1).sum(1), grad) + 1e-10)


def _onto_l1_and_box(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """Return the nearest δ' to *delta* with ‖δ'‖₁ ≤ eps and x + δ' in the box.

    δ'_i = sign(δ_i) · clip(|δ_i| − λ, 0, c_i), where c_i is the distance to the face of the box in
    the direction of δ_i and λ ≥ 0 is the least for which ‖δ'‖₁ ≤ eps (Croce & Hein 2021, "Mind the
    box", proposition 3). The norm is piecewise linear in λ and falls, with a kink wherever a
    coordinate leaves the face (λ = |δ_i| − c_i) or reaches zero (λ = |δ_i|). Sorting the kinks
    gives λ.
    """
    import torch

    shape = delta.shape
    d, sign = delta.flatten(1).abs(), delta.flatten(1).sign()
    room = torch.where(sign > 0, 1 - x.flatten(1), x.flatten(1))
    kinks, which = torch.cat([(d - room).clamp(min=0), d], 1).sort(1)
    # Below its first kink, a coordinate is constant; between its kinks, it falls with slope -1.
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
