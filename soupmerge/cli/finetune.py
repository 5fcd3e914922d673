"""``soupmerge finetune``: make an ingredient."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, show
from soupmerge.errors import UsageError


@click.command()
@click.argument("base", required=False, metavar="[BASE]")
@click.option(
    "--threat",
    "threats",
    required=True,
    multiple=True,
    type=options.ThreatType(clean=True),
    metavar="NORM:EPS|clean",
    help="Threat model to train against, such as linf:8/255, or clean; several share each batch.",
)
@options.data("train")
@click.option(
    "--epochs",
    help="Passes over the data.",
    type=options.Whole(1, 1_000_000),
    default=10,
    show_default=True,
)
@click.option(
    "--lr",
    type=options.Real(),
    help="Learning rate at the start [default: 0.001, or 0.1 without BASE].",
)
@click.option(
    "--warmup",
    type=options.Real(),
    default=0.0,
    show_default=True,
    help="Epochs over which the learning rate rises first.",
)
@click.option("--weight-decay", type=options.Real(), default=0.0, show_default=True, help="Of SGD.")
@click.option(
    "--every", type=options.Whole(0), default=0, metavar="N", help="Keep every Nth epoch."
)
@click.option("-o", "--out", required=True, metavar="OUT", help="A .safetensors file.")
@options.objective
@options.training
@options.model
@options.weights_key
@options.machine
@options.force
@options.dry_run
def command(base: str | None, out: str, dry_run: bool, **given: Any) -> None:
    """Train BASE further against a threat, or a new network if BASE is left out.

    State is kept in the folder OUT.run, so that the same command goes on after an interruption.
    """
    from soupmerge.sources.refs import opened

    if not out.endswith(".safetensors"):
        raise UsageError("is not a .safetensors file", where=out, fix="name one")
    device = meant.device(given)
    checkpoint = opened(base, weights_key=given["weights_key"]) if base else None
    meant.tell([checkpoint] if checkpoint else [], given)
    images = meant.images_of(given, given["split"], given["limit"])
    fresh = {} if checkpoint else _arguments(given["model"], images)
    net = meant.network(given, like=checkpoint, seed=given["seed"], **fresh)
    schedule = sm.Schedule(
        epochs=given["epochs"],
        lr=(0.001 if checkpoint else 0.1) if given["lr"] is None else given["lr"],
        warmup=given["warmup"],
        batch_size=given["batch_size"],
        weight_decay=given["weight_decay"],
        augment=given["augment"],
        precision=given["precision"],
        every=given["every"],
    )
    steps = -(-len(images) // schedule.batch_size) * schedule.epochs
    goal = meant.objective(given, meant.trained_against(given["threats"]), given["trades"])
    against = ", ".join(str(threat or "clean") for threat in given["threats"])
    show.note(f"{base or 'a new network'}, {len(images)} images, {steps} steps against {against}")
    if dry_run:
        return
    with show.Progress(given["quiet"]) as progress:
        sm.finetune(
            net,
            images,
            goal,
            out,
            base=checkpoint,
            schedule=schedule,
            seed=given["seed"],
            device=device,
            force=given["force"],
            progress=progress,
        )
    show.table(["written", "sha256"], [[out, opened(out).sha256]])


def _arguments(model: str | None, images: sm.Images) -> dict[str, int]:
    """Return the arguments of a new built-in network that the data decide."""
    from soupmerge.sources.models import BUILT_IN

    name, _, query = (model or "").partition("?")
    if name not in BUILT_IN:
        return {}
    decided = {"num_classes": images.classes, "in_channels": images.pixels.shape[1]}
    return {key: value for key, value in decided.items() if f"{key}=" not in query}
