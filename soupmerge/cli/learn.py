"""``soupmerge learn``: learn the coefficients of a soup."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, results, show
from soupmerge.errors import UsageError


@click.command()
@options.refs
@options.data("train")
@click.option("--eps", required=True, help="Radius of the attack to learn under; 0 learns clean.")
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2", "l1"]),
    default="linf",
    show_default=True,
    help="Norm of the attack to learn under.",
)
@click.option(
    "--groups",
    default="tensor",
    show_default=True,
    metavar="tensor|module|block|model|glob=A,B",
    help="What has coefficients of its own.",
)
@click.option(
    "--epochs",
    help="Passes over the data.",
    type=click.IntRange(1, 1_000_000),
    default=30,
    show_default=True,
)
@click.option(
    "--lr",
    type=float,
    default=10.0,
    show_default=True,
    help="Learning rate at the start; falls to 0 as a cosine.",
)
@click.option(
    "--dropout",
    type=float,
    default=0.8,
    show_default=True,
    help="Probability with which a group is detached in a step.",
)
@click.option(
    "--init",
    default="xavier",
    show_default=True,
    metavar="xavier|uniform",
    help="Where the coefficients start.",
)
@click.option("-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself.")
@click.option("--judge-split", metavar="SPLIT", help="Judge the soup on this part of the data.")
@options.attack
@options.training
@options.buffers
@options.model
@options.weights_key
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Learn a soup: the ingredients stay fixed, their coefficients are trained under attack.

    A larger --eps gives a more robust, less accurate soup. With --judge-split and --threat the
    soup is judged at the end.
    """
    from soupmerge.robustness.threats import parse_eps
    from soupmerge.soups.learning import Settings
    from soupmerge.training.augment import AUGMENTS

    device = meant.device(given)
    threat = sm.Threat(given["norm"], parse_eps(given["eps"]))
    pots = sm.load(*refs, weights_key=given["weights_key"])
    meant.tell(pots, given)
    net = meant.network(given, like=pots)
    images = sm.data(given["data_ref"], split=given["split"], limit=given["limit"])
    settings = Settings(
        by=given["groups"],
        epochs=given["epochs"],
        lr=given["lr"],
        dropout=given["dropout"],
        init=given["init"],
        batch_size=given["batch_size"],
        buffers=given["buffers"],
        base=meant.index_of_base(given, len(pots)),
        precision=given["precision"],
    )
    steps = -(-len(images) // settings.batch_size) * settings.epochs
    show.note(f"{len(pots)} ingredients, {len(images)} images, {steps} steps against {threat}")
    meant.warn_of_test(given["split"], "teaches the soup")
    judge = _judge(given)
    if dry_run:
        return
    with show.Progress(given["quiet"]) as progress:
        trial = sm.learn(
            net,
            pots,
            images,
            sm.against(threat, alpha=given["trades"], steps=given["attack_steps"]),
            settings=settings,
            augment=None if given["augment"] == "none" else AUGMENTS[given["augment"]],
            benchmark=judge,
            seed=given["seed"],
            device=device,
            out=given["out"],
            force=given["force"],
            progress=progress,
        )
    if as_json:
        from soupmerge.soups.trials import Trials

        show.dump(Trials((trial,)).summary())
        return
    weights = [f"{w:.4f}" for w in trial.recipe.mean_weights]
    show.table(["ingredient", "mean coefficient"], list(zip(pots.names, weights, strict=True)))
    if trial.report:
        results.print_reports([f"{given['out']}/soup.safetensors"], [trial.report], "accuracy")
    show.note(f"written to {given['out']}/soup.safetensors")


def _judge(given: dict[str, Any]) -> sm.Benchmark | None:
    if bool(given["judge_split"]) != bool(given["threats"]):
        raise UsageError("--judge-split and --threat go together", fix="give both, or neither")
    if not given["judge_split"]:
        return None
    return meant.benchmark({**given, "limit": None}, "test", given["judge_split"])
