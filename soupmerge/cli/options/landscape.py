"""Options of a landscape: its lattice, the attack at its points, and batch-norm statistics."""

from __future__ import annotations

from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.choices import BUFFER_POLICIES
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.attack import threats
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import Real, Whole
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class LandscapeSettings:
    """The lattice on the plane, the attack at its points, and their batch-norm statistics."""

    threats: tuple[sm.Threat, ...]
    steps: int
    points: int
    margin: float
    buffers: str
    base: int
    calibrate_on: str
    calibrate_limit: int

    def attacks(self) -> list[sm.APGD]:
        """Return the attacks, one per threat model."""
        return [sm.APGD.training(threat, steps=self.steps) for threat in self.threats]

    def policy(self, k: int) -> sm.Buffers:
        """Return the buffer policy before any re-estimation, for *k* ingredients."""
        policy = "average" if self.buffers == "recalibrate" else self.buffers
        return sm.Buffers(policy, ingredients.index_of_base(self.base, k))

    def calibration(self, data: Data, seed: int) -> sm.Calibration | None:
        """Return the images on which statistics are re-estimated, if they are.

        Raises:
            UsageError: such images are given without --buffers recalibrate.
        """
        source = click.get_current_context().get_parameter_source
        if self.buffers != "recalibrate":
            for name in ("calibrate_on", "calibrate_limit"):
                if source(name) is not click.core.ParameterSource.DEFAULT:
                    what, where = "statistics are not re-estimated", f"--{name.replace('_', '-')}"
                    raise UsageError(what, where=where, fix="give --buffers recalibrate")
            return None
        return sm.Calibration(data.part(self.calibrate_on, self.calibrate_limit), seed=seed)


def settings(command: F) -> F:
    """Add the options of a landscape."""
    return grouped(
        "settings",
        LandscapeSettings,
        threats,
        click.option(
            "--steps",
            type=Whole(1, 10_000),
            default=20,
            show_default=True,
            help="Steps of the APGD attack on every image at every point.",
        ),
        click.option(
            "--points",
            type=Whole(2, 1000),
            default=15,
            show_default=True,
            help="Points along each side of the lattice.",
        ),
        click.option(
            "--margin",
            type=Real(0, 99),
            default=0.2,
            show_default=True,
            help="How far the lattice extends beyond the checkpoints, as a fraction of their "
            "extent.",
        ),
        click.option(
            "--buffers",
            type=click.Choice(BUFFER_POLICIES),
            default="average",
            show_default=True,
            help="Batch-norm statistics: averaged like weights, copied from the base ingredient, "
            "or re-estimated at every point on images of --calibrate-on.",
        ),
        ingredients.base,
        click.option(
            "--calibrate-on",
            metavar="SPLIT",
            default="train",
            show_default=True,
            help="Part of the data to re-estimate statistics on.",
        ),
        click.option(
            "--calibrate-limit",
            type=Whole(2),
            default=1000,
            show_default=True,
            help="How many images of it, the same at every point.",
        ),
    )(command)
