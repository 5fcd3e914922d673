"""What training minimises: clean loss, adversarial loss, and ways to weigh the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness import engine
from soupmerge.robustness.attacks import APGD
from soupmerge.robustness.rules import Adaptive, SparseAdaptive
from soupmerge.robustness.threats import Threat
from soupmerge.robustness.waiting import Given
from soupmerge.types import Attack, Classifier, Generators

Form: TypeAlias = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""``(logits of x, logits of x_adv, y, β)`` → loss ``(B,)``."""


def trades(clean: Tensor, robust: Tensor, y: Tensor, beta: float) -> Tensor:
    """Return CE(f(x), y) + β · KL(f(x) ‖ f(x_adv)) (Zhang et al. 2019, arXiv 1901.08573)."""
    return F.cross_entropy(clean, y, reduction="none") + beta * divergence(clean, robust)


def mart(clean: Tensor, robust: Tensor, y: Tensor, beta: float) -> Tensor:
    """Return BCE(f(x_adv), y) + β · KL(f(x) ‖ f(x_adv)) · (1 − p_y(x)) (Wang et al. 2020, MART).

    BCE = −log p_y(x_adv) − log(1 − max_{c ≠ y} p_c(x_adv)).
    """
    p = robust.softmax(1)
    wrong = p.scatter(1, y[:, None], 0.0).amax(1)
    bce = F.cross_entropy(robust, y, reduction="none") - (1 - wrong).clamp(min=1e-4).log()
    unsure = 1 - clean.softmax(1).gather(1, y[:, None]).squeeze(1)
    return bce + beta * divergence(clean, robust) * unsure


def divergence(clean: Tensor, robust: Tensor) -> Tensor:
    """Return KL(softmax(clean) ‖ softmax(robust)) ``(B,)``."""
    both = robust.log_softmax(1), clean.log_softmax(1)
    return F.kl_div(*both, log_target=True, reduction="none").sum(1)


FORMS: dict[str, Form] = {"trades-kl": trades, "mart": mart}
"""Ways to weigh clean and adversarial answers, beside the mix of two cross-entropies."""


@dataclass(frozen=True)
class Adversarial:
    """α · CE(f(x), y) + (1 − α) · CE(f(x_adv), y), or another *form*; x_adv by *attacks*.

    Adversarial training for α = 0 (Huang 2023, equation 1), clean training without an attack, and
    what that paper calls TRADES in between (its equation 2). Several attacks share a batch: image
    i meets attack i mod T, which costs no more than one of them.

    Attributes:
        attacks: craft x_adv; none trains on clean images.
        alpha: weight of the clean loss in the mix, in [0, 1].
        form: ``mix``, or ``trades-kl`` (whose images raise the divergence, not the loss) or
            ``mart``, as their authors have them.
        beta: weight of the divergence in those two.
        smoothing: of labels in the mix (Szegedy et al. 2016), in [0, 1).
    """

    attacks: tuple[Attack, ...] = ()
    alpha: float = 0.0
    form: str = "mix"
    beta: float = 6.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            fix = "it is the weight of the clean loss"
            raise UsageError(f"{self.alpha} is not in [0, 1]", where="trades", fix=fix)
        if self.form != "mix" and self.form not in FORMS:
            fix = near_miss(self.form, ["mix", *FORMS])
            raise UsageError(f"no form {self.form!r}", where="objective", fix=fix)
        if not (0 <= self.beta < 1e6 and 0 <= self.smoothing < 1):
            what = "beta must be ≥ 0 and finite, label smoothing in [0, 1)"
            raise UsageError(what, where="objective", fix="change what is not")
        if self.form != "mix" and not self.attacks:
            fix = "give a threat of a radius above 0, or leave the form out"
            raise UsageError("needs an attack", where=f"objective {self.form}", fix=fix)
        if self.form != "mix" and (self.alpha or self.smoothing):
            what = "alpha and label smoothing belong to the mix"
            raise UsageError(what, where=f"objective {self.form}", fix="leave them out")
        if self.form == "trades-kl" and not all(isinstance(a, APGD) for a in self.attacks):
            raise UsageError("climbs as APGD does", where="objective trades-kl", fix="take APGD")

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        smoothed = {"label smoothing": self.smoothing} if self.smoothing else {}
        if not self.attacks:
            return {"objective": "clean", **smoothed}
        told = [{"threat": str(a.threat), **a.describe()} for a in self.attacks]
        crafted: dict[str, Any] = told[0] if len(told) == 1 else {"threats": told}
        if self.form != "mix":
            return {"objective": self.form, "beta": self.beta, **crafted}
        mixed = {"objective": "trades-mix", "alpha": self.alpha}
        return {**(mixed if self.alpha else {"objective": "adversarial"}), **crafted, **smoothed}

    def craft(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return x_adv; no weight takes a gradient."""
        x_adv = x.clone()
        for t, attack in enumerate(self.attacks):
            share = slice(t, None, len(self.attacks))
            if not len(x[share]):
                continue
            if self.form == "trades-kl" and isinstance(attack, APGD):
                x_adv[share] = _diverging(attack, classifier, x[share], y[share], generator)
            else:
                x_adv[share] = attack(classifier, x[share], y[share], generator=generator)
        return x_adv

    def loss(self, classifier: Classifier, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar, to be differentiated in the weights."""
        robust = classifier(x_adv)
        if self.form != "mix":
            return FORMS[self.form](classifier(x), robust, y, self.beta).mean()
        loss = F.cross_entropy(robust, y, label_smoothing=self.smoothing)
        if self.alpha == 0 or not self.attacks:
            return loss
        clean = F.cross_entropy(classifier(x), y, label_smoothing=self.smoothing)
        return self.alpha * clean + (1 - self.alpha) * loss


def _diverging(
    attack: APGD, classifier: Classifier, x: Tensor, y: Tensor, generator: Generators
) -> Tensor:
    """Return the points at which *attack*'s climb finds the answers furthest from those for *x*."""
    with torch.no_grad():
        clean = classifier(x)

    def away(logits: Tensor, y: Tensor, place: Tensor) -> Tensor:
        return divergence(clean[place], logits)

    start = attack.threat.sample(x, generator)  # at x itself the divergence has no gradient
    rule = (SparseAdaptive if attack.threat.norm == "l1" else Adaptive)(attack.threat, attack.steps)
    source = Given(x, y, torch.arange(len(x), device=x.device), start)
    how: dict[str, Any] = {"steps": attack.steps, "until_fooled": False, "width": len(x)}
    (left,) = engine.run(classifier, source, rule, loss=away, **how)
    return x.index_copy(0, left.place, left.x_adv)


def against(
    threat: Threat | Sequence[Threat] | None,
    *,
    alpha: float = 0.0,
    steps: int = 2,
    form: str = "mix",
    beta: float = 6.0,
    smoothing: float = 0.0,
) -> Adversarial:
    """Return adversarial training against *threat* by *steps*-step APGD, as the papers train.

    Args:
        threat: one, or several that share each batch; None, or a radius of 0, is clean training.
        alpha: weight of the clean loss; 0 is plain adversarial training.
        steps: of APGD, for each batch.
        form: ``mix`` of two cross-entropies, ``trades-kl`` or ``mart``.
        beta: weight of the divergence in ``trades-kl`` and ``mart``.
        smoothing: of labels.

    Example:
        >>> against(Threat("linf", 8 / 255)).describe()["attack"]
        'apgd-ce'
    """
    threats = [threat] if isinstance(threat, Threat) else list(threat or ())
    attacks = tuple(APGD.training(t, steps=steps) for t in threats if t.eps)
    if attacks and len(attacks) < len(threats):
        fix = "give --trades for a share of clean loss"
        raise UsageError("a radius of 0 among others", where="threat", fix=fix)
    return Adversarial(attacks, alpha=alpha, form=form, beta=beta, smoothing=smoothing)
