"""``soupmerge adapt``: soups for shifted images, chosen by a few labelled ones."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, show


@click.command()
@options.refs
@options.data_sets
@click.option(
    "--shots",
    type=options.Whole(1),
    default=1000,
    show_default=True,
    help="Labelled images of each data set that choose; the others judge.",
)
@click.option("--step", default="0.2", show_default=True, help="Between coefficients; divides 1.")
@click.option("-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself.")
@options.selection
@options.model
@options.weights_key
@options.batch_size(256)
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Choose soups for shifted images by a few labelled ones, and judge them on the others.

    Every soup of a grid is asked about --shots images of each data set. One is chosen for all sets
    together and written; one is chosen for each, its recipe in RUN/best. The table shows what they
    and the ingredients and their ensembles get right of the images that chose nothing.
    """
    from soupmerge.soups.grid import plan
    from soupmerge.sources.data import data_sets

    device = meant.device(given)
    pots = meant.ingredients(refs, {**given, "base": 1})
    meant.tell(pots, given)
    size, _ = plan(pots, given["step"])
    net = meant.network(given, like=pots)
    sets = data_sets(given["data_refs"], split=given["split"], limit=given["limit"])
    for images in sets:
        meant.tell_classes(images)
    shots, most = given["shots"], max(map(len, sets))
    show.note(f"{size} soups, {len(sets)} data sets of up to {most} images, {shots} choose")
    if dry_run:
        return
    with show.Progress(given["quiet"]) as progress:
        found = sm.adapt(
            net,
            pots,
            sets,
            shots=shots,
            step=given["step"],
            seed=given["seed"],
            batch_size=given["batch_size"],
            device=device,
            out=given["out"],
            force=given["force"],
            progress=progress,
        )
    if as_json:
        show.dump(found.summary())
    else:
        _print(found, pots.names)
    out = given["out"]
    show.note(f"single soup written to {out}/soup.safetensors, the others' recipes to {out}/best")


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
