"""Settings of learning, and how a run settles what the paper leaves open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from soupmerge.choices import BATCH_NORM_MODES
from soupmerge.errors import UsageError, near_miss

MOST_LR = 1e9


@dataclass(frozen=True)
class Settings:
    """Settings of `learn`; the defaults are those of Huang 2023, sections 3 and 4.

    Attributes:
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        epochs: passes over the data; None takes `usual_epochs`.
        lr: initial learning rate, decaying to 0 along a cosine.
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

    Raises:
        UsageError: a setting is out of range or unknown.

    Example:
        >>> Settings(by="model", epochs=5).lr
        10.0
    """

    by: str = "tensor"
    epochs: int | None = None
    lr: float = 10.0
    dropout: float = 0.8
    rescale: bool = False
    init: str = "xavier"
    batch_size: int = 128
    buffers: str = "average"
    base: int = 0
    batch_norm: str = "eval"
    precision: str = "fp32"
    store: str = "fp32"
    place: str = "auto"
    patience: int | None = None

    def __post_init__(self) -> None:
        counts = {"epochs": self.epochs, "batch size": self.batch_size, "patience": self.patience}
        for name, count in counts.items():
            if count is not None and count < 1:
                what = f"{name} must be at least 1, not {count}"
                raise UsageError(what, where="learn", fix="give a positive number")
        if not 0 < self.lr < MOST_LR:
            what = f"learning rate {self.lr:g} is not above 0 and below {MOST_LR:g}"
            raise UsageError(what, where="learn", fix="the paper uses 10")
        if not 0 <= self.dropout <= 1:
            what = f"{self.dropout} is not a probability"
            raise UsageError(what, where="dropout", fix="give a number from 0 to 1")
        if self.rescale and self.dropout == 1:
            what = "gradients cannot be divided by 1 - dropout = 0"
            raise UsageError(what, where="dropout 1", fix="lower it, or do not rescale")
        if self.batch_norm not in BATCH_NORM_MODES:
            fix = near_miss(self.batch_norm, BATCH_NORM_MODES)
            raise UsageError(f"unknown mode {self.batch_norm!r}", where="batch norm", fix=fix)

    def to_manifest(self) -> dict[str, Any]:
        """Return all settings that affect the result."""
        return {name: value for name, value in asdict(self).items() if name != "place"}


def usual_epochs(k: int) -> int:
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
    return choices | {"optimiser": "SGD without momentum or weight decay"}


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
