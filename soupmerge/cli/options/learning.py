"""Options: how coefficients are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import soupmerge as sm
from soupmerge.choices import AUGMENTATIONS, BATCH_NORM_MODES, PLACES, STORES, implementation
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.ingredients import BufferPolicy
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import Real, Whole
from soupmerge.cli.options.training import Training, training
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.types import Augment


@dataclass(frozen=True)
class Learning:
    """How coefficients are learned.

    Raises:
        UsageError: --patience is given without images to stop on.
    """

    groups: str
    epochs: int | None
    lr: float
    dropout: float
    rescale: bool
    init: str
    batch_norm: str
    recalibrate: str | None
    stop_split: str | None
    patience: int | None
    place: str
    store: str
    training: Training
    policy: BufferPolicy

    def __post_init__(self) -> None:
        if self.patience is not None and not self.stop_split:
            raise UsageError("needs --stop-split", where="--patience", fix="give --stop-split val")

    def settings(self, k: int, batch_size: int) -> sm.Settings:
        """Return the settings of the library for *k* ingredients."""
        from soupmerge.soups.learn.settings import usual_epochs

        buffers = self.policy.of(k)
        return sm.Settings(
            by=self.groups,
            epochs=self.epochs or usual_epochs(k),
            lr=self.lr,
            dropout=self.dropout,
            rescale=self.rescale,
            init=self.init,
            batch_size=batch_size,
            buffers=buffers.policy,
            base=buffers.base,
            batch_norm=self.batch_norm,
            precision=self.training.precision,
            store=self.store,
            place=self.place,
            patience=self.patience,
        )

    def augment(self) -> Augment | None:
        """Return the augmentation of training images, if there is one."""
        name = self.training.augment
        return None if name == "none" else implementation(AUGMENTATIONS, name, "augment")

    def stop_on(self, data: Data) -> sm.Images | None:
        """Return the images on which the epoch with the lowest loss is chosen, if any."""
        return data.part(self.stop_split) if self.stop_split else None

    def calibration(
        self, objectives: Sequence[sm.Adversarial], images: sm.Images, machine: Machine
    ) -> sm.Calibration | None:
        """Return what to re-estimate batch-norm statistics on at the end; None if nothing.

        Raises:
            UsageError: this is to happen under attack, and there is not exactly one attack.
        """
        if self.recalibrate is None:
            return None
        attack = None
        if self.recalibrate == "attacked":
            if len(objectives) > 1 or len(objectives[0].attacks) != 1:
                fix = "learn one soup under one threat, or give --recalibrate clean"
                raise UsageError("needs one attack", where="--recalibrate attacked", fix=fix)
            attack = objectives[0].attacks[0]
        return sm.Calibration(images, attack, machine.batch_size, machine.seed)


def learning(command: F) -> F:
    """Add the options that say how coefficients are learned."""
    return grouped(
        "learning",
        Learning,
        click.option(
            "--groups",
            default="tensor",
            show_default=True,
            metavar="tensor|module|block|model|glob=A,B",
            help="Groups of tensors that share coefficients.",
        ),
        click.option(
            "--epochs",
            help="Passes over the data [default: 30 for up to 3 ingredients, 40 for 4, 50 for "
            "more].",
            type=Whole(1, 1_000_000),
        ),
        click.option(
            "--lr",
            type=Real(),
            default=10.0,
            show_default=True,
            help="Initial learning rate; it falls to 0 along a cosine.",
        ),
        click.option(
            "--dropout",
            type=Real(),
            default=0.8,
            show_default=True,
            help="Probability with which a group gets no gradient in a step.",
        ),
        click.option("--rescale", is_flag=True, help="Divide gradients by 1 - dropout."),
        click.option(
            "--init",
            default="xavier",
            show_default=True,
            metavar="xavier|uniform|only:N|recipe:FILE",
            help="Initial coefficients.",
        ),
        click.option(
            "--batch-norm",
            type=click.Choice(BATCH_NORM_MODES),
            default="eval",
            show_default=True,
            help="Batch-norm statistics during a step: those of the soup (eval) or of the batch.",
        ),
        click.option(
            "--recalibrate",
            type=click.Choice(["clean", "attacked"]),
            help="Re-estimate batch-norm statistics at the end, on --data, clean or under attack.",
        ),
        click.option(
            "--stop-split",
            metavar="SPLIT",
            help="Keep the epoch with the lowest loss on this part of the data.",
        ),
        click.option(
            "--patience",
            type=Whole(1),
            metavar="N",
            help="Stop after N epochs without a lower loss on --stop-split.",
        ),
        click.option(
            "--ingredients",
            "place",
            type=click.Choice(["auto", *PLACES]),
            default="auto",
            show_default=True,
            help="Where the ingredients are kept; results do not depend on it.",
        ),
        click.option(
            "--store",
            type=click.Choice(STORES),
            default="fp32",
            show_default=True,
            help="Keep the ingredients as they are, or as bfloat16 differences from the base.",
        ),
        training,
        ingredients.policy,
    )(command)
