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
def command(search: Search, step: str, race: str | None, best: str | None) -> None:
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
    of = task.net, task.ingredients, task.benchmark
    with show.Progress() as progress:
        where = task.where(progress)
        if race:
            seed = search.machine.seed
            run = sm.race(*of, step=step, goal=race, choose=best, seed=seed, **where)
            trials, told = run.trials, run.to_json()
        else:
            trials, told = sm.grid(*of, step=step, choose=best, **where), None
    if search.as_json:
        show.dump({**trials.summary(), **({"race": told} if told else {})})
        return
    task.print_trials(trials)
    if told:
        results.print_race(told, size, len(task.benchmark.data))
    task.tell_of_best(trials, best)
