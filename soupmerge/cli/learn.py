"""``soupmerge learn``: learn the coefficients of a soup."""

from __future__ import annotations

from dataclasses import replace

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.export import print_export
from soupmerge.cli.learners import LearnOptions, learn_options
from soupmerge.cli.options import output
from soupmerge.cli.options.final_evaluation import FinalEvaluation, final_evaluation
from soupmerge.cli.options.learning import Ending, ending
from soupmerge.cli.options.objectives import Objectives, objectives
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import Export
from soupmerge.errors import UsageError


@click.command(cls=Command)
@objectives
@ending
@final_evaluation
@output.export
@learn_options("30 for up to 3 ingredients, 40 for 4, 50 for more")
def command(
    objectives: Objectives,
    ending: Ending,
    final_evaluation: FinalEvaluation,
    export: Export,
    options: LearnOptions,
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
    by_name = objectives.by_name()
    task = options.task()
    export.check(task.ingredients.bytes)
    settings = replace(task.settings, patience=ending.patience)
    stop_on = ending.stop_on(task.data)
    calibration = ending.calibration(list(by_name.values()), task.images, options.machine)
    task.print_plan(by_name, soups=soups)
    task.data.warn_of_test("teaches the soup")
    benchmark = final_evaluation.benchmark(task.data, options.machine)
    compared = final_evaluation.compared(task.ingredients, settings.buffers)
    if options.output.dry_run:
        return
    augment, out = options.learning.augment(), options.output.out
    with show.Progress() as progress:
        run = task.run(progress)
        if soups > 1 or compared:
            sweep = sm.sweep(
                task.net,
                task.ingredients,
                task.images,
                by_name,
                run=run,
                seeds=objectives.seeds_from(options.machine.seed),
                beside=compared,
                settings=settings,
                augment=augment,
                stop_on=stop_on,
                calibration=calibration,
                benchmark=benchmark,
            )
            results.print_sweep(sweep, task.ingredients, out, as_json=options.as_json)
            return
        (objective,) = by_name.values()
        trial = sm.learn(
            task.net,
            task.ingredients,
            task.images,
            objective,
            settings=settings,
            augment=augment,
            stop_on=stop_on,
            calibration=calibration,
            benchmark=benchmark,
            seed=options.machine.seed,
            run=run,
        )
    reports = [trial.report] if trial.report else []
    exported = export.write(f"{out}/soup.safetensors", net=task.net, reports=reports)
    results.print_learned(trial, task.ingredients, out, as_json=options.as_json)
    if exported and not options.as_json:
        print_export(exported, as_json=False)
