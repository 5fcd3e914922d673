"""``soupmerge search``: soups drawn from the simplex, or asked for by CMA-ES."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import searches, show
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.kinds import Whole
from soupmerge.cli.options.metric import metric as metric_option
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@click.option(
    "--method",
    default="random",
    show_default=True,
    metavar="random|cma",
    help="Draw uniformly from the simplex, or climb by CMA-ES.",
)
@click.option("-n", "n", type=Whole(), default=100, show_default=True, help="Soups to judge.")
@metric_option("The metric that CMA-ES maximises, and the written soup is the best in")
@searches.search
def command(search: Search, method: str, n: int, metric: str | None) -> None:
    """Search the soups of many checkpoints, where a lattice would be too large.

    The ingredients and their uniform soup are judged first. The data choose the soup: judge it on
    others.
    """
    from soupmerge.soups.search.simplex import check

    task = search.task()
    check(method, n)
    task.tell(n + len(task.ingredients) + 1)
    if search.dry_run:
        return
    with show.Progress() as progress:
        trials = sm.search(
            task.net,
            task.ingredients,
            task.benchmark,
            method=method,
            n=n,
            metric=metric,
            seed=search.machine.seed,
            buffers=task.buffers,
            run=task.run(progress),
        )
    if search.as_json:
        show.dump(trials.summary())
        return
    task.print_trials(trials)
    task.tell_of_best(trials, metric)
