"""``soupmerge adapt``: soups for shifted images, chosen on a few labelled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.options import output
from soupmerge.cli.options.data import DataSets, data_sets
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import RunOutput
from soupmerge.cli.options.parameter_types import Whole

if TYPE_CHECKING:
    from soupmerge.soups.search.adaptation import Adaptation


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
@click.option(
    "--step",
    default="0.2",
    show_default=True,
    help="Step between coefficients; must divide 1.",
)
@click.option(
    "--beside",
    multiple=True,
    metavar="RUN",
    help="An earlier run of adapt, whose rows are shown beside where its images are the same; "
    "may be repeated.",
)
@output.run()
@network
@machine(256)
@output.as_json
def command(
    ingredients: Ingredients,
    data: DataSets,
    shots: int,
    step: str,
    beside: tuple[str, ...],
    output: RunOutput,
    network: Network,
    machine: Machine,
    as_json: bool,
) -> None:
    """Choose soups for shifted images on a few labelled ones, and judge them on the others.

    Every soup of a grid is judged on --shots images of each data set. The soup that is best on all
    sets together is written; the one that is best on each set is kept as a recipe in RUN/best. The
    table compares them with the ingredients and their ensembles, on images that chose nothing.
    """
    from soupmerge.soups.search.grid import plan

    device = machine.device()
    loaded = ingredients.load()
    size, _ = plan(loaded, step)
    net = network.make(like=loaded)
    sets = data.seen_by(net, loaded)
    most = max(map(len, sets))
    show.note(
        f"{show.counted(size, 'soup')}, {show.counted(len(sets), 'data set')} of up to "
        f"{show.counted(most, 'image')}, of which {shots:,} choose"
    )
    if output.dry_run:
        return
    with show.Progress() as progress:
        adaptation = sm.adapt(
            net,
            loaded,
            dict(zip(data.names(), sets, strict=True)),
            shots=shots,
            step=step,
            seed=machine.seed,
            batch_size=machine.batch_size,
            run=output.run(device, progress),
        )
    earlier = [
        {**row, "name": f"{row['name']} ({run})"}
        for run in beside
        for row in adaptation.beside(run)
    ]
    judged = [report for row in adaptation.rows for report in row.reports]
    cost = results.cost([report for reports in adaptation.choosing for report in reports] + judged)
    if as_json:
        others = {"beside": earlier} if beside else {}
        show.dump({**adaptation.summary(), **others, "cost": cost})
    else:
        _print(adaptation, earlier, loaded.names)
        results.print_cost(cost)
    out = output.out
    show.note(f"the single soup is in {out}/soup.safetensors, the recipes of others in {out}/best")


def _print(
    adaptation: Adaptation, earlier: Sequence[Mapping[str, Any]], names: tuple[str, ...]
) -> None:
    sets = adaptation.sets
    rows = []
    for row in [*(row.to_json(sets) for row in adaptation.rows), *earlier]:
        cells = [row["sets"].get(name, {}).get("accuracy") for name in sets]
        rows.append([row["name"], f"×{row['passes']}", *map(_percent, [*cells, row["mean"]])])
    show.table(["network", "#FP", *adaptation.sets, "MEAN"], rows, "accuracy, %")
    reports = [report for row in adaptation.rows for report in row.reports]
    widest = max(high - low for low, high in (report.interval("clean") for report in reports))
    counts = sorted({report.n for report in reports})
    show.line(
        f"judged on {' to '.join(map(str, counts))} images of each set, which chose nothing; "
        f"95% intervals of single cells within ±{50 * widest:.1f} points; #FP: forward passes"
    )
    results.print_outputs(report.data for report in adaptation.rows[0].reports)
    specific = zip(adaptation.sets, adaptation.specific, strict=True)
    soups = [
        [name, " ".join(f"{w:.3g}" for w in recipe.weights[0])]
        for name, recipe in [("all sets", adaptation.single), *specific]
    ]
    show.table(["chosen on", f"coefficients of {', '.join(names)}"], soups, "soups")


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.1f}"
