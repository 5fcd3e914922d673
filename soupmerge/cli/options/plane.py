"""The plane of a landscape: its lattice, the attack at its points, and their statistics."""

from __future__ import annotations

from dataclasses import dataclass

import click

import soupmerge as sm
from soupmerge.cli.options import ingredients
from soupmerge.cli.options.attack import threats
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import Real, Whole
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Plane:
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
        """Return the attacks, one for each threat."""
        return [sm.APGD.training(threat, steps=self.steps) for threat in self.threats]

    def policy(self, k: int) -> sm.Buffers:
        """Return where the buffers come from that are not estimated, for *k* ingredients."""
        policy = "average" if self.buffers == "recalibrate" else self.buffers
        return sm.Buffers(policy, ingredients.index_of_base(self.base, k))

    def calibration(self, data: Data, seed: int) -> sm.Calibration | None:
        """Return the images that statistics are estimated on, if they are.

        Raises:
            UsageError: such images are named, but nothing is estimated.
        """
        source = click.get_current_context().get_parameter_source
        if self.buffers != "recalibrate":
            for name in ("calibrate_on", "calibrate_limit"):
                if source(name) is not click.core.ParameterSource.DEFAULT:
                    where, fix = f"--{name.replace('_', '-')}", "give --buffers recalibrate"
                    raise UsageError("nothing is estimated on it", where=where, fix=fix)
            return None
        return sm.Calibration(data.part(self.calibrate_on, self.calibrate_limit), seed=seed)


def plane(command: F) -> F:
    """Add the options that describe the plane."""
    return grouped(
        "plane",
        Plane,
        threats,
        click.option(
            "--steps",
            type=Whole(1, 10_000),
            default=20,
            show_default=True,
            help="Steps of the APGD that attacks every image at every point.",
        ),
        click.option(
            "--points",
            type=Whole(2, 1000),
            default=15,
            show_default=True,
            help="Points to each side of the lattice.",
        ),
        click.option(
            "--margin",
            type=Real(0, 99),
            default=0.2,
            show_default=True,
            help="How far it reaches beyond the checkpoints, in parts of their extent.",
        ),
        click.option(
            "--buffers",
            type=click.Choice(["average", "base", "recalibrate"]),
            default="average",
            show_default=True,
            help="Batch-norm statistics: averaged like weights, taken from one ingredient, or "
            "estimated anew at every point on images of --calibrate-on.",
        ),
        ingredients.base,
        click.option(
            "--calibrate-on",
            metavar="SPLIT",
            default="train",
            show_default=True,
            help="Part of the data whose first images, drawn once, recalibrate.",
        ),
        click.option(
            "--calibrate-limit",
            type=Whole(2),
            default=1000,
            show_default=True,
            help="How many of them.",
        ),
    )(command)
