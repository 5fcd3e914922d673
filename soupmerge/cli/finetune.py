"""``soupmerge finetune``: make an ingredient."""

from __future__ import annotations

from collections.abc import Sequence

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import ingredients, output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.kinds import ThreatType
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.training import Objective, Steps, Training, objective, steps, training
from soupmerge.errors import UsageError


@click.command(cls=Command)
@click.argument("base", required=False, metavar="[BASE]")
@click.option(
    "--threat",
    "threats",
    required=True,
    multiple=True,
    type=ThreatType(clean=True),
    metavar="NORM:EPS|clean",
    help="Threat model to train against, such as linf:8/255, or clean; several share each batch.",
)
@data("train")
@steps
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file.")
@objective
@training
@network
@ingredients.weights_key
@machine(128)
@output.force
@output.dry_run
def command(
    base: str | None,
    threats: tuple[sm.Threat | None, ...],
    data: Data,
    steps: Steps,
    out: str,
    objective: Objective,
    training: Training,
    network: Network,
    weights_key: str | None,
    machine: Machine,
    force: bool,
    dry_run: bool,
) -> None:
    """Train BASE further against a threat, or a new network if BASE is left out.

    State is kept in the folder OUT.run, so that the same command goes on after an interruption.
    """
    from soupmerge.sources.refs import opened

    if not out.endswith(".safetensors"):
        raise UsageError("is not a .safetensors file", where=out, fix="name one")
    device = machine.device()
    checkpoint = opened(base, weights_key=weights_key) if base else None
    ingredients.tell([checkpoint] if checkpoint else [])
    images = data.images()
    if checkpoint is None:
        net = network.fresh(machine.seed, _shape(network.model, images))
    else:
        net = network.make(like=checkpoint)
    schedule = steps.schedule(training, machine.batch_size, fresh=checkpoint is None)
    goal = objective.against(_trained_against(threats), objective.trades)
    number = -(-len(images) // schedule.batch_size) * schedule.epochs
    against = ", ".join(str(threat or "clean") for threat in threats)
    show.note(f"{base or 'a new network'}, {len(images)} images, {number} steps against {against}")
    if dry_run:
        return
    with show.Progress() as progress:
        sm.finetune(
            net,
            images,
            goal,
            out,
            base=checkpoint,
            schedule=schedule,
            seed=machine.seed,
            device=device,
            force=force,
            progress=progress,
        )
    show.table(["written", "sha256"], [[out, opened(out).sha256]])


def _trained_against(threats: Sequence[sm.Threat | None]) -> list[sm.Threat]:
    """Return the threats to train against: none if that is to be clean."""
    if None in threats and len(threats) > 1:
        fix = "give --trades for a share of clean loss"
        raise UsageError("clean, and threats as well", where="--threat", fix=fix)
    return [threat for threat in threats if threat is not None]


def _shape(model: str | None, images: sm.Images) -> dict[str, int]:
    """Return the arguments of a new built-in network that the data decide."""
    from soupmerge.sources.models import BUILT_IN

    name, _, query = (model or "").partition("?")
    if name not in BUILT_IN:
        return {}
    decided = {"num_classes": images.classes, "in_channels": images.pixels.shape[1]}
    return {key: value for key, value in decided.items() if f"{key}=" not in query}
