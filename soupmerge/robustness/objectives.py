"""Objectives of training: clean loss, adversarial loss, and combinations of the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from soupmerge.choices import OBJECTIVES
from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness.attacks import APGD, GradientAttack, ascend
from soupmerge.robustness.queues import SingleTry
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack, Classifier, Generators

MOST_BETA = 1e6

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
    uncertainty = 1 - clean.softmax(1).gather(1, y[:, None]).squeeze(1)
    return bce + beta * divergence(clean, robust) * uncertainty


def divergence(clean: Tensor, robust: Tensor) -> Tensor:
    """Return KL(softmax(clean) ‖ softmax(robust)) ``(B,)``."""
    log_p, log_q = clean.log_softmax(1), robust.log_softmax(1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1)


FORMS: dict[str, Form] = {"trades-kl": trades, "mart": mart}
"""Forms of the loss other than ``mix``, the weighted mean of two cross-entropies."""


@dataclass(frozen=True)
class Adversarial:
    """α · CE(f(x), y) + (1 − α) · CE(f(x_adv), y), or another *form*, with x_adv from *attacks*.

    With α = 0 this is adversarial training (Huang 2023, equation 1), without attacks it is clean
    training, and in between it is what that paper calls TRADES (its equation 2). Several attacks
    share each batch: image i is attacked by attack i mod T, so they cost no more than one.

    Attributes:
        attacks: the attacks that craft x_adv; without any, training is on clean images.
        alpha: weight of the clean loss in the mix, in [0, 1].
        form: ``mix``, or as published ``mart`` or ``trades-kl``, whose images maximise the
            divergence instead of the loss.
        beta: weight of the divergence in those two.
        smoothing: label smoothing in the mix (Szegedy et al. 2016), in [0, 1).

    Raises:
        UsageError: a number is out of range, or an argument does not go with the form.

    Example:
        >>> Adversarial((APGD.training(Threat("linf", 0.1)),), alpha=0.5).describe()["objective"]
        'trades-mix'
    """

    attacks: tuple[Attack, ...] = ()
    alpha: float = 0.0
    form: str = "mix"
    beta: float = 6.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            fix = "give the weight of the clean loss"
            raise UsageError(f"{self.alpha} is not in [0, 1]", where="trades", fix=fix)
        if self.form not in OBJECTIVES:
            fix = near_miss(self.form, OBJECTIVES)
            raise UsageError(f"unknown form {self.form!r}", where="objective", fix=fix)
        if not 0 <= self.beta < MOST_BETA:
            what = f"beta {self.beta:g} is not at least 0 and below {MOST_BETA:g}"
            raise UsageError(what, where="objective", fix="change beta")
        if not 0 <= self.smoothing < 1:
            what = f"label smoothing {self.smoothing:g} is not in [0, 1)"
            raise UsageError(what, where="objective", fix="change it")
        if self.form != "mix" and not self.attacks:
            fix = "give a threat with a radius above 0, or leave the form out"
            raise UsageError("needs an attack", where=f"objective {self.form}", fix=fix)
        if self.form != "mix" and (self.alpha or self.smoothing):
            what = "alpha and label smoothing apply to the mix only"
            raise UsageError(what, where=f"objective {self.form}", fix="leave them out")
        others = [a for a in self.attacks if not isinstance(a, GradientAttack)]
        if self.form == "trades-kl" and others:
            what = f"cannot maximise the divergence by {others[0].describe()['attack']}"
            fix = "use a gradient attack, such as APGD"
            raise UsageError(what, where="objective trades-kl", fix=fix)

    @property
    def name(self) -> str:
        """The threats, joined by ``+``; ``clean`` without any."""
        return "+".join(str(attack.threat) for attack in self.attacks) or "clean"

    def describe(self) -> dict[str, Any]:
        """Return name and settings."""
        smoothing = {"label smoothing": self.smoothing} if self.smoothing else {}
        if not self.attacks:
            return {"objective": "clean", **smoothing}
        each = [{"threat": str(a.threat), **a.describe()} for a in self.attacks]
        attacks: dict[str, Any] = each[0] if len(each) == 1 else {"threats": each}
        if self.form != "mix":
            return {"objective": self.form, "beta": self.beta, **attacks}
        mix = {"objective": "trades-mix", "alpha": self.alpha}
        return {**(mix if self.alpha else {"objective": "adversarial"}), **attacks, **smoothing}

    def craft(
        self, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
    ) -> Tensor:
        """Return x_adv, of the shape of *x*, without gradients in the weights."""
        x_adv = x.clone()
        for t, attack in enumerate(self.attacks):
            share = slice(t, None, len(self.attacks))
            if not len(x[share]):
                continue
            craft: Callable[..., Tensor] = attack
            if self.form == "trades-kl" and isinstance(attack, GradientAttack):
                craft = partial(_maximise_divergence, attack)
            x_adv[share] = craft(classifier, x[share], y[share], generator=generator)
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


def _maximise_divergence(
    attack: GradientAttack, classifier: Classifier, x: Tensor, y: Tensor, *, generator: Generators
) -> Tensor:
    """Return points found by *attack* at which the answers diverge most from those for *x*."""
    with torch.no_grad():
        clean = classifier(x)

    def loss(logits: Tensor, y: Tensor, indices: Tensor) -> Tensor:
        return divergence(clean[indices], logits)

    start = attack.threat.sample(x, generator)  # at x itself, the divergence has no gradient
    queue = SingleTry(x, y, torch.arange(len(x), device=x.device), start)
    return ascend(classifier, queue, attack.rule(), steps=attack.steps, loss=loss)


def against(
    threat: Threat | Sequence[Threat] | None,
    *,
    alpha: float = 0.0,
    steps: int = 2,
    form: str = "mix",
    beta: float = 6.0,
    smoothing: float = 0.0,
) -> Adversarial:
    """Return the objective of adversarial training against *threat* by APGD, as in the papers.

    Args:
        threat: one threat, or several that share each batch; None or a radius of 0 is clean
            training.
        alpha: weight of the clean loss; 0 is plain adversarial training.
        steps: steps of APGD for each batch.
        form: ``mix`` of two cross-entropies, ``trades-kl`` or ``mart``.
        beta: weight of the divergence in ``trades-kl`` and ``mart``.
        smoothing: label smoothing.

    Raises:
        UsageError: as for `Adversarial`, or only some of several radii are 0.

    Example:
        >>> against(Threat("linf", 8 / 255)).describe()["attack"]
        'apgd-ce'
    """
    threats = [threat] if isinstance(threat, Threat) else list(threat or ())
    attacks = tuple(APGD.training(t, steps=steps) for t in threats if t.eps)
    if attacks and len(attacks) < len(threats):
        fix = "give --trades for a share of clean loss"
        raise UsageError("one of several radii is 0", where="threat", fix=fix)
    return Adversarial(attacks, alpha=alpha, form=form, beta=beta, smoothing=smoothing)


def clean(*, smoothing: float = 0.0) -> Adversarial:
    """Return the objective of training on clean images.

    Example:
        >>> clean().name
        'clean'
    """
    return Adversarial(smoothing=smoothing)
