"""``soupmerge path``: the straight line between two models (WiSE-FT)."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import results, searches, show
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.parameter_types import Real, Whole
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@click.option(
    "--points",
    type=Whole(2, 10_001),
    default=11,
    show_default=True,
    help="Points on the line, including its ends.",
)
@click.option(
    "--beyond",
    type=Real(0, 10),
    default=0.0,
    metavar="T",
    help="Extrapolate by T at both ends, with coefficients outside [0, 1].",
)
@searches.best
@searches.search
def command(search: Search, points: int, beyond: float, metric: str | None) -> None:
    """Judge soups on the line from one model to another, and their gain over the chord.

    The chord of a metric is the straight line between its values at the two ends. Lift is the gain
    in robust accuracy over the line between the ends in the plane of clean and robust accuracy.
    """
    from soupmerge.soups.search.path import steps_of

    task = search.task()
    task.print_plan(len(steps_of(points, beyond)))
    if search.output.dry_run:
        return
    with show.Progress() as progress:
        line = sm.path(
            task.net,
            task.ingredients,
            task.benchmark,
            points=points,
            beyond=beyond,
            metric=metric,
            buffers=task.buffers,
            run=task.run(progress),
        )
    places, cost = list(line.points()), results.cost_of_trials(line.trials)
    if search.as_json:
        show.dump({**line.trials.summary(), "path": places, "cost": cost})
        return
    task.print_trials(line.trials)
    metrics = line.trials.metrics
    rows = [
        [
            f"{place['t']:.3g}",
            *(str(line.gain(i, metric)) for metric in metrics),
            "" if place["lift"] is None else f"{100 * place['lift']:+.1f}",
        ]
        for i, place in enumerate(places)
    ]
    show.table(["t", *(f"{metric} over chord" for metric in metrics), "lift"], rows)
    task.print_best(line.trials, metric, cost)
