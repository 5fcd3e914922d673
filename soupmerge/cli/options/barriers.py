"""Options: how barriers between checkpoints are measured, and the folder that keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import output
from soupmerge.cli.options.attack import threats
from soupmerge.cli.options.ingredients import WITHOUT_IMAGES
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.output import OptionalRunOutput
from soupmerge.cli.options.parameter_types import Real, Whole
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.soups.geometry.barriers import Barriers


@dataclass(frozen=True)
class BarrierSettings:
    """How barriers between checkpoints are measured, and the folder that keeps them."""

    threats: tuple[sm.Threat, ...]
    steps: int
    points: int
    tolerance: float
    buffers: str
    output: OptionalRunOutput

    def measure(
        self, net: Any, loaded: sm.Ingredients, images: sm.Images, machine: Machine
    ) -> Barriers:
        """Return the barriers between each pair of *loaded*, clean and under each threat."""
        device = machine.device()
        attacks = [sm.APGD.training(threat, steps=self.steps) for threat in self.threats]
        benchmark = sm.Benchmark(
            images,
            attacks,
            name="basin",
            seed=machine.seed,
            batch_size=machine.batch_size,
        )
        with show.Progress() as progress:
            return sm.barrier(
                net,
                loaded,
                benchmark,
                points=self.points,
                tolerance=self.tolerance,
                buffers=self.buffers,
                run=self.output.run(device, progress),
            )

    def require_no_images(self) -> None:
        """Reject options that need images, when none are given.

        Raises:
            UsageError: a threat or a run folder is given.
        """
        for option, value in (("--threat", self.threats), ("-o", self.output.out)):
            if value:
                raise UsageError("needs images", where=option, fix="give --data")


def barriers(command: F) -> F:
    """Add the options that say how barriers are measured."""
    return grouped(
        "barriers",
        BarrierSettings,
        threats,
        click.option(
            "--steps",
            type=Whole(1, 10_000),
            default=10,
            show_default=True,
            help="Steps of the APGD attack at every point of a segment.",
        ),
        click.option(
            "--points",
            type=Whole(3, 1001),
            default=11,
            show_default=True,
            help="Points on each segment, including its ends.",
        ),
        click.option(
            "--tolerance",
            type=Real(0, 1),
            default=0.05,
            show_default=True,
            help="The highest barrier, in error rate, within a basin.",
        ),
        click.option(
            "--buffers",
            type=click.Choice(WITHOUT_IMAGES),
            default="average",
            show_default=True,
            help="Batch-norm statistics on a segment: averaged, or those of the nearer end.",
        ),
        output.run(help="Run folder that keeps the barriers", required=False, plans=False),
    )(command)
