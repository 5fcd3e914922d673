"""``soupmerge landscape``: loss and accuracy on the plane through three checkpoints."""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.plane import Plane, plane

SUBSET = 2000
"""Images that are enough for a picture (Huang 2023, figure 7)."""


@click.command(cls=Command)
@ingredients
@data("test")
@plane
@output.run
@network
@machine(256)
@output.force
@output.dry_run
@output.as_json
def command(
    ingredients: Ingredients,
    data: Data,
    plane: Plane,
    out: str,
    network: Network,
    machine: Machine,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure clean and robust loss and accuracy on the plane through three checkpoints.

    The checkpoints are measured at their exact places, and a lattice around them; soupmerge report
    RUN draws the maps. Without --limit, 2000 images are drawn, or all if there are fewer.
    """
    from soupmerge.weights.plane import plane_through

    device = machine.device()
    loaded = ingredients.load(plane.base)
    found = plane_through(loaded)
    net = network.make(like=loaded)
    benchmark = sm.Benchmark(
        _images(data),
        plane.attacks(),
        name="landscape",
        seed=machine.seed,
        batch_size=machine.batch_size,
    )
    images, number = len(benchmark.data), plane.points**2 + 3
    show.note(f"{number} points, {images} images, {len(plane.threats)} threats")
    show.note("weight distances: " + _distances(found, loaded.names))
    calibration = plane.calibration(data, machine.seed)
    if dry_run:
        return
    with show.Progress() as progress:
        measured = sm.landscape(
            net,
            loaded,
            benchmark,
            points=plane.points,
            margin=plane.margin,
            buffers=plane.policy(len(loaded)),
            calibration=calibration,
            run=sm.Run(out, force, device, progress),
        )
    if as_json:
        show.dump(measured.summary())
    else:
        _print(measured)
    if measured.holes:
        show.note(f"{len(measured.holes)} points are holes, the first: {measured.holes[0].hole}")
    show.note(f"draw it with: soupmerge report {out}")


def _images(data: Data) -> sm.Images:
    images = data.images()
    if data.limit is None and len(images) > SUBSET:
        return data.part(data.split, SUBSET)
    return images


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
