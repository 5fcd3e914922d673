"""``soupmerge search``: soups drawn from the simplex, or proposed by CMA-ES or a model."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.choices import SEARCH_METHODS
from soupmerge.cli import results, searches, show
from soupmerge.cli.options.metric import metric as metric_option
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.parameter_types import Whole
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@click.option(
    "--method",
    default="random",
    show_default=True,
    metavar="|".join(SEARCH_METHODS),
    help="Draw soups uniformly from the simplex, maximise the metric by CMA-ES, or judge the soups "
    "that a surrogate, a model of accuracy fitted to the soups judged before, predicts to be best. "
    "Without --metric, the surrogate looks for the front of clean and robust accuracy.",
)
@click.option("-n", "n", type=Whole(), default=100, show_default=True, help="Soups to judge.")
@metric_option("Metric to maximise, and in which the written soup is best")
@searches.search
def command(search: Search, method: str, n: int, metric: str | None) -> None:
    """Search the soups of many checkpoints, where a grid would be too large.

    The ingredients and their uniform soup are judged first. The data choose the soup: judge it on
    other images.
    """
    from soupmerge.soups.search.simplex import check

    task = search.task()
    check(method, n)
    task.print_plan(n + len(task.ingredients) + 1)
    if search.output.dry_run:
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
    cost = results.cost_of_trials(trials)
    if search.as_json:
        show.dump({**trials.summary(), "cost": cost})
        return
    task.print_trials(trials)
    task.print_best(trials, metric, cost)
