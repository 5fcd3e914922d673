"""Options: which points of a front to take."""

from __future__ import annotations

from collections.abc import Sequence

import click

from soupmerge.errors import UsageError

POINTS_HELP = (
    "Points of a front: shares of the second of two objectives, such as 0,0.25,1; of more "
    "objectives, a share for each, and the option once for each point."
)

at = click.option(
    "--at",
    metavar="SHARE",
    help="Point of a front: the share of the second of two objectives, or a share for each.",
)
several = click.option("--at", multiple=True, metavar="SHARE,...", help=POINTS_HELP)


def point(ref: str, at: str | None) -> str:
    """Return the reference to the point *at* of the front *ref*; *ref* itself without *at*.

    Raises:
        UsageError: a point is given, and *ref* is not a front, or names a point already.
    """
    from soupmerge.weights.recipe_files import AT, is_recipe, split

    if at is None:
        return ref
    if split(ref)[1]:
        raise UsageError(f"{ref} names a point already", where="--at", fix="leave one of them out")
    if not is_recipe(ref):
        raise UsageError(f"{ref} is not a front", where="--at", fix="give RUN/front.json")
    return f"{ref}{AT}{at.strip()}"


def expanded(refs: Sequence[str], at: Sequence[str]) -> list[str]:
    """Return *refs* with every front among them replaced by its points *at*.

    Raises:
        UsageError: points are given, and none of *refs* is a front.
    """
    from soupmerge.weights.recipe_files import is_recipe, read_front, split

    fronts = [ref for ref in refs if is_recipe(ref) and not split(ref)[1]] if at else []
    if at and not fronts:
        raise UsageError("no front is given", where="--at", fix="give RUN/front.json")
    points = []
    for ref in refs:
        if ref not in fronts:
            points.append(ref)
            continue
        two = len(read_front(ref).objectives) == 2
        words = [word for text in at for word in text.split(",")] if two else at
        points += [point(ref, word) for word in words]
    return points
