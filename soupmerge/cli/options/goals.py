"""What soups are learned against: radii or threats, shares of the clean loss, seeds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import click

import soupmerge as sm
from soupmerge.choices import NORMS
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import ThreatType, Whole
from soupmerge.cli.options.training import Objective, objective
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Goals:
    """Radii or threats to learn against, shares of the clean loss, and how many seeds."""

    eps: str | None
    norm: str
    against: tuple[sm.Threat, ...]
    objective: Objective
    seeds: int

    def objectives(self) -> dict[str, sm.Adversarial]:
        """Return name → objective: one for each radius and each share of the clean loss.

        Raises:
            UsageError: neither radii nor threats are given, or both, or one is given twice.
        """
        threats = self._threats()
        shares = self.objective.trades.split(",")
        goals = {}
        for listed in threats:
            for share in shares:
                name = "+".join(map(str, listed)) + (f" trades {share}" if len(shares) > 1 else "")
                # A radius of 0 is clean training, whatever the form.
                clean = not any(threat.eps for threat in listed)
                plain = replace(self.objective, trades_kl=None, mart=None)
                form = plain if clean else self.objective
                goals[re.sub(r"[^\w.+]+", "-", name)] = form.against(listed, share.strip())
        if len(goals) < len(threats) * len(shares):
            raise UsageError("one is given twice", where="--eps and --trades", fix="give each once")
        return goals

    def _threats(self) -> list[list[sm.Threat]]:
        from soupmerge.robustness.threats import parse_eps

        if bool(self.eps) == bool(self.against):
            fix = "give --eps 8/255, or --against linf:8/255 --against l2:0.5"
            raise UsageError("give one of the two", where="--eps and --against", fix=fix)
        if self.eps is None:
            return [list(self.against)]
        return [[sm.Threat(self.norm, parse_eps(word))] for word in self.eps.split(",")]

    def seeds_from(self, first: int) -> tuple[int, ...]:
        """Return the seeds, of which *first* is the first."""
        return tuple(range(first, first + self.seeds))


def goals(command: F) -> F:
    """Add the options that say what soups are learned against."""
    return grouped(
        "goals",
        Goals,
        click.option(
            "--eps",
            metavar="E[,E...]",
            help="Radius of the attack to learn under; 0 learns clean. Several give a soup each.",
        ),
        click.option(
            "--norm",
            type=click.Choice(NORMS),
            default="linf",
            show_default=True,
            help="Norm of the attack to learn under.",
        ),
        click.option(
            "--against",
            multiple=True,
            type=ThreatType(),
            metavar="NORM:EPS",
            help="Threats that share each batch, for robustness to all of them; instead of --eps.",
        ),
        objective,
        click.option(
            "--seeds",
            type=Whole(1, 1000),
            default=1,
            show_default=True,
            metavar="N",
            help="Learn each soup with so many seeds, from --seed on, to see what is luck.",
        ),
    )(command)
