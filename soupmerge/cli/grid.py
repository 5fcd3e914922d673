"""``soupmerge grid``: every soup of a lattice on the simplex, judged."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.choices import RACE_GOALS
from soupmerge.cli import results, searches, show
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.searches import Search

FRONT, BEST = RACE_GOALS


@click.command(cls=Command)
@click.option(
    "--step",
    default="0.2",
    show_default=True,
    help="Step between coefficients; must divide 1.",
)
@click.option(
    "--race",
    "race",
    flag_value=FRONT,
    help="Drop soups as soon as they are very likely neither best nor on the front of clean and "
    "robust accuracy.",
)
@click.option(
    "--race-best",
    "race",
    flag_value=BEST,
    help="Drop soups as soon as they are very likely not best.",
)
@searches.best
@searches.search
def command(search: Search, step: str, race: str | None, metric: str | None) -> None:
    """Judge every soup whose coefficients are multiples of a step, and write the best.

    At step 0.2, there are 6, 21 and 56 soups of 2, 3 and 4 checkpoints. The data choose the soup:
    judge it on other images.
    """
    from soupmerge.soups.search.grid import plan

    task = search.task()
    size, _ = plan(task.ingredients, step)
    task.print_plan(size)
    if search.output.dry_run:
        return
    with show.Progress() as progress:
        run, raced = task.run(progress), None
        if race:
            raced = sm.race(
                task.net,
                task.ingredients,
                task.benchmark,
                step=step,
                goal=race,
                metric=metric,
                seed=search.machine.seed,
                buffers=task.buffers,
                run=run,
            )
            trials = raced.trials
        else:
            trials = sm.grid(
                task.net,
                task.ingredients,
                task.benchmark,
                step=step,
                metric=metric,
                buffers=task.buffers,
                run=run,
            )
    cost = raced.cost if raced else results.cost_of_trials(trials)
    if search.as_json:
        more = {"race": raced.to_json()} if raced else {}
        show.dump({**trials.summary(), **more, "cost": dict(cost)})
        return
    task.print_trials(trials)
    if raced:
        results.print_race(raced.to_json(), size, len(task.benchmark.data))
    task.print_best(trials, metric, cost)
