"""``soupmerge check``: whether checkpoints fit together and share a loss basin."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import output
from soupmerge.cli.options.barriers import BarrierSettings, barriers
from soupmerge.cli.options.compatibility import Compatibility, compatibility
from soupmerge.cli.options.data import OptionalData, optional_data
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.option_groups import Command
from soupmerge.label_spaces.outputs import in_words

if TYPE_CHECKING:
    from soupmerge.soups.geometry.barriers import Barriers


@click.command(cls=Command)
@compatibility
@optional_data("val")
@barriers
@machine(256)
@output.as_json
def command(
    compatibility: Compatibility,
    data: OptionalData,
    barriers: BarrierSettings,
    machine: Machine,
    as_json: bool,
) -> int:
    """Check that checkpoints fit together, and measure whether they share a loss basin.

    Checkpoints fit together if their names, shapes, dtypes, networks and normalisers agree and no
    number is NaN; every mismatch is listed. Their distances are shown, block by block, as a first
    sign. The verdict on the basin needs --data: it depends on the error along the line between
    each pair, clean and under each --threat. Without --data it is "unknown", or "separate" for
    networks known to be trained apart from scratch. Exit status 1 if the checkpoints do not fit
    together or lie in separate basins.
    """
    if data.given is None:
        barriers.require_no_images()
    ingredients, problems = compatibility.check()
    if ingredients is None or problems:
        if as_json:
            show.dump({"compatible": False, "problems": problems, "basin": _unknown()})
        else:
            show.table(["problem"], [[problem] for problem in problems])
        return 1
    from soupmerge.weights.geometry import geometry_of, separation_warning
    from soupmerge.weights.lineage import trained_apart

    distances = geometry_of(ingredients, compatibility.open_origin(ingredients))
    apart = trained_apart(tuple(ingredients))
    measured, outputs = None, ""
    if data.given is not None:
        net = compatibility.network.make(like=ingredients)
        images = data.given.seen_by(net, ingredients).images()
        measured = barriers.measure(net, ingredients, images, machine)
        outputs = in_words(images.fingerprint())
    verdict = measured.verdict if measured else "unknown"
    if apart and verdict == "unknown":
        verdict = "separate"
    remark = separation_warning(ingredients) if verdict != "shared" else None
    if as_json:
        basin = _unknown() if measured is None else measured.to_json()
        basin |= {"verdict": verdict, "reasons": apart}
        basin |= {"outputs": outputs} if outputs else {}
        summary: dict[str, Any] = {"compatible": True, "problems": [], "basin": basin}
        summary |= {"remarks": [remark] if remark else [], "family": _family(ingredients)}
        show.dump({**summary, "signs": dataclasses.asdict(distances)})
    else:
        reasons = "; ".join([*apart, *([] if measured else ["not measured (give --data)"])])
        verdict_cell = f"{verdict}: {reasons}" if reasons else verdict
        _print(ingredients, distances, measured, verdict_cell)
        if outputs:
            show.line(f"barriers by {outputs}")
        if remark:
            show.line(remark)
    return int(verdict == "separate")


def _family(ingredients: sm.Ingredients) -> dict[str, list[str]]:
    """Return ingredient → the roots of its family tree, where the file records one."""
    from soupmerge.weights.lineage import family_of

    trees = {
        name: family_of(ingredient)
        for name, ingredient in zip(ingredients.names, ingredients, strict=True)
    }
    return {name: sorted(tree.roots()) for name, tree in trees.items() if tree.made}


def _describe_family(ingredients: sm.Ingredients) -> str:
    roots = _family(ingredients)
    if len(roots) < len(ingredients):
        return "unknown: not all files record their origin"
    common = set.intersection(*map(set, roots.values()))
    if common:
        short = (root[:12] if root.isalnum() else root for root in sorted(common))
        return f"all descend from {', '.join(short)}"
    return "the files record no common ancestor"


def _print(
    ingredients: sm.Ingredients, distances: Any, measured: Barriers | None, verdict: str
) -> None:
    checkpoints = show.counted(len(ingredients), "checkpoint")
    fit = f"yes: {checkpoints} of {show.counted(len(ingredients.infos), 'tensor')}"
    family = _describe_family(ingredients)
    show.table(["compatible", "basin", "family"], [[fit, verdict, family]])
    if len(ingredients) > 1:
        far = f"distance from {distances.reference}: {', '.join(distances.names)}"
        headers = ["block", far, "cosine of weights", "of differences", "outliers"]
        show.table(headers, list(distances.rows()), title="signs")
    if measured:
        headers = ["pair", "metric", "error at its ends", "barrier, points of error"]
        headers += ["interval", "in loss", "verdict"]
        show.table(headers, list(measured.rows()), title="barriers")


def _unknown() -> dict[str, Any]:
    return {"verdict": "unknown", "barriers": [], "reasons": []}
