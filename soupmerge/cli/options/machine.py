"""Where and how to compute: device, seed, threads; how much to say; which sites may be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from soupmerge.cli import show
from soupmerge.cli.options.grouping import Decorator, F, grouped, several
from soupmerge.cli.options.kinds import Whole

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Machine:
    """What a command computes on, how many images at a time, and the seed of all randomness."""

    name: str
    seed: int
    workers: int | None
    batch_size: int

    def device(self) -> torch.device:
        """Return the device, and set the number of threads.

        Raises:
            UsageError: there is no such device here.
        """
        import torch

        from soupmerge.binding import device_of

        if self.workers:
            torch.set_num_threads(self.workers)
        chosen = device_of(self.name)
        if show.is_verbose():
            threads = torch.get_num_threads()
            show.note(f"torch {torch.__version__}, {threads} threads, device {chosen}")
        return chosen


def _offline(context: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from soupmerge.sources.connections import offline

        context.with_resource(offline())


def _quiet(context: click.Context, param: click.Parameter, wanted: bool) -> None:
    context.meta[show.QUIET] = wanted


def _verbose(context: click.Context, param: click.Parameter, wanted: bool) -> None:
    context.meta[show.VERBOSE] = wanted


def debug(command: F) -> F:
    """Add the options that every command has."""
    return several(
        click.option(
            "--offline",
            is_flag=True,
            expose_value=False,
            callback=_offline,
            help="Take what is in caches; ask no site.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_quiet,
            help="Show neither progress nor notes.",
        ),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_verbose,
            help="Say more about files and the machine.",
        ),
        click.option(
            "--debug",
            is_flag=True,
            expose_value=False,
            help="Show a traceback if something goes wrong.",
        ),
    )(command)


def machine(batch_size: int) -> Decorator:
    """Return the options of commands that compute, so many images at a time unless said."""
    return grouped(
        "machine",
        Machine,
        click.option(
            "--batch-size",
            type=Whole(1, 1_000_000),
            default=batch_size,
            show_default=True,
            help="Images at a time.",
        ),
        click.option(
            "--device",
            "name",
            default="auto",
            show_default=True,
            metavar="auto|cpu|cuda[:i]",
            help="Where to compute; auto is a GPU if there is one.",
        ),
        click.option(
            "--seed",
            type=Whole(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="Of all that is random; the same seed gives the same run.",
        ),
        click.option("-j", "--workers", type=Whole(1, 1024), help="CPU threads [default: all]."),
        debug,
    )
