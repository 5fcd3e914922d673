"""Options: device, batch size, seed and threads; verbosity; network access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from soupmerge.cli import show
from soupmerge.cli.options.option_groups import Decorator, F, grouped, several
from soupmerge.cli.options.parameter_types import Whole

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Machine:
    """The device, the number of images per batch, and the seed of all randomness."""

    name: str
    seed: int
    workers: int | None
    batch_size: int

    def device(self) -> torch.device:
        """Return the device, and set the number of threads.

        Raises:
            UsageError: this machine has no such device.
        """
        import torch

        from soupmerge.binding import device_of

        if self.workers:
            torch.set_num_threads(self.workers)
        device = device_of(self.name)
        if show.is_verbose():
            threads = show.counted(torch.get_num_threads(), "thread")
            show.note(f"torch {torch.__version__}, {threads}, device {device}")
        return device


def _offline(context: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from soupmerge.sources.connections import offline

        context.with_resource(offline())


def _quiet(context: click.Context, param: click.Parameter, value: bool) -> None:
    context.meta[show.QUIET] = value


def _verbose(context: click.Context, param: click.Parameter, value: bool) -> None:
    context.meta[show.VERBOSE] = value


def common(command: F) -> F:
    """Add the options that every command has."""
    return several(
        click.option(
            "--offline",
            is_flag=True,
            expose_value=False,
            callback=_offline,
            help="Use caches only; make no network requests.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_quiet,
            help="Show no progress and no notes.",
        ),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_verbose,
            help="Show details of files and of the machine.",
        ),
        click.option(
            "--debug", is_flag=True, expose_value=False, help="Show a traceback after an error."
        ),
    )(command)


def machine(batch_size: int) -> Decorator:
    """Return the options of commands that compute, with *batch_size* as default."""
    return grouped(
        "machine",
        Machine,
        click.option(
            "--batch-size",
            type=Whole(1, 1_000_000),
            default=batch_size,
            show_default=True,
            help="Images per batch.",
        ),
        click.option(
            "--device",
            "name",
            default="auto",
            show_default=True,
            metavar="auto|cpu|cuda[:i]",
            help="Device to compute on; auto is a GPU if there is one.",
        ),
        click.option(
            "--seed",
            type=Whole(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="Seed for all randomness; the same seed gives the same results.",
        ),
        click.option("-j", "--workers", type=Whole(1, 1024), help="CPU threads [default: all]."),
        common,
    )
