"""``soupmerge landscape``: loss and accuracy on the plane through three checkpoints."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, show
from soupmerge.errors import UsageError

SUBSET = 2000
"""Images that are enough for a picture (Huang 2023, figure 7)."""


@click.command()
@options.refs
@options.data("test")
@options.threats
@click.option(
    "--steps",
    type=options.Whole(1, 10_000),
    default=20,
    show_default=True,
    help="Steps of the APGD that attacks every image at every point.",
)
@click.option(
    "--points",
    type=options.Whole(2, 1000),
    default=15,
    show_default=True,
    help="Points to each side of the lattice.",
)
@click.option(
    "--margin",
    type=options.Real(0, 99),
    default=0.2,
    show_default=True,
    help="How far it reaches beyond the checkpoints, in parts of their extent.",
)
@click.option(
    "--buffers",
    type=click.Choice(["average", "base", "recalibrate"]),
    default="average",
    show_default=True,
    help="Batch-norm statistics: averaged like weights, taken from one ingredient, or estimated "
    "anew at every point on images of --calibrate-on.",
)
@options.selection
@options.base
@click.option(
    "--calibrate-on",
    metavar="SPLIT",
    default="train",
    show_default=True,
    help="Part of the data whose first images, drawn once, recalibrate.",
)
@click.option(
    "--calibrate-limit",
    type=options.Whole(2),
    default=1000,
    show_default=True,
    help="How many of them.",
)
@click.option("-o", "--out", required=True, metavar="RUN", help="Run folder; resumes by itself.")
@options.model
@options.weights_key
@options.batch_size(256)
@options.machine
@options.force
@options.dry_run
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, dry_run: bool, **given: Any) -> None:
    """Measure clean and robust loss and accuracy on the plane through three checkpoints.

    The checkpoints are measured at their exact places, and a lattice around them; soupmerge report
    RUN draws the maps. Without --limit, 2000 images are drawn, or all if there are fewer.
    """
    from soupmerge.weights.plane import plane_through

    device = meant.device(given)
    pots = meant.ingredients(refs, given)
    meant.tell(pots, given)
    plane = plane_through(pots)
    net = meant.network(given, like=pots)
    attacks = [sm.APGD.training(threat, steps=given["steps"]) for threat in given["threats"]]
    benchmark = sm.Benchmark(
        _images(given),
        attacks,
        name="landscape",
        seed=given["seed"],
        batch_size=given["batch_size"],
    )
    images, number = len(benchmark.data), given["points"] ** 2 + 3
    show.note(f"{number} points, {images} images, {len(attacks)} threats")
    show.note("weight distances: " + _distances(plane, pots.names))
    calibration = _calibration(given)
    if dry_run:
        return
    with show.Progress(given["quiet"]) as progress:
        found = sm.landscape(
            net,
            pots,
            benchmark,
            points=given["points"],
            margin=given["margin"],
            buffers="average" if calibration else given["buffers"],
            base=meant.index_of_base(given, len(pots)),
            calibration=calibration,
            device=device,
            out=given["out"],
            force=given["force"],
            progress=progress,
        )
    if as_json:
        show.dump(found.summary())
    else:
        _print(found)
    if found.holes:
        show.note(f"{len(found.holes)} points are holes, the first: {found.holes[0].hole}")
    show.note(f"draw it with: soupmerge report {given['out']}")


def _images(given: dict[str, Any]) -> sm.Images:
    images = meant.images_of(given, given["split"], given["limit"])
    if given["limit"] is None and len(images) > SUBSET:
        return sm.data(given["data_ref"], split=given["split"], limit=SUBSET)
    return images


def _calibration(given: dict[str, Any]) -> sm.Calibration | None:
    source = click.get_current_context().get_parameter_source
    if given["buffers"] != "recalibrate":
        for name in ("calibrate_on", "calibrate_limit"):
            if source(name) is not click.core.ParameterSource.DEFAULT:
                where, fix = f"--{name.replace('_', '-')}", "give --buffers recalibrate"
                raise UsageError("nothing is estimated on it", where=where, fix=fix)
        return None
    limit = given["calibrate_limit"]
    images = sm.data(given["data_ref"], split=given["calibrate_on"], limit=limit)
    return sm.Calibration(images, seed=given["seed"])


def _distances(plane: Any, names: tuple[str, ...]) -> str:
    from itertools import combinations
    from math import dist

    pairs = combinations(zip(names, plane.places, strict=True), 2)
    return ", ".join(f"{a} – {b} {dist(here, there):.4g}" for (a, here), (b, there) in pairs)


def _print(found: Any) -> None:
    metrics = next((list(p.loss) for p in found.points if not p.hole), ["clean"])
    rows = [_row(name, p, metrics) for name, p in zip(found.names, found.points, strict=False)]
    for metric in metrics:
        whole = [point for point in found.points if not point.hole]
        if whole:
            _, i = min((point.loss[metric], i) for i, point in enumerate(whole))
            rows.append(_row(f"lowest {metric} loss", whole[i], metrics))
    headers = ["point", "x", "y", "coefficients"]
    headers += [f"{metric} {kind}" for metric in metrics for kind in ("loss", "accuracy")]
    show.table(headers, rows, "landscape")


def _row(name: str, point: Any, metrics: list[str]) -> list[str]:
    place = [f"{point.x:.4g}", f"{point.y:.4g}", " ".join(f"{w:.3g}" for w in point.weights)]
    cells = (
        ["hole", "hole"] if point.hole else [f"{point.loss[m]:.4f}", f"{point.accuracy[m]:.1%}"]
        for m in metrics
    )
    return [name, *place, *(cell for pair in cells for cell in pair)]
