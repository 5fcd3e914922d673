"""Options: the threat models to judge under, and the attack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click

import soupmerge as sm
from soupmerge.choices import ATTACKS, AUTOATTACK_VERSIONS, LOSSES, PRECISIONS, attack_names
from soupmerge.cli.options.machine import Machine
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.parameter_types import OneOf, ThreatType, Whole
from soupmerge.errors import UsageError


@dataclass(frozen=True)
class Attack:
    """Threat models, and the attack that judges under each.

    Raises:
        UsageError: attacks are listed that AutoAttack would not run.
    """

    threats: tuple[sm.Threat, ...]
    attack: str
    steps: int
    attack_precision: str
    only_union: bool
    autoattack_version: str
    autoattack_attacks: str | None

    def __post_init__(self) -> None:
        if self.autoattack_attacks and self.attack != "autoattack":
            fix = "give --attack autoattack --autoattack-version custom"
            raise UsageError("these would not be run", where="--autoattack-attacks", fix=fix)

    def under(self, threats: tuple[sm.Threat, ...]) -> Attack:
        """Return the same attack under *threats*."""
        return replace(self, threats=threats)

    def attacks(self, seed: int) -> list[Any]:
        """Return the attacks, one per threat model."""
        if self.attack != "autoattack":
            return [sm.preset(self.attack, threat, self.steps) for threat in self.threats]
        listed = self.autoattack_attacks.split(",") if self.autoattack_attacks else ()
        names = tuple(name.strip() for name in listed)
        return [sm.AutoAttack(t, self.autoattack_version, names, seed) for t in self.threats]

    def benchmark(self, images: sm.Images, name: str, machine: Machine) -> sm.Benchmark:
        """Return the benchmark *name* (``val`` chooses, ``test`` judges) on *images*."""
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
        """Return the precision of the attacks; ``auto`` is bfloat16 on GPUs that support it."""
        if self.attack_precision != "auto":
            return self.attack_precision
        if self.attack == "autoattack":
            return "fp32"
        import torch

        supported = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16" if supported else "fp32"


@dataclass(frozen=True)
class SearchAttack(Attack):
    """The attack under which a search compares soups."""

    thorough: bool
    transfer: bool

    def benchmark(self, images: sm.Images, name: str, machine: Machine) -> sm.Benchmark:
        """Return the benchmark, which gives up images that resist, unless it is thorough."""
        benchmark = replace(super().benchmark(images, name, machine), transfer=self.transfer)
        return benchmark if self.thorough else benchmark.giving_up()


threats = click.option(
    "--threat",
    "threats",
    multiple=True,
    type=ThreatType(),
    metavar="NORM:EPS",
    help="Threat model, such as linf:8/255; may be repeated.",
)
_OPTIONS = (
    threats,
    click.option(
        "--attack",
        type=OneOf(attack_names),
        default="apgd",
        show_default=True,
        metavar="NAME",
        help=f"Attack to judge with: {', '.join(ATTACKS)}; or pgd-LOSS or apgd-LOSS with one of "
        f"{', '.join(LOSSES)}.",
    ),
    click.option(
        "--steps",
        type=Whole(1),
        default=100,
        show_default=True,
        help="Steps of the attack, unless its name implies their number.",
    ),
    click.option(
        "--attack-precision",
        type=click.Choice([*PRECISIONS, "auto"]),
        default="fp32",
        show_default=True,
        help="Precision of the attack; its successes are confirmed in float32.",
    ),
    click.option(
        "--only-union",
        is_flag=True,
        help="Judge the union of threats alone: images that one threat breaks are not attacked "
        "under the others.",
    ),
    click.option(
        "--autoattack-version",
        type=click.Choice(list(AUTOATTACK_VERSIONS)),
        default="standard",
        show_default=True,
        help="Which attacks AutoAttack runs.",
    ),
    click.option(
        "--autoattack-attacks",
        metavar="A,B",
        help="Attacks of the version custom, such as apgd-ce,square.",
    ),
)


def attack(command: F) -> F:
    """Add the options of the attack that judges networks."""
    return grouped("attack", Attack, *_OPTIONS)(command)


def search_attack(command: F) -> F:
    """Add the options of the attack that compares the soups of a search."""
    return grouped(
        "attack",
        SearchAttack,
        *_OPTIONS,
        click.option(
            "--thorough",
            is_flag=True,
            help="Attack every image to the last step. Without it, APGD gives up images that ten "
            "steps hardly changed, and the table says so.",
        ),
        click.option(
            "--transfer",
            is_flag=True,
            help="First try, on each image, the adversarial images of the soups before; results "
            "then depend on the order of the soups.",
        ),
    )(command)
