"""``soupmerge search``: soups drawn from the simplex, or asked for by CMA-ES."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import options, searches, show


@click.command()
@options.refs
@options.data("val")
@searches.attack
@click.option(
    "--method",
    default="random",
    show_default=True,
    metavar="random|cma",
    help="Draw uniformly from the simplex, or climb by CMA-ES.",
)
@click.option(
    "-n", "n", type=options.Whole(), default=100, show_default=True, help="Soups to judge."
)
@click.option(
    "--metric",
    metavar="METRIC",
    help=f"What CMA-ES raises, and the written soup is best in: {searches.METRICS} "
    "[default: union].",
)
@searches.common
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Search the soups of many checkpoints, where a lattice would be too large.

    The ingredients and their uniform soup are judged first. The data choose the soup: judge it on
    others.
    """
    from soupmerge.soups.searching import check

    task = searches.Task.of(refs, given)
    check(given["method"], given["n"])
    task.tell(given["n"] + len(task.pots) + 1)
    if dry_run:
        return
    how = {key: given[key] for key in ("method", "n", "metric", "seed")}
    with show.Progress(given["quiet"]) as progress:
        trials = task.run(sm.search, progress, **how)
    if as_json:
        show.dump(trials.summary())
        return
    searches.print_trials(task, trials)
    task.tell_of_best(trials, given["metric"])
