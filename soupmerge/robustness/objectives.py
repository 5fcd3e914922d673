"""What training minimises: clean loss, adversarial loss, or a mix of the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from soupmerge.errors import UsageError
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.losses import cross_entropy
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack, Classifier, Generators


@dataclass(frozen=True)
class Adversarial:
    """α · CE(f(x), y) + (1 − α) · CE(f(x_adv), y), with x_adv from *attack*.

    Adversarial training for α = 0 (Huang 2023, equation 1), clean training without an attack, and
    what that paper calls TRADES in between (its equation 2; the original's second term is a KL).

    Attributes:
        attack: crafts x_adv; None trains on clean images.
        alpha: weight of the clean loss, in [0, 1].
    """

    attack: Attack | None
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            fix = "it is the weight of the clean loss"
            raise UsageError(f"{self.alpha} is not in [0, 1]", where="trades", fix=fix)

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        if self.attack is None:
            return {"objective": "clean"}
        crafted = {"threat": str(self.attack.threat), **self.attack.describe()}
        if self.alpha == 0:
            return {"objective": "adversarial", **crafted}
        return {"objective": "trades-mix", "alpha": self.alpha, **crafted}

    def craft(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return x_adv; no weight takes a gradient."""
        if self.attack is None:
            return x
        return self.attack(classifier, x, y, generator=generator)

    def loss(self, classifier: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar, to be differentiated in the weights."""
        robust = cross_entropy(classifier(x_adv), y).mean()
        if self.alpha == 0 or self.attack is None:
            return robust
        return self.alpha * cross_entropy(classifier(x), y).mean() + (1 - self.alpha) * robust


def against(threat: Threat | None, *, alpha: float = 0.0, steps: int = 2) -> Adversarial:
    """Return adversarial training against *threat* by *steps*-step APGD, as the papers train.

    Args:
        threat: None, or a radius of 0, is clean training.
        alpha: weight of the clean loss; 0 is plain adversarial training.
        steps: of APGD, for each batch.

    Example:
        >>> against(Threat("linf", 8 / 255)).describe()["attack"]
        'apgd-ce'
    """
    if threat is None or threat.eps == 0:
        return Adversarial(None, alpha=alpha)
    return Adversarial(APGD.training(threat, steps=steps), alpha=alpha)
