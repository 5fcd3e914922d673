"""Options: the objectives of learned soups, one per radius, share of the clean loss, and seed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import click

import soupmerge as sm
from soupmerge.choices import NORMS
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import ThreatType, Whole
from soupmerge.cli.options.training import Loss, loss
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Objectives:
    """Radii or threats to learn against, shares of the clean loss, and the number of seeds.

    Raises:
        UsageError: neither radii nor threats are given, or both, or a value is repeated.
    """

    eps: str | None
    norm: str
    against: tuple[sm.Threat, ...]
    loss: Loss
    seeds: int

    def __post_init__(self) -> None:
        if bool(self.eps) == bool(self.against):
            fix = "give --eps 8/255, or --against linf:8/255 --against l2:0.5"
            raise UsageError("give one of the two", where="--eps and --against", fix=fix)
        if len(set(self.names())) < len(self.names()):
            what, fix = "a value is repeated", "give each once"
            raise UsageError(what, where="--eps and --trades", fix=fix)

    def names(self) -> list[str]:
        """Return the names of the objectives, which are those of threats and shares."""
        return [name for name, _, _ in self._combinations()]

    def by_name(self) -> dict[str, sm.Adversarial]:
        """Return name → objective, one for each radius and each share of the clean loss."""
        objectives = {}
        for name, attacked, share in self._combinations():
            # With radius 0, any form of loss is clean training.
            is_clean = not any(threat.eps for threat in attacked)
            form = replace(self.loss, trades_kl=None, mart=None) if is_clean else self.loss
            objectives[name] = form.against(attacked, share)
        return objectives

    def _combinations(self) -> Iterator[tuple[str, list[sm.Threat], str]]:
        """Yield name, threats and share of the clean loss of each objective."""
        from soupmerge.robustness.threats import parse_eps

        if self.eps is None:
            threats = [list(self.against)]
        else:
            threats = [[sm.Threat(self.norm, parse_eps(word))] for word in self.eps.split(",")]
        shares = self.loss.trades.split(",")
        for attacked in threats:
            for share in shares:
                name = "+".join(map(str, attacked))
                name += f" trades {share}" if len(shares) > 1 else ""
                yield re.sub(r"[^\w.+]+", "-", name), attacked, share.strip()

    def seeds_from(self, first: int) -> tuple[int, ...]:
        """Return the seeds, which are consecutive from *first*."""
        return tuple(range(first, first + self.seeds))


def objectives(command: F) -> F:
    """Add the options that say what soups are learned against."""
    return grouped(
        "objectives",
        Objectives,
        click.option(
            "--eps",
            metavar="E[,E...]",
            help="Radius of the attack to learn against; 0 is clean learning. Several radii give a "
            "soup each.",
        ),
        click.option(
            "--norm",
            type=click.Choice(NORMS),
            default="linf",
            show_default=True,
            help="Norm of --eps.",
        ),
        click.option(
            "--against",
            multiple=True,
            type=ThreatType(),
            metavar="NORM:EPS",
            help="Threat model to learn against, instead of --eps; if repeated, the threats share "
            "each batch, for robustness to all of them.",
        ),
        loss,
        click.option(
            "--seeds",
            type=Whole(1, 1000),
            default=1,
            show_default=True,
            metavar="N",
            help="Learn each soup with N consecutive seeds from --seed on, to see the spread.",
        ),
    )(command)
