"""``soupmerge adapt``: soups for shifted images, chosen by a few labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import output
from soupmerge.cli.options.data import DataSets, data_sets, tell_classes
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.kinds import Whole
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network


@click.command(cls=Command)
@ingredients
@data_sets
@click.option(
    "--shots",
    type=Whole(1),
    default=1000,
    show_default=True,
    help="Labelled images of each data set that choose; the others judge.",
)
@click.option("--step", default="0.2", show_default=True, help="Between coefficients; divides 1.")
@output.run
@network
@machine(256)
@output.force
@output.dry_run
@output.as_json
def command(
    ingredients: Ingredients,
    data: DataSets,
    shots: int,
    step: str,
    out: str,
    network: Network,
    machine: Machine,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Choose soups for shifted images by a few labelled ones, and judge them on the others.

    Every soup of a grid is asked about --shots images of each data set. One is chosen for all sets
    together and written; one is chosen for each, its recipe in RUN/best. The table shows what they
    and the ingredients and their ensembles get right of the images that chose nothing.
    """
    from soupmerge.soups.search.grid import plan

    device = machine.device()
    loaded = ingredients.load()
    size, _ = plan(loaded, step)
    net = network.make(like=loaded)
    sets = _sets(data)
    most = max(map(len, sets))
    show.note(f"{size} soups, {len(sets)} data sets of up to {most} images, {shots} choose")
    if dry_run:
        return
    with show.Progress() as progress:
        found = sm.adapt(
            net,
            loaded,
            sets,
            shots=shots,
            step=step,
            seed=machine.seed,
            batch_size=machine.batch_size,
            run=sm.Run(out, force, device, progress),
        )
    if as_json:
        show.dump(found.summary())
    else:
        _print(found, loaded.names)
    show.note(f"single soup written to {out}/soup.safetensors, the others' recipes to {out}/best")


def _sets(data: DataSets) -> Sequence[sm.Images]:
    """Return the sets; the images that several of them corrupt are read once."""
    from soupmerge.sources.data import data_sets as read_all

    sets = read_all(data.sets, split=data.split, limit=data.limit)
    for images in sets:
        tell_classes(images)
    return sets


def _print(found: Any, names: tuple[str, ...]) -> None:
    cells = [[f"{100 * a:.1f}" for a in (*row.accuracies, row.mean)] for row in found.rows]
    rows = [
        [row.name, f"×{row.passes}", *line] for row, line in zip(found.rows, cells, strict=True)
    ]
    show.table(["network", "#FP", *found.sets, "MEAN"], rows, "accuracy, %")
    reports = [report for row in found.rows for report in row.reports]
    widest = max(high - low for low, high in (report.interval("clean") for report in reports))
    counts = sorted({report.n for report in reports})
    show.line(
        f"judged on {' to '.join(map(str, counts))} images of each set, which chose nothing; "
        f"95% intervals of single cells within ±{50 * widest:.1f} points; #FP: forward passes"
    )
    chosen = [("all sets", found.single), *zip(found.sets, found.specific, strict=True)]
    soups = [[name, " ".join(f"{w:.3g}" for w in r.weights[0])] for name, r in chosen]
    show.table(["chosen on", f"coefficients of {', '.join(names)}"], soups, "soups")
