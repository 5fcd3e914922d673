"""``soupmerge learn``: learn the coefficients of a soup."""

from __future__ import annotations

from collections.abc import Mapping

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.export import tell
from soupmerge.cli.options import output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.goals import Goals, goals
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.judged import JudgedAtTheEnd, judged
from soupmerge.cli.options.learning import Learning, learning
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.output import Export
from soupmerge.errors import UsageError


@click.command(cls=Command)
@ingredients
@data("train")
@goals
@learning
@output.run
@judged
@output.export
@network
@machine(128)
@output.force
@output.dry_run
@output.as_json
def command(
    ingredients: Ingredients,
    data: Data,
    goals: Goals,
    learning: Learning,
    out: str,
    judged: JudgedAtTheEnd,
    export: Export,
    network: Network,
    machine: Machine,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Learn a soup: the ingredients stay fixed, their coefficients are trained under attack.

    A larger --eps gives a more robust, less accurate soup. With --judge-split and --threat the
    soup is judged at the end. Several radii, weights of --trades or --seeds learn a soup each, and
    judge them beside each other.
    """
    from soupmerge.soups.learn import stacks

    device = machine.device()
    objectives = goals.objectives()
    soups = len(objectives) * goals.seeds
    if export.folder and (soups > 1 or judged.beside):
        raise UsageError("takes one soup", where="--export", fix="export one of them afterwards")
    export.check()
    loaded = ingredients.load(learning.policy.base)
    export.check(loaded.bytes)
    net = network.make(like=loaded)
    images = data.images()
    settings = learning.settings(len(loaded), machine.batch_size)
    stop_on = learning.stop_on(data)
    calibration = learning.calibration(list(objectives.values()), images, machine)
    plan = stacks.plan(loaded, place=learning.place, store=learning.store, device=device)
    _announce(objectives, soups, len(images), len(loaded), settings)
    if dry_run or show.is_verbose():
        show.note(plan.describe())
    data.warn_of_test("teaches the soup")
    benchmark = judged.benchmark(data, machine)
    others = judged.others(loaded, learning.policy.buffers)
    if dry_run:
        return
    augment = learning.augment()
    with show.Progress() as progress:
        run = sm.Run(out, force, device, progress)
        if soups > 1 or others:
            sweep = sm.sweep(
                net,
                loaded,
                images,
                objectives,
                run=run,
                seeds=goals.seeds_from(machine.seed),
                beside=others,
                settings=settings,
                augment=augment,
                stop_on=stop_on,
                calibration=calibration,
                benchmark=benchmark,
            )
            results.print_sweep(sweep, loaded, out, as_json=as_json)
            return
        (goal,) = objectives.values()
        trial = sm.learn(
            net,
            loaded,
            images,
            goal,
            settings=settings,
            augment=augment,
            stop_on=stop_on,
            calibration=calibration,
            benchmark=benchmark,
            seed=machine.seed,
            run=run,
        )
    reports = [trial.report] if trial.report else []
    done = export.write(f"{out}/soup.safetensors", net=net, reports=reports)
    results.print_learned(trial, loaded, out, as_json=as_json)
    if done and not as_json:
        tell(done, as_json=False)


def _announce(
    objectives: Mapping[str, sm.Adversarial], soups: int, n: int, k: int, settings: sm.Settings
) -> None:
    steps = -(-n // settings.batch_size) * (settings.epochs or 0)
    each = f"{soups} soups, {steps} steps each" if soups > 1 else f"{steps} steps"
    show.note(f"{k} ingredients, {n} images, {each}: {', '.join(objectives)}")
