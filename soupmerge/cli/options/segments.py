"""How barriers between checkpoints are measured, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options.attack import threats
from soupmerge.cli.options.data import Data
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import Real, Whole
from soupmerge.cli.options.machine import Machine
from soupmerge.errors import UsageError

if TYPE_CHECKING:
    from soupmerge.soups.geometry.barriers import Barriers


@dataclass(frozen=True)
class Segments:
    """How barriers between the checkpoints are measured, and where they are kept."""

    threats: tuple[sm.Threat, ...]
    steps: int
    points: int
    tolerance: float
    buffers: str
    out: str | None

    def barriers(
        self,
        net: Any,
        loaded: sm.Ingredients,
        data: Data,
        machine: Machine,
        *,
        force: bool,
    ) -> Barriers:
        """Return the barriers between each pair, clean and under each threat."""
        device = machine.device()
        attacks = [sm.APGD.training(threat, steps=self.steps) for threat in self.threats]
        benchmark = sm.Benchmark(
            data.images(),
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
                run=sm.Run(self.out, force, device, progress),
            )

    def require_data(self) -> None:
        """Refuse what needs images where none are named.

        Raises:
            UsageError: there is a threat, or a run folder.
        """
        if self.threats:
            raise UsageError("nothing to attack", where="--threat", fix="give --data")
        if self.out:
            raise UsageError("no barrier to keep", where="-o", fix="give --data")


def segments(command: F) -> F:
    """Add the options that say how barriers are measured."""
    return grouped(
        "segments",
        Segments,
        threats,
        click.option(
            "--steps",
            type=Whole(1, 10_000),
            default=10,
            show_default=True,
            help="Steps of the APGD that attacks every point of a segment.",
        ),
        click.option(
            "--points",
            type=Whole(3, 1001),
            default=11,
            show_default=True,
            help="Points on each segment, ends included.",
        ),
        click.option(
            "--tolerance",
            type=Real(0, 1),
            default=0.05,
            show_default=True,
            help="The highest barrier, in error, within a basin.",
        ),
        click.option(
            "--buffers",
            type=click.Choice(["average", "base"]),
            default="average",
            show_default=True,
            help="Batch-norm statistics on the way: averaged, or those of the nearer end.",
        ),
        click.option("-o", "--out", metavar="RUN", help="Keep the barriers in a run folder."),
    )(command)
