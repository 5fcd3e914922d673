"""Closed sets of names, each listed once; importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from soupmerge.errors import UsageError, near_miss


class Origin(NamedTuple):
    """What chose the coefficients of a soup.

    Attributes:
        label: the name of such soups in legends.
        sentence: completes "The coefficients were" in model cards.
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
"""`Recipe.origin` → its texts in figures, tables and model cards."""

NO_SOUPS: Mapping[str, str] = {
    "finetune": "trained",
    "elsewhere": "from elsewhere",
    "ensemble": "ensemble",
}
"""What made a judged network that is not a soup → its name in legends."""

MAKERS: Mapping[str, str] = {
    **NO_SOUPS,
    **{origin: entry.label for origin, entry in ORIGINS.items()},
}
"""What made a judged network → its name in legends."""


BUFFER_POLICIES = ("average", "base", "recalibrate")
"""``average``: batch-norm statistics are mixed like the weights of their module. ``base``: they are
copied from one ingredient, as in the paper, where buffers are not averaged. ``recalibrate``: they
are averaged, and then re-estimated on images by `soups.recalibration`."""

HEADS = ("base", "first", "skip")
"""What becomes of the classifier: copied from the base or the first ingredient, or left out."""

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Floating-point dtypes of files, which a soup may be written in."""

PRECISIONS = ("fp32", "bf16")
"""What networks compute in; `binding.cast` makes them."""

PLACES = ("device", "host", "files")
"""Where ingredients are kept while coefficients are learned; ``files`` reads them at every step."""

STORES = ("fp32", "bf16")
"""How ingredients are kept: in the network's own dtype, or as bfloat16 differences from the base.
"""

BATCH_NORM_MODES = ("eval", "batch")
"""The statistics that batch norms use in a learning step: those of the soup, or of the batch."""

SEARCH_METHODS = ("random", "cma")
"""How a search proposes soups: uniformly from the simplex, or by CMA-ES."""

RACE_GOALS = ("front", "best")
"""Which soups a race keeps: those that may be on the front or best, or those that may be best."""

FIGURE_FORMATS = ("png", "svg", "pdf")
"""File formats of figures."""

NETWORKS: Mapping[str, int] = {
    "digits-cnn": 8,
    **dict.fromkeys(("resnet9", "resnet18-cifar", "resnet50-cifar", "preact-resnet18"), 32),
    **dict.fromkeys(("wrn-28-4", "wrn-28-10", "wrn-34-10", "wrn-34-15", "wrn-34-20"), 32),
    **dict.fromkeys(("wrn-40-2", "wrn-70-16", "wrn-34-r", "wrn-a4", "dm-preact-resnet18"), 32),
    **dict.fromkeys(("dm-wrn-28-10", "dm-wrn-34-10", "dm-wrn-34-20", "dm-wrn-70-16"), 32),
    **dict.fromkeys(("dm-wrn-82-8", "dm-wrn-94-16", "dm-wrn-106-16", "ra-wrn-70-16"), 32),
    **{f"convnext-{size}-convstem": 224 for size in ("tiny", "small", "base", "large")},
    **dict.fromkeys(("vit-small-convstem", "vit-base-convstem"), 224),
    **dict.fromkeys(("xcit-s12", "xcit-m12", "xcit-l12"), 224),
}
"""Built-in network → side, in pixels, of the images it is usually used with; `sources.models`
makes the networks."""


def require_origin(origin: str) -> None:
    """Reject an *origin* without texts for figures and model cards.

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
