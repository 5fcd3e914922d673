"""``soupmerge grid``: every soup of the simplex lattice, judged."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import results, searches, show
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@click.option("--step", default="0.2", show_default=True, help="Between coefficients; divides 1.")
@click.option(
    "--race",
    "race",
    flag_value="front",
    help="Drop soups once they are surely neither best nor on the front of clean and robust "
    "accuracy.",
)
@click.option("--race-best", "race", flag_value="best", help="Drop soups once surely not best.")
@searches.best
@searches.search
def command(search: Search, step: str, race: str | None, metric: str | None) -> None:
    """Judge every soup whose coefficients are multiples of a step, and write the best.

    At step 0.2 that is 6, 21, 56 soups for 2, 3, 4 checkpoints. The data choose the soup: judge it
    on others.
    """
    from soupmerge.soups.search.grid import plan

    task = search.task()
    size, _ = plan(task.ingredients, step)
    task.tell(size)
    if search.dry_run:
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
    if search.as_json:
        show.dump({**trials.summary(), **({"race": raced.to_json()} if raced else {})})
        return
    task.print_trials(trials)
    if raced:
        results.print_race(raced.to_json(), size, len(task.benchmark.data))
    task.tell_of_best(trials, metric)
