"""``soupmerge path``: the straight line between two models (WiSE-FT)."""

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
    "--points",
    type=options.Whole(2, 10_001),
    default=11,
    show_default=True,
    help="From end to end, both included.",
)
@click.option(
    "--beyond",
    type=options.Real(0, 10),
    default=0.0,
    metavar="T",
    help="Extrapolate by T at both ends, with coefficients outside of [0, 1].",
)
@searches.best
@searches.common
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Judge soups from one model to another, and how far each is above the chord.

    The gain in a metric is over the straight line between its values at the ends. Lift is the
    robust accuracy over the line between the ends in the plane of clean and robust accuracy.
    """
    from soupmerge.soups.path import steps_of

    task = searches.Task.of(refs, given)
    task.tell(len(steps_of(given["points"], given["beyond"])))
    if dry_run:
        return
    how = {"points": given["points"], "beyond": given["beyond"], "choose": given["best"]}
    with show.Progress(given["quiet"]) as progress:
        line = task.run(sm.path, progress, **how)
    points = list(line.points())
    if as_json:
        show.dump({**line.trials.summary(), "path": points})
        return
    searches.print_trials(task, line.trials)
    metrics = line.trials.metrics
    rows = [
        [
            f"{point['t']:.3g}",
            *(str(line.gain(i, metric)) for metric in metrics),
            "" if point["lift"] is None else f"{100 * point['lift']:+.1f}",
        ]
        for i, point in enumerate(points)
    ]
    show.table(["t", *(f"{metric} over chord" for metric in metrics), "lift"], rows)
    task.tell_of_best(line.trials, given["best"])
