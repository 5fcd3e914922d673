"""``soupmerge check``: do checkpoints fit together, and do they share a loss basin?"""

from __future__ import annotations

from typing import Any

import click

import soupmerge as sm
from soupmerge.cli import meant, options, show
from soupmerge.errors import InputError, UsageError


@click.command()
@options.refs
@click.option(
    "--origin", metavar="REF", help="What they were fine-tuned from, to measure distances from."
)
@options.data("val", required=False)
@options.threats
@click.option(
    "--steps",
    type=options.Whole(1, 10_000),
    default=10,
    show_default=True,
    help="Steps of the APGD that attacks every point of a segment.",
)
@click.option(
    "--points",
    type=options.Whole(3, 1001),
    default=11,
    show_default=True,
    help="Points on each segment, ends included.",
)
@click.option(
    "--tolerance",
    type=options.Real(0, 1),
    default=0.05,
    show_default=True,
    help="The highest barrier, in error, within a basin.",
)
@click.option(
    "--buffers",
    type=click.Choice(["average", "base"]),
    default="average",
    show_default=True,
    help="Batch-norm statistics on the way: averaged, or those of the nearer end.",
)
@click.option("-o", "--out", metavar="RUN", help="Keep the barriers in a run folder.")
@options.selection
@options.base
@options.batch_size(256)
@options.weights_key
@options.model
@options.machine
@options.force
@options.as_json
def command(refs: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Check that checkpoints fit together, and measure whether they share a loss basin.

    They fit if names, shapes, kinds of numbers, networks and normalisers agree, and nothing is NaN;
    every mismatch is listed. How far apart they lie is shown, block by block, as a sign. The
    verdict on the basin needs --data: it is read from the error between each pair, clean and under
    each --threat. Without, it is "separate" for networks known to be trained apart, from scratch.
    Exit status 1 if they do not fit, or lie in separate basins.
    """
    pots, problems = _fit(refs, given)
    if pots is None or problems:
        if as_json:
            show.dump({"compatible": False, "problems": problems, "basin": _unknown()})
        else:
            show.table(["problem"], [[problem] for problem in problems])
        return 1
    from soupmerge.weights.geometry import foreign, signs
    from soupmerge.weights.lineage import trained_apart

    origin = _origin(pots, given)
    found = signs(pots, origin)
    apart = trained_apart(tuple(pots))
    barriers = _barriers(pots, given)
    verdict = barriers.verdict if barriers else "unknown"
    if apart and verdict == "unknown":
        verdict = "separate"
    remark = foreign(pots) if verdict != "shared" else None
    if as_json:
        basin = _unknown() if barriers is None else barriers.to_json()
        basin |= {"verdict": verdict, "reasons": apart}
        told: dict[str, Any] = {"compatible": True, "problems": [], "basin": basin}
        told |= {"remarks": [remark] if remark else [], "family": _family(pots)}
        show.dump({**told, "signs": _signs_to_json(found)})
    else:
        reasons = "; ".join([*apart, *([] if barriers else ["not measured (give --data)"])])
        _print(pots, found, barriers, f"{verdict}: {reasons}" if reasons else verdict)
        if remark:
            show.line(remark)
    return int(verdict == "separate")


def _fit(refs: tuple[str, ...], given: dict[str, Any]) -> tuple[sm.Ingredients | None, list[str]]:
    """Return the ingredients, if they fit, and all that speaks against mixing them."""
    from soupmerge.sources.refs import opened_all
    from soupmerge.weights.ingredients import mismatches
    from soupmerge.weights.selection import select

    checkpoints = opened_all(refs, weights_key=given["weights_key"])
    meant.tell(checkpoints, given)
    chosen = {key: given[key] for key in ("exclude", "only", "head")}
    selection = select(checkpoints, **chosen, base=meant.index_of_base(given, len(refs)))
    found = mismatches(checkpoints, selection)
    problems = [f"{ref}: {line}" for ref, lines in found.items() for line in lines]
    for checkpoint in checkpoints:
        problems += [f"{checkpoint.ref}: {line}" for line in checkpoint.faults()]
    if given["model"] is not None:
        problems += _misfits(checkpoints, given)
    return (None if found else sm.Ingredients(checkpoints, selection)), problems


def _misfits(checkpoints: tuple[sm.Checkpoint, ...], given: dict[str, Any]) -> list[str]:
    from soupmerge.binding import align

    net, problems = meant.network(given, like=checkpoints[0]), []
    for checkpoint in checkpoints:
        try:
            align(checkpoint, net)
        except InputError as error:
            problems += [f"{checkpoint.ref}: {problem}" for problem in error.problems]
    return problems


def _origin(pots: sm.Ingredients, given: dict[str, Any]) -> sm.Checkpoint | None:
    from soupmerge.sources.refs import opened
    from soupmerge.weights.ingredients import require_fit

    if given["origin"] is None:
        return None
    origin = opened(given["origin"], weights_key=given["weights_key"])
    require_fit((pots[0], origin), pots.selection)
    return origin


def _barriers(pots: sm.Ingredients, given: dict[str, Any]) -> Any:
    if given["data_ref"] is None:
        if given["threats"]:
            raise UsageError("nothing to attack", where="--threat", fix="give --data")
        if given["out"]:
            raise UsageError("no barrier to keep", where="-o", fix="give --data")
        return None
    device = meant.device(given)
    net = meant.network(given, like=pots)
    images = meant.images_of(given, given["split"], given["limit"])
    attacks = [sm.APGD.training(threat, steps=given["steps"]) for threat in given["threats"]]
    benchmark = sm.Benchmark(
        images, attacks, name="basin", seed=given["seed"], batch_size=given["batch_size"]
    )
    how = {key: given[key] for key in ("points", "tolerance", "buffers")}
    with show.Progress(given["quiet"]) as progress:
        how |= {"device": device, "progress": progress}
        if given["out"] is None:
            return sm.barrier(net, pots, benchmark, **how)
        from soupmerge.soups.barriers import kept

        return kept(given["out"], net, pots, benchmark, force=given["force"], **how)


def _family(pots: sm.Ingredients) -> dict[str, list[str]]:
    """Return the roots of each ingredient's family tree, where the files tell of one."""
    from soupmerge.weights.lineage import family_of

    trees = {name: family_of(pot) for name, pot in zip(pots.names, pots, strict=True)}
    return {name: sorted(tree.roots()) for name, tree in trees.items() if tree.made}


def _told_family(pots: sm.Ingredients) -> str:
    roots = _family(pots)
    if len(roots) < len(pots):
        return "unknown: the files do not tell"
    common = set.intersection(*map(set, roots.values()))
    if common:
        short = (root[:12] if root.isalnum() else root for root in sorted(common))
        return f"all descend from {', '.join(short)}"
    return "the files tell of no common ancestor"


def _print(pots: sm.Ingredients, found: Any, barriers: Any, verdict: str) -> None:
    fit = f"yes: {len(pots)} checkpoints of {len(pots.infos)} tensors"
    show.table(["compatible", "basin", "family"], [[fit, verdict, _told_family(pots)]])
    if len(pots) > 1:
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
