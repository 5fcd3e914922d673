"""How coefficients are learned, and what the paper leaves open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from soupmerge.choices import BATCH_NORM_MODES
from soupmerge.errors import UsageError, near_miss

MOST_LR = 1e9


@dataclass(frozen=True)
class Settings:
    """How coefficients are learned; the defaults are the paper's (Huang 2023, sections 3 and 4).

    Attributes:
        by: grouping: ``model``, ``block``, ``module``, ``tensor`` or ``glob=A,B``.
        epochs: passes over the data; None is `usual_epochs` of the number of ingredients.
        lr: learning rate at the start, falling to 0 as a cosine.
        dropout: probability with which a group is detached in a step.
        rescale: divide gradients by 1 − *dropout*, so that their mean is that without dropout.
        init: where the logits start, see `soupmerge.soups.learn.starts.start`.
        batch_size: images a step.
        buffers: policy for batch-norm statistics: ``average`` or ``base``.
        base: the ingredient that counters (and ``base`` statistics) come from.
        batch_norm: ``eval`` takes the step with the soup's statistics, ``batch`` with the batch's.
        precision: ``fp32``, or ``bf16`` autocast.
        store: ``fp32``, or ``bf16`` to keep ingredients as bfloat16 differences from the base.
        place: where ingredients are kept: ``device``, ``host``, ``files``, or ``auto``, the first
            with enough room. It changes no number.
        patience: epochs without a lower loss on the stopping split before learning ends; None
            goes on to the end, and takes the best epoch.
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
        counts = (self.batch_size, *(n for n in (self.epochs, self.patience) if n is not None))
        if min(counts) < 1:
            what = "epochs, batch size and patience must be positive"
            raise UsageError(what, where="learn", fix="change what is not")
        if not 0 < self.lr < MOST_LR:
            what = f"learning rate {self.lr:g} is not above 0 and below {MOST_LR:g}"
            raise UsageError(what, where="learn", fix="the paper's is 10")
        if not 0 <= self.dropout <= 1:
            what = f"{self.dropout} is not a probability"
            raise UsageError(what, where="dropout", fix="give a number from 0 to 1")
        if self.rescale and self.dropout == 1:
            raise UsageError("nothing is left to rescale", where="dropout 1", fix="give less")
        if self.batch_norm not in BATCH_NORM_MODES:
            fix = near_miss(self.batch_norm, BATCH_NORM_MODES)
            raise UsageError(f"no mode {self.batch_norm!r}", where="batch norm", fix=fix)

    def noted(self) -> dict[str, Any]:
        """Return all settings that change a number, for a manifest."""
        return {name: value for name, value in asdict(self).items() if name != "place"}


def usual_epochs(k: int) -> int:
    """Return the paper's length for *k* ingredients: 30 up to 3, 50 for 5, "roughly proportional".

    Not more than 50, as the paper tried no larger soup.
    """
    return 10 * min(max(k, 3), 5)


def decisions(
    settings: Settings, *, crafts: bool, statistics: bool, recalibrates: bool
) -> dict[str, str]:
    """Return how a run settles what the paper leaves open, for its manifest.

    Args:
        settings: those of the run.
        crafts: whether images are attacked.
        statistics: whether the ingredients have batch-norm statistics.
        recalibrates: whether statistics are estimated anew at the end.
    """
    decided = _of_batch_norm(settings, recalibrates) if statistics else {}
    if crafts:
        decided["attack"] = "on the mixed weights held fixed; then one differentiated pass"
    decided["gradient"] = "inner products with the ingredients, of live groups alone"
    if settings.init == "xavier":
        decided["xavier"] = "a matrix (1, K) for each group"
    if settings.dropout:
        rescaled = "divided by 1 - p" if settings.rescale else "no rescaling"
        decided["detach dropout"] = f"at least one live group, {rescaled}"
    return decided | {"optimiser": "SGD without momentum or weight decay"}


def _of_batch_norm(settings: Settings, recalibrates: bool) -> dict[str, str]:
    if settings.batch_norm == "batch":
        mode = (
            "evaluation mode to craft; the batch's own statistics, of which none is kept, to step"
        )
    else:
        mode = "evaluation mode, with the soup's own statistics, to craft and to step"
    if settings.buffers == "base":
        kept = f"those of ingredient {settings.base + 1} (policy base), constant"
    elif settings.batch_norm == "batch":
        kept = "follow the coefficients (policy average), constant in the gradient"
    else:
        kept = "follow the coefficients (policy average), and are differentiated"
    return {
        "batch norm": mode,
        "statistics": kept + ("; estimated anew at the end" if recalibrates else ""),
    }
