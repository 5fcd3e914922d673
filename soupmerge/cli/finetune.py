"""``soupmerge finetune``: train an ingredient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import ingredients, output
from soupmerge.cli.options.data import Data, data, print_notes
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.parameter_types import ThreatType
from soupmerge.cli.options.training import (
    Loss,
    Training,
    TrainingSchedule,
    loss,
    training,
    training_schedule,
)
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
    help="Threat model to train against, such as linf:8/255, or clean; if repeated, the threats "
    "share each batch.",
)
@data("train")
@training_schedule
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file.")
@loss
@training
@network
@ingredients.weights_key
@machine(128)
@click.option(
    "--force", is_flag=True, help="Replace the output file, and start over instead of resuming."
)
@output.dry_run
def command(
    base: str | None,
    threats: tuple[sm.Threat | None, ...],
    data: Data,
    training_schedule: TrainingSchedule,
    out: str,
    loss: Loss,
    training: Training,
    network: Network,
    weights_key: str | None,
    machine: Machine,
    force: bool,
    dry_run: bool,
) -> None:
    """Fine-tune BASE against a threat, or train a new network if BASE is left out.

    The state of the training is kept in the folder OUT.run, from which the same command resumes
    after an interruption.
    """
    _check_output(out, dry_run=dry_run)
    attacked = _attacked(threats)
    from soupmerge.sources.refs import opened

    device = machine.device()
    checkpoint = opened(base, weights_key=weights_key) if base else None
    ingredients.print_notes([checkpoint] if checkpoint else [])
    if checkpoint is None:
        images = data.images()
        net = network.make_new(machine.seed, _shape(network.model, images))
    else:
        net = network.make(like=checkpoint)
        images = data.seen_by(net).images()
        images = images if data.reading.classes else _by_name(images, checkpoint)
    schedule = training_schedule.schedule(training, machine.batch_size, is_new=checkpoint is None)
    objective = loss.against(attacked, loss.trades)
    steps = -(-len(images) // schedule.batch_size) * schedule.epochs
    counts = f"{show.counted(len(images), 'image')}, {show.counted(steps, 'step')}"
    against = ", ".join(str(threat or "clean") for threat in threats)
    show.note(f"{base or 'a new network'}, {counts} against {against}")
    if dry_run:
        return
    with show.Progress() as progress:
        sm.finetune(
            net,
            images,
            objective,
            out,
            base=checkpoint,
            schedule=schedule,
            seed=machine.seed,
            device=device,
            force=force,
            progress=progress,
        )
    show.table(["written", "sha256"], [[out, opened(out).sha256]])


def _check_output(out: str, *, dry_run: bool) -> None:
    from soupmerge.storage.run_folder import require_free

    output.require_safetensors(out)
    if not dry_run:
        require_free(Path(out).with_suffix(".run"))


def _by_name(images: sm.Images, base: sm.Checkpoint) -> sm.Images:
    """Return *images* with the labels that *base* gives their classes, unless some are new to it.

    A network that learns new classes learns them in the order of their folders.
    """
    from soupmerge.sources.images.labelling import labelled, meant

    space = meant(base, images.class_names)
    if space is None or not space.knows(images.class_names):
        return images
    by_name = labelled(images, space)
    print_notes(by_name)
    return by_name


def _attacked(threats: Sequence[sm.Threat | None]) -> list[sm.Threat]:
    """Return the threats to train against, none for clean training."""
    if None in threats and len(threats) > 1:
        fix = "give --trades for a share of clean loss"
        raise UsageError("clean cannot be combined with threats", where="--threat", fix=fix)
    return [threat for threat in threats if threat is not None]


def _shape(model: str | None, images: sm.Images) -> dict[str, int]:
    """Return the arguments of a new built-in network that depend on the data."""
    from soupmerge.choices import NETWORKS

    name, _, query = (model or "").partition("?")
    if name not in NETWORKS:
        return {}
    classes = images.outputs.of if images.outputs else images.classes
    shape = {"num_classes": classes, "in_channels": images.shape[0]}
    return {key: value for key, value in shape.items() if f"{key}=" not in query}
