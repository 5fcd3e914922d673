"""``soupmerge front``: a soup for every trade-off between objectives, from one run."""

from __future__ import annotations

from dataclasses import replace

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.notes import note_image_size
from soupmerge.cli.options import output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.front import FrontOptions, PointEvaluation, front, point_evaluation
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.learning import Learning, learning
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import RunOutput


@click.command(cls=Command)
@ingredients
@data("train")
@front
@learning
@output.run()
@point_evaluation
@network
@machine(128)
@output.as_json
def command(
    ingredients: Ingredients,
    data: Data,
    front: FrontOptions,
    learning: Learning,
    output: RunOutput,
    point_evaluation: PointEvaluation,
    network: Network,
    machine: Machine,
    as_json: bool,
) -> None:
    """Learn a soup for every trade-off between objectives, in one run, and judge some.

    RUN/front.json holds all of them: soupmerge mix --recipe RUN/front.json --at 0.6 writes the soup
    at which the second of two objectives counts 0.6 and the first 0.4. With --judge-split, evenly
    spaced points are judged.
    """
    from soupmerge.soups.learn import stacks

    device = machine.device()
    loaded = ingredients.load(learning.policy.base)
    net = network.make(like=loaded)
    data = data.seen_by(net, loaded)
    images = data.images()
    note_image_size(net, images)
    settings = replace(
        learning.settings(len(loaded), machine.batch_size),
        family=front.family,
        scalarisation=front.scalarisation,
        corners=front.corners,
    )
    losses = front.losses()
    _print_plan(losses, len(images), len(loaded), settings)
    if output.dry_run or show.is_verbose():
        plan = stacks.plan(loaded, place=learning.place, store=learning.store, device=device)
        show.note(plan.describe())
    data.warn_of_test("teaches the front")
    benchmark = point_evaluation.benchmark(data, front.threats, machine)
    compared = point_evaluation.compared()
    if output.dry_run:
        from soupmerge.soups.judge.estimate import duration
        from soupmerge.soups.learn.front import expected_seconds

        seconds = expected_seconds(net, loaded, images, losses, settings, device=device)
        show.note(f"the steps take about {duration(seconds)} on {device}")
        return
    with show.Progress() as progress:
        learned = sm.front(
            net,
            loaded,
            images,
            losses,
            settings=settings,
            augment=learning.augment(),
            benchmark=benchmark,
            points=point_evaluation.points,
            beside=compared,
            seed=machine.seed,
            run=output.run(device, progress),
        )
    results.print_front(learned, list(compared), output.out, as_json=as_json)


def _print_plan(losses: list[sm.Adversarial], n: int, k: int, settings: sm.Settings) -> None:
    steps = show.counted(-(-n // settings.batch_size) * (settings.epochs or 0), "step")
    names = ", ".join(loss.name for loss in losses)
    show.note(f"{show.counted(k, 'ingredient')}, {show.counted(n, 'image')}, {steps}: {names}")
