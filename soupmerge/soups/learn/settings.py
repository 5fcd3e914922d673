"""Settings of learning, and how a run settles what the paper leaves open."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from soupmerge.choices import BATCH_NORM_MODES, FAMILIES, OPTIMISERS, SCALARISATIONS
from soupmerge.errors import UsageError, near_miss

MOST_LR = 1e9

NAMED: Mapping[str, Collection[str]] = {
    "batch_norm": BATCH_NORM_MODES,
    "family": FAMILIES,
    "optimiser": OPTIMISERS,
    "scalarisation": SCALARISATIONS,
}
"""Settings that are one of a closed set of names."""

PAPER: Mapping[str, Any] = {
    "optimiser": "sgd",
    "lr": 10.0,
    "dropout": 0.8,
    "init": "xavier",
    "buffers": "base",
}
"""The settings of Huang 2023 that differ from the defaults here."""

FRONT_STEPS = 600
"""About how many steps a front takes by default.

On real images, fronts of 282 and of 846 steps were equally good (docs/results.md, "Fronts"). This
is between the two.
"""


@dataclass(frozen=True)
class Settings:
    """Settings of `learn` and `front`; `Settings.paper` has those of Huang 2023.

    Attributes:
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        epochs: passes over the data; None takes those of the paper for a learned soup, and about
            `FRONT_STEPS` steps for a front (`epochs_for`).
        optimiser: one of `soupmerge.choices.OPTIMISERS`.
        lr: initial learning rate, decaying to 0 along a cosine; None takes the optimiser's usual.
        dropout: probability that a group is detached in a step.
        rescale: divide gradients by 1 − *dropout*, which makes their mean that without dropout.
        init: initial logits; see `soupmerge.soups.learn.starts.start`.
        batch_size: images per step.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: index of the ingredient that counters (and ``base`` statistics) come from.
        batch_norm: ``eval`` uses the statistics of the soup in a step, ``batch`` those of the
            batch.
        precision: ``fp32``, or ``bf16`` for autocast.
        store: ``fp32``, or ``bf16`` to keep ingredients as bfloat16 differences from the base.
        place: where ingredients are kept: ``device``, ``host``, ``files``, or ``auto`` for the
            first with enough memory. It does not affect the result.
        patience: stop after so many epochs without a lower loss on the stopping split; None takes
            all epochs, and then the best of them.
        family: how the coefficients of a front depend on the preference between its objectives,
            one of `soupmerge.choices.FAMILIES`.
        scalarisation: how a step of a front weighs its objectives, one of
            `soupmerge.choices.SCALARISATIONS`.
        corners: the share of a front's preferences that learn a single objective.
        preferences: into how many parts a front divides the images of a step; each part has a
            preference of its own.

    Raises:
        UsageError: a setting is out of range or unknown.

    Example:
        >>> Settings(by="model").rate, Settings.paper().rate
        (0.1, 10.0)
    """

    by: str = "tensor"
    epochs: int | None = None
    optimiser: str = "adam"
    lr: float | None = None
    dropout: float = 0.0
    rescale: bool = False
    init: str = "best"
    batch_size: int = 128
    buffers: str = "average"
    base: int = 0
    batch_norm: str = "eval"
    precision: str = "fp32"
    store: str = "fp32"
    place: str = "auto"
    patience: int | None = None
    family: str = "softmax-linear"
    scalarisation: str = "sum"
    corners: float = 0.3
    preferences: int = 1

    @classmethod
    def paper(cls, **others: Any) -> Settings:
        """Return the settings of Huang 2023, sections 3 and 4, with *others* in place of some.

        SGD with a learning rate of 10, Xavier's start, detach dropout of 0.8, and the buffers of
        one ingredient.
        """
        return cls(**{**PAPER, **others})

    @property
    def rate(self) -> float:
        """The initial learning rate."""
        return OPTIMISERS[self.optimiser].lr if self.lr is None else self.lr

    def steps_per_epoch(self, images: int) -> int:
        """Return the number of steps of a pass over so many *images*; the last may be smaller."""
        return -(-images // self.batch_size)

    def epochs_for(self, k: int, images: int, objectives: int = 1) -> int:
        """Return the number of passes over so many *images* that learning takes.

        It is `epochs`, if that is given. Otherwise a soup of *k* ingredients, which has a single
        objective, takes `paper_epochs`, and a front takes about `FRONT_STEPS` steps.

        Example:
            >>> settings = Settings(batch_size=128)
            >>> settings.epochs_for(3, 45_000), settings.epochs_for(3, 45_000, objectives=2)
            (30, 2)
        """
        if self.epochs is not None:
            return self.epochs
        if objectives == 1:
            return paper_epochs(k)
        return max(1, round(FRONT_STEPS / self.steps_per_epoch(images)))

    def __post_init__(self) -> None:
        counts = {
            "epochs": self.epochs,
            "batch size": self.batch_size,
            "patience": self.patience,
            "preferences": self.preferences,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                what = f"{name} must be at least 1, not {count}"
                raise UsageError(what, where="learn", fix="give a positive number")
        self._require_known_names()
        if not 0 < self.rate < MOST_LR:
            what = f"learning rate {self.rate:g} is not above 0 and below {MOST_LR:g}"
            usual = OPTIMISERS[self.optimiser].lr
            raise UsageError(what, where="learn", fix=f"{usual:g} is usual for {self.optimiser}")
        for name in ("dropout", "corners"):
            if not 0 <= getattr(self, name) <= 1:
                what = f"{getattr(self, name)} is not a probability"
                raise UsageError(what, where=name, fix="give a number from 0 to 1")
        if self.rescale and self.dropout == 1:
            what = "gradients cannot be divided by 1 - dropout = 0"
            raise UsageError(what, where="dropout 1", fix="lower it, or do not rescale")

    def _require_known_names(self) -> None:
        for name, known in NAMED.items():
            value = getattr(self, name)
            if value not in known:
                what = f"unknown {name.replace('_', ' ')} {value!r}"
                raise UsageError(what, where="learn", fix=near_miss(value, known))

    def to_manifest(self) -> dict[str, Any]:
        """Return all settings that affect the result."""
        affecting = {name: value for name, value in asdict(self).items() if name != "place"}
        return {**affecting, "lr": self.rate}


def paper_epochs(k: int) -> int:
    """Return the paper's epochs for *k* ingredients: 30 for 3, 50 for 5, "roughly proportional".

    It is 30 below 3 ingredients and 50 above 5, as the paper tried no larger soup.
    """
    return 10 * min(max(k, 3), 5)


def decisions(
    settings: Settings, *, crafts: bool, statistics: bool, recalibrates: bool
) -> dict[str, str]:
    """Return how a run settles what the paper leaves open, for its manifest.

    Args:
        settings: the settings of the run.
        crafts: whether images are attacked.
        statistics: whether the ingredients have batch-norm statistics.
        recalibrates: whether statistics are re-estimated at the end.
    """
    choices = _batch_norm_decisions(settings, recalibrates) if statistics else {}
    if crafts:
        choices["attack"] = "on the mixed weights held fixed; then one differentiated pass"
    choices["gradient"] = "inner products with the ingredients, of live groups alone"
    if settings.init == "xavier":
        choices["xavier"] = "a matrix (1, K) for each group"
    if settings.dropout:
        scaling = "divided by 1 - p" if settings.rescale else "no rescaling"
        choices["detach dropout"] = f"at least one live group, {scaling}"
    return choices | {"optimiser": f"{settings.optimiser} without weight decay"}


def _batch_norm_decisions(settings: Settings, recalibrates: bool) -> dict[str, str]:
    if settings.batch_norm == "batch":
        mode = (
            "evaluation mode to craft; the batch's own statistics, of which none is kept, to step"
        )
    else:
        mode = "evaluation mode, with the soup's own statistics, to craft and to step"
    if settings.buffers == "base":
        statistics = f"those of ingredient {settings.base + 1} (policy base), constant"
    elif settings.batch_norm == "batch":
        statistics = "follow the coefficients (policy average), constant in the gradient"
    else:
        statistics = "follow the coefficients (policy average), and are differentiated"
    statistics += "; estimated anew at the end" if recalibrates else ""
    return {"batch norm": mode, "statistics": statistics}
