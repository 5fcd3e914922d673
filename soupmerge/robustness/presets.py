"""Attacks by name: the functions that `choices.ATTACKS` lists."""

from __future__ import annotations

from soupmerge.choices import ATTACKS, attack_names, implementation
from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness.attacks import APGD, FGSM, PGD
from soupmerge.robustness.autoattack import AutoAttack
from soupmerge.robustness.cascade import Cascade
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack


def preset(name: str, threat: Threat, steps: int = 100) -> Attack:
    """Return the attack called *name*.

    Args:
        name: one of `choices.attack_names`: a preset, or ``pgd`` or ``apgd`` with a loss.
        threat: the threat model.
        steps: gradient steps, unless the name implies their number.

    Raises:
        UsageError: the name is unknown.

    Example:
        >>> preset("fast", Threat("linf", 0.1)).describe()
        {'attack': 'apgd-ce', 'steps': 10}
        >>> preset("apgd-margin", Threat("linf", 0.1), 20).describe()
        {'attack': 'apgd-margin', 'steps': 20}
    """
    if name in ATTACKS:
        attack: Attack = implementation(ATTACKS, name, "attack")(threat, steps)
        return attack
    if name not in attack_names():
        fix = near_miss(name, attack_names())
        raise UsageError(f"unknown attack {name!r}", where="attack", fix=fix)
    family, _, loss = name.partition("-")
    return (PGD if family == "pgd" else APGD)(threat, steps, loss=loss)


def fgsm(threat: Threat, steps: int) -> Attack:
    """Return FGSM, which takes one step."""
    return FGSM(threat)


def pgd(threat: Threat, steps: int) -> Attack:
    """Return PGD with cross-entropy."""
    return PGD(threat, steps)


def fast(threat: Threat, steps: int) -> Attack:
    """Return APGD with cross-entropy, of 10 steps."""
    return APGD(threat, 10)


def apgd(threat: Threat, steps: int) -> Attack:
    """Return APGD with cross-entropy."""
    return APGD(threat, steps)


def apgd_targeted(threat: Threat, steps: int) -> Attack:
    """Return APGD with the targeted DLR loss, see `APGD.targeted`."""
    return APGD.targeted(threat, steps)


def apgd_twice(threat: Threat, steps: int) -> Attack:
    """Return APGD with cross-entropy, then with the targeted DLR loss where that failed."""
    return Cascade((APGD(threat, steps), APGD.targeted(threat, steps)))


def apgd_100(threat: Threat, steps: int) -> Attack:
    """Return APGD with cross-entropy, of 100 steps, see `APGD.evaluation`."""
    return APGD.evaluation(threat)


def train_2(threat: Threat, steps: int) -> Attack:
    """Return the attack of adversarial training, APGD of 2 steps, see `APGD.training`."""
    return APGD.training(threat)


def autoattack(threat: Threat, steps: int) -> Attack:
    """Return standard AutoAttack."""
    return AutoAttack(threat)
