"""Training schedules."""

from __future__ import annotations

from dataclasses import dataclass

from soupmerge.choices import AUGMENTATIONS
from soupmerge.errors import UsageError, near_miss

MOST = 1e9
"""An upper bound for rates, far above any sensible value."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; the defaults are those of the papers for fine-tuning.

    These are SGD with momentum 0.9 and no weight decay, batches of 128, and a learning rate that
    falls from 0.001 to 0 as a cosine over 10 epochs (Huang 2023, section 4).

    Attributes:
        epochs: passes over the data.
        lr: highest learning rate; 0.1 is usual for training from scratch.
        warmup: epochs over which the learning rate rises; a few help training from scratch.
        batch_size: images in a step.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        augment: augmentation of the images: ``crop-flip`` or ``none``.
        precision: ``fp32``, or ``bf16`` autocast.
        every: number of epochs between snapshots; 0 writes none.

    Raises:
        UsageError: a number is out of range, or the augmentation is unknown.

    Example:
        >>> Schedule(epochs=5, every=2).snapshots
        range(2, 6, 2)
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
        counts = {"epochs": (self.epochs, 1), "batch size": (self.batch_size, 1)}
        for name, (count, least) in {**counts, "every": (self.every, 0)}.items():
            if count < least:
                what, fix = f"{name} {count} is below {least}", f"give at least {least}"
                raise UsageError(what, where="finetune", fix=fix)
        if not 0 < self.lr < MOST:
            what = f"learning rate {self.lr:g} is not above 0 and below {MOST:g}"
            raise UsageError(what, where="finetune", fix="the papers use 0.001")
        rates = {"warmup": self.warmup, "momentum": self.momentum, "decay": self.weight_decay}
        for name, rate in rates.items():
            if not 0 <= rate < MOST:
                what = f"{name} {rate:g} is not at least 0 and below {MOST:g}"
                raise UsageError(what, where="finetune", fix=f"change the {name}")
        if self.augment not in AUGMENTATIONS:
            fix = near_miss(self.augment, AUGMENTATIONS)
            raise UsageError(f"unknown augmentation {self.augment!r}", where="augment", fix=fix)

    @property
    def snapshots(self) -> range:
        """The epochs after which a snapshot is written."""
        return range(self.every, self.epochs + 1, self.every) if self.every else range(0)
