"""Attacks by name, and cascades of them: the cheap ones first, the strong ones on what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness.attacks import APGD, FGSM, PGD
from soupmerge.robustness.autoattack import AutoAttack
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack, Classifier, Generators


@dataclass(frozen=True)
class Cascade:
    """Attacks of one threat, each on the images that held against those before.

    Attributes:
        stages: the attacks, the cheapest first.

    Example:
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
        out, left = x.clone(), torch.ones_like(y, dtype=torch.bool)
        for stage in self.stages:
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


PRESETS: dict[str, Callable[[Threat, int], Attack]] = {
    "apgd": lambda threat, steps: APGD(threat, steps),
    "apgd-dlr": lambda threat, steps: APGD(threat, steps, loss="dlr"),
    "apgd-t": APGD.targeted,
    "apgd-ce+t": lambda threat, steps: Cascade((APGD(threat, steps), APGD.targeted(threat, steps))),
    "pgd": lambda threat, steps: PGD(threat, steps),
    "fgsm": lambda threat, steps: FGSM(threat),
    "train-2": lambda threat, steps: APGD.training(threat),
    "fast": lambda threat, steps: APGD(threat, 10),
    "apgd-100": lambda threat, steps: APGD.evaluation(threat),
    "autoattack": lambda threat, steps: AutoAttack(threat),
}
"""Name → the attack on a threat, in so many steps where the name does not say how many."""


def preset(name: str, threat: Threat, steps: int = 100) -> Attack:
    """Return the attack called *name*.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"no attack {name!r}", where="attack", fix=near_miss(name, PRESETS))
    return PRESETS[name](threat, steps)
