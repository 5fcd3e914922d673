"""What a training minimises, and how its steps are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.choices import AUGMENTATIONS
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import Real, Whole
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Objective:
    """The loss: a share of the clean loss beside the adversarial one, or a form of its own."""

    trades: str
    trades_kl: float | None
    mart: float | None
    label_smoothing: float
    attack_steps: int

    def against(self, threats: Sequence[sm.Threat], share: str) -> sm.Adversarial:
        """Return the objective under *threats*, with so large a *share* of the clean loss.

        Raises:
            UsageError: two forms are given, or a number cannot be read.
        """
        from soupmerge.numbers import exact

        named = {"trades-kl": self.trades_kl, "mart": self.mart}
        forms = {form: beta for form, beta in named.items() if beta is not None}
        if len(forms) > 1:
            raise UsageError("give one of the two", where="--trades-kl and --mart")
        form, beta = next(iter(forms.items()), ("mix", 6.0))
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
    """How images are changed before they are attacked, and in what precision steps are taken."""

    augment: str
    precision: str


def objective(command: F) -> F:
    """Add the options that say what is minimised."""
    return grouped(
        "objective",
        Objective,
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
            help="TRADES as its authors have it: clean loss and BETA times a divergence; 6 is "
            "usual.",
        ),
        click.option(
            "--mart", type=Real(), metavar="BETA", help="MART, with BETA times its divergence."
        ),
        click.option(
            "--label-smoothing",
            type=Real(),
            default=0.0,
            metavar="S",
            help="Of labels, in [0, 1).",
        ),
        click.option(
            "--attack-steps",
            type=Whole(1, 10_000),
            default=2,
            show_default=True,
            help="Steps of the APGD that is trained against.",
        ),
    )(command)


def training(command: F) -> F:
    """Add the options that say how steps are taken."""
    return grouped(
        "training",
        Training,
        click.option(
            "--augment",
            type=click.Choice(AUGMENTATIONS),
            default="crop-flip",
            show_default=True,
            help="What is done to training images.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "bf16"]),
            default="fp32",
            show_default=True,
            help="Compute in float32, or in bfloat16 where the device is faster so.",
        ),
    )(command)


@dataclass(frozen=True)
class Steps:
    """How long and how fast to train, and which epochs to keep."""

    epochs: int
    lr: float | None
    warmup: float
    weight_decay: float
    every: int

    def schedule(self, how: Training, batch_size: int, *, fresh: bool) -> sm.Schedule:
        """Return the schedule; a new network learns faster unless a rate is given."""
        return sm.Schedule(
            epochs=self.epochs,
            lr=(0.1 if fresh else 0.001) if self.lr is None else self.lr,
            warmup=self.warmup,
            batch_size=batch_size,
            weight_decay=self.weight_decay,
            augment=how.augment,
            precision=how.precision,
            every=self.every,
        )


def steps(command: F) -> F:
    """Add the options of a schedule."""
    return grouped(
        "steps",
        Steps,
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
            help="Learning rate at the start [default: 0.001, or 0.1 without BASE].",
        ),
        click.option(
            "--warmup",
            type=Real(),
            default=0.0,
            show_default=True,
            help="Epochs over which the learning rate rises first.",
        ),
        click.option("--weight-decay", type=Real(), default=0.0, show_default=True, help="Of SGD."),
        click.option(
            "--every", type=Whole(0), default=0, metavar="N", help="Keep every Nth epoch."
        ),
    )(command)
