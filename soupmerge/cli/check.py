"""``soupmerge check``: do checkpoints fit together, and do they share a loss basin?"""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options import output
from soupmerge.cli.options.checked import Checked, checked
from soupmerge.cli.options.data import OptionalData, optional_data
from soupmerge.cli.options.grouping import Command
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.segments import Segments, segments


@click.command(cls=Command)
@checked
@optional_data("val")
@segments
@machine(256)
@output.force
@output.as_json
def command(
    checked: Checked,
    data: OptionalData,
    segments: Segments,
    machine: Machine,
    force: bool,
    as_json: bool,
) -> int:
    """Check that checkpoints fit together, and measure whether they share a loss basin.

    They fit if names, shapes, kinds of numbers, networks and normalisers agree, and nothing is NaN;
    every mismatch is listed. How far apart they lie is shown, block by block, as a sign. The
    verdict on the basin needs --data: it is read from the error between each pair, clean and under
    each --threat. Without, it is "separate" for networks known to be trained apart, from scratch.
    Exit status 1 if they do not fit, or lie in separate basins.
    """
    ingredients, problems = checked.fit()
    if ingredients is None or problems:
        if as_json:
            show.dump({"compatible": False, "problems": problems, "basin": _unknown()})
        else:
            show.table(["problem"], [[problem] for problem in problems])
        return 1
    from soupmerge.weights.geometry import geometry_of, separation_warning
    from soupmerge.weights.lineage import trained_apart

    found = geometry_of(ingredients, checked.opened_origin(ingredients))
    apart = trained_apart(tuple(ingredients))
    if data.given is None:
        segments.require_data()
        barriers = None
    else:
        net = checked.network.make(like=ingredients)
        barriers = segments.barriers(net, ingredients, data.given, machine, force=force)
    verdict = barriers.verdict if barriers else "unknown"
    if apart and verdict == "unknown":
        verdict = "separate"
    remark = separation_warning(ingredients) if verdict != "shared" else None
    if as_json:
        basin = _unknown() if barriers is None else barriers.to_json()
        basin |= {"verdict": verdict, "reasons": apart}
        told: dict[str, Any] = {"compatible": True, "problems": [], "basin": basin}
        told |= {"remarks": [remark] if remark else [], "family": _family(ingredients)}
        show.dump({**told, "signs": _signs_to_json(found)})
    else:
        reasons = "; ".join([*apart, *([] if barriers else ["not measured (give --data)"])])
        _print(ingredients, found, barriers, f"{verdict}: {reasons}" if reasons else verdict)
        if remark:
            show.line(remark)
    return int(verdict == "separate")


def _family(ingredients: sm.Ingredients) -> dict[str, list[str]]:
    """Return the roots of each ingredient's family tree, where the files tell of one."""
    from soupmerge.weights.lineage import family_of

    trees = {
        name: family_of(ingredient)
        for name, ingredient in zip(ingredients.names, ingredients, strict=True)
    }
    return {name: sorted(tree.roots()) for name, tree in trees.items() if tree.made}


def _told_family(ingredients: sm.Ingredients) -> str:
    roots = _family(ingredients)
    if len(roots) < len(ingredients):
        return "unknown: the files do not tell"
    common = set.intersection(*map(set, roots.values()))
    if common:
        short = (root[:12] if root.isalnum() else root for root in sorted(common))
        return f"all descend from {', '.join(short)}"
    return "the files tell of no common ancestor"


def _print(ingredients: sm.Ingredients, found: Any, barriers: Any, verdict: str) -> None:
    fit = f"yes: {len(ingredients)} checkpoints of {len(ingredients.infos)} tensors"
    show.table(["compatible", "basin", "family"], [[fit, verdict, _told_family(ingredients)]])
    if len(ingredients) > 1:
        far = f"distance from {found.reference}: {', '.join(found.names)}"
        headers = ["block", far, "cosine of weights", "of differences", "outliers"]
        show.table(headers, list(found.rows()), title="signs")
    if barriers:
        headers = ["pair", "metric", "error at its ends", "barrier, points of error"]
        headers += ["interval", "in loss", "verdict"]
        show.table(headers, list(barriers.rows()), title="barriers")


def _unknown() -> dict[str, Any]:
    return {"verdict": "unknown", "barriers": [], "reasons": []}


def _signs_to_json(found: Any) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(found)
