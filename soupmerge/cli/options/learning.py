"""Options: how coefficients are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

import soupmerge as sm
from soupmerge.choices import (
    AUGMENTATIONS,
    BATCH_NORM_MODES,
    OPTIMISERS,
    PLACES,
    STORES,
    implementation,
)
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.ingredients import BufferPolicy
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.option_groups import Decorator, F, grouped
from soupmerge.cli.options.parameter_types import Real, Whole
from soupmerge.cli.options.training import Training, training
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.types import Augment


@dataclass(frozen=True)
class Learning:
    """How coefficients are learned.

    Raises:
        UsageError: the paper's settings are asked for, and others beside them.
    """

    groups: str
    epochs: int | None
    as_paper: bool
    optimiser: str
    lr: float | None
    dropout: float
    rescale: bool
    init: str
    batch_norm: str
    place: str
    store: str
    training: Training
    policy: BufferPolicy

    def __post_init__(self) -> None:
        from soupmerge.soups.learn.settings import PAPER

        source = click.get_current_context().get_parameter_source
        default = click.core.ParameterSource.DEFAULT
        typed = [f"--{name}" for name in PAPER if source(name) is not default]
        if self.as_paper and typed:
            what, fix = "--as-paper determines these", "leave them out, or leave out --as-paper"
            raise UsageError(what, where=", ".join(typed), fix=fix)

    def settings(self, k: int, batch_size: int) -> sm.Settings:
        """Return the settings of the library for *k* ingredients."""
        from soupmerge.soups.learn.settings import PAPER

        buffers = self.policy.of(k)
        settings = sm.Settings(
            by=self.groups,
            epochs=self.epochs,
            optimiser=self.optimiser,
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
        )
        return replace(settings, **PAPER) if self.as_paper else settings

    def augment(self) -> Augment | None:
        """Return the augmentation of training images, if there is one."""
        name = self.training.augment
        return None if name == "none" else implementation(AUGMENTATIONS, name, "augment")


@dataclass(frozen=True)
class Ending:
    """When learning ends, and what is done at the end.

    Raises:
        UsageError: --patience is given without images to stop on.
    """

    recalibrate: str | None
    stop_split: str | None
    patience: int | None

    def __post_init__(self) -> None:
        if self.patience is not None and not self.stop_split:
            raise UsageError("needs --stop-split", where="--patience", fix="give --stop-split val")

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


def learning(epochs: str) -> Decorator:
    """Return the options that say how coefficients are learned; *epochs* is their usual number."""
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
            help=f"Passes over the data [default: {epochs}].",
            type=Whole(1, 1_000_000),
        ),
        click.option(
            "--as-paper",
            is_flag=True,
            help="Learn as in Huang 2023: SGD at 10, Xavier's start, dropout 0.8, the buffers of "
            "the base ingredient.",
        ),
        click.option(
            "--optimiser",
            type=click.Choice(list(OPTIMISERS)),
            default="adam",
            show_default=True,
            help="Gradient descent, Adam or exponentiated gradient descent.",
        ),
        click.option(
            "--lr",
            type=Real(),
            help="Initial learning rate, which falls to 0 along a cosine [default: "
            + ", ".join(f"{entry.lr:g} for {name}" for name, entry in OPTIMISERS.items())
            + "].",
        ),
        click.option(
            "--dropout",
            type=Real(),
            default=0.0,
            show_default=True,
            help="Probability with which a group gets no gradient in a step.",
        ),
        click.option("--rescale", is_flag=True, help="Divide gradients by 1 - dropout."),
        click.option(
            "--init",
            default="best",
            show_default=True,
            metavar="best|uniform|xavier|only:N|recipe:FILE",
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
    )


def ending(command: F) -> F:
    """Add the options that say when learning ends, and what is done at the end."""
    return grouped(
        "ending",
        Ending,
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
    )(command)
