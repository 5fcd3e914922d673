"""``soupmerge learn``: learn the coefficients of a soup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.export import print_export
from soupmerge.cli.notes import note_image_size
from soupmerge.cli.options import output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.final_evaluation import FinalEvaluation, final_evaluation
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.learning import Ending, Learning, ending, learning
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.objectives import Objectives, objectives
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import Export, RunOutput
from soupmerge.errors import UsageError


@click.command(cls=Command)
@ingredients
@data("train")
@objectives
@learning
@ending
@output.run()
@final_evaluation
@output.export
@network
@machine(128)
@output.as_json
def command(
    ingredients: Ingredients,
    data: Data,
    objectives: Objectives,
    learning: Learning,
    ending: Ending,
    output: RunOutput,
    final_evaluation: FinalEvaluation,
    export: Export,
    network: Network,
    machine: Machine,
    as_json: bool,
) -> None:
    """Learn the coefficients of a soup by adversarial training; the ingredients stay fixed.

    A larger --eps gives a more robust and less accurate soup. With --judge-split and --threat, the
    soup is judged at the end. Several radii, values of --trades or --seeds give a soup each, and
    all of them are judged together.
    """
    soups = len(objectives.names()) * objectives.seeds
    if export.folder and (soups > 1 or final_evaluation.beside):
        raise UsageError("takes one soup", where="--export", fix="export one of them afterwards")
    export.check()
    from soupmerge.soups.learn import stacks

    by_name = objectives.by_name()
    device = machine.device()
    loaded = ingredients.load(learning.policy.base)
    export.check(loaded.bytes)
    net = network.make(like=loaded)
    data = data.seen_by(net, loaded)
    images = data.images()
    note_image_size(net, images)
    settings = learning.settings(len(loaded), machine.batch_size)
    settings = replace(settings, patience=ending.patience)
    stop_on = ending.stop_on(data)
    calibration = ending.calibration(list(by_name.values()), images, machine)
    plan = stacks.plan(loaded, place=learning.place, store=learning.store, device=device)
    _print_plan(by_name, soups, len(images), len(loaded), settings)
    if output.dry_run or show.is_verbose():
        show.note(plan.describe())
    data.warn_of_test("teaches the soup")
    benchmark = final_evaluation.benchmark(data, machine)
    compared = final_evaluation.compared(loaded, learning.policy.buffers)
    if output.dry_run:
        return
    augment = learning.augment()
    with show.Progress() as progress:
        run = output.run(device, progress)
        if soups > 1 or compared:
            sweep = sm.sweep(
                net,
                loaded,
                images,
                by_name,
                run=run,
                seeds=objectives.seeds_from(machine.seed),
                beside=compared,
                settings=settings,
                augment=augment,
                stop_on=stop_on,
                calibration=calibration,
                benchmark=benchmark,
            )
            results.print_sweep(sweep, loaded, output.out, as_json=as_json)
            return
        (objective,) = by_name.values()
        trial = sm.learn(
            net,
            loaded,
            images,
            objective,
            settings=settings,
            augment=augment,
            stop_on=stop_on,
            calibration=calibration,
            benchmark=benchmark,
            seed=machine.seed,
            run=run,
        )
    reports = [trial.report] if trial.report else []
    exported = export.write(f"{output.out}/soup.safetensors", net=net, reports=reports)
    results.print_learned(trial, loaded, output.out, as_json=as_json)
    if exported and not as_json:
        print_export(exported, as_json=False)


def _print_plan(
    objectives: Mapping[str, sm.Adversarial], soups: int, n: int, k: int, settings: sm.Settings
) -> None:
    steps = show.counted(-(-n // settings.batch_size) * (settings.epochs or 0), "step")
    each = f"{show.counted(soups, 'soup')}, {steps} each" if soups > 1 else steps
    counts = f"{show.counted(k, 'ingredient')}, {show.counted(n, 'image')}, {each}"
    show.note(f"{counts}: {', '.join(objectives)}")
