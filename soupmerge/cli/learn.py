"""``soupmerge learn``: learn the coefficients of a soup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import export, meant, options, results, show
from soupmerge.errors import UsageError


@click.command()
@options.refs
@options.data("train")
@click.option(
    "--eps",
    metavar="E[,E...]",
    help="Radius of the attack to learn under; 0 learns clean. Several give a soup each.",
)
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2", "l1"]),
    default="linf",
    show_default=True,
    help="Norm of the attack to learn under.",
)
@click.option(
    "--against",
    multiple=True,
    type=options.ThreatType(),
    metavar="NORM:EPS",
    help="Threats that share each batch, for robustness to all of them; instead of --eps.",
)
@options.objective
@click.option(
    "--groups",
    default="tensor",
    show_default=True,
    metavar="tensor|module|block|model|glob=A,B",
    help="What has coefficients of its own.",
)
@click.option(
    "--epochs",
    help="Passes over the data [default: 30 for up to 3 ingredients, 40 for 4, 50 for more].",
    type=options.Whole(1, 1_000_000),
)
@click.option(
    "--lr",
    type=options.Real(),
    default=10.0,
    show_default=True,
    help="Learning rate at the start; falls to 0 as a cosine.",
)
@click.option(
    "--dropout",
    type=options.Real(),
    default=0.8,
    show_default=True,
    help="Probability with which a group is detached in a step.",
)
@click.option("--rescale", is_flag=True, help="Divide gradients by 1 - dropout.")
@click.option(
    "--init",
    default="xavier",
    show_default=True,
    metavar="xavier|uniform|only:N|recipe:FILE",
    help="Where the coefficients start.",
)
@click.option(
    "--seeds",
    type=options.Whole(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Learn each soup with so many seeds, from --seed on, to see what is luck.",
)
@click.option(
    "--batch-norm",
    type=click.Choice(["eval", "batch"]),
    default="eval",
    show_default=True,
    help="Statistics in the step: those of the soup, or of the batch.",
)
@click.option(
    "--recalibrate",
    type=click.Choice(["clean", "attacked"]),
    help="Estimate batch-norm statistics anew at the end, on --data as it is or under attack.",
)
@click.option("--stop-split", metavar="SPLIT", help="Take the epoch of lowest loss on this part.")
@click.option(
    "--patience", type=options.Whole(1), metavar="N", help="End after N epochs without a lower."
)
@click.option(
    "--ingredients",
    "place",
    type=click.Choice(["auto", "device", "host", "files"]),
    default="auto",
    show_default=True,
    help="Where the ingredients are kept; changes no number.",
)
@click.option(
    "--store",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Keep them whole, or as bfloat16 differences from the base.",
)
@click.option("-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself.")
@click.option("--judge-split", metavar="SPLIT", help="Judge the soups on this part of the data.")
@click.option("--judge-limit", type=options.Whole(1), metavar="N", help="On N images of it.")
@click.option(
    "--beside", metavar="RUN", help="Judge the best soups of this grid, too, and the uniform one."
)
@export.also
@options.licence
@options.attack
@options.training
@options.selection
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
    soup is judged at the end. Several radii, weights of --trades or --seeds learn a soup each, and
    judge them beside each other.
    """
    from soupmerge.soups import stacks

    device = meant.device(given)
    goals = _goals(given)
    if given["export"] and (len(goals) * given["seeds"] > 1 or given["beside"]):
        raise UsageError("takes one soup", where="--export", fix="export one of them afterwards")
    export.check(given)
    pots = meant.ingredients(refs, given)
    export.check(given, pots.bytes)
    meant.tell(pots, given)
    net = meant.network(given, like=pots)
    images = meant.images_of(given, given["split"], given["limit"])
    how = _how(given, goals, images, len(pots))
    plan = stacks.plan(pots, place=given["place"], store=given["store"], device=device)
    _announce(given, goals, len(images), len(pots), how, plan, dry_run)
    meant.warn_of_test(given["split"], "teaches the soup")
    judge = _judge(given)
    beside = _beside(given, pots)
    if dry_run:
        return
    where: dict[str, Any] = {
        "out": given["out"],
        "force": given["force"],
        "device": device,
        "benchmark": judge,
    }
    with show.Progress(given["quiet"]) as progress:
        if len(goals) * given["seeds"] == 1 and not beside:
            goal, seed = next(iter(goals.values())), given["seed"]
            trial = sm.learn(net, pots, images, goal, seed=seed, **where, **how, progress=progress)
            sweep = None
        else:
            seeds = range(given["seed"], given["seed"] + given["seeds"])
            more: dict[str, Any] = {"seeds": tuple(seeds), "beside": beside, "progress": progress}
            sweep = sm.sweep(net, pots, images, goals, **where, **how, **more)
    if sweep is None:
        soup = f"{given['out']}/soup.safetensors"
        done = export.exported(soup, given, net=net, report=trial.report)
        results.print_learned(trial, pots, given, as_json)
        if done and not as_json:
            export.tell(done, as_json=False)
    else:
        results.print_sweep(sweep, pots, given, as_json)


def _goals(given: dict[str, Any]) -> dict[str, sm.Adversarial]:
    """Return name → objective: one for each radius and each share of clean loss."""
    from soupmerge.robustness.threats import parse_eps

    if bool(given["eps"]) == bool(given["against"]):
        fix = "give --eps 8/255, or --against linf:8/255 --against l2:0.5"
        raise UsageError("give one of the two", where="--eps and --against", fix=fix)
    if given["against"]:
        threats = [list(given["against"])]
    else:
        words = given["eps"].split(",")
        threats = [[sm.Threat(given["norm"], parse_eps(word))] for word in words]
    shares = given["trades"].split(",")
    goals = {}
    for listed in threats:
        for share in shares:
            name = "+".join(map(str, listed)) + (f" trades {share}" if len(shares) > 1 else "")
            # A radius of 0 is clean training, whatever the form.
            form = (
                given if any(t.eps for t in listed) else {**given, "trades_kl": None, "mart": None}
            )
            goals[re.sub(r"[^\w.+]+", "-", name)] = meant.objective(form, listed, share.strip())
    if len(goals) < len(threats) * len(shares):
        raise UsageError("one is given twice", where="--eps and --trades", fix="give each once")
    return goals


def _how(
    given: dict[str, Any], goals: dict[str, sm.Adversarial], images: sm.Images, k: int
) -> dict[str, Any]:
    """Return what all soups of the run share."""
    from soupmerge.soups.settings import Settings, usual_epochs
    from soupmerge.training.augment import AUGMENTS

    same = ("lr", "dropout", "rescale", "init", "batch_size", "buffers", "batch_norm")
    settings = Settings(
        by=given["groups"],
        epochs=given["epochs"] or usual_epochs(k),
        base=meant.index_of_base(given, k),
        **{key: given[key] for key in (*same, "precision", "store", "patience")},
    )
    stop_on = given["stop_split"] and sm.data(given["data_ref"], split=given["stop_split"])
    return {
        "settings": settings,
        "augment": None if given["augment"] == "none" else AUGMENTS[given["augment"]],
        "stop_on": stop_on,
        "calibration": _calibration(given, list(goals.values()), images),
        "place": given["place"],
    }


def _calibration(
    given: dict[str, Any], goals: list[sm.Adversarial], images: sm.Images
) -> sm.Calibration | None:
    if given["recalibrate"] is None:
        return None
    attack = None
    if given["recalibrate"] == "attacked":
        if len(goals) > 1 or len(goals[0].attacks) != 1:
            fix = "learn one soup, under one threat, or recalibrate clean"
            raise UsageError("needs one attack", where="--recalibrate attacked", fix=fix)
        attack = goals[0].attacks[0]
    return sm.Calibration(images, attack, given["batch_size"], given["seed"])


def _announce(
    given: dict[str, Any], goals: dict[str, Any], n: int, k: int, how: Any, plan: Any, told: bool
) -> None:
    settings = how["settings"]
    steps = -(-n // settings.batch_size) * settings.epochs
    soups = len(goals) * given["seeds"]
    each = f"{soups} soups, {steps} steps each" if soups > 1 else f"{steps} steps"
    show.note(f"{k} ingredients, {n} images, {each}: {', '.join(goals)}")
    if given["verbose"] or told:
        show.note(plan.describe())


def _judge(given: dict[str, Any]) -> sm.Benchmark | None:
    if bool(given["judge_split"]) != bool(given["threats"]):
        raise UsageError("--judge-split and --threat go together", fix="give both, or neither")
    if not given["judge_split"]:
        return None
    return meant.benchmark({**given, "limit": given["judge_limit"]}, "test", given["judge_split"])


def _beside(given: dict[str, Any], pots: sm.Ingredients) -> dict[str, sm.Recipe]:
    """Return name → recipe of the soups that are judged beside the learned ones."""
    from soupmerge.storage.run import BEST
    from soupmerge.weights.recipe import read_recipe

    if given["beside"] is None:
        return {}
    if not given["judge_split"]:
        raise UsageError("would not be judged", where="--beside", fix="give --judge-split")
    judged = [re.sub(r"[^\w.]+", "-", str(m)) for m in ("clean", *given["threats"], "union")]
    paths = [Path(given["beside"], BEST, f"{metric}.json") for metric in judged]
    found = {f"grid-{path.stem}": read_recipe(path) for path in paths if path.exists()}
    if not found:
        fix = "name the run folder of a grid that is finished, judged by the same threats"
        raise UsageError("holds no best soups", where=given["beside"], fix=fix)
    recipes = {"uniform": sm.Recipe.uniform(pots, buffers=given["buffers"]), **found}
    weights = [recipe.weights for recipe in recipes.values()]
    return {n: r for i, (n, r) in enumerate(recipes.items()) if r.weights not in weights[:i]}
