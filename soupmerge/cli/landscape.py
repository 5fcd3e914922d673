"""``soupmerge landscape``: loss and accuracy on the plane through three checkpoints."""

from __future__ import annotations

from itertools import combinations
from math import dist
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import results, show
from soupmerge.cli.notes import note_image_size
from soupmerge.cli.options import output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.landscape import LandscapeSettings, settings
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Command
from soupmerge.cli.options.output import RunOutput
from soupmerge.label_spaces.outputs import in_words

if TYPE_CHECKING:
    from soupmerge.soups.geometry.landscape import Landscape

ENOUGH_IMAGES = 2000
"""Images that are enough for a picture (Huang 2023, figure 7)."""


@click.command(cls=Command)
@ingredients
@data("test")
@settings
@output.run()
@network
@machine(256)
@output.as_json
def command(
    ingredients: Ingredients,
    data: Data,
    settings: LandscapeSettings,
    output: RunOutput,
    network: Network,
    machine: Machine,
    as_json: bool,
) -> None:
    """Measure clean and robust loss and accuracy on the plane through three checkpoints.

    The checkpoints are measured at their exact positions, and so is a lattice around them;
    soupmerge report RUN draws the maps. Without --limit, at most 2000 images are used.
    """
    from soupmerge.weights.plane import plane_through

    device = machine.device()
    loaded = ingredients.load(settings.base)
    plane = plane_through(loaded)
    net = network.make(like=loaded)
    data = data.seen_by(net, loaded)
    images = _images(data)
    note_image_size(net, images)
    benchmark = sm.Benchmark(
        images,
        settings.attacks(),
        name="landscape",
        seed=machine.seed,
        batch_size=machine.batch_size,
    )
    points, threats = settings.points**2 + 3, len(settings.threats)
    show.note(
        f"{show.counted(points, 'point')}, {show.counted(len(images), 'image')}, "
        f"{show.counted(threats, 'threat')}"
    )
    show.note("distances in weights: " + _distances(plane, loaded.names))
    calibration = settings.calibration(data, machine.seed)
    if output.dry_run:
        return
    with show.Progress() as progress:
        landscape = sm.landscape(
            net,
            loaded,
            benchmark,
            points=settings.points,
            margin=settings.margin,
            buffers=settings.policy(len(loaded)),
            calibration=calibration,
            run=output.run(device, progress),
        )
    fingerprint = images.fingerprint()
    if as_json:
        outputs = {"outputs": words} if (words := in_words(fingerprint)) else {}
        show.dump({**landscape.summary(), **outputs})
    else:
        _print(landscape)
        results.print_outputs([fingerprint])
    if landscape.holes:
        holes = show.counted(len(landscape.holes), "point")
        show.note(f"not measured: {holes}; the first: {landscape.holes[0].hole}")
    show.note(f"draw it with: soupmerge report {output.out}")


def _images(data: Data) -> sm.Images:
    images = data.images()
    if data.limit is None and len(images) > ENOUGH_IMAGES:
        return data.part(data.split, ENOUGH_IMAGES)
    return images


def _distances(plane: Any, names: tuple[str, ...]) -> str:
    pairs = combinations(zip(names, plane.places, strict=True), 2)
    return ", ".join(f"{a} – {b} {dist(here, there):.4g}" for (a, here), (b, there) in pairs)


def _print(landscape: Landscape) -> None:
    measured = [point for point in landscape.points if not point.hole]
    metrics = list(measured[0].loss) if measured else ["clean"]
    named = zip(landscape.names, landscape.points, strict=False)
    rows = [_row(name, point, metrics) for name, point in named]
    for metric in metrics if measured else ():
        lowest = min(measured, key=lambda point: point.loss[metric])
        rows.append(_row(f"lowest {metric} loss", lowest, metrics))
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
