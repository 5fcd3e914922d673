"""Attacks one after the other: the cheap ones first, the strong ones on what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import UsageError
from soupmerge.types import Attack, Classifier, Generators


@dataclass(frozen=True)
class Cascade:
    """Attacks of one threat, each on the images that held against those before.

    Attributes:
        stages: the attacks, the cheapest first.

    Example:
        >>> from soupmerge.robustness.attacks import APGD
        >>> from soupmerge.robustness.threats import Linf
        >>> two = Cascade((APGD(Linf(0.1)), APGD.targeted(Linf(0.1))))
        >>> two.describe()["attack"]
        'apgd-ce + apgd-dlr-t'
    """

    stages: tuple[Attack, ...]

    def __post_init__(self) -> None:
        if len({str(stage.threat) for stage in self.stages}) != 1:
            what, fix = "needs attacks of one threat", "make a cascade for each"
            raise UsageError(what, where="cascade", fix=fix)

    @property
    def threat(self) -> Any:
        """What every stage may do."""
        return self.stages[0].threat

    def describe(self) -> dict[str, Any]:
        """Return the stages' names and settings."""
        told = [stage.describe() for stage in self.stages]
        names = " + ".join(str(stage["attack"]) for stage in told)
        return {"attack": names, "steps": max(stage["steps"] for stage in told), "stages": told}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*; those that no stage fools come back clean."""
        return in_turn(self.stages, classifier, x, y, generator)


def in_turn(
    stages: tuple[Attack, ...],
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    generator: Generators,
) -> Tensor:
    """Return adversarial images for *x* by *stages*, each on what held against those before."""
    out, left = x.clone(), torch.ones_like(y, dtype=torch.bool)
    for stage in stages:
        if not bool(left.any()):
            break
        some = generator
        if not isinstance(generator, torch.Generator):
            some = [g for g, here in zip(generator, left.tolist(), strict=True) if here]
        found = stage(classifier, x[left], y[left], generator=some)
        with torch.no_grad():
            fooled = classifier(found).argmax(1) != y[left]
        places = left.nonzero().squeeze(1)[fooled]
        out[places] = found[fooled]
        left[places] = False
    return out
