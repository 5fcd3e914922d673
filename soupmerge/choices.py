"""Closed sets that several rooms share, each written once; nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from soupmerge.errors import UsageError, near_miss


class Origin(NamedTuple):
    """Who chose the coefficients of a soup.

    Attributes:
        label: what a legend calls such soups.
        sentence: how a model card goes on after "The coefficients were".
    """

    label: str
    sentence: str


ORIGINS: Mapping[str, Origin] = {
    "mix": Origin("mixed by hand", "chosen by hand"),
    "grid": Origin("best of grid", "found by a grid search"),
    "greedy": Origin(
        "greedy soup",
        "found by a greedy search, which adds one ingredient at a time (Wortsman et al. 2022)",
    ),
    "path": Origin(
        "best on a path",
        "chosen on the straight line between two networks (WiSE-FT, Wortsman et al. 2022)",
    ),
    "search": Origin(
        "best of a search", "found by drawing soups from the simplex at random, or by CMA-ES"
    ),
    "adapt": Origin(
        "adapted to shifts",
        "chosen on a few labelled images of shifted data sets (Croce et al. 2023)",
    ),
    "learn": Origin("learned", "learned by gradient descent (Huang 2023)"),
}
"""`Recipe.origin` → what figures, tables and model cards say of it."""

NO_SOUPS: Mapping[str, str] = {
    "finetune": "trained",
    "elsewhere": "from elsewhere",
    "ensemble": "ensemble",
}
"""What made a judged network that is no soup → what a legend calls it."""

MAKERS: Mapping[str, str] = {
    **NO_SOUPS,
    **{origin: told.label for origin, told in ORIGINS.items()},
}
"""What made a judged network → what a legend calls it."""


def require_origin(origin: str) -> None:
    """Refuse an *origin* that no figure and no model card knows.

    Raises:
        UsageError: it is not one of `ORIGINS`.
    """
    if origin not in ORIGINS:
        raise UsageError(f"no origin {origin!r}", where="origin", fix=near_miss(origin, ORIGINS))


NORMS = ("linf", "l2", "l1")
"""Norms of threat models."""

ATTACKS = (
    "fgsm",
    "pgd",
    "fast",
    "apgd",
    "apgd-dlr",
    "apgd-t",
    "apgd-ce+t",
    "apgd-100",
    "train-2",
    "autoattack",
)
"""Names of attacks; `robustness.presets` makes them."""

AUTOATTACK_VERSIONS: Mapping[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
    "custom": (),
}
"""Version of AutoAttack → its attacks, in the order in which they run; ``custom`` lists its own."""

AUGMENTATIONS = ("crop-flip", "none")
"""Augmentations of training images; `training.augment` has the functions."""

AVERAGES = ("prob", "logit")
"""What ensembles average; `robustness.ensembles` has the functions."""

OBJECTIVES = ("mix", "trades-kl", "mart")
"""Forms of adversarial training; `robustness.objectives` has the losses."""
