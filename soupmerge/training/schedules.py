"""How long and how fast to train."""

from __future__ import annotations

from dataclasses import dataclass

from soupmerge.errors import UsageError, near_miss
from soupmerge.training.augment import AUGMENTS

MOST = 1e9
"""Above any rate that is meant."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; the defaults are the papers' for fine-tuning.

    SGD with momentum 0.9 and no weight decay, batches of 128, learning rate 0.001 falling to 0 as
    a cosine over 10 epochs (Huang 2023, section 4).

    Attributes:
        epochs: passes over the data.
        lr: learning rate at the start; 0.1 is usual from scratch.
        warmup: epochs over which the learning rate rises first; a few help from scratch.
        batch_size: images a step.
        momentum: of SGD.
        weight_decay: of SGD.
        augment: ``crop-flip`` or ``none``.
        precision: ``fp32``, or ``bf16`` autocast.
        every: write a snapshot every so many epochs; 0 writes none.
    """

    epochs: int = 10
    lr: float = 0.001
    warmup: float = 0.0
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 0.0
    augment: str = "crop-flip"
    precision: str = "fp32"
    every: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or self.every < 0:
            what = "epochs and batch size must be positive"
            raise UsageError(what, where="finetune", fix="change what is not")
        if not 0 < self.lr < MOST:
            what = f"learning rate {self.lr:g} is not above 0 and below {MOST:g}"
            raise UsageError(what, where="finetune", fix="the papers' is 0.001")
        rates = {"warmup": self.warmup, "momentum": self.momentum, "decay": self.weight_decay}
        for name, rate in rates.items():
            if not 0 <= rate < MOST:
                what = f"{name} {rate:g} is not at least 0 and below {MOST:g}"
                raise UsageError(what, where="finetune", fix="change it")
        if self.augment not in AUGMENTS:
            fix = near_miss(self.augment, AUGMENTS)
            raise UsageError(f"no augmentation {self.augment!r}", where="augment", fix=fix)

    @property
    def snapshots(self) -> range:
        """Epochs after which a snapshot is written."""
        return range(self.every, self.epochs + 1, self.every) if self.every else range(0)
