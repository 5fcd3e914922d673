"""Attacks by name; `choices.ATTACKS` lists the names without loading torch."""

from __future__ import annotations

from collections.abc import Callable

from soupmerge.errors import UsageError, near_miss
from soupmerge.robustness.attacks import APGD, FGSM, PGD
from soupmerge.robustness.autoattack import AutoAttack
from soupmerge.robustness.cascade import Cascade
from soupmerge.robustness.threats import Threat
from soupmerge.types import Attack

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
"""Name → (threat, steps) → attack; names that imply a number of steps ignore *steps*."""


def preset(name: str, threat: Threat, steps: int = 100) -> Attack:
    """Return the attack called *name*.

    Args:
        name: one of `PRESETS`.
        threat: the threat model.
        steps: gradient steps, unless the name implies their number.

    Raises:
        UsageError: the name is unknown.

    Example:
        >>> preset("fast", Threat("linf", 0.1)).describe()
        {'attack': 'apgd-ce', 'steps': 10}
    """
    if name not in PRESETS:
        raise UsageError(f"no attack {name!r}", where="attack", fix=near_miss(name, PRESETS))
    return PRESETS[name](threat, steps)
