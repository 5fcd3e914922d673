"""Options: the loss of a training, its precision and augmentation, and its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.choices import AUGMENTATIONS, PRECISIONS
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import Real, Whole
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Loss:
    """The loss: a mixture of clean and adversarial cross-entropy, TRADES or MART.

    Raises:
        UsageError: both TRADES and MART are given.
    """

    trades: str
    trades_kl: float | None
    mart: float | None
    label_smoothing: float
    attack_steps: int

    def __post_init__(self) -> None:
        if self.trades_kl is not None and self.mart is not None:
            raise UsageError("give one of the two", where="--trades-kl and --mart")

    def against(self, threats: Sequence[sm.Threat], share: str) -> sm.Adversarial:
        """Return the objective under *threats*, in which the clean loss has the weight *share*.

        Raises:
            UsageError: *share* is not a number.
        """
        from soupmerge.numbers import exact

        betas = {"trades-kl": self.trades_kl, "mart": self.mart}
        form, beta = next(((f, b) for f, b in betas.items() if b is not None), ("mix", 6.0))
        return sm.against(
            threats,
            alpha=float(exact(share, "--trades")),
            steps=self.attack_steps,
            form=form,
            beta=beta,
            smoothing=self.label_smoothing,
        )


@dataclass(frozen=True)
class Training:
    """The augmentation of images before they are attacked, and the precision of steps."""

    augment: str
    precision: str


label_smoothing = click.option(
    "--label-smoothing",
    type=Real(),
    default=0.0,
    metavar="S",
    help="Label smoothing, in [0, 1).",
)
attack_steps = click.option(
    "--attack-steps",
    type=Whole(1, 10_000),
    default=2,
    show_default=True,
    help="Steps of the APGD attack in training.",
)


def loss(command: F) -> F:
    """Add the options of the loss."""
    return grouped(
        "loss",
        Loss,
        click.option(
            "--trades",
            default="0",
            metavar="A",
            help="Weight of the clean loss beside the adversarial one, in [0, 1].",
        ),
        click.option(
            "--trades-kl",
            type=Real(),
            metavar="BETA",
            help="TRADES as published: the clean loss plus BETA times a divergence; 6 is usual.",
        ),
        click.option(
            "--mart", type=Real(), metavar="BETA", help="MART, with BETA times its divergence."
        ),
        label_smoothing,
        attack_steps,
    )(command)


def training(command: F) -> F:
    """Add the options of augmentation and precision."""
    return grouped(
        "training",
        Training,
        click.option(
            "--augment",
            type=click.Choice(AUGMENTATIONS),
            default="crop-flip",
            show_default=True,
            help="Augmentation of training images.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="fp32",
            show_default=True,
            help="Compute in float32, or in bfloat16 autocast, which is faster on some devices.",
        ),
    )(command)


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast to train, and which epochs to keep."""

    epochs: int
    lr: float | None
    warmup: float
    weight_decay: float
    every: int

    def schedule(self, training: Training, batch_size: int, *, is_new: bool) -> sm.Schedule:
        """Return the schedule; by default, a new network learns faster than a fine-tuned one."""
        return sm.Schedule(
            epochs=self.epochs,
            lr=(0.1 if is_new else 0.001) if self.lr is None else self.lr,
            warmup=self.warmup,
            batch_size=batch_size,
            weight_decay=self.weight_decay,
            augment=training.augment,
            precision=training.precision,
            every=self.every,
        )


def training_schedule(command: F) -> F:
    """Add the options of a schedule."""
    return grouped(
        "training_schedule",
        TrainingSchedule,
        click.option(
            "--epochs",
            help="Passes over the data.",
            type=Whole(1, 1_000_000),
            default=10,
            show_default=True,
        ),
        click.option(
            "--lr",
            type=Real(),
            help="Initial learning rate [default: 0.001, or 0.1 without BASE].",
        ),
        click.option(
            "--warmup",
            type=Real(),
            default=0.0,
            show_default=True,
            help="Epochs over which the learning rate rises at first.",
        ),
        click.option(
            "--weight-decay",
            type=Real(),
            default=0.0,
            show_default=True,
            help="Weight decay of SGD.",
        ),
        click.option(
            "--every",
            type=Whole(0),
            default=0,
            metavar="N",
            help="Also write the network after every Nth epoch.",
        ),
    )(command)
