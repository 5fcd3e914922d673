"""``soupmerge path``: the straight line between two models (WiSE-FT)."""

from __future__ import annotations

import click

import soupmerge as sm
from soupmerge.cli import searches, show
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.kinds import Real, Whole
from soupmerge.cli.searches import Search


@click.command(cls=Command)
@click.option(
    "--points",
    type=Whole(2, 10_001),
    default=11,
    show_default=True,
    help="From end to end, both included.",
)
@click.option(
    "--beyond",
    type=Real(0, 10),
    default=0.0,
    metavar="T",
    help="Extrapolate by T at both ends, with coefficients outside of [0, 1].",
)
@searches.best
@searches.search
def command(search: Search, points: int, beyond: float, metric: str | None) -> None:
    """Judge soups from one model to another, and how far each is above the chord.

    The gain in a metric is over the straight line between its values at the ends. Lift is the
    robust accuracy over the line between the ends in the plane of clean and robust accuracy.
    """
    from soupmerge.soups.search.path import steps_of

    task = search.task()
    task.tell(len(steps_of(points, beyond)))
    if search.dry_run:
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
    found = list(line.points())
    if search.as_json:
        show.dump({**line.trials.summary(), "path": found})
        return
    task.print_trials(line.trials)
    metrics = line.trials.metrics
    rows = [
        [
            f"{point['t']:.3g}",
            *(str(line.gain(i, metric)) for metric in metrics),
            "" if point["lift"] is None else f"{100 * point['lift']:+.1f}",
        ]
        for i, point in enumerate(found)
    ]
    show.table(["t", *(f"{metric} over chord" for metric in metrics), "lift"], rows)
    task.tell_of_best(line.trials, metric)
