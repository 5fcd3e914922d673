"""How coefficients are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import soupmerge as sm
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.ingredients import Policy
from soupmerge.cli.options.kinds import Real, Whole
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.training import Training, training
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.types import Augment


@dataclass(frozen=True)
class Learning:
    """How coefficients are learned."""

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
    policy: Policy

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
        """Return what is done to training images."""
        from soupmerge.training.augment import AUGMENTS

        return None if self.training.augment == "none" else AUGMENTS[self.training.augment]

    def stop_on(self, data: Data) -> sm.Images | None:
        """Return the images on which the epoch of the lowest loss is chosen, if there are any."""
        return data.part(self.stop_split) if self.stop_split else None

    def calibration(
        self, goals: Sequence[sm.Adversarial], images: sm.Images, machine: Machine
    ) -> sm.Calibration | None:
        """Return what batch-norm statistics are estimated on at the end, if they are.

        Raises:
            UsageError: they are to be estimated under attack, and there is not just one.
        """
        if self.recalibrate is None:
            return None
        attack = None
        if self.recalibrate == "attacked":
            if len(goals) > 1 or len(goals[0].attacks) != 1:
                fix = "learn one soup, under one threat, or recalibrate clean"
                raise UsageError("needs one attack", where="--recalibrate attacked", fix=fix)
            attack = goals[0].attacks[0]
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
            help="What has coefficients of its own.",
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
            help="Learning rate at the start; falls to 0 as a cosine.",
        ),
        click.option(
            "--dropout",
            type=Real(),
            default=0.8,
            show_default=True,
            help="Probability with which a group is detached in a step.",
        ),
        click.option("--rescale", is_flag=True, help="Divide gradients by 1 - dropout."),
        click.option(
            "--init",
            default="xavier",
            show_default=True,
            metavar="xavier|uniform|only:N|recipe:FILE",
            help="Where the coefficients start.",
        ),
        click.option(
            "--batch-norm",
            type=click.Choice(["eval", "batch"]),
            default="eval",
            show_default=True,
            help="Statistics in the step: those of the soup, or of the batch.",
        ),
        click.option(
            "--recalibrate",
            type=click.Choice(["clean", "attacked"]),
            help="Estimate batch-norm statistics anew at the end, on --data as it is or under "
            "attack.",
        ),
        click.option(
            "--stop-split", metavar="SPLIT", help="Take the epoch of lowest loss on this part."
        ),
        click.option(
            "--patience", type=Whole(1), metavar="N", help="End after N epochs without a lower."
        ),
        click.option(
            "--ingredients",
            "place",
            type=click.Choice(["auto", "device", "host", "files"]),
            default="auto",
            show_default=True,
            help="Where the ingredients are kept; changes no number.",
        ),
        click.option(
            "--store",
            type=click.Choice(["fp32", "bf16"]),
            default="fp32",
            show_default=True,
            help="Keep them whole, or as bfloat16 differences from the base.",
        ),
        training,
        ingredients.policy,
    )(command)
