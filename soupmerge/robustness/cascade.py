"""Cascades: several attacks in turn, each on the images that survived those before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soupmerge.errors import UsageError
from soupmerge.robustness.losses import is_right
from soupmerge.types import Attack, Classifier, Generators, StagedAttack


@dataclass(frozen=True)
class Cascade:
    """Attacks under one threat, each on the images that survived those before.

    Attributes:
        stages: the attacks; the cheapest should come first.

    Raises:
        UsageError: the attacks are of several threats, or there are none.

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
            what, fix = "needs attacks under one threat", "make a cascade for each threat"
            raise UsageError(what, where="cascade", fix=fix)

    @property
    def threat(self) -> Any:
        """The threat model of every stage."""
        return self.stages[0].threat

    def describe(self) -> dict[str, Any]:
        """Return the names and settings of the stages."""
        stages = [stage.describe() for stage in self.stages]
        name = " + ".join(str(stage["attack"]) for stage in stages)
        return {"attack": name, "steps": max(stage["steps"] for stage in stages), "stages": stages}

    def __call__(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return adversarial images for *x*; images that no stage fools are returned clean."""
        return run_stages(self, classifier, x, y, generator)


def stages_of(attack: Attack) -> Sequence[Attack]:
    """Return the attacks that *attack* consists of, or *attack* alone."""
    return attack.stages if isinstance(attack, StagedAttack) else (attack,)


def run_stages(
    attack: StagedAttack, classifier: Classifier, x: Tensor, y: Tensor, generator: Generators
) -> Tensor:
    """Return adversarial images for *x*, by the stages of *attack* in turn."""
    x_adv, survives = x.clone(), torch.ones_like(y, dtype=torch.bool)
    for stage in attack.stages:
        if not bool(survives.any()):
            break
        own = generator
        if not isinstance(generator, torch.Generator):
            own = [g for g, here in zip(generator, survives.tolist(), strict=True) if here]
        proposed = stage(classifier, x[survives], y[survives], generator=own)
        with torch.no_grad():
            fooled = ~is_right(classifier(proposed), y[survives])
        indices = survives.nonzero().squeeze(1)[fooled]
        x_adv[indices] = proposed[fooled]
        survives[indices] = False
    return x_adv
