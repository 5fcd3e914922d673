"""Under which threats networks are judged, by which attack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import ATTACKS, AUTOATTACK_VERSIONS, PRECISIONS
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.cli.options.kinds import ThreatType, Whole
from soupmerge.cli.options.machine import Machine
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Attack:
    """Threats, and the attack that judges under each."""

    threats: tuple[sm.Threat, ...]
    attack: str
    steps: int
    attack_precision: str
    only_union: bool
    autoattack_version: str
    autoattack_attacks: str | None

    def attacks(self, seed: int) -> list[Any]:
        """Return the attacks, one for each threat.

        Raises:
            UsageError: attacks are listed that would not be run.
        """
        listed = self.autoattack_attacks
        if listed and self.attack != "autoattack":
            fix = "give --attack autoattack --autoattack-version custom"
            raise UsageError("they would not be run", where="--autoattack-attacks", fix=fix)
        chosen = tuple(word.strip() for word in listed.split(",")) if listed else ()
        if self.attack == "autoattack":
            version = self.autoattack_version
            return [sm.AutoAttack(t, version, chosen, seed) for t in self.threats]
        return [sm.preset(self.attack, threat, self.steps) for threat in self.threats]

    def benchmark(self, images: sm.Images, name: str, machine: Machine) -> sm.Benchmark:
        """Return the benchmark that judges on *images*, to choose or to judge as *name* says."""
        return sm.Benchmark(
            images,
            self.attacks(machine.seed),
            name=name,
            seed=machine.seed,
            batch_size=machine.batch_size,
            precision=self._precision(),
            only_union=self.only_union,
        )

    def _precision(self) -> str:
        """Return what attacks compute in; ``auto`` is bfloat16 where a GPU has it."""
        if self.attack_precision != "auto":
            return self.attack_precision
        if self.attack == "autoattack":
            return "fp32"
        import torch

        able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16" if able else "fp32"


@dataclass(frozen=True)
class SearchAttack(Attack):
    """The attack that compares many soups with each other."""

    thorough: bool
    transfer: bool

    def benchmark(self, images: sm.Images, name: str, machine: Machine) -> sm.Benchmark:
        """Return the benchmark, which gives hopeless images up unless it is to be thorough."""
        judge = super().benchmark(images, name, machine)
        judge = replace(judge, transfer=self.transfer)
        return judge if self.thorough else judge.giving_up()


threats = click.option(
    "--threat",
    "threats",
    multiple=True,
    type=ThreatType(),
    metavar="NORM:EPS",
    help="Threat model to judge under, such as linf:8/255; may be repeated.",
)
_OPTIONS = (
    threats,
    click.option(
        "--attack",
        type=click.Choice(ATTACKS),
        default="apgd",
        show_default=True,
        metavar="NAME",
        help=f"Attack to judge with: {', '.join(ATTACKS)}.",
    ),
    click.option(
        "--steps",
        type=Whole(1),
        default=100,
        show_default=True,
        help="Steps of attacks whose name does not say how many.",
    ),
    click.option(
        "--attack-precision",
        type=click.Choice([*PRECISIONS, "auto"]),
        default="fp32",
        show_default=True,
        help="What attacks compute in; what they fool is confirmed in float32.",
    ),
    click.option(
        "--only-union",
        is_flag=True,
        help="Judge the union of threats alone; what one has broken is left alone by the others.",
    ),
    click.option(
        "--autoattack-version",
        type=click.Choice(list(AUTOATTACK_VERSIONS)),
        default="standard",
        show_default=True,
        help="Which of its attacks AutoAttack runs.",
    ),
    click.option(
        "--autoattack-attacks",
        metavar="A,B",
        help="Attacks of the version custom, such as apgd-ce,square.",
    ),
)


def attack(command: F) -> F:
    """Add the options that say how to judge."""
    return grouped("attack", Attack, *_OPTIONS)(command)


def search_attack(command: F) -> F:
    """Add the options that say how to judge many soups."""
    return grouped(
        "attack",
        SearchAttack,
        *_OPTIONS,
        click.option(
            "--thorough",
            is_flag=True,
            help="Attack every image to the last step; without it, APGD gives up images that ten "
            "steps hardly moved, and the table says so.",
        ),
        click.option(
            "--transfer",
            is_flag=True,
            help="Try on each image first what fooled the soups before; what is found then depends "
            "on their order.",
        ),
    )(command)
