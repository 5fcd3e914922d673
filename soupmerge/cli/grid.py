"""``soupmerge grid``: every soup of the simplex lattice, judged."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import options, results, searches, show


@click.command()
@options.refs
@options.data("val")
@searches.attack
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
@searches.common
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Judge every soup whose coefficients are multiples of a step, and write the best.

    At step 0.2 that is 6, 21, 56 soups for 2, 3, 4 checkpoints. The data choose the soup: judge it
    on others.
    """
    from soupmerge.soups.grid import plan

    task = searches.Task.of(refs, given)
    size, _ = plan(task.pots, given["step"])
    task.tell(size)
    if dry_run:
        return
    how = {"step": given["step"], "choose": given["best"]}
    with show.Progress(given["quiet"]) as progress:
        if given["race"]:
            more = {"goal": given["race"], "seed": given["seed"]}
            race = task.run(sm.race, progress, **how, **more)
            trials, told = race.trials, race.to_json()
        else:
            trials, told = task.run(sm.grid, progress, **how), None
    if as_json:
        show.dump({**trials.summary(), **({"race": told} if told else {})})
        return
    searches.print_trials(task, trials)
    if told:
        results.print_race(told, size, len(task.benchmark.data))
    task.tell_of_best(trials, given["best"])
